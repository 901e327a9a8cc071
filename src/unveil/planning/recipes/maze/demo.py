"""`unveil demo`: plan and drive through the large maze with the packaged weights."""

from __future__ import annotations

from collections.abc import Callable

from unveil.planning.planner_settings import PlannerSettings
from unveil.planning.recipes.maze.config import Demo
from unveil.runs.flags import JobFlags
from unveil.runs.machine import command_name


def run_demo(config: Demo, progress: Callable[..., None]) -> str:
    """Make the animations and the table; returns the text to print."""
    from time import perf_counter

    import numpy as np
    import torch

    from unveil.errors import UnveilError
    from unveil.files.atomic import check_output
    from unveil.files.pictures import write_gif
    from unveil.planning.evaluation.maze import roll
    from unveil.planning.evaluation.maze_pictures import plan_frames, rollout_frames
    from unveil.planning.recipes.maze.config import EvalMaze
    from unveil.planning.recipes.maze.evaluate import compared
    from unveil.planning.recipes.maze.load import layout_of, planner_of, read_maze_config
    from unveil.planning.worlds.maze.episodes import MazeEpisodes
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.tables import score_rows

    began = perf_counter()
    if config.out.exists() and not config.out.is_dir():
        raise UnveilError(f"{config.out} is a file, but `out` needs a folder")
    for name in ("plan.gif", "rollout.gif"):
        check_output(config.out / name)
    torch.set_num_threads(1)  # matrices are small: more threads are slower
    folder = find_checkpoint(config.checkpoint)
    described = read_maze_config(folder)
    layout = layout_of(described)
    far = layout.cells[np.linalg.norm(layout.cells - layout.goal, axis=1).argmax()]

    progress("pictures", 0, 2, {})
    states: list[tuple[np.ndarray, float]] = []
    settings = PlannerSettings(steps=32, temperature=1.0)
    planner = planner_of(described, folder, config.device, config.seed, settings)
    plan = planner.plan(far, layout.goal, on_state=lambda state, t: states.append((state, t)))
    write_gif(
        config.out / "plan.gif", plan_frames(layout, states, plan.lengths, plan.chosen, far, layout.goal), 90
    )

    progress("pictures", 1, 2, {})
    world = MazeEpisodes(layout, 1)
    world.state, world.goal = np.array([[*far, 0.0, 0.0]]), layout.goal[None].copy()
    planner.reset(layout.goal)
    rollout = roll(world, lambda seen: planner.act(seen[0])[None])
    first = planner.plans[0]
    assert first is not None
    write_gif(config.out / "rollout.gif", rollout_frames(layout, first.path, rollout, 0), 60)

    progress("pictures", 2, 2, {})
    tables = []
    for multi, title in ((False, "one goal"), (True, "a random goal each episode (Multi2D)")):
        job = JobFlags(config.seed, config.device, threads=1)
        evaluated = EvalMaze(layout.name, multi, config.checkpoint, episodes=config.episodes, job=job)
        metrics, reference = compared(evaluated, progress)
        named = {"unveil": metrics, "data controller": reference["controller"]}
        named["shortest-path oracle"] = reference["oracle"]
        speed = f"{metrics['plans_per_second']:.0f} plans/s on one core"
        tables.append(
            f"maze {layout.name}, {title}: D4RL score over {config.episodes} episodes, "
            f"{speed}\n{score_rows(named)}"
        )
    program = command_name()
    shown = "\n\n".join(tables)
    return f"""
{shown}

{config.out / "plan.gif"}: a plan appearing out of noise, in 32 steps at temperature 1; the table: 2 at 0.5
{config.out / "rollout.gif"}: the plan, and a simulated body driven along it
({perf_counter() - began:.0f} s; the oracle knows the map, the planner only data)

next:
  {program} sample maze --start 1,1 --goal 7,1 --via 3,9 --out plan.png
  {program} eval maze --maze large --multi --episodes 300 --seed 0 --json -
  {program} train maze --maze umaze --preset tiny"""

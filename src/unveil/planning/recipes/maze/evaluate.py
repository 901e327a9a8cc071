"""Score a maze planner beside its references: `unveil eval maze`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.planner_settings import PlannerSettings
from unveil.planning.recipes.maze.load import find_layout, layout_of, load_driver
from unveil.runs.flags import flat

if TYPE_CHECKING:
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.planner import Planner
    from unveil.planning.recipes.maze.config import EvalMaze
    from unveil.planning.worlds.maze.episodes import MazeEpisodes
    from unveil.planning.worlds.maze.layout import Layout
    from unveil.runs.progress import Progress


def evaluate_maze(config: EvalMaze, progress: Progress) -> dict[str, object]:
    """Roll out the planner and the references on the same episodes; returns metrics and references."""
    metrics, reference = compared(config, progress)
    protocol = protocol_name(find_layout(config.maze), config.multi)
    return {"metrics": metrics, "reference": reference, "protocol": protocol}


def compared(config: EvalMaze, progress: Progress) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The metrics of the planner, and those of each reference by its name."""
    import torch

    from unveil.planning.evaluation.maze import starting_states
    from unveil.planning.evaluation.maze_references import controller_reference, oracle_reference
    from unveil.planning.evaluation.plan_diagnostics import reference_metrics
    from unveil.planning.recipes.maze.diffuser import driver_of, maze_config, read_original_maze
    from unveil.planning.recipes.maze.load import read_maze_config
    from unveil.planning.weights.diffuser_folder import is_original
    from unveil.runs.checkpoints import find_checkpoint, local_name

    job = config.job
    if job.threads:
        torch.set_num_threads(job.threads)
    layout = find_layout(config.maze)
    name = local_name(config.checkpoint)
    if is_original(Path(name)):
        folder, read = Path(name), read_original_maze(Path(name))
        described = maze_config(read[1], normalized=False)
    else:
        folder, read = find_checkpoint(name), None
        described = read_maze_config(folder)
    trained = layout_of(described)
    if trained.rows != layout.rows:
        raise ValueError(
            f"checkpoint {config.checkpoint} was trained on maze {trained.name!r}, not on {layout.name!r}"
        )
    paper, default = described["preset"] == "paper", flat(PlannerSettings())
    changed = [name for name, value in flat(config.settings).items() if value != default[name]]
    if paper and changed:
        raise ValueError(f"`{changed[0]}` means nothing for Diffuser as published; leave it out")
    if read is not None:
        planner = driver_of(*read, job.device, job.seed, config.dataset or str(described["data"]))
    else:
        planner = load_driver(folder, job.device, job.seed, None if paper else config.settings)
    world = starting_states(layout, config.multi, config.episodes, job.seed)
    metrics = driven(planner, world, lambda t: progress("driving", t, layout.steps, {}))
    metrics |= timed(planner, starting_states(layout, True, config.plan_pairs, job.seed + 1))
    metrics |= time_acts(planner, starting_states(layout, config.multi, 1, job.seed + 1))
    reference: dict[str, dict[str, float]] = {}
    runs = {"controller": lambda world: controller_reference(world, job.seed), "oracle": oracle_reference}
    for i, (name, run) in enumerate(runs.items() if config.reference else ()):
        world = starting_states(layout, config.multi, config.episodes, job.seed)
        reference[name] = reference_metrics(layout, run(world))
        progress("references", i + 1, 2, {})
    return metrics, reference


def driven(
    planner: Planner | Diffuser, world: MazeEpisodes, on_step: Callable[[int], None] | None = None
) -> dict[str, float]:
    """Drive all episodes from their start; returns score and diagnostics."""
    from unveil.planning.evaluation.maze import maze_metrics, roll
    from unveil.planning.evaluation.plan_diagnostics import execution_diagnostics, plan_diagnostics

    planner.reset(world.goal)
    rollout = roll(world, planner.act, on_step)
    plans = [plan for plan in planner.plans if plan is not None]
    diagnostics = plan_diagnostics(world.layout, plans, planner.model.shape.stride) | execution_diagnostics(
        plans, rollout
    )
    return maze_metrics(world.layout, rollout) | diagnostics | {"replans_mean": planner.replans / world.count}


def timed(planner: Planner | Diffuser, pairs: MazeEpisodes, warm_up: int = 25) -> dict[str, float]:
    """Plans per second, planned one at a time between these starts and goals. Call it after driving, so that
    it uses none of its noise."""
    from unveil.planning.evaluation.plan_diagnostics import time_calls

    median, slow = time_calls(
        lambda i: planner.plan(pairs.state[i % pairs.count], pairs.goal[i % pairs.count]),
        pairs.count,
        warm_up,
    )
    return {"plans_per_second": 1.0 / median, "plan_ms_p95": 1e3 * slow, "plan_pairs_n": pairs.count}


def time_acts(planner: Planner | Diffuser, world: MazeEpisodes) -> dict[str, float]:
    """95th percentile and maximum, in milliseconds, of the wall time of `planner.act` in one whole episode.
    The maximum is the call that plans."""
    from time import perf_counter

    import numpy as np

    planner.reset(world.goal[0])
    spent = []
    for _ in range(world.layout.steps):
        began = perf_counter()
        force = planner.act(world.state[0])
        spent.append(1e3 * (perf_counter() - began))
        world.step(force[None])
    return {"act_ms_p95": float(np.quantile(spent, 0.95)), "act_ms_max": max(spent)}


def protocol_name(layout: Layout, multi: bool) -> str:
    """The protocol of a result, for people."""
    task = (
        f"D4RL {'multi2d' if multi else 'maze2d'}-{layout.name}-v1"
        if layout.score_range
        else f"maze {layout.name}"
    )
    return f"{task}, sparse reward on every step, not latched"

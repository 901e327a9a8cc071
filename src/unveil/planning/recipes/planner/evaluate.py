"""Score a planner in any gymnasium environment: `unveil eval planner`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.planning.recipes.planner.contestant import Contestant, contestant

if TYPE_CHECKING:
    from unveil.planning.data.episodes import Episodes
    from unveil.planning.recipes.planner.config import EvalPlanner
    from unveil.planning.worlds.environment import EnvironmentEpisodes
    from unveil.runs.progress import Progress

D4RL_ROW = "unveil in D4RL's geometry"


def evaluate_planner(config: EvalPlanner, progress: Progress) -> dict[str, object]:
    """Act in all episodes at once, then let the references act in the same ones; returns metrics."""
    import torch

    from unveil.files.pictures import write_video
    from unveil.planning.evaluation.environment import decisions_per_second, environment_metrics, roll

    check_video(config)
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    it = contestant(config)
    name = config.env or it.environment
    if not name:
        raise UnveilError(
            f"{config.checkpoint} names no environment; give `env`, an id of gymnasium or module:function"
        )
    check(config, it, name)
    world = episodes(config, it, name, config.episodes, config.video is not None)
    roll(
        world,
        it.start(),
        lambda step: progress("acting", step, world.steps, {"return": float(world.returns.mean())}),
        success=bool(it.interface.goal or config.success),
    )
    metrics = environment_metrics(world)
    if config.video is not None:
        fps = float(world.envs[0].metadata.get("render_fps") or 25)
        write_video(config.video, world.frames, max(20, round(1000 / fps)))
    world.close()
    reference = references(config, it, name, progress)
    timed = episodes(config, it, name, 1)
    metrics["decisions_per_second"] = decisions_per_second(timed, it.start())
    timed.close()
    return {
        "metrics": metrics,
        "reference": reference,
        "returns": world.returns.tolist(),
        "succeeded": world.succeeded.tolist(),
        "environment": name,
        "protocol": f"{name}, {world.steps} steps at most, {config.episodes} episodes from seed "
        f"{config.job.seed} on",
    }


def check_video(config: EvalPlanner) -> None:
    """Refuse a video that could not be written.

    Raises:
        ValueError, UnveilError: another suffix, or a file that unveil did not make.
    """
    from unveil.files.atomic import check_output
    from unveil.files.pictures import video_suffixes

    if config.video is None:
        return
    if config.video.suffix not in (suffixes := video_suffixes()):
        more = "" if ".mp4" in suffixes else " (.mp4 needs ffmpeg: pip install imageio[ffmpeg])"
        raise ValueError(f"`video` must end in {' or '.join(suffixes)}{more}, got {config.video}")
    check_output(config.video)


def episodes(
    config: EvalPlanner, it: Contestant, name: str, count: int, frames: bool = False
) -> EnvironmentEpisodes:
    """Episodes of an environment, in the coordinates that the planner knows."""
    from unveil.planning.evaluation.environment import from_the_side, named_body
    from unveil.planning.worlds.environment import EnvironmentEpisodes, maker
    from unveil.planning.worlds.maze.geometry import adapted

    make = maker(name)
    if it.geometry is not None:
        make = adapted(make, name, it.geometry, it.maze)
    draw = from_the_side if named_body(name) else None
    return EnvironmentEpisodes(
        make, name, count, config.job.seed, config.max_steps, config.success, frames, draw
    )


def check(config: EvalPlanner, it: Contestant, name: str) -> None:
    """Refuse an environment whose spaces do not fit the planner; raises as `check_spaces`."""
    from unveil.planning.worlds.environment import check_spaces

    first = episodes(config, it, name, 1)
    try:
        check_spaces(first.envs[0], name, it.interface, it.observations, it.actions)
    finally:
        first.close()


def references(
    config: EvalPlanner, it: Contestant, name: str, progress: Progress
) -> dict[str, dict[str, float]]:
    """The metrics of cloning, of the behaviour in the data, and of random actions, on the same episodes; for
    PointMaze also those of the planner in D4RL's geometry."""
    from unveil.planning.cloning import cloned
    from unveil.planning.evaluation.environment import (
        Decide,
        clone_decides,
        data_metrics,
        environment_metrics,
        random_decides,
        roll,
    )
    from unveil.planning.worlds.maze.registration import MULTI, TITLES, layout_named

    found: dict[str, dict[str, float]] = {}

    def acted(row: str, decide: Decide, where: str = name) -> None:
        world = episodes(config, it, where, config.episodes)
        roll(world, decide, lambda step: progress(row, step, world.steps, {}))
        found[row] = environment_metrics(world)
        world.close()

    maze = layout_named(name)
    if name.startswith("PointMaze") and maze is not None and maze.name in MULTI and it.geometry is not None:
        acted(D4RL_ROW, it.start(), f"unveil/Multi2D-{TITLES[maze.name]}-v1")
    data = recorded(config, it)
    if data is not None and config.cloning_steps:
        steps, goal = config.cloning_steps, it.interface.goal
        clone = cloned(data, steps, config.job.seed, goal, lambda k: progress("cloning", k, steps, {}))
        acted("cloning", clone_decides(clone, it.interface, it.observations))
    if data is not None and (metrics := data_metrics(data, name)):
        found["behaviour in the data"] = metrics
    if config.random:
        acted("random actions", random_decides(config.job.seed))
    return found


def recorded(config: EvalPlanner, it: Contestant) -> Episodes | None:
    """The data of the training, or those that the flag names; None, with a note, where they are not here.

    Raises:
        UnveilError: the data that the flag names cannot be read, or are of other sizes.
    """
    from unveil.planning.data.recorded import read_for

    source = config.data or str(it.described.get("dataset") or it.described.get("data") or "")
    try:
        if not source:
            raise UnveilError("the checkpoint names no data; see `data`")
        data = read_for(it.interface, source)
    except UnveilError as error:
        if config.data:
            raise
        note(f"no rows of cloning and of the behaviour in the data: {error}")
        return None
    sizes = data.observations.shape[1], data.actions.shape[1]
    if sizes != (it.observations, it.actions):
        raise UnveilError(
            f"{source} has {sizes[0]} observations and {sizes[1]} actions, but the planner "
            f"{it.observations} and {it.actions}"
        )
    return data

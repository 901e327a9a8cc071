"""Score a planner in any gymnasium environment: `unveil eval planner`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.planning.recipes.planner.config import SETTINGS

if TYPE_CHECKING:
    from unveil.files.json_objects import JsonObject
    from unveil.planning.data.episodes import Episodes
    from unveil.planning.data.interface import Interface
    from unveil.planning.evaluation.environment import Decide
    from unveil.planning.goal_planner import GoalPlanner
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.recipes.planner.config import EvalPlanner
    from unveil.planning.worlds.environment import EnvironmentEpisodes
    from unveil.runs.progress import Progress


def evaluate_planner(config: EvalPlanner, progress: Progress) -> dict[str, object]:
    """Act in all episodes at once, then let the references act in the same ones; returns metrics."""
    import torch

    from unveil.files.pictures import write_video
    from unveil.planning.evaluation.environment import (
        decisions_per_second,
        environment_metrics,
        planner_decides,
        roll,
    )
    from unveil.planning.worlds.environment import check_spaces, maker

    check_video(config)
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    planner, described = loaded(config)
    interface, shape = planner.interface, planner.model.shape
    name = environment_name(config, interface, described)
    make = maker(name)

    def episodes(count: int, frames: bool = False) -> EnvironmentEpisodes:
        from unveil.planning.worlds.environment import EnvironmentEpisodes

        return EnvironmentEpisodes(
            make, name, count, config.job.seed, config.max_steps, config.success, frames
        )

    first = episodes(1)
    check_spaces(first.envs[0], name, interface, shape.observations, shape.actions)
    first.close()
    world = episodes(config.episodes, config.video is not None)
    planner.reset()
    needed = bool(interface.goal) or bool(config.success)
    roll(
        world,
        planner_decides(planner),
        lambda step: progress("acting", step, world.steps, {"return": float(world.returns.mean())}),
        needed,
    )
    metrics = environment_metrics(world)
    result: dict[str, object] = {"returns": world.returns.tolist(), "succeeded": world.succeeded.tolist()}
    if config.video is not None:
        fps = float(world.envs[0].metadata.get("render_fps") or 25)
        write_video(config.video, world.frames, max(20, round(1000 / fps)))
    world.close()
    reference = references(config, described, interface, name, episodes, progress)
    timed = episodes(1)
    planner.reset()
    metrics["decisions_per_second"] = decisions_per_second(timed, planner_decides(planner))
    timed.close()
    protocol = (
        f"{name}, {world.steps} steps at most, {config.episodes} episodes from seed {config.job.seed} on"
    )
    return result | {"metrics": metrics, "reference": reference, "protocol": protocol, "environment": name}


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


def loaded(config: EvalPlanner) -> tuple[GuidedPlanner | GoalPlanner, JsonObject]:
    """The planner of a checkpoint with the settings of the flags, and its config.json."""
    from unveil.planning.recipes.locomotion.load import load_pair
    from unveil.planning.recipes.locomotion.pair import folder_at, places_below
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.config import read_recipe, stored_config

    folder = folder_at(config.checkpoint)
    places = [place for place in places_below(folder) if read_recipe(place) != "value"]
    if not places:
        found = read_recipe(find_checkpoint(config.checkpoint))
        raise UnveilError(
            f"{config.checkpoint} is of recipe {found or 'unknown'!r}, but a planner is needed: `unveil eval "
            f"{found or 'maze'}`"
        )
    fields = {name: value for name in SETTINGS if (value := getattr(config, name)) is not None}
    renamed = {"pace": float, "scale": lambda text: text if text == "auto" else _number(text)}
    fields = {name: renamed.get(name, lambda it: it)(value) for name, value in fields.items()}
    planner = load_pair(config.checkpoint, config.job.device, config.job.seed, **fields)
    place = places[0] if (places[0] / "config.json").is_file() else places[0].parent
    return planner, stored_config(place)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"`scale` is a number or auto, got {text!r}") from None


def environment_name(config: EvalPlanner, interface: Interface, described: JsonObject) -> str:
    """The environment of an evaluation: that of the flag, of the training, or of the named body of the data.

    Raises:
        UnveilError: none is known.
    """
    from unveil.planning.recipes.locomotion.clip import body_name
    from unveil.planning.worlds.locomotion.body import BODIES

    if config.env:
        return config.env
    if interface.environment:
        return interface.environment
    if body := body_name(str(described.get("dataset") or "")):
        return f"{BODIES[body].title}-v5"
    raise UnveilError(
        f"{config.checkpoint} names no environment; give `env`, an id of gymnasium or module:function"
    )


def references(
    config: EvalPlanner,
    described: JsonObject,
    interface: Interface,
    name: str,
    episodes: object,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """The metrics of cloning, of the behaviour in the data, and of random actions, on the same episodes."""
    from unveil.planning.cloning import cloned
    from unveil.planning.evaluation.environment import (
        clone_decides,
        data_metrics,
        environment_metrics,
        random_decides,
        roll,
    )

    found: dict[str, dict[str, float]] = {}
    data = recorded(config, described, interface)

    def acted(row: str, decide: Decide) -> None:
        world = episodes(config.episodes)  # pyright: ignore[reportCallIssue]
        roll(world, decide, lambda step: progress(row, step, world.steps, {}))
        found[row] = environment_metrics(world)
        world.close()

    if data is not None and config.cloning_steps:
        steps = config.cloning_steps
        clone = cloned(
            data, steps, config.job.seed, interface.goal, lambda k: progress("cloning", k, steps, {})
        )
        acted("cloning", clone_decides(clone, interface, data.observations.shape[1]))
    if data is not None and (metrics := data_metrics(data, name)):
        found["behaviour in the data"] = metrics
    if config.random:
        acted("random actions", random_decides(config.job.seed))
    return found


def recorded(config: EvalPlanner, described: JsonObject, interface: Interface) -> Episodes | None:
    """The data of the training, or those that the flag names; None, with a note, where they are not here."""
    from unveil.planning.data.recorded import read_for

    source = config.data or str(described.get("dataset") or described.get("data") or "")
    try:
        if not source:
            raise UnveilError("the checkpoint names no data")
        data = read_for(interface, source)
    except UnveilError as error:
        if config.data:
            raise
        note(f"no rows of cloning and of the behaviour in the data: {error}")
        return None
    sizes = data.observations.shape[1], data.actions.shape[1]
    trained = described.get("observations"), described.get("actions")
    if sizes != trained:
        raise UnveilError(
            f"{source} has {sizes[0]} observations and {sizes[1]} actions, but the planner {trained[0]} and "
            f"{trained[1]}"
        )
    return data

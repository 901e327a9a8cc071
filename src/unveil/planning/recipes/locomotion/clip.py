"""One episode of a locomotion planner as an animation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from unveil.planning.guided_planner import GuidedPlanner

EVERY = 40  # milliseconds of a frame


class Clip(NamedTuple):
    """An episode.

    Args:
        gif: the file.
        steps: environment steps until it ended.
        score: D4RL's normalised score of its return, which is of 1,000 steps.
        fell: it ended early, since the body was not healthy.
    """

    gif: bytes
    steps: int
    episode_return: float
    score: float
    fell: bool


def body_name(dataset: str) -> str:
    """The body that the name of a data set contains and that has a simulator; "" for others."""
    from unveil.planning.worlds.locomotion.body import body_of

    try:
        return body_of(dataset).name
    except ValueError:
        return ""


def clip(
    planner: GuidedPlanner, body: str, steps: int, seed: int, on_step: Callable[[int], object] | None = None
) -> Clip:
    """Act for at most `steps` environment steps, and draw the body from the side.

    Args:
        body: name of the body.
        seed: seed of the initial state.
        on_step: called with the number of steps so far.
    """
    import numpy as np

    from unveil.files.pictures import write_gif
    from unveil.planning.evaluation.locomotion import roll
    from unveil.planning.evaluation.locomotion_pictures import side_frame
    from unveil.planning.worlds.locomotion.body import named_body, normalized_score
    from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

    known = named_body(body)
    world = LocomotionEpisodes(known, 1, seed)
    every = max(1, round(EVERY / 1000 / world.seconds))
    frames = [side_frame(world.side_view(0), 0)]

    def look(step: int) -> None:
        if step % every == 0 or not world.running.any():
            frames.append(side_frame(world.side_view(0), step))
        if on_step is not None:
            on_step(step)

    planner.reset()
    roll(world, planner.act, min(steps, known.steps), look)
    with TemporaryDirectory(prefix="unveil-") as folder:
        file = Path(folder) / "clip.gif"
        write_gif(file, frames, round(1000 * every * world.seconds))
        data = file.read_bytes()
    score = float(normalized_score(known, np.asarray(world.returns))[0])
    return Clip(data, int(world.lengths[0]), float(world.returns[0]), score, bool(world.terminated[0]))

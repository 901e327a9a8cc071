"""What one of the applications recognises at a path that another program wrote, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Reading:
    """How a checkpoint of another program is read, where it does not say all itself.

    Args:
        epoch: "latest", or a number.
        raw: take the weights themselves, not their average (EMA).
        dataset: the data it was trained on, by name or file, for the statistics of its normaliser.
        size: side of an image model's images in pixels; 0: as the file says.
        flags: how an image model of openai's was trained, as its scripts' flags.
    """

    epoch: str = "latest"
    raw: bool = False
    dataset: str | None = None
    size: int = 0
    flags: str = ""


class Recognised(NamedTuple):
    """What lies at a path, recognised once; what was learned on the way is carried in the functions.

    Args:
        load: (device, seed, **settings) -> the model, planner or policy that `unveil.load` returns.
        inspect: how it is read -> a description for people.
        convert: (folder to write, how it is read) -> what was written, for people.
    """

    load: Callable[..., Any]
    inspect: Callable[[Reading], str]
    convert: Callable[[Path, Reading], str]

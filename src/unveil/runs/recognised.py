"""Checkpoints of other programs, as the applications recognise them, and the operations on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Reading:
    """Settings for reading a checkpoint of another program, where it does not record them.

    Args:
        epoch: "latest", or the number of an epoch.
        raw: use the weights themselves, not their average (EMA).
        dataset: training data, by name or file, for the statistics of the normaliser.
        size: side of an image model's images in pixels; 0: as the file says.
        flags: training flags of an image model of openai's scripts.
    """

    epoch: str = "latest"
    raw: bool = False
    dataset: str | None = None
    size: int = 0
    flags: str = ""


class Recognised(NamedTuple):
    """A recognised checkpoint; its functions keep what recognition has read.

    Args:
        load: (device, seed, **settings) -> the model, planner or policy that `unveil.load` returns.
        inspect: settings -> a description for people.
        convert: (folder to write, settings) -> a description of what was written, for people.
    """

    load: Callable[..., Any]
    inspect: Callable[[Reading], str]
    convert: Callable[[Path, Reading], str]

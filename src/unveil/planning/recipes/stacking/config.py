"""Configs of block stacking. Free of torch and numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.runs.flags import Job, JobFlags
from unveil.runs.verb import Verb

Count = Annotated[int, Bounds(1)]


@dataclass(frozen=True)
class DataStacking:
    """Record demonstrations of block stacking: a scripted arm moves cubes, three moves an episode.

    The same seed gives the same file. One thread of the CPU is used.

    Example: unveil data stacking --episodes 2000 --seed 0 --out stacking.hdf5
    """

    episodes: Count = 2_000
    """number of episodes, of about 230 steps each"""
    split: Literal["all", "unseen"] = "all"
    """unseen: a third of all ordered pairs (cube on cube), each cube on the next one, never occurs, so that a
    planner can be tried on compositions that it has not seen"""
    out: Path | None = None
    """HDF5 file in D4RL's layout; by default in the cache, $UNVEIL_HOME/stacking; its card is
    written beside it"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


DATA = Verb(
    {"default": DataStacking()},
    "planning.recipes.stacking.data:make_stacking_data",
    "demonstrations of block stacking, recorded",
    "episodes split seed out",
)

"""Config of generated locomotion data. Free of torch and numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.runs.flags import Job, JobFlags


@dataclass(frozen=True)
class DataLocomotion:
    """Generate D4RL-style locomotion data: rollouts of policies of known strength, with their noise, in whole
    episodes.

    The same seed gives the same file. One thread of the CPU is used, whatever the device.

    Example: unveil data locomotion --body hopper --mix medium-replay --policies mujoco_policies
    """

    body: str = "hopper"
    """robot: hopper, walker2d or halfcheetah"""
    mix: Literal["medium", "medium-replay", "medium-expert", "expert"] = "medium"
    """policies that act: medium: one of medium strength; medium-replay: that one and all earlier snapshots of
    its training; medium-expert: that one and an expert; expert: an expert"""
    policies: Path | None = None
    """folder with trpo_<Body>.npz and tqc_<Body>.npz, which do not come with unveil (docs/commands.md says
    where from); by default mujoco_policies below $UNVEIL_DATA or the cache, $UNVEIL_HOME"""
    steps: Annotated[int, Bounds(1)] = 200_000
    """minimum number of transitions; each policy contributes an equal share in whole episodes"""
    version: Literal["v5", "v4"] = "v5"
    """version of the gymnasium environment; v4 rewards the last, unhealthy step as D4RL did, so use it to
    compare with D4RL's scores"""
    out: Path | None = None
    """HDF5 file in D4RL's layout, with a card beside it; by default $UNVEIL_HOME/locomotion/<body>-<mix>.hdf5
    in the cache"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)

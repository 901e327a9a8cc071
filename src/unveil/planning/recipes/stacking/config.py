"""Configs of block stacking. Free of torch and numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields
from unveil.planning.stacking.settings import StackingSettings
from unveil.runs.flags import Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb

Count = Annotated[int, Bounds(1)]
Split = Literal["all", "unseen"]
TaskName = Literal["unconditional", "conditional", "rearrangement"]
Settings = OmitArgPrefixes[StackingSettings]
DEFAULTS = StackingSettings()


@dataclass(frozen=True)
class DataStacking:
    """Record demonstrations of block stacking: a scripted arm moves cubes, three moves an episode.

    The same seed gives the same file. One thread of the CPU is used.

    Example: unveil data stacking --episodes 2000 --seed 0 --out stacking.hdf5
    """

    episodes: Count = 2_000
    """number of episodes, of about 230 steps each"""
    split: Split = "all"
    """unseen: a third of all ordered pairs (cube on cube), each cube on the next one, never occurs, so that a
    planner can be tried on compositions that it has not seen"""
    out: Path | None = None
    """HDF5 file in D4RL's layout; by default in the cache, $UNVEIL_HOME/stacking; its card is
    written beside it"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainStacking:
    """Train a planner of block stacking on demonstrations.

    Example: unveil train stacking --out runs/stacking
    """

    preset: Literal["tiny", "default"] = "default"
    """tiny: a small network and few data, to try; default: the settings of the packaged model"""
    data: Path | None = None
    """HDF5 file of `unveil data stacking`; by default it is made, and kept in the cache"""
    split: Split = "all"
    """demonstrations to make, without `data`; unseen: a third of all pairs never occurs"""
    data_episodes: Count = 2_000
    """number of episodes to make, without `data`"""
    data_seed: Annotated[int, Bounds(0)] = 0
    """seed of the made data, without `data`"""
    horizon: Annotated[int, Bounds(2)] = 96
    """rows of a plan in training; plans may have other numbers of rows"""
    stride: Count = 2
    """environment steps between two rows of a plan"""
    width: Count = 160
    """width of the transformer"""
    depth: Count = 6
    """number of transformer blocks"""
    heads: Count = 5
    """number of attention heads"""
    patch: Count = 4
    """rows of a plan per token of the transformer; more is faster and coarser"""
    goal_drop: Annotated[float, Bounds(0, 1)] = 0.2
    """fraction of training windows whose goal is not told, for plans without a goal and for guidance"""
    run: Run = RunFlags(steps=10_000, batch_size=128, learning_rate=1e-3, keep=0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % (2 * self.heads):
            raise ValueError(
                f"`width` must be a multiple of twice `heads`, got {self.width} and {self.heads}"
            )


@dataclass(frozen=True)
class EvalStacking:
    """Score a planner of block stacking on one of the published tasks, and say why moves failed.

    Example: unveil eval stacking --task conditional --checkpoint runs/stacking
    """

    task: TaskName = "conditional"
    """unconditional: as tall a stack as possible; conditional: a stack in a given order; rearrangement: given
    pairs, from stacks that already stand"""
    checkpoint: str = "runs/stacking"
    """run folder, checkpoint folder or name of a packaged model"""
    episodes: Count = 100
    """number of episodes, of at most 384 steps"""
    composition: Literal["any", "unseen"] = "any"
    """unseen: only goals all of whose pairs are left out of the split `unseen`"""
    settings: Settings = DEFAULTS
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN_PRESETS = {
    "default": TrainStacking(),
    "tiny": changed(
        TrainStacking(),
        preset="tiny",
        data_episodes=100,
        steps=500,
        width=64,
        depth=2,
        heads=2,
        save_every=250,
    ),
}
TRAIN = Verb(
    TRAIN_PRESETS,
    "planning.recipes.stacking.train:train_stacking",
    "a planner of block stacking",
    "preset data split width depth steps batch_size learning_rate out resume",
    after="eval stacking --checkpoint {run}",
)
EVAL = Verb(
    {"default": EvalStacking()},
    "planning.recipes.stacking.evaluate:evaluate_stacking",
    "the published tasks of block stacking",
    "task checkpoint episodes composition candidates sampling_steps seed json",
)
DATA = Verb(
    {"default": DataStacking()},
    "planning.recipes.stacking.data:make_stacking_data",
    "demonstrations of block stacking, recorded",
    "episodes split seed out",
)

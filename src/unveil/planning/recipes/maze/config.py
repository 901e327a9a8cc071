"""Configs of the maze recipe: training, evaluation, single plans, data and demo. Free of torch and numpy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields
from unveil.planning.planner_settings import PlannerSettings
from unveil.runs.flags import PUBLISHED, Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb

Count = Annotated[int, Bounds(1)]
Share = Annotated[float, Bounds(0, 1)]
Seed = Annotated[int, Bounds(0)]
Settings = OmitArgPrefixes[PlannerSettings]
"""`PlannerSettings` as a field of a config, its flags without a prefix."""


@dataclass(frozen=True)
class TrainMaze:
    """Train a path planner on maze data.

    Example: unveil train maze --maze large --preset default --out runs/maze-large
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny: a small network, trained in minutes; default: the settings of the packaged models; paper:
    network, loss and sampler of Diffuser, for 20,000 steps instead of the published 2 million
    (`steps=2000000`); other flags change single settings"""
    maze: str = "large"
    """name of the maze (umaze, medium, large, eval-umaze, eval-medium, eval-large), or path of a text map"""
    data: Path | None = None
    """D4RL HDF5 file, D4RL name, or Minari folder or id of PointMaze, whose coordinates are converted; by
    default data are generated as by `unveil data maze`, and kept in the cache"""
    data_steps: Count = 4_000_000
    """number of environment steps to generate, without `data`"""
    data_seed: Seed = 0
    """seed of the generated data, without `data`"""
    width: Count = 128
    """width of the transformer"""
    depth: Count = 4
    """number of transformer blocks"""
    heads: Count = 4
    """number of attention heads"""
    stride: Count = 5
    """environment steps between two positions of a plan"""
    patch: Count = 6
    """positions of a plan per token of the transformer; more is faster and coarser"""
    to_end: Share = 0.5
    """fraction of training windows that reach to the end of their episode, where the goal is; the others end
    anywhere"""
    cut: bool = True
    """cut the data into trips at D4RL's marks (the array timeouts), where the goal changed; --no-cut is for
    data without marks: learned travel times then select windows that are no detours"""
    window_steps: Count = 600
    """environment steps of the longest training window, with `cut=False`"""
    waypoints: Share = 0.3
    """fraction of training windows in which positions between the ends are known too; 0 if plans never have
    waypoints"""
    run: Run = RunFlags(steps=16_000, batch_size=256, keep=0)

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN_PRESETS = {
    "default": TrainMaze(),
    "tiny": changed(
        TrainMaze(), preset="tiny", data_steps=400_000, steps=2_000, width=96, depth=3, save_every=500
    ),
    "paper": changed(
        TrainMaze(),
        preset="paper",
        width=32,
        run=replace(
            PUBLISHED,
            steps=20_000,
            batch_size=32,
            accumulate=2,
            learning_rate=2e-4,
            ema_decay=0.9995,
            save_every=2_000,
            keep=0,
        ),
    ),
}


@dataclass(frozen=True)
class EvalMaze:
    """Score a planner with D4RL's reward, beside the controller that made the data and a shortest-path oracle
    on the same episodes.

    Example: unveil eval maze --maze large --checkpoint maze-large --episodes 300 --seed 0 --json large.json
    """

    maze: str = "large"
    """name of the maze (umaze, medium, large, eval-umaze, eval-medium, eval-large), or path of the text map
    that the model was trained on"""
    multi: bool = False
    """draw a random goal in each episode (Multi2D), instead of D4RL's fixed goal"""
    checkpoint: str = "maze-large"
    """name of a packaged model (see `unveil weights`), run folder or checkpoint folder, or an experiment
    folder of jannerm/diffuser"""
    dataset: str | None = None
    """only for an experiment of jannerm/diffuser: data that it was trained on, by name or file; by default
    the name in the experiment's config"""
    episodes: Count = 300
    """number of episodes"""
    settings: Settings = field(default_factory=PlannerSettings)
    plan_pairs: Count = 100
    """number of plans, one at a time, over which the time of planning is measured"""
    reference: bool = True
    """score the controller that made the data and the shortest-path oracle too"""
    job: Job = JobFlags(threads=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SampleMaze:
    """Plan one path and draw it.

    Example: unveil sample maze --checkpoint maze-large --start 1,1 --goal 7,9 --via 3,6@40 --out plan.png
    """

    checkpoint: str = "maze-large"
    """name of a packaged model (see `unveil weights`), run folder or checkpoint folder"""
    start: str = "1,1"
    """start of the path: row,column in cells"""
    goal: str = "7,9"
    """goal of the path: row,column in cells"""
    via: tuple[str, ...] = ()
    """waypoints: row,column@index is passed at that position of the path, counted from 0; row,column is
    passed at any time, and the legs are planned one after the other"""
    horizon: int | None = None
    """number of positions of the path, one every 5 environment steps if the model was trained with the
    default --stride; by default chosen by the learned travel time"""
    budget_ms: float | None = None
    """wall time to spend on the plan, in milliseconds; it chooses `steps` and `candidates`, whose flags are
    then not used; by default there is no limit"""
    settings: Settings = field(default_factory=PlannerSettings)
    out: Path = Path("plan.png")
    """picture to write: .png, or .gif that shows the path appear out of noise; a .gif has 24 `steps` and
    `temperature` 1 unless a flag changes how paths are planned"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Demo:
    """Plan and drive through the large maze with the packaged weights: two animations and a table of scores.

    Example: unveil demo --out demo
    """

    checkpoint: str = "maze-large"
    """name of a packaged model (see `unveil weights`), run folder or checkpoint folder"""
    episodes: Count = 100
    """number of episodes for the table of scores"""
    out: Path = Path("demo")
    """folder for plan.gif and rollout.gif"""
    seed: Seed = 0
    """seed of starts, goals and noise"""
    device: str = "auto"
    """device of the network: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DataMaze:
    """Generate D4RL's Maze2D data: one noisy waypoint controller, random targets, no resets.

    The same seed gives the same file. One thread of the CPU is used, whatever the device.

    Example: unveil data maze --maze large --steps 1000000 --seed 0 --out large.hdf5
    """

    maze: str = "large"
    """name of the maze (umaze, medium, large, eval-umaze, eval-medium, eval-large), or path of a text map"""
    steps: int = 1_000_000
    """number of environment steps to generate; `unveil train maze` makes 4,000,000 by default"""
    noise: float = 0.5
    """standard deviation of the noise that is added to the controller's force"""
    out: Path | None = None
    """HDF5 file in D4RL's layout; by default in the cache, $UNVEIL_HOME/maze"""
    job: Job = JobFlags()


STEPS = {"--sampling-steps": "--steps"}

DATA = Verb(
    {"default": DataMaze()},
    "planning.recipes.maze.data:make_data",
    "D4RL's maze data, generated",
    "maze steps seed out",
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "planning.recipes.maze.train:train_maze",
    "a planner of mazes",
    "preset maze data width depth steps batch_size learning_rate out resume",
    after="eval maze --maze {maze} --checkpoint {run}",
    aliases={"--samples": "--sample-every 0", "--no-samples": "--sample-every -1", "--ema": "--ema-decay"},
)
EVAL = Verb(
    {"default": EvalMaze()},
    "planning.recipes.maze.evaluate:evaluate_maze",
    "D4RL's score, beside the controller and the shortest path",
    "maze multi checkpoint episodes candidates steps seed json",
    aliases=STEPS,
)
SAMPLE = Verb(
    {"default": SampleMaze()},
    "planning.recipes.maze.sample:sample_maze",
    "one path, drawn",
    "checkpoint start goal via horizon out seed",
    aliases=STEPS,
)
DEMO = Verb(
    {"default": Demo()},
    "planning.recipes.maze.demo:run_demo",
    "a planner solving a maze",
    "checkpoint episodes out seed",
)

"""Maze2D: the configs of training, evaluation and single plans, and planners from run folders. The configs import nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unveil.runs.flags import PUBLISHED, Run, RunFlags, changed
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class TrainMaze:
    """Train a path planner on maze data.

    Example: unveil train maze --maze large --preset default --out runs/maze-large
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """tiny proves learning in minutes; default is what the zoo holds; paper is Diffuser as published; other flags change single fields"""
    maze: str = "large"
    """umaze, medium, large, eval-*, or the path of a text map"""
    data: Path | None = None
    """a D4RL HDF5 file; by default generated from --data-steps and --data-seed and kept in the cache"""
    data_steps: int = 4_000_000
    """transitions to generate if no file is given"""
    data_seed: int = 0
    """seed of the generated data"""
    width: int = 128
    """width of the transformer"""
    depth: int = 4
    """blocks of the transformer"""
    heads: int = 4
    """attention heads"""
    stride: int = 5
    """environment steps between two positions of a plan"""
    patch: int = 6
    """positions a token"""
    to_end: float = 0.5
    """share of windows that reach to the end of their episode"""
    cut: bool = True
    """cut the data where `timeouts` say that the goal changed; without, detours are recognised by learned travel times"""
    window_steps: int = 600
    """with --no-cut: environment steps of the longest window"""
    waypoints: float = 0.3
    """share of windows trained with known positions in between"""
    run: Run = RunFlags(steps=16_000, batch_size=256, keep=0)


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
    """Score a planner under D4RL's own reward, beside the data controller and a shortest-path oracle on the same episodes.

    Example: unveil eval maze --maze large --checkpoint maze-large --episodes 300 --seed 0 --json large.json
    """

    maze: str = "large"
    """umaze, medium, large or eval-*"""
    multi: bool = False
    """Multi2D: a random goal for each episode"""
    checkpoint: str = "maze-large"
    """a zoo name, a run folder or a checkpoint folder, or an experiment of the original"""
    dataset: str | None = None
    """with an experiment of the original: the data it was trained on, by name or file; by default what it says"""
    episodes: int = 300
    """number of episodes"""
    candidates: int = 2
    """sampled paths for one plan"""
    sampling_steps: int = 2
    """DDIM steps"""
    temperature: float = 0.5
    """factor on the initial noise"""
    plan_pairs: int = 100
    """different pairs, one at a time, over which planning is timed"""
    reference: bool = True
    """run the data controller and the oracle too"""
    seed: int = 0
    """of starts, goals and noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 1
    """CPU threads"""
    json: str | None = None
    """write the result here; - is standard output"""


@dataclass(frozen=True)
class SampleMaze:
    """Plan one path and draw it.

    Example: unveil sample maze --checkpoint maze-large --start 1,1 --goal 7,9 --via 3,6@20 --out plan.png
    """

    checkpoint: str = "maze-large"
    """a zoo name, a run folder or a checkpoint folder"""
    start: str = "1,1"
    """row,column in cells"""
    goal: str = "7,9"
    """row,column in cells"""
    via: tuple[str, ...] = ()
    """waypoints row,column@index in plan positions, or row,column to let the planner choose the index"""
    horizon: int | None = None
    """number of positions; by default from the learned travel time"""
    budget_ms: float | None = None
    """wall time to spend on the plan"""
    out: Path = Path("plan.png")
    """picture: .png, or .gif for the plan appearing out of noise"""
    seed: int = 0
    """of the noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    json: str | None = None
    """write the path here; - is standard output"""


@dataclass(frozen=True)
class Demo:
    """Plan and drive through the large maze with the packaged weights: two animations and a score table.

    Example: unveil demo --out demo
    """

    checkpoint: str = "maze-large"
    """a zoo name, a run folder or a checkpoint folder"""
    episodes: int = 100
    """episodes of the score table"""
    out: Path = Path("demo")
    """folder for plan.gif and rollout.gif"""
    seed: int = 0
    """of starts, goals and noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""


@dataclass(frozen=True)
class DataMaze:
    """Generate D4RL's Maze2D data: one noisy waypoint controller, random targets, no reset.

    Example: unveil data maze --maze large --steps 1000000 --seed 0 --out large.hdf5
    """

    maze: str = "large"
    """umaze, medium, large, eval-umaze, eval-medium, eval-large, or the path of a text map"""
    steps: int = 1_000_000
    """transitions to generate"""
    noise: float = 0.5
    """standard deviation of the noise on the controller's force"""
    out: Path | None = None
    """HDF5 file in D4RL's layout; by default in the cache, $UNVEIL_HOME/maze"""
    seed: int = 0
    """the same seed gives the same file"""
    device: str = "auto"
    """unused here; every verb takes it"""
    json: str | None = None
    """write means and deviations here; - is standard output"""


DATA = Verb(
    {"default": DataMaze()},
    "planning.recipes.maze.data:make_data",
    "D4RL's maze data, generated",
    ("maze", "steps", "seed", "out"),
)
TRAIN = Verb(
    TRAIN_PRESETS,
    "planning.recipes.maze.train:train_maze",
    "a planner of mazes",
    ("preset", "maze", "data", "width", "depth", "steps", "batch_size", "learning_rate", "out", "resume"),
    after="eval maze --maze {maze} --checkpoint {run}",
    aliases={"--samples": "--sample-every 0", "--no-samples": "--sample-every -1", "--ema": "--ema-decay"},
)
EVAL = Verb(
    {"default": EvalMaze()},
    "planning.recipes.maze.evaluate:evaluate_maze",
    "D4RL's score, beside the controller and the shortest path",
    ("maze", "multi", "checkpoint", "episodes", "candidates", "sampling_steps", "seed", "json"),
)
SAMPLE = Verb(
    {"default": SampleMaze()},
    "planning.recipes.maze.sample:sample_maze",
    "one path, drawn",
    ("checkpoint", "start", "goal", "via", "horizon", "out", "seed"),
)
DEMO = Verb(
    {"default": Demo()},
    "planning.recipes.maze.demo:run_demo",
    "a planner solving a maze",
    ("checkpoint", "maze", "out"),
)

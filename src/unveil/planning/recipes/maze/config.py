"""Maze2D: the configs of training, evaluation and single plans, and planners from run folders. The configs import nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


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
    steps: int = 16_000
    """optimizer steps"""
    batch_size: int = 256
    """windows a step"""
    accumulate: int = 1
    """batches whose gradients make one step, in each process of torchrun"""
    learning_rate: float = 1e-3
    """peak; warm-up, then cosine"""
    ema: float = 0.999
    """largest decay of the average of weights"""
    ema_power: float = 0.75
    """the average's decay after step k is at most 1 - (1 + k)^-power; 0 for a constant decay"""
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
    bfloat16: bool | None = None
    """train under bfloat16 autocast; by default where that is measured faster when the run begins"""
    save_every: int = 1000
    """steps between checkpoints"""
    keep: int = 0
    """newest checkpoints that are kept; 0 keeps all"""
    samples: bool = True
    """draw four plans of the averaged weights at each checkpoint, into samples/ of the run folder"""
    log: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """where metrics go besides metrics.jsonl"""
    out: Path | None = None
    """run folder; by default runs/maze-<maze>-<preset>"""
    resume: bool = False
    """go on from the newest good checkpoint of the run folder"""
    new_data: bool = False
    """with --resume: go on although there are more or fewer data than before; averages and statistics stay those of the checkpoint"""
    seed: int = 0
    """of weights, batches and noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""


TRAIN_PRESETS = {
    "default": TrainMaze(),
    "tiny": TrainMaze(preset="tiny", data_steps=400_000, steps=2_000, width=96, depth=3, save_every=500),
    "paper": TrainMaze(
        preset="paper", steps=20_000, batch_size=32, accumulate=2, learning_rate=2e-4, ema=0.9995, width=32, save_every=2_000
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

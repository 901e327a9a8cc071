"""Maze2D: the configs of training, evaluation and single plans, and planners from run folders. The configs import nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from unveil.apps.diffuser import Diffuser
    from unveil.apps.path_model import PathModel
    from unveil.apps.planner import Planner
    from unveil.apps.trajectory_model import TrajectoryModel
    from unveil.worlds.maze.layout import Layout


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


def find_layout(maze: str) -> Layout:
    """A named layout, or a text map by its path."""
    from unveil.errors import UnveilError
    from unveil.worlds.maze.layout import LAYOUTS, named_layout, parse_layout

    path = Path(maze)
    if maze not in LAYOUTS and (path.suffix == ".txt" or path.is_file()):
        if not path.is_file():
            raise UnveilError(f"{maze}: {'a folder, but a text map is needed' if path.is_dir() else 'no such map file'}")
        try:
            return parse_layout(path.read_text(encoding="utf-8"), name=path.stem)
        except UnicodeDecodeError as error:
            raise UnveilError(f"{maze}: not UTF-8 text, so no map (byte {error.start} is {error.object[error.start]:#x})") from error
    return named_layout(maze)


def load_planner(folder: Path, device: str = "auto", seed: int = 0, **settings: Any) -> Planner:
    """A `Planner` from a run folder, a checkpoint folder or a zoo folder (`recipes/load.py` finds it by name).

    Args:
        settings: fields of `PlannerSettings`.
    Raises:
        UnveilError: the checkpoint is of the preset `paper`.
    """
    from unveil.apps.diffuser import Diffuser
    from unveil.errors import UnveilError
    from unveil.recipes.run_config import read_config

    if read_config(folder, "maze")["preset"] == "paper":
        raise UnveilError(
            f"{folder} is Diffuser as published (preset paper), which only `unveil eval maze` drives; give another checkpoint"
        )
    found = load_driver(folder, device, seed, **settings)
    assert not isinstance(found, Diffuser)
    return found


def load_driver(folder: Path, device: str = "auto", seed: int = 0, **settings: Any) -> Planner | Diffuser:
    """Whatever a checkpoint holds that plans and drives: `Planner`, or `Diffuser` for the preset `paper`, which has no settings."""
    from unveil.recipes.device import find_device
    from unveil.recipes.locate import weights_file
    from unveil.recipes.run_config import read_config
    from unveil.training.checkpoint import read_tensors

    config = read_config(folder, "maze")
    weights = read_tensors(weights_file(folder), model_of(config).state_dict(), halves=True)
    return driver_of(config, weights, find_device(device), seed, **settings)


def published(config: Mapping[str, Any]) -> tuple[tuple[int, ...], bool, Literal["x0", "eps"]]:
    """Multiples, attention and prediction of a temporal U-Net: the released ones, but what a converted original says."""
    return tuple(config.get("multiples", (1, 4, 8))), config.get("attention", False), config.get("predicts", "x0")


def model_of(config: Mapping[str, Any]) -> PathModel | TrajectoryModel:
    """The untrained model of a run's config."""
    from unveil.apps.diffuser import maze_shape
    from unveil.apps.path_model import PathModel, PathModelShape
    from unveil.apps.trajectory_model import TrajectoryModel

    if config["preset"] == "paper":
        return TrajectoryModel(maze_shape(config["longest"], config["diffusion_steps"], config["width"], *published(config)))
    return PathModel(
        PathModelShape(2, config["stride"], config["patch"], config["width"], config["depth"], config["heads"], config["longest"])
    )


def driver_of(
    config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], device: torch.device, seed: int, **settings: Any
) -> Planner | Diffuser:
    """The planner of a run's config with these weights, which may be stored in half precision.

    Raises:
        TypeError: settings of Diffuser as published, which has none.
    """
    import torch

    from unveil.apps.diffuser import Diffuser
    from unveil.apps.fast_models import fast_trajectories
    from unveil.apps.planner import Planner, PlannerSettings
    from unveil.apps.trajectory_model import TrajectoryModel

    model = model_of(config)
    model.load_state_dict({name: w.to(torch.float32) if w.is_floating_point() else w for name, w in weights.items()})
    model.to(device)
    if isinstance(model, TrajectoryModel):
        if settings:
            raise TypeError(f"load: Diffuser as published (preset paper) takes no settings, got {', '.join(settings)}")
        return Diffuser(fast_trajectories(model), seed=seed)
    return Planner(model, PlannerSettings(**settings), seed=seed)


def trained_layout(folder: Path) -> Layout:
    """The maze a checkpoint was trained on."""
    from unveil.recipes.run_config import read_config

    return layout_of(read_config(folder, "maze"))


def layout_of(config: Mapping[str, Any]) -> Layout:
    """The maze of a run's config."""
    from unveil.worlds.maze.layout import LAYOUTS, Layout

    rows = tuple(config["rows"])
    known = LAYOUTS.get(config["maze"])
    return known if known is not None and known.rows == rows else Layout(config["maze"], rows, int(config["episode_steps"]))

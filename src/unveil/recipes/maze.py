"""Maze2D: data, training, evaluation and single plans. The configs import nothing heavy; the wiring below them does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from unveil.apps.planner import Planner
    from unveil.data.episodes import Episodes
    from unveil.training.trainer import BatchLoss

Progress = Callable[[str, int, int, Mapping[str, float]], None]  # what, done, of how many, numbers to show


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


@dataclass(frozen=True)
class TrainMaze:
    """Train a path planner on maze data.

    Example: unveil train maze --maze large --preset default --out runs/maze-large
    """

    preset: Literal["tiny", "default"] = "default"
    """tiny proves learning in minutes; default is what the zoo holds; other flags change single fields of it"""
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
    learning_rate: float = 1e-3
    """peak; warm-up, then cosine"""
    ema: float = 0.999
    """largest decay of the average of weights"""
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
    waypoints: float = 0.3
    """share of windows trained with known positions in between"""
    bfloat16: bool = True
    """train under bfloat16 autocast (about 1.3 times as fast on CPUs with AVX512-BF16)"""
    save_every: int = 1000
    """steps between checkpoints"""
    keep: int = 0
    """newest checkpoints that are kept; 0 keeps all"""
    out: Path | None = None
    """run folder; by default runs/maze-<maze>-<preset>"""
    resume: bool = False
    """go on from the newest good checkpoint of the run folder"""
    seed: int = 0
    """of weights, batches and noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""


TRAIN_PRESETS = {
    "default": TrainMaze(),
    "tiny": TrainMaze(preset="tiny", data_steps=400_000, steps=2_000, width=96, depth=3, save_every=500),
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
    """a zoo name, a run folder or a checkpoint folder"""
    episodes: int = 300
    """number of episodes"""
    candidates: int = 4
    """sampled paths for one plan"""
    sampling_steps: int = 3
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


def find_layout(maze: str):
    """A named layout, or a text map by its path."""
    from unveil.errors import UnveilError
    from unveil.worlds.maze.layout import LAYOUTS, named_layout, parse_layout

    path = Path(maze)
    if maze not in LAYOUTS and (path.suffix == ".txt" or path.is_file()):
        if not path.is_file():
            raise UnveilError(f"{maze}: no such map file")
        return parse_layout(path.read_text(), name=path.stem)
    return named_layout(maze)


def data_path(maze: str, steps: int, seed: int) -> Path:
    """Where generated data are kept."""
    from unveil.data.files import home

    return home() / "maze" / f"{Path(maze).stem}-{steps}-seed{seed}.hdf5"


def make_data(config: DataMaze, progress: Progress) -> dict[str, Any]:
    """Generate, write, and describe."""
    import time

    import numpy as np

    from unveil.data.d4rl import write_d4rl
    from unveil.worlds.maze.collect import collect

    layout = find_layout(config.maze)
    out = config.out or data_path(config.maze, config.steps, config.seed)
    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out needs a file name such as {out / 'maze.hdf5'}")
    began = time.perf_counter()
    episodes = collect(
        layout,
        config.steps,
        np.random.default_rng(config.seed),
        config.noise,
        lambda done: progress(f"generating {layout.name}", done, config.steps, {}),
    )
    seconds = time.perf_counter() - began
    write_d4rl(out, episodes)
    return {
        "path": str(out),
        "metrics": {
            "observation_mean": episodes.observations.mean(0).tolist(),
            "observation_std": episodes.observations.std(0).tolist(),
            "action_mean": episodes.actions.mean(0).tolist(),
            "action_std": episodes.actions.std(0).tolist(),
            "reward_rate": float(episodes.rewards.mean()),
            "segment_rate": float(episodes.timeouts.mean()),
            "steps_per_second": config.steps / seconds,
            "n": config.steps,
        },
    }


def load_data(config: TrainMaze, progress: Progress) -> Episodes:
    """The file that was named, or generated data from the cache."""
    from unveil.data.d4rl import read_d4rl

    path = config.data
    if path is None:
        path = data_path(config.maze, config.data_steps, config.data_seed)
        if not path.is_file():
            make_data(DataMaze(maze=config.maze, steps=config.data_steps, seed=config.data_seed, out=path), progress)
    return read_d4rl(path)


def batch_loss(episodes: Episodes, config: TrainMaze) -> tuple[BatchLoss, int]:
    """The loss of one random batch, and the longest window in positions."""
    import torch

    from unveil.apps.path_model import LEVELS, PathModel, endpoint_known
    from unveil.data.windows import PathWindows
    from unveil.network.quantiles import pinball
    from unveil.process.objective import denoising_loss

    windows = PathWindows(episodes, 2, config.stride, config.to_end)

    def loss(model: torch.nn.Module, generator: torch.Generator) -> tuple[torch.Tensor, Mapping[str, float]]:
        assert isinstance(model, PathModel)
        device, size = model.mean.device, config.batch_size

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=generator, device="cpu")

        positions, _, lengths = windows.draw(size, generator)
        x_0 = model.normalized(positions.to(device))
        horizon = x_0.shape[1]
        waypoint = uniform(size, horizon) < 0.08 * uniform(size, 1) * (uniform(size, 1) < config.waypoints)
        between = waypoint[..., None] & (uniform(size, horizon, 2) < 0.75)
        known = endpoint_known(lengths, horizon, 2) | between
        t = (torch.randperm(size, generator=generator, device="cpu") + uniform(size)).div(size).clamp(min=1e-3)  # stratified
        noise = torch.randn(x_0.shape, generator=generator, device="cpu").to(device)
        known, lengths = known.to(device), lengths.to(device)
        cond = model.condition(x_0[:, 0], x_0[:, -1], lengths, horizon, known)
        denoising = denoising_loss(model.denoiser, x_0, t, noise, cond=cond, known=known).mean()
        quantiles = model.travel(torch.cat([x_0[:, 0], x_0[:, -1]], dim=1))
        travel = pinball(quantiles, (lengths - 1).to(quantiles).log(), LEVELS).mean()
        return denoising + 0.1 * travel, {"denoising_loss": float(denoising.detach()), "travel_loss": float(travel.detach())}

    return loss, windows.longest


def train_maze(config: TrainMaze, progress: Progress) -> Path:
    """Train; returns the run folder."""
    import json
    from dataclasses import asdict

    import torch

    from unveil.apps.path_model import PathModel, PathModelShape
    from unveil.data.files import replacing
    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_device
    from unveil.training.trainer import Training, train

    layout = find_layout(config.maze)
    run = config.out or Path("runs") / f"maze-{layout.name}-{config.preset}"
    if run.exists() and not run.is_dir():
        raise UnveilError(f"{run} is a file, but --out needs a folder")
    if config.threads:
        torch.set_num_threads(config.threads)
    device = find_device(config.device)
    episodes = load_data(config, progress)
    loss, longest = batch_loss(episodes, config)
    torch.manual_seed(config.seed)  # initial weights
    model = PathModel(PathModelShape(2, config.stride, config.patch, config.width, config.depth, config.heads, longest))
    model.learn_statistics(episodes)
    model.to(device)
    training = Training(
        steps=config.steps,
        learning_rate=config.learning_rate,
        ema=config.ema,
        bfloat16=config.bfloat16,
        save_every=config.save_every,
        keep=config.keep,
        seed=config.seed,
        log_every=min(100, config.steps),
    )
    described = asdict(config) | {
        "recipe": "maze",
        "maze": layout.name,
        "rows": layout.rows,
        "episode_steps": layout.steps,
        "longest": longest,
    }
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnveilError(f"{run}: cannot make this folder ({error.strerror})") from error
    with replacing(run / "config.json") as partial:
        partial.write_text(json.dumps(described, indent=1, default=str) + "\n")
    train(
        model,
        loss,
        training,
        run,
        resume=config.resume,
        on_record=lambda record: progress(f"training {run}", int(record["step"]), config.steps, record),
    )
    return run


def load_planner(folder: Path, device: str = "auto", seed: int = 0, **settings: Any) -> Planner:
    """A `Planner` from a run folder, a checkpoint folder or a zoo folder (`recipes/load.py` finds it by name)."""
    import torch

    from unveil.apps.path_model import PathModel, PathModelShape
    from unveil.apps.planner import Planner, PlannerSettings
    from unveil.recipes.locate import find_device, read_config, weights_file
    from unveil.training.checkpoint import read_tensors

    config = read_config(folder, "maze")
    model = PathModel(
        PathModelShape(2, config["stride"], config["patch"], config["width"], config["depth"], config["heads"], config["longest"])
    )
    weights = read_tensors(weights_file(folder), model.state_dict())
    model.load_state_dict({name: w.to(torch.float32) if w.is_floating_point() else w for name, w in weights.items()})
    return Planner(model.to(find_device(device)), PlannerSettings(**settings), seed=seed)


def trained_layout(folder: Path):
    """The maze a checkpoint was trained on."""
    from unveil.recipes.locate import read_config
    from unveil.worlds.maze.layout import LAYOUTS, Layout

    config = read_config(folder, "maze")
    rows = tuple(config["rows"])
    known = LAYOUTS.get(config["maze"])
    return known if known is not None and known.rows == rows else Layout(config["maze"], rows, int(config["episode_steps"]))

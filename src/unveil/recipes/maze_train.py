"""Training a maze planner: `unveil train maze`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unveil.recipes.maze import DataMaze, data_path, driver_of, find_layout, make_data

if TYPE_CHECKING:
    import torch

    from unveil.data.episodes import Episodes
    from unveil.data.windows import ListedWindows, PathWindows
    from unveil.recipes.maze import Progress, TrainMaze
    from unveil.worlds.maze.layout import Layout


def load_data(config: TrainMaze, progress: Progress) -> Episodes:
    """The file that was named, or generated data from the cache.

    Raises:
        UnveilError: the file is not there, or holds positions that this maze does not have.
    """
    from unveil.data.d4rl import read_d4rl
    from unveil.data.files import found
    from unveil.data.minari import is_minari, read_minari
    from unveil.errors import UnveilError

    layout = find_layout(config.maze)
    if config.data is None:
        path = data_path(layout, config.data_steps, config.data_seed)
        if not path.is_file():
            make_data(DataMaze(maze=config.maze, steps=config.data_steps, seed=config.data_seed, out=path), progress)
        return read_d4rl(path)
    path = found(config.data)
    episodes = read_minari(path) if is_minari(path) else read_d4rl(path)
    if episodes.observations.shape[1] < 2:
        raise UnveilError(f"{path}: observations have {episodes.observations.shape[1]} numbers; a maze needs x, y first")
    inside = float((layout.clearance(episodes.observations[:: max(1, len(episodes) // 20_000), :2].astype(float)) <= 0).mean())
    if inside > 0.01:
        raise UnveilError(f"{path}: {100 * inside:.0f} % of its positions lie inside walls of maze {layout.name}; give the --maze it is of")
    return episodes


def find_windows(episodes: Episodes, config: TrainMaze, progress: Progress) -> PathWindows | ListedWindows:
    """Windows between the marks of the data, or, with --no-cut, direct ones of data without marks."""
    import torch

    from unveil.apps.direct import direct_windows
    from unveil.data.windows import PathWindows

    if config.cut:
        return PathWindows(episodes, 2, config.stride, config.to_end)
    windows = PathWindows(episodes, 2, config.stride, to_end=0.0, longest=max(2, config.window_steps // config.stride))
    generator = torch.Generator(device="cpu").manual_seed(config.seed)
    return direct_windows(windows, generator, progress=lambda done, total: progress("finding direct trips", done, total, {}))


def unmarked(episodes: Episodes) -> Episodes:
    """The same recording without D4RL's `timeouts`: nothing says when a goal changed.

    Minari's episodes, which bring final observations, are recordings of their own and stay apart.
    """
    from dataclasses import replace

    import numpy as np

    return replace(episodes, timeouts=np.zeros_like(episodes.timeouts)) if episodes.final_observations is None else episodes


class Task(NamedTuple):
    """What is trained on what.

    Args:
        longest: rows of the longest window.
        training: options of `Training` that differ from the recipe's.
        config: what else `config.json` must say for the weights to be used.
    """

    model: torch.nn.Module
    draw: Callable[[torch.Generator], Any]
    loss: Callable[[torch.nn.Module, Any], tuple[torch.Tensor, Mapping[str, float]]]
    longest: int
    training: Mapping[str, Any]
    config: Mapping[str, Any]


def path_task(config: TrainMaze, episodes: Episodes, progress: Progress) -> Task:
    """Our planner: paths of all lengths between two ends."""
    import torch

    from unveil.apps.path_model import PathModel, PathModelShape
    from unveil.apps.path_training import path_batches, path_loss

    episodes = episodes if config.cut else unmarked(episodes)
    windows = find_windows(episodes, config, progress)
    torch.manual_seed(config.seed)  # initial weights
    shape = PathModelShape(2, config.stride, config.patch, config.width, config.depth, config.heads, windows.longest)
    model = PathModel(shape)
    model.learn_statistics(episodes)
    return Task(model, path_batches(windows, config.batch_size, config.waypoints), path_loss, windows.longest, {}, {})


def train_maze(config: TrainMaze, progress: Progress) -> Path:
    """Train; returns the run folder."""
    import json
    from dataclasses import asdict
    from functools import partial

    import torch

    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_device
    from unveil.recipes.maze_paper import paper_task
    from unveil.recipes.sinks import sink
    from unveil.training.trainer import Training, train

    layout = find_layout(config.maze)
    check_training(config)
    run = config.out or Path("runs") / f"maze-{layout.name}-{config.preset}"
    if run.exists() and not run.is_dir():
        raise UnveilError(f"{run} is a file, but --out needs a folder")
    if config.threads:
        torch.set_num_threads(config.threads)
    device = find_device(config.device)
    episodes = load_data(config, progress)
    task = paper_task(config, episodes, layout) if config.preset == "paper" else path_task(config, episodes, progress)
    options: dict[str, Any] = {
        "steps": config.steps,
        "learning_rate": config.learning_rate,
        "ema": config.ema,
        "bfloat16": has_bfloat16(device) if config.bfloat16 is None else config.bfloat16,
        "save_every": config.save_every,
        "keep": config.keep,
        "accumulate": config.accumulate,
        "seed": config.seed,
        "log_every": min(100, config.steps),
    }
    described = asdict(config) | {"recipe": "maze", "maze": layout.name, "rows": layout.rows, "episode_steps": layout.steps}
    described = json.loads(json.dumps(described | {"longest": task.longest, **task.config}, default=str))
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnveilError(f"{run}: cannot make this folder ({error.strerror})") from error
    write_config(run, described, config.resume)
    with sink(config.log if os.environ.get("RANK", "0") == "0" else "none", run, described) as log:

        def on_record(record: Mapping[str, Any]) -> None:
            log(record)
            progress(f"training {run}", int(record["step"]), config.steps, record)

        train(
            task.model.to(device),
            task.draw,
            task.loss,
            Training(**(options | dict(task.training))),
            run,
            resume=config.resume,
            on_record=on_record,
            on_save=partial(draw_samples, layout, described, run) if config.samples else None,
        )
    return run


def draw_samples(layout: Layout, config: Mapping[str, Any], run: Path, step: int, weights: dict[str, torch.Tensor]) -> None:
    """A picture of four plans, always between the same free cells, as `samples/step-<step>.png` of the run folder.

    Whatever goes wrong with it is a warning: no training dies of a picture.
    """
    import warnings

    try:
        _draw_samples(layout, config, run, step, weights)
    except (ValueError, OSError, ImportError) as error:
        warnings.warn(f"no picture of samples at step {step}: {error}", stacklevel=2)


def _draw_samples(layout: Layout, config: Mapping[str, Any], run: Path, step: int, weights: dict[str, torch.Tensor]) -> None:
    import numpy as np
    import torch

    from unveil.evaluation.pictures import MazePicture, write_png

    planner = driver_of(config, weights, torch.device("cpu"), 0)
    rng = np.random.default_rng(0)
    picture = MazePicture(layout, panels=4, width=3.0)
    for panel in range(4):
        start, goal = layout.cells[rng.choice(len(layout.cells), 2, replace=len(layout.cells) < 2)]
        plan = planner.plan(np.concatenate([start, np.zeros(2)]), goal)
        picture.ends(panel, start, goal)
        picture.path(panel, plan.path)
        picture.title(panel, f"step {step}" if panel == 0 else "")
    (run / "samples").mkdir(exist_ok=True)
    write_png(run / "samples" / f"step-{step:06d}.png", picture.frame(), {})


FREE_TO_CHANGE = ("steps", "save_every", "keep", "device", "threads", "resume", "out", "data", "samples", "log")


def write_config(run: Path, described: dict[str, Any], resume: bool) -> None:
    """Write `config.json`, unless it is that of a run which has begun and differs.

    Raises:
        UnveilError: the folder holds checkpoints and `resume` is off, or it was started with other flags.
    """
    import json

    from unveil.data.files import replacing
    from unveil.errors import UnveilError
    from unveil.recipes.maze import TrainMaze
    from unveil.training.checkpoint import latest_checkpoint

    newest = latest_checkpoint(run)
    if newest is not None and not resume:
        raise UnveilError(f"{run} already holds {newest.name}; give --resume to go on, or another --out")
    if newest is not None and (run / "config.json").is_file():
        before = json.loads((run / "config.json").read_text())
        for name in described:
            if name not in FREE_TO_CHANGE and before.get(name, getattr(TrainMaze(), name, None)) != described[name]:
                raise UnveilError(
                    f"{run} was started with {name} {before.get(name)!r}, not {described[name]!r}; give the same, or another --out"
                )
    with replacing(run / "config.json") as partial:
        partial.write_text(json.dumps(described, indent=1) + "\n")


def check_training(config: TrainMaze) -> None:
    """Refuse impossible numbers.

    Raises:
        ValueError: the field, what was got and what is needed.
    """
    from unveil.recipes.maze import TRAIN_PRESETS
    from unveil.recipes.sinks import needed

    if config.log != "none":
        needed(config.log)
    if config.preset == "paper":
        for name in ("cut", "window_steps", "depth", "heads", "stride", "patch", "to_end", "waypoints"):
            if getattr(config, name) != getattr(TRAIN_PRESETS["paper"], name):
                raise ValueError(f"--preset paper takes no --{name.replace('_', '-')}: it is Diffuser as published")
        if config.width % 8:
            raise ValueError(f"--width must be a multiple of 8 with --preset paper, got {config.width}")
    for name in (
        "steps",
        "batch_size",
        "data_steps",
        "width",
        "depth",
        "heads",
        "stride",
        "patch",
        "window_steps",
        "save_every",
        "accumulate",
    ):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    for name in ("to_end", "waypoints"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"--{name.replace('_', '-')} must lie in 0 .. 1, got {getattr(config, name)}")
    if config.width % (2 * config.heads):
        raise ValueError(f"--width must be a multiple of twice --heads, got {config.width} and {config.heads}")
    if config.threads < 0 or config.keep < 0 or not config.learning_rate > 0:
        raise ValueError("--threads and --keep must be at least 0 and --learning-rate above 0")


def has_bfloat16(device: torch.device) -> bool:
    """Whether matrices in bfloat16 are faster than in float32 there."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return device.type == "cpu" and ("avx512_bf16" in flags or "amx_bf16" in flags)

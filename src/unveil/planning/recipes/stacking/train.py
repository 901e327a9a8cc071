"""Train a planner of block stacking: `unveil train stacking`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.stacking.config import DataStacking, TrainStacking
from unveil.planning.recipes.stacking.data import data_path, make_stacking_data
from unveil.planning.recipes.stacking.load import SIZES, read_stacking_config, stacking_model
from unveil.runs.flags import JobFlags, flat

if TYPE_CHECKING:
    import torch

    from unveil.planning.data.episodes import Episodes
    from unveil.planning.stacking.training import StackingBatch
    from unveil.runs.progress import Progress


def train_stacking(config: TrainStacking, progress: Progress) -> Path:
    """Train a planner of block stacking; returns the run folder.

    Raises:
        UnveilError: the data or the run folder cannot be used.
    """
    import torch

    from unveil.errors import UnveilError
    from unveil.files.notes import note
    from unveil.planning.data.stacking_windows import StackingWindows
    from unveil.planning.stacking.training import stacking_batches, stacking_loss
    from unveil.runs.finetuning import beginning, freeze, inherited, take_over
    from unveil.runs.training import Task, as_json, begin, run_task

    run = config.run.out or Path("runs") / "stacking"
    if (begun := beginning(config.run, run)) is not None:
        config = inherited(config, read_stacking_config(begun), SIZES)
    device = begin(config.run, run)
    episodes = load_data(config, progress)
    try:
        windows = StackingWindows(episodes, config.horizon, config.stride)
    except ValueError as error:
        raise UnveilError(f"{config.data}: {error}") from error
    if longer := int((windows.ends - windows.begins > windows.longest + 1).sum()):
        note(
            f"of {longer} of {len(windows)} moves, which are longer than a plan of {config.horizon} rows, "
            "only the last part is learned"
        )
    torch.manual_seed(config.run.seed)  # initial weights
    model = stacking_model(flat(config))
    model.normalization.learn(windows.commands.double().numpy(), "gaussian")
    if begun is not None:
        take_over(model, begun, config.run, ("normalization.",))
        freeze(config.run, None, "a planner of block stacking")

    def draws(count: int) -> Callable[[torch.Generator], StackingBatch]:
        return stacking_batches(windows, count, config.goal_drop)

    size = config.run.batch_size
    described = as_json(flat(config) | {"recipe": "stacking", "moves": len(windows)})
    task = Task(model, draws(size), stacking_loss, {}, draws=draws, size=size, lower="`width` or `depth`")
    run_task(task, config.run, device, run, described, TrainStacking(), progress)
    return run


def load_data(config: TrainStacking, progress: Progress) -> Episodes:
    """The data of a training: those of the file `data`, or made ones from the cache.

    Raises:
        UnveilError: no such file, or a damaged one.
    """
    from unveil.files.places import found
    from unveil.planning.data.source import read_file

    if config.data is not None:
        return read_file(found(config.data))
    path = data_path(config.data_episodes, config.data_seed, config.split)
    if not path.is_file():
        job = JobFlags(seed=config.data_seed)
        made = DataStacking(episodes=config.data_episodes, split=config.split, out=path, job=job)
        make_stacking_data(made, progress)
    return read_file(path)

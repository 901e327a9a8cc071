"""A training as a run folder: what every recipe's training shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from unveil.recipes.progress import Progress
    from unveil.recipes.sinks import SinkName
    from unveil.training.trainer import Training


RELEASED_TRAINER = {"warmup": 0, "final_fraction": 1.0, "betas": (0.9, 0.999), "clip": float("inf")}
"""`Training` as jannerm/diffuser trains: Adam at a constant rate, no clipping. Of every preset `paper`."""


class Task(NamedTuple):
    """What is trained on what.

    Args:
        training: options of `Training` that differ from the recipe's.
        config: what else `config.json` must say for the weights to be used.
        memory: of `train`.
    """

    model: torch.nn.Module
    draw: Callable[[torch.Generator], Any]
    loss: Callable[[torch.nn.Module, Any], tuple[torch.Tensor, Mapping[str, float]]]
    training: Mapping[str, Any]
    config: Mapping[str, Any]
    memory: Mapping[str, torch.Tensor] | None = None


def run_task(
    task: Task,
    training: Training,
    device: torch.device,
    run: Path,
    described: dict[str, Any],
    defaults: Any,
    progress: Progress,
    *,
    resume: bool,
    log: SinkName,
    on_save: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
) -> None:
    """Train in a run folder: `config.json`, checkpoints, `metrics.jsonl`, and what is shown on the way.

    Args:
        described: what `config.json` says.
        defaults: the recipe's config, for fields that an older `config.json` lacks.
    Raises:
        UnveilError: the folder cannot be made, or is another run's.
    """
    from dataclasses import replace

    from unveil.errors import UnveilError
    from unveil.recipes.sinks import sink
    from unveil.training.trainer import train

    if run.exists() and not run.is_dir():
        raise UnveilError(f"{run} is a file, but a run needs a folder")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnveilError(f"{run}: cannot make this folder ({error.strerror})") from error
    write_config(run, described, defaults, resume)
    training = replace(training, **dict(task.training))
    with sink(log if os.environ.get("RANK", "0") == "0" else "none", run, described) as record:

        def on_record(numbers: Mapping[str, Any]) -> None:
            record(numbers)
            progress(f"training {run}", int(numbers["step"]), training.steps, numbers)

        model = task.model.to(device)
        train(model, task.draw, task.loss, training, run, resume=resume, on_record=on_record, on_save=on_save, memory=task.memory)


def as_json(described: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads back from a file: paths become text, tuples lists."""
    import json

    return json.loads(json.dumps(dict(described), default=str))


FREE_TO_CHANGE = (
    "steps",
    "n_train_steps",
    "save_every",
    "save_freq",
    "keep",
    "device",
    "threads",
    "resume",
    "out",
    "prepared_by",
    "data",
    "samples",
    "log",
)


def write_config(run: Path, described: dict[str, Any], defaults: Any, resume: bool) -> None:
    """Write `config.json`, unless it is that of a run which has begun and differs.

    Raises:
        UnveilError: the folder holds checkpoints and `resume` is off, or it was started with other flags.
    """
    import json

    from unveil.data.files import replacing
    from unveil.errors import UnveilError
    from unveil.training.checkpoint import latest_checkpoint

    newest = latest_checkpoint(run, warn=False)  # the trainer warns
    if newest is not None and not resume:
        raise UnveilError(f"{run} already holds {newest.name}; give --resume to go on, or another --out")
    if newest is not None and (run / "config.json").is_file():
        try:
            before: dict[str, Any] = dict(json.loads((run / "config.json").read_text()))
        except (ValueError, TypeError, RecursionError) as error:
            raise UnveilError(f"{run / 'config.json'}: damaged ({error}); put it back, or give another --out") from error
        for name in described:
            if name not in FREE_TO_CHANGE and before.get(name, getattr(defaults, name, None)) != described[name]:
                raise UnveilError(
                    f"{run} was started with {name} {before.get(name)!r}, not {described[name]!r}; give the same, or another --out"
                )
    with replacing(run / "config.json") as partial:
        partial.write_text(json.dumps(described, indent=1) + "\n")

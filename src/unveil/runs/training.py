"""A training as a run folder: what every recipe's training shares."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from unveil.runs.progress import Progress
    from unveil.runs.sinks import SinkName
    from unveil.training.trainer import Training


class Task(NamedTuple):
    """What is trained on what.

    Args:
        training: options of `Training` that differ from the recipe's.
        config: what else `config.json` must say for the weights to be used.
        memory: of `train`.
        draws: number of samples -> `draw`, to count the memory of a step before it is taken; None: it is not counted.
        size: samples of a batch.
        counted: model and loss to count with, where `loss` computes with another model than is trained.
        lower: flags that make samples or the network smaller, as "--width or --depth".
        accumulate: the flag that makes up for a smaller batch; "" if there is none.
    """

    model: torch.nn.Module
    draw: Callable[[torch.Generator], Any]
    loss: Callable[[torch.nn.Module, Any], tuple[torch.Tensor, Mapping[str, float]]]
    training: Mapping[str, Any]
    config: Mapping[str, Any]
    memory: Mapping[str, torch.Tensor] | None = None
    draws: Callable[[int], Callable[[torch.Generator], Any]] | None = None
    size: int = 0
    counted: tuple[torch.nn.Module, Callable[[Any, Any], tuple[torch.Tensor, Mapping[str, float]]]] | None = None
    lower: str = ""
    accumulate: str = "--accumulate"


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
        UnveilError: the folder cannot be made, or is another run's; or a step needs more memory than is free.
    """
    from dataclasses import replace

    from unveil.errors import UnveilError
    from unveil.runs.device import free_memory
    from unveil.runs.resuming import check_folder, write_config
    from unveil.runs.sinks import sink
    from unveil.training.trainer import train

    check_folder(run, resume)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnveilError(f"{run}: cannot make this folder ({error.strerror})") from error
    said = write_config(run, described, defaults, resume)
    if said:
        progress(said, 1, 1, {})
    training = replace(training, **dict(task.training))
    with sink(log if os.environ.get("RANK", "0") == "0" else "none", run, described) as record:

        def on_record(numbers: Mapping[str, Any]) -> None:
            record(numbers)
            progress(f"training {run}", int(numbers["step"]), training.steps, numbers)

        model = task.model.to(device)
        check_memory(task, training, free_memory(device))
        train(model, task.draw, task.loss, training, run, resume=resume, on_record=on_record, on_save=on_save, memory=task.memory)


def check_memory(task: Task, training: Training, free: int | None) -> None:
    """Refuse a training whose step needs more memory than is free, before it takes any.

    Raises:
        UnveilError: says what is needed, what is free, and which batch would fit.
    """
    from unveil.errors import UnveilError
    from unveil.files.notes import note
    from unveil.training.memory import step_bytes, training_bytes

    draws = task.draws
    if draws is None or free is None:
        return
    model, loss = task.counted or (task.model, task.loss)

    def needed(size: int) -> int:
        return training_bytes(task.model, step_bytes(model, draws, loss, size, memory=task.memory, bfloat16=bool(training.bfloat16)))

    try:
        need = needed(task.size)
        if need <= free:
            return
        halves = [task.size >> k for k in range(1, task.size.bit_length())] if needed(1) <= 0.9 * free else []
        fits = halves[bisect_left(halves, True, key=lambda size: needed(size) <= 0.9 * free)] if halves else 0  # one sample does
    except Exception as error:  # a loss that cannot do without numbers; if it is wrong, the training itself will say so
        note(f"the memory of a step could not be counted beforehand ({type(error).__name__})")
        return
    more = f" with {task.accumulate} {-(-task.size // fits) * training.accumulate}" if fits and task.accumulate else ""
    smaller = f"give --batch-size {fits}{more}, or lower {task.lower}" if fits else f"not even one sample would fit: lower {task.lower}"
    raise UnveilError(
        f"a step of --batch-size {task.size} needs about {need / 2**30:.3g} GB of memory, but {free / 2**30:.3g} GB are free; {smaller}"
    )


def as_json(described: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads back from a file: paths become text, tuples lists."""
    import json

    return json.loads(json.dumps(dict(described), default=str))

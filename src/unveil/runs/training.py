"""Train in a run folder, as every recipe does."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    import torch

    from unveil.runs.flags import RunFlags
    from unveil.runs.progress import Progress
    from unveil.training.trainer import Training


class Task(NamedTuple):
    """Model, data and loss of a training.

    Args:
        model: model that is trained.
        draw: generator -> batch, of the task's own type.
        loss: (model, batch) -> loss and numbers to record.
        config: further contents of config.json that the use of the weights needs.
        memory: as in `train`.
        draws: batch size -> `draw`, to estimate the memory of a step before it runs; None: no estimate.
        size: samples per batch.
        counted: model and loss for that estimate, where `loss` computes with another model than the trained
            one.
        lower: settings that make samples or the network smaller, as "`width` or `depth`".
        accumulate: setting that compensates for smaller batches; "" if there is none.
    """

    model: torch.nn.Module
    draw: Callable[[torch.Generator], object]
    loss: Callable[..., tuple[torch.Tensor, Mapping[str, float]]]
    config: Mapping[str, object]
    memory: Mapping[str, torch.Tensor] | None = None
    draws: Callable[[int], Callable[[torch.Generator], object]] | None = None
    size: int = 0
    counted: tuple[torch.nn.Module, Callable[..., tuple[torch.Tensor, Mapping[str, float]]]] | None = None
    lower: str = ""
    accumulate: str = "accumulate"


def begin(flags: RunFlags, run: Path) -> torch.device:
    """Prepare a training before data are read: check the run folder and the tracker, set torch's threads.

    Returns:
        The device.
    Raises:
        UnveilError: an unusable run folder, one with checkpoints while `resume` is off, or a missing package.
        ValueError: this machine has no such device.
    """
    import torch

    from unveil.runs.device import find_device
    from unveil.runs.resuming import check_folder
    from unveil.runs.sinks import needed

    if flags.log != "none":
        needed(flags.log)
    check_folder(run, flags.resume)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    return find_device(flags.device)


def training_of(flags: RunFlags) -> Training:
    """The settings of `train`."""
    from unveil.training.trainer import Training

    called = {"betas": "adam_betas", "ema": "ema_decay"}
    names = [field.name for field in fields(Training) if field.name != "log_every"]
    settings = {name: getattr(flags, called.get(name, name)) for name in names}
    return Training(**settings, log_every=min(100, flags.steps))


def run_task(
    task: Task,
    flags: RunFlags,
    device: torch.device,
    run: Path,
    described: dict[str, object],
    defaults: object,
    progress: Progress,
    on_sample: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
    on_save: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
) -> None:
    """Train in a run folder: write config.json, checkpoints, metrics.jsonl and record.json.

    Args:
        described: contents of config.json.
        defaults: the recipe's config, for fields that an older config.json lacks.
        on_sample: called with the step and the averaged weights at checkpoints, as often as `sample_every`
            says.
        on_save: called with the same at every checkpoint.
    Raises:
        UnveilError: the folder cannot be made, or belongs to another run; or a step needs more memory than is
            free.
        ValueError: `sample_every` for a training without `on_sample`.
    """
    from time import perf_counter

    from unveil.runs.device import free_memory
    from unveil.runs.record import write_record
    from unveil.runs.resuming import write_config
    from unveil.runs.sinks import sink
    from unveil.training.trainer import train

    if on_sample is None and flags.sample_every > 0:
        raise ValueError(
            f"`sample_every` {flags.sample_every}: this training makes no samples on the way; leave it out"
        )
    remark = write_config(run, described, defaults, flags.resume)
    if remark:
        progress(remark, 1, 1, {})
    training = training_of(flags)

    def saved(step: int, averaged: dict[str, torch.Tensor]) -> None:
        if on_save is not None:
            on_save(step, averaged)
        if on_sample is not None and flags.sample_every >= 0 and step % (flags.sample_every or 1) == 0:
            on_sample(step, averaged)

    leads = os.environ.get("RANK", "0") == "0"
    began = perf_counter()
    with sink(flags.log if leads else "none", run, described) as record:

        def on_record(numbers: Mapping[str, float | int]) -> None:
            record(numbers)
            progress(f"training {run}", int(numbers["step"]), training.steps, numbers)

        model = task.model.to(device)
        check_memory(task, training, free_memory(device))
        if flags.compile:
            compile_network(model)
        train(
            model,
            task.draw,
            task.loss,
            training,
            run,
            resume=flags.resume,
            on_record=on_record,
            on_save=saved,
            memory=task.memory,
        )
    if leads:
        write_record(run, described, perf_counter() - began)


def compile_network(model: torch.nn.Module) -> None:
    """Compile the network of a model in place; names of weights stay.

    Raises:
        UnveilError: this machine has no C++ compiler.
    """
    from shutil import which

    from unveil.errors import UnveilError

    if next(model.parameters()).device.type == "cpu" and not (
        which("c++") or which("g++") or which("clang++")
    ):
        raise UnveilError(
            "torch.compile needs a C++ compiler, and none is found; install one (g++), or leave `compile` out"
        )
    network = getattr(getattr(model, "denoiser", model), "network", model)
    network.compile()


def check_memory(task: Task, training: Training, free: int | None) -> None:
    """Refuse a training whose steps need more memory than is free, before it allocates any.

    Raises:
        UnveilError: with the memory that is needed, the memory that is free, and the batch size that fits.
    """
    from unveil.errors import UnveilError
    from unveil.files.notes import note
    from unveil.training.memory import step_bytes, training_bytes

    draws = task.draws
    if draws is None or free is None:
        return
    model, loss = task.counted or (task.model, task.loss)

    def needed(size: int) -> int:
        return training_bytes(
            task.model,
            step_bytes(model, draws, loss, size, memory=task.memory, bfloat16=bool(training.bfloat16)),
        )

    try:
        need = needed(task.size)
        if need <= free:
            return
        halves = [task.size >> k for k in range(1, task.size.bit_length())] if needed(1) <= 0.9 * free else []
        # the last of them, one sample, fits
        fits = halves[bisect_left(halves, True, key=lambda n: needed(n) <= 0.9 * free)] if halves else 0
    except Exception as error:  # a loss that depends on values; a real mistake appears in the training itself
        note(f"the memory of a step could not be counted beforehand ({type(error).__name__})")
        return
    more = (
        f" with `{task.accumulate}={-(-task.size // fits) * training.accumulate}`"
        if fits and task.accumulate
        else ""
    )
    smaller = (
        f"give `batch_size={fits}`{more}, or lower {task.lower}"
        if fits
        else f"not even one sample would fit: lower {task.lower}"
    )
    raise UnveilError(
        f"a step of `batch_size={task.size}` needs about {need / 2**30:.3g} GB of memory, but "
        f"{free / 2**30:.3g} GB are free; {smaller}"
    )


def as_json(described: Mapping[str, object]) -> JsonObject:
    """The contents as JSON returns them: paths as text, tuples as lists."""
    import json

    return json.loads(json.dumps(dict(described), default=str))

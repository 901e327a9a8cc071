"""A training as a run folder: what every recipe's training shares."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from unveil.runs.flags import RunFlags
    from unveil.runs.progress import Progress
    from unveil.training.trainer import Training


class Task(NamedTuple):
    """What is trained on what.

    Args:
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
    config: Mapping[str, Any]
    memory: Mapping[str, torch.Tensor] | None = None
    draws: Callable[[int], Callable[[torch.Generator], Any]] | None = None
    size: int = 0
    counted: tuple[torch.nn.Module, Callable[[Any, Any], tuple[torch.Tensor, Mapping[str, float]]]] | None = (
        None
    )
    lower: str = ""
    accumulate: str = "--accumulate"


def begin(flags: RunFlags, run: Path) -> torch.device:
    """What comes before data are read: the run folder and the log are usable, torch has its threads, and the device is there.

    Raises:
        UnveilError: a folder that cannot be a run's, or holds one while `resume` is off; a log without its package; or no such device.
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
    """What `train` wants of them."""
    from unveil.training.trainer import Training

    return Training(
        steps=flags.steps,
        learning_rate=flags.learning_rate,
        warmup=flags.warmup,
        final_fraction=flags.final_fraction,
        weight_decay=flags.weight_decay,
        betas=flags.adam_betas,
        clip=flags.clip,
        ema=flags.ema_decay,
        ema_power=flags.ema_power,
        bfloat16=flags.bfloat16,
        accumulate=flags.accumulate,
        save_every=flags.save_every,
        keep=flags.keep,
        seed=flags.seed,
        log_every=min(100, flags.steps),
    )


def run_task(
    task: Task,
    flags: RunFlags,
    device: torch.device,
    run: Path,
    described: dict[str, Any],
    defaults: Any,
    progress: Progress,
    on_sample: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
    on_save: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
) -> None:
    """Train in a run folder: `config.json`, checkpoints, `metrics.jsonl`, `record.json`, and what is shown on the way.

    Args:
        described: what `config.json` says.
        defaults: the recipe's config, for fields that an older `config.json` lacks.
        on_sample: called with the step and the averaged weights at checkpoints, as often as `sample_every` says.
        on_save: called with them at every checkpoint.
    Raises:
        UnveilError: the folder cannot be made, or is another run's; or a step needs more memory than is free.
        ValueError: samples of a training that makes none.
    """
    from time import perf_counter

    from unveil.errors import UnveilError
    from unveil.runs.device import free_memory
    from unveil.runs.record import write_record
    from unveil.runs.resuming import check_folder, write_config
    from unveil.runs.sinks import sink
    from unveil.training.trainer import train

    if on_sample is None and flags.sample_every > 0:
        raise ValueError(
            f"`sample_every` {flags.sample_every}: this training makes no samples on the way; leave it out"
        )
    check_folder(run, flags.resume)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnveilError(f"{run}: cannot make this folder ({error.strerror})") from error
    said = write_config(run, described, defaults, flags.resume)
    if said:
        progress(said, 1, 1, {})
    training = training_of(flags)

    def saved(step: int, averaged: dict[str, torch.Tensor]) -> None:
        if on_save is not None:
            on_save(step, averaged)
        if on_sample is not None and flags.sample_every >= 0 and step % (flags.sample_every or 1) == 0:
            on_sample(step, averaged)

    leads = os.environ.get("RANK", "0") == "0"
    began = perf_counter()
    with sink(flags.log if leads else "none", run, described) as record:

        def on_record(numbers: Mapping[str, Any]) -> None:
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
    """Compile the network inside a model in its place; names of weights stay.

    Raises:
        UnveilError: no compiler for C++ on this machine.
    """
    from shutil import which

    from unveil.errors import UnveilError

    if next(model.parameters()).device.type == "cpu" and not (
        which("c++") or which("g++") or which("clang++")
    ):
        raise UnveilError(
            "torch.compile wants a C++ compiler, and none is found; install one (g++), or leave `compile` out"
        )
    network = getattr(getattr(model, "denoiser", model), "network", model)
    network.compile()


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
        return training_bytes(
            task.model,
            step_bytes(model, draws, loss, size, memory=task.memory, bfloat16=bool(training.bfloat16)),
        )

    try:
        need = needed(task.size)
        if need <= free:
            return
        halves = [task.size >> k for k in range(1, task.size.bit_length())] if needed(1) <= 0.9 * free else []
        fits = (
            halves[bisect_left(halves, True, key=lambda size: needed(size) <= 0.9 * free)] if halves else 0
        )  # one sample does
    except (
        Exception
    ) as error:  # a loss that cannot do without numbers; if it is wrong, the training itself will say so
        note(f"the memory of a step could not be counted beforehand ({type(error).__name__})")
        return
    more = (
        f" with {task.accumulate} {-(-task.size // fits) * training.accumulate}"
        if fits and task.accumulate
        else ""
    )
    smaller = (
        f"give --batch-size {fits}{more}, or lower {task.lower}"
        if fits
        else f"not even one sample would fit: lower {task.lower}"
    )
    raise UnveilError(
        f"a step of --batch-size {task.size} needs about {need / 2**30:.3g} GB of memory, but {free / 2**30:.3g} GB are free; {smaller}"
    )


def as_json(described: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads back from a file: paths become text, tuples lists."""
    import json

    return json.loads(json.dumps(dict(described), default=str))

"""The training loop, for any model, batches and loss, in one process or several."""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from unveil.checks import Bounds, check_fields
from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.reading import reading
from unveil.files.safetensors import read_tensors
from unveil.training.autocast import Batch, BatchLoss, Draw, faster_in_bfloat16, has_bfloat16
from unveil.training.checkpoint import (
    latest_checkpoint,
    pack_optimizer,
    prune,
    read_optimizer,
    remove_unfinished,
    save_checkpoint,
)
from unveil.training.distributed import Group, join
from unveil.training.divergence import Seen, seen, stop_unless_finite, stop_unless_weights_finite
from unveil.training.ema import EMA
from unveil.training.guard import Interrupts, only_writer

Record = Mapping[str, float | int]
LOG = "metrics.jsonl"


@dataclass(frozen=True)
class Training:
    """The settings of `train`.

    Args:
        steps: number of optimizer steps.
        learning_rate: peak learning rate, after a linear warm-up and before a cosine decay.
        warmup: steps of the warm-up.
        final_fraction: final learning rate, as a fraction of the peak.
        weight_decay: weight decay of AdamW.
        betas: decay rates of AdamW's two moments.
        clip: largest norm of the gradient; larger gradients are scaled down.
        ema, ema_power: largest decay of the averaged weights, and how fast it is reached; see `EMA`.
        bfloat16: run the network under bfloat16 autocast; weights and their updates stay float32. None
            measures at the start of the training whether bfloat16 is faster (`faster_in_bfloat16`);
            checkpoints store the result.
        accumulate: batches per step in each process, whose gradients are averaged.
        save_every: steps between checkpoints.
        log_every: steps between records.
        keep: number of newest checkpoints to keep; 0 keeps all.
        seed: seed of the random numbers of `draw`.
    Raises:
        ValueError: a setting of another type or out of range, with its name.
    """

    steps: Annotated[int, Bounds(1)]
    learning_rate: Annotated[float, Bounds(0, above=True, below=True)] = 1e-3
    warmup: Annotated[int, Bounds(0)] = 200
    final_fraction: Annotated[float, Bounds(0, 1)] = 0.02
    weight_decay: Annotated[float, Bounds(0, below=True)] = 0.0
    betas: tuple[Annotated[float, Bounds(0, 1, below=True)], Annotated[float, Bounds(0, 1, below=True)]] = (
        0.9,
        0.99,
    )
    clip: Annotated[float, Bounds(0, above=True)] = 1.0
    ema: Annotated[float, Bounds(0, 1, below=True)] = 0.999
    ema_power: Annotated[float, Bounds(0, below=True)] = 0.75
    bfloat16: bool | None = False
    accumulate: Annotated[int, Bounds(1)] = 1
    save_every: Annotated[int, Bounds(1)] = 1000
    log_every: Annotated[int, Bounds(1)] = 100
    keep: Annotated[int, Bounds(0)] = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def rate(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        place = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (
            self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * place))
        )


def train(
    model: nn.Module,
    draw: Draw[Batch],
    loss: BatchLoss[Batch],
    training: Training,
    run: Path,
    *,
    group: Group | None = None,
    resume: bool = False,
    on_record: Callable[[Record], None] | None = None,
    on_save: Callable[[int, dict[str, Tensor]], None] | None = None,
    memory: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Train `model` in place and return the averaged weights.

    The run folder gets `metrics.jsonl`, with null for numbers that are not finite, and `checkpoint-<step>/`.
    All random numbers come from one generator whose state is saved, so a run that was killed and resumed
    equals an uninterrupted run bit for bit, on the same machine with the same number of threads.

    Under `torchrun` all processes draw the same batches in the same order and each uses its share, so W
    processes equal one with `accumulate` W times as large, to float tolerance. The first one writes files.

    Args:
        draw: generator -> batch with times and noise; an attribute `t` is reported when a step diverges.
        loss: (model, batch) -> (scalar loss, other numbers to record).
        run: the run folder.
        group: the processes that train together; None reads the environment of `torchrun`.
        resume: continue from the newest valid checkpoint; without one, start from the beginning.
        on_record: called with each record of `metrics.jsonl`.
        on_save: called with step and averaged weights after each checkpoint, for example to sample.
        memory: tensors that `draw` and `loss` change, as of a `LossHistory`; checkpoints store them.
    Raises:
        UnveilError: the run folder already has checkpoints and `resume` is off; another process trains there;
            several processes would each have their own `memory`; or a loss, gradient or weight is not finite,
            which is noticed before the step or the checkpoint.
        ValueError: the model has no parameters to train, or the loss is not a scalar with a gradient.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of the current step is saved first, and the message
            says how to continue. A second signal exits at once with status 130 or 143 (`Interrupts`).
    """
    group = join() if group is None else group
    if memory and group.size > 1:
        raise UnveilError(
            "several processes cannot share a history of losses; train in one, or with uniform timesteps"
        )
    with only_writer(run) if group.leads else nullcontext(), Interrupts(run, group.leads) as interrupts:
        if group.leads:
            remove_unfinished(run)
        state = _begin(model, draw, loss, training, run, group, resume, memory or {})
        clock = _Clock(state.step)
        interrupts.stepping, stopping = True, False
        while state.step < training.steps and not stopping:
            _step(state, draw, loss, training, run, group)
            if state.step % training.log_every == 0 or state.step == training.steps:
                record = _record(state, clock, training)
                clock = _Clock(state.step)
                if group.leads:
                    _append(run / LOG, record)
                    if on_record is not None:
                        on_record(record)
            stopping = group.any(interrupts.requested, state.device)
            if state.step % training.save_every == 0 or state.step == training.steps or stopping:
                stop_unless_weights_finite(dict(model.named_parameters()), state.ema.weights, state.step, run)
                if group.leads:
                    save_checkpoint(run / f"checkpoint-{state.step}", *_stored(state))
                    prune(run, training.keep)
                    if on_save is not None:
                        on_save(state.step, state.ema.weights)
                group.wait()
        if state.step < training.steps:
            raise KeyboardInterrupt(
                f"stopped and saved at step {state.step} in {run}; go on with the same command and --resume"
            )
    return state.ema.weights


@dataclass(eq=False)
class _State:
    """What a training changes from step to step; checkpoints store all of it.

    Args:
        memory: as in `train`.
        bfloat16: whether the network runs under bfloat16 autocast.
        step: number of steps taken.
        sums, counted: sums of the numbers of the steps since the last record, and how many these are.
    """

    model: nn.Module
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    ema: EMA
    generator: torch.Generator
    memory: Mapping[str, Tensor]
    bfloat16: bool = False
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict[str, float])
    counted: int = 0

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device


class _Clock:
    """Times at the last record, which was made at `step`."""

    def __init__(self, step: int) -> None:
        self.step, self.began, self.spent = step, time.perf_counter(), time.process_time()


def _begin(
    model: nn.Module,
    draw: Draw[Batch],
    loss: BatchLoss[Batch],
    training: Training,
    run: Path,
    group: Group,
    resume: bool,
    memory: Mapping[str, Tensor],
) -> _State:
    """The state before the first step, or that of the newest checkpoint; the log ends at its step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("train: the model has no parameters to train")
    optimizer = torch.optim.AdamW(
        parameters, training.learning_rate, weight_decay=training.weight_decay, betas=training.betas
    )
    generator = torch.Generator(device="cpu").manual_seed(training.seed)
    state = _State(
        model, parameters, optimizer, EMA(model, training.ema, training.ema_power), generator, memory
    )
    newest = latest_checkpoint(run, warn=group.leads)
    if newest is not None and not resume:
        raise UnveilError(f"{run} already holds {newest.name}; give `resume` to go on, or another `out`")
    measured = None if newest is None else _restore(newest, state)
    if training.bfloat16 is not None:
        state.bfloat16 = training.bfloat16
    elif newest is None:
        faster = group.leads and faster_in_bfloat16(model, draw, loss, state.device, memory)
        state.bfloat16 = group.any(faster, state.device)
    else:  # checkpoints older than the measurement used bfloat16 wherever the device has it
        state.bfloat16 = has_bfloat16(state.device) if measured is None else bool(measured)
    if group.leads:
        _truncate(run / LOG, state.step)
    group.wait()
    model.train()
    return state


def _step(
    state: _State, draw: Draw[Batch], loss: BatchLoss[Batch], training: Training, run: Path, group: Group
) -> None:
    """Take one optimizer step, unless its loss or gradient is not finite, and add its numbers to the sums."""
    for options in state.optimizer.param_groups:
        options["lr"] = training.rate(state.step)
    state.optimizer.zero_grad(set_to_none=True)
    numbers: dict[str, float] = {}
    batches: list[Seen] = []
    for i in range(training.accumulate * group.size):
        batch = draw(state.generator)
        if i % group.size != group.rank:
            continue
        with torch.autocast(state.device.type, torch.bfloat16, enabled=state.bfloat16):
            value, extra = loss(state.model, batch)
        if value.ndim or not value.requires_grad:
            raise ValueError(
                f"train: loss must return a scalar with a gradient, got one of shape {tuple(value.shape)}"
            )
        (value / training.accumulate).backward()
        batches.append(seen(float(value.detach()), batch))
        for name, number in {"loss": batches[-1].loss, **extra}.items():
            numbers[name] = numbers.get(name, 0.0) + float(number) / training.accumulate
    shared = torch.tensor(list(numbers.values()), dtype=torch.float32, device=state.device)
    group.average([*(p.grad for p in state.parameters if p.grad is not None), shared])
    if group.size > 1:
        numbers = dict(zip(numbers, shared.tolist(), strict=True))
    norm = float(nn.utils.clip_grad_norm_(state.parameters, training.clip))
    stop_unless_finite(numbers["loss"], norm, batches, state.step + 1, run)
    state.optimizer.step()
    state.step += 1
    state.ema.update(state.model, state.step)
    for name, number in {**numbers, "gradient_norm": norm}.items():
        state.sums[name] = state.sums.get(name, 0.0) + number
    state.counted += 1


def _record(state: _State, clock: _Clock, training: Training) -> dict[str, float | int]:
    """Means since the last record, after which the sums begin anew."""
    steps = state.step - clock.step
    record: dict[str, float | int] = {
        "step": state.step,
        **{name: total / state.counted for name, total in state.sums.items()},
    }
    record["learning_rate"] = training.rate(state.step - 1)
    record["steps_per_second"] = steps / (time.perf_counter() - clock.began)
    # of all threads; other work on the machine counts little
    record["cpu_seconds_per_step"] = (time.process_time() - clock.spent) / steps
    state.sums, state.counted = {}, 0
    return record


def _stored(state: _State) -> tuple[dict[str, Mapping[str, Tensor]], dict[str, object]]:
    """The tensors of a checkpoint by the name of their file, and the contents of its state.json."""
    tensors: dict[str, Mapping[str, Tensor]] = {
        "network": state.model.state_dict(),
        "ema": state.ema.weights,
        "optimizer": pack_optimizer(state.optimizer),
    }
    if state.memory:
        tensors["memory"] = state.memory
    return tensors, {
        "step": state.step,
        "generator": state.generator.get_state().numpy().tobytes().hex(),
        # JSON has no NaN
        "sums": {name: total if math.isfinite(total) else str(total) for name, total in state.sums.items()},
        "counted": state.counted,
        "bfloat16": state.bfloat16,
    }


def _restore(folder: Path, state: _State) -> bool | None:
    """Load a verified checkpoint; returns whether it was trained in bfloat16, None if it does not say."""
    state.model.load_state_dict(read_tensors(folder / "network.safetensors", state.model.state_dict()))
    copied = {"ema": state.ema.weights} | ({"memory": state.memory} if state.memory else {})
    read_optimizer(folder / "optimizer.safetensors", state.optimizer)
    for file, tensors in copied.items():
        for name, value in read_tensors(folder / f"{file}.safetensors", tensors).items():
            tensors[name].copy_(value)
    with reading(folder / "state.json", "not the state of a training", "; resume from an older checkpoint"):
        described = json.loads((folder / "state.json").read_text())
        drawn = torch.frombuffer(bytearray.fromhex(described["generator"]), dtype=torch.uint8)
        state.generator.set_state(drawn)
        sums, counts = described["sums"], (described["step"], described["counted"])
        known = all(type(v) in (int, float) or v in ("nan", "inf", "-inf") for v in sums.values())
        if not known or not all(type(n) is int and 0 <= n < 2**60 for n in counts):
            raise ValueError("step, counted or sums are no valid numbers")
    state.step, state.counted = counts
    state.sums = {name: float(total) for name, total in sums.items()}
    return described.get("bfloat16")


def _append(log: Path, record: Record) -> None:
    finite = {name: number if math.isfinite(number) else None for name, number in record.items()}
    try:
        with open(log, "a") as handle:
            handle.write(json.dumps(finite) + "\n")
    except OSError as error:
        raise UnveilError(f"{log}: cannot write ({error.strerror})") from error


def _truncate(log: Path, step: int) -> None:
    """Remove the records of steps that a resumed run repeats, and an incomplete last line."""
    if not log.exists():
        log.parent.mkdir(parents=True, exist_ok=True)
        return
    if log.is_dir():
        raise UnveilError(f"{log}: a folder has the name of the log file; move it away")
    kept = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
            if record["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):  # cut short, or not ours
            continue
    with replacing(log) as partial:
        partial.write_text("".join(line + "\n" for line in kept))

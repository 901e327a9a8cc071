"""The training loop, for any model, batches and loss, in one process or several."""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from unveil.checks import Bounds, check_fields
from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.safetensors import read_tensors
from unveil.training.autocast import BatchLoss, Draw, faster_in_bfloat16, has_bfloat16
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

Record = Mapping[str, float]


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
    draw: Draw,
    loss: BatchLoss,
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
        return _train(
            model,
            draw,
            loss,
            training,
            run,
            group,
            resume,
            on_record,
            on_save,
            dict(memory or {}),
            interrupts,
        )


def _train(
    model: nn.Module,
    draw: Draw,
    loss: BatchLoss,
    training: Training,
    run: Path,
    group: Group,
    resume: bool,
    on_record: Callable[[Record], None] | None,
    on_save: Callable[[int, dict[str, Tensor]], None] | None,
    memory: Mapping[str, Tensor],
    interrupts: Interrupts,
) -> dict[str, Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("train: the model has no parameters to train")
    optimizer = torch.optim.AdamW(
        parameters, training.learning_rate, weight_decay=training.weight_decay, betas=training.betas
    )
    device = parameters[0].device
    generator = torch.Generator(device="cpu").manual_seed(training.seed)
    ema = EMA(model, training.ema, training.ema_power)
    newest = latest_checkpoint(run, warn=group.leads)
    if newest is not None and not resume:
        raise UnveilError(f"{run} already holds {newest.name}; give `resume` to go on, or another `out`")
    state: dict[str, Any] = {"step": 0, "sums": {}, "counted": 0}
    if newest is not None:
        state = restore(newest, model, ema, optimizer, generator)
        if memory:
            for name, value in read_tensors(newest / "memory.safetensors", memory).items():
                memory[name].copy_(value)
    bfloat16 = training.bfloat16
    if bfloat16 is None and newest is None:
        bfloat16 = group.any(group.leads and faster_in_bfloat16(model, draw, loss, device, memory), device)
    elif bfloat16 is None:
        bfloat16 = bool(
            state.get("bfloat16", has_bfloat16(device))
        )  # checkpoints older than the measurement took what there was
    step: int = state["step"]
    log = run / "metrics.jsonl"
    if group.leads:
        _truncate(log, step)
    group.wait()
    sums = {name: float(number) for name, number in state["sums"].items()}
    counted: int = state["counted"]
    began, spent, since = time.perf_counter(), time.process_time(), step
    model.train()
    interrupts.stepping, stopping = True, False
    while step < training.steps and not stopping:
        rate = training.rate(step)
        for options in optimizer.param_groups:
            options["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        numbers: dict[str, float] = {}
        batches: list[Seen] = []
        for i in range(training.accumulate * group.size):
            batch = draw(generator)
            if i % group.size != group.rank:
                continue
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                value, extra = loss(model, batch)
            if value.ndim or not value.requires_grad:
                raise ValueError(
                    f"train: loss must return a scalar with a gradient, got one of shape {tuple(value.shape)}"
                )
            (value / training.accumulate).backward()
            batches.append(seen(float(value.detach()), batch))
            for name, number in {"loss": batches[-1].loss, **extra}.items():
                numbers[name] = numbers.get(name, 0.0) + float(number) / training.accumulate
        shared = torch.tensor(list(numbers.values()), dtype=torch.float32, device=device)
        group.average([*(p.grad for p in parameters if p.grad is not None), shared])
        numbers = dict(zip(numbers, shared.tolist(), strict=True)) if group.size > 1 else numbers
        norm = float(nn.utils.clip_grad_norm_(parameters, training.clip))
        stop_unless_finite(numbers["loss"], norm, batches, step + 1, run)
        optimizer.step()
        step += 1
        ema.update(model, step)
        for name, number in {**numbers, "gradient_norm": norm}.items():
            sums[name] = sums.get(name, 0.0) + number
        counted += 1
        if step % training.log_every == 0 or step == training.steps:
            now, used = time.perf_counter(), time.process_time()
            record = {"step": step, **{k: v / counted for k, v in sums.items()}, "learning_rate": rate}
            record["steps_per_second"] = (step - since) / (now - began)
            record["cpu_seconds_per_step"] = (used - spent) / (
                step - since
            )  # of all threads; other work on the machine counts little
            sums, counted, began, spent, since = {}, 0, now, used, step
            if group.leads:
                _append(
                    log,
                    json.dumps(
                        {name: number if math.isfinite(number) else None for name, number in record.items()}
                    ),
                )
            if on_record is not None and group.leads:
                on_record(record)
        stopping = group.any(interrupts.asked, device)
        if step % training.save_every == 0 or step == training.steps or stopping:
            stop_unless_weights_finite(dict(model.named_parameters()), ema.weights, step, run)
            drawn = generator.get_state().numpy().tobytes().hex()
            kept = {
                name: number if math.isfinite(number) else str(number) for name, number in sums.items()
            }  # JSON has no NaN
            state = {"step": step, "generator": drawn, "sums": kept, "counted": counted, "bfloat16": bfloat16}
            tensors = {
                "network": model.state_dict(),
                "ema": ema.weights,
                "optimizer": pack_optimizer(optimizer),
            }
            if memory:
                tensors["memory"] = dict(memory)
            if group.leads:
                save_checkpoint(run / f"checkpoint-{step}", tensors, state)
                prune(run, training.keep)
                if on_save is not None:
                    on_save(step, ema.weights)
            group.wait()
    if step < training.steps:
        raise KeyboardInterrupt(
            f"stopped and saved at step {step} in {run}; go on with the same command and --resume"
        )
    return ema.weights


def restore(
    folder: Path, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Any]:
    """Load a verified checkpoint; returns its state: the step, and the sums of the unfinished record."""
    model.load_state_dict(read_tensors(folder / "network.safetensors", model.state_dict()))
    for name, value in read_tensors(folder / "ema.safetensors", ema.weights).items():
        ema.weights[name].copy_(value)
    read_optimizer(folder / "optimizer.safetensors", optimizer)
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        generator.set_state(torch.frombuffer(bytearray.fromhex(state["generator"]), dtype=torch.uint8))
        sums, counts = state["sums"], (state["step"], state["counted"])
        known = all(type(v) in (int, float) or v in ("nan", "inf", "-inf") for v in sums.values())
        if not known or not all(type(n) is int and 0 <= n < 2**60 for n in counts):
            raise ValueError("step, counted or sums are no valid numbers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UnveilError(
            f"{folder / 'state.json'}: not the state of a training ({error}); resume from an older checkpoint"
        ) from error
    return state


def _append(log: Path, line: str) -> None:
    try:
        with open(log, "a") as handle:
            handle.write(line + "\n")
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

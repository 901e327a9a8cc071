"""bfloat16 autocast where it is faster, measured once with the model and a batch of the training."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")
Draw = Callable[[torch.Generator], Batch]
BatchLoss = Callable[[nn.Module, Batch], tuple[Tensor, Mapping[str, float]]]

GAIN = 1.1  # smallest speed-up for which bfloat16 is used


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16; otherwise bfloat16 is emulated and slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return device.type == "cpu" and ("avx512_bf16" in flags or "amx_bf16" in flags)


def faster_in_bfloat16(
    model: nn.Module,
    draw: Draw[Batch],
    loss: BatchLoss[Batch],
    device: torch.device,
    memory: Mapping[str, Tensor] | None = None,
    turns: int = 5,
    seconds: float = 10.0,
) -> bool:
    """Whether bfloat16 autocast makes loss and gradient at least 1.1 times as fast as float32, and finite.

    Both are measured alternately on one batch from a separate generator, and the shortest times are compared.
    No step is taken, and buffers, `memory` and torch's generators are restored, so the training that follows
    is the same, bit for bit, as without the measurement.

    Args:
        draw, loss, memory: as in `train`.
        turns: measurements of each; fewer, but at least two, if they take longer than `seconds`.
        seconds: time after which no further turn begins.
    """
    if not has_bfloat16(device):
        return False
    changed = [*model.buffers(), *(memory or {}).values()]
    before, training = [value.detach().clone() for value in changed], model.training
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return _faster(
                model.train(),
                draw(torch.Generator(device="cpu").manual_seed(0)),
                loss,
                device,
                turns,
                seconds,
            )
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)
        with torch.no_grad():
            for value, old in zip(changed, before, strict=True):
                value.copy_(old)


def _faster(
    model: nn.Module, batch: Batch, loss: BatchLoss[Batch], device: torch.device, turns: int, seconds: float
) -> bool:
    best, began = {False: math.inf, True: math.inf}, perf_counter()
    for turn in range(turns):
        for bfloat16 in best:
            elapsed, finite = _turn(model, loss, batch, device, bfloat16)
            if bfloat16 and not finite:
                return False
            best[bfloat16] = min(best[bfloat16], elapsed)
        if turn and perf_counter() - began > seconds:
            break
    return GAIN * best[True] <= best[False]


def _turn(
    model: nn.Module, loss: BatchLoss[Batch], batch: Batch, device: torch.device, bfloat16: bool
) -> tuple[float, bool]:
    """Seconds of one loss and its gradient, and whether the gradient is finite."""
    model.zero_grad(set_to_none=True)
    began = perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        value, _ = loss(model, batch)
    value.backward()
    # reading the result also waits for a GPU to finish
    finite = all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    return perf_counter() - began, finite

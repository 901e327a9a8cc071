"""Estimate the memory of a training before it starts, by counting tensors on PyTorch's `meta` device."""

import copy
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from unveil.training.autocast import Batch, BatchLoss, Draw

DRAWN = 64 * 2**20  # bytes of the largest batch that is drawn for counting
# factor on the counted bytes, for the allocator's reserve and copies in libraries; measured, see docs/log.md
SLACK = 1.25
# copies of the largest tensor in the backward pass: incoming and outgoing gradient, a copy in convolutions
BACKWARD = 3


def step_bytes(
    model: nn.Module,
    draws: Callable[[int], Draw[Batch]],
    loss: BatchLoss[Batch],
    size: int,
    *,
    memory: Mapping[str, Tensor] | None = None,
    bfloat16: bool = False,
) -> int:
    """Bytes that one loss and its gradient need in addition to weights and optimizer, for a batch of `size`.

    The loss runs on a copy of the model on `meta`, so it takes a fraction of a second for every size; its
    batches are drawn from a separate generator. A batch above 64 MB is not drawn: the bytes are extrapolated
    linearly from two smaller ones.

    Args:
        draws: maps a number of samples to a `draw` as in `train`.
        loss: as in `train`.
        memory: tensors that `draws` and `loss` change in place; they are restored.
        bfloat16: whether the network runs under bfloat16 autocast.
    Raises:
        Exception: the loss needs the values of tensors, which `meta` tensors do not have.
    """
    before = {name: value.detach().clone() for name, value in (memory or {}).items()}
    empty = without_numbers(model)
    try:
        with torch.random.fork_rng(devices=[]):
            one = _batch_bytes(draws(1)(_generator()))
            count = max(1, min(size, DRAWN // max(1, one)))
            if count == size:
                return _counted(empty, draws(size)(_generator()), loss, bfloat16)
            small, large = (1, 2) if count == 1 else (count // 2, count)
            low, high = (_counted(empty, draws(n)(_generator()), loss, bfloat16) for n in (small, large))
            return high + round((size - large) * max(0, high - low) / (large - small))
    finally:
        for name, value in before.items():
            (memory or {})[name].copy_(value)


def training_bytes(model: nn.Module, step: int) -> int:
    """Bytes that `train` needs in addition to the model's weights.

    These are the averaged weights, AdamW's two moments, and the larger of two: gradients and a step, or a
    copy of the moments while they are saved.

    Args:
        step: bytes of a step, from `step_bytes`.
    """
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    average = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return average + 2 * trained + max(trained + step, 2 * trained)


def without_numbers(model: nn.Module) -> nn.Module:
    """A copy of the model whose parameters and buffers are on the `meta` device, in training mode."""
    memo: dict[int, object] = {}
    for value in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(value, device="meta")
        memo[id(value)] = (
            nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty
        )
    return copy.deepcopy(model, memo).train()


def _generator() -> torch.Generator:
    return torch.Generator(device="cpu").manual_seed(0)


def _batch_bytes(batch: object) -> int:
    """Bytes of the tensors of a (nested) batch."""
    parts = batch if isinstance(batch, tuple | list) else [batch]
    return sum(
        part.nbytes
        if isinstance(part, Tensor)
        else _batch_bytes(part)
        if isinstance(part, tuple | list)
        else 0
        for part in parts
    )


def _counted(empty: nn.Module, batch: Batch, loss: BatchLoss[Batch], bfloat16: bool) -> int:
    with counting(*empty.parameters(), *empty.buffers()) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value, _ = loss(empty, batch)
        peak, largest = live.peak, live.largest
        del value
    # twice the batch: the next one is drawn while the last one still exists
    return 2 * _batch_bytes(batch) + round(SLACK * (peak + BACKWARD * largest))


@contextmanager
def counting(*there: Tensor) -> Generator["_Live"]:
    """Count the bytes of `meta` tensors that are made and kept in the context, besides those in `there`."""
    with _Live(there) as live:
        yield live


class _Live(TorchDispatchMode):
    """Counts the results of all operations, and replaces reads of values, which `meta` tensors do not have.

    A read returns True of `all`, False of other booleans such as `any`, else 0. A mask selects all rows.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = self.largest = 0
        self._known: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._known.update((value.untyped_storage(), 0) for value in there)
        self._all: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:  # Any: torch's stub has none, since an operation takes and returns anything
        options = dict(kwargs or {})
        packet = func.overloadpacket
        if packet is torch.ops.aten._local_scalar_dense and args[0].is_meta:
            scalar = args[0]
            return (
                any(scalar is known for known in self._all)
                if scalar.dtype == torch.bool
                else 0.0
                if scalar.is_floating_point()
                else 0
            )
        if (
            packet is torch.ops.aten._to_copy
            and args[0].is_meta
            and torch.device(options.get("device") or "meta").type != "meta"
        ):
            return torch.zeros(
                args[0].shape, dtype=options.get("dtype") or args[0].dtype, device=options["device"]
            )
        if packet is torch.ops.aten.index and args[0].is_meta:
            args = (args[0], [part for index in args[1] for part in _rows_of(index)], *args[2:])
        made = func(*args, **options)
        for value in made if isinstance(made, tuple | list) else (made,):
            if isinstance(value, Tensor) and value.is_meta:
                self._note(value)
                if packet is torch.ops.aten.all:
                    self._all.add(value)
        return made

    def _note(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now += size
        self.peak, self.largest = max(self.peak, self.now), max(self.largest, size)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size


def _rows_of(index: Tensor | None) -> list[Tensor | None]:
    """The indices that a `meta` mask selects: as many as it has elements."""
    if index is None or index.dtype != torch.bool or not index.is_meta:
        return [index]
    return [torch.empty(index.numel(), dtype=torch.int64, device="meta") for _ in range(index.ndim)]

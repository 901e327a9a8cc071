"""Diffusion Policy's U-Net for acting: the same function of the same weights in less time, for one environment above all.

Besides the pieces of `fast_conv1d.py`, whose weights are laid out once instead of at every call: the share of FiLM that depends on the time
alone is kept, since every decision has the same times, and all blocks' shares of the vector are one matrix product, once for all steps of
a decision (`prefill`). One row alone goes through `single_conditional_unet1d.py`.

The weights are copied when a horizon is first seen, and again once they have changed (`fast_layout.py`); in training, and where a graph is
traced or compiled, the plain network serves.
"""

from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.conv1d import FilmConv1d
from unveil.network.conv1d_inference import Block, Places, block_of, mish, places_of
from unveil.network.inference_layout import Watch, plain_serves, share_names
from unveil.network.layers import sinusoids
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.conditional_unet1d_batch_of_one import SingleConditionalUNet

MANY_ROWS = 16  # of a batch, from which arithmetic costs more than reading weights
MOST_TIMES = 1024  # kept at once


class Filmed(NamedTuple):
    """A `FilmConv1d`; `gain` and `shift` are its shares of what is told, `gain` None where it has none."""

    first: Block
    second: Block
    skip: Places | None
    gain: slice | None
    shift: slice

    def __call__(self, x: Tensor, told: Tensor) -> Tensor:
        h, shift = mish(self.first(x).after), told[:, None, self.shift]
        h = h + shift if self.gain is None else torch.addcmul(shift, told[:, None, self.gain], h)
        return mish(self.second(h).after, x if self.skip is None else self.skip(x))


class Laid(NamedTuple):
    """All of the network for one horizon."""

    down: tuple[tuple[Filmed, ...], ...]
    halvings: tuple[Places, ...]
    middle: tuple[Filmed, ...]
    up: tuple[tuple[Filmed, ...], ...]
    doublings: tuple[Places, ...]
    final: Block
    last: Places

    def __call__(self, x: Tensor, told: Tensor) -> Tensor:
        kept = list[Tensor]()
        for k, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x, told)
            kept.append(x)
            if k < len(self.halvings):
                x = self.halvings[k](x)
        for block in self.middle:
            x = block(x, told)
        for blocks, double in zip(self.up, self.doublings, strict=True):
            x = torch.cat([x, kept.pop()], dim=2)
            for block in blocks:
                x = block(x, told)
            x = double(x)
        return self.last(mish(self.final(x).after))


class Derived:
    """All that is laid out or remembered of the weights as they were at one moment.

    Attributes:
        single: the network for one row, by horizon; None while it is made, or in use by another thread.
    """

    def __init__(self, plain: ConditionalUNet) -> None:
        self.plain = plain
        self.films: dict[nn.Module, tuple[slice | None, slice]] = {}
        blocks = [m for m in plain.modules() if isinstance(m, FilmConv1d)]
        start = 0
        for block in blocks:
            middle, end = start + block.first.conv.out_channels, start + block.about.out_features
            self.films[block] = (
                (slice(start, middle), slice(middle, end)) if block.scale else (None, slice(start, end))
            )
            start = end
        weight = torch.cat([block.about.weight.detach() for block in blocks])
        self.of_time, self.of_vector = (
            weight[:, : plain.step].contiguous(),
            weight[:, plain.step :].contiguous(),
        )
        self.bias = torch.cat([block.about.bias.detach() for block in blocks])
        self.times: dict[float, Tensor] = {}
        self.laid: dict[tuple[int, bool], Laid] = {}
        self.single: dict[int, SingleConditionalUNet | None] = {}

    def __call__(self, x: Tensor, time: Tensor, vector: Tensor | None, prefix: object) -> Tensor:
        told = self.told(time)
        if self.plain.vector and vector is not None:
            told = told + (prefix if isinstance(prefix, Tensor) else self.of(vector))
        if len(x) == 1 and x.dtype == torch.float32 and x.device.type == "cpu":
            single = self.taken(x.shape[1])
            if single is not None:
                try:
                    return single(x, told[0])
                finally:
                    self.single[x.shape[1]] = single
        key = (x.shape[1], len(x) >= MANY_ROWS)
        if key not in self.laid:
            self.laid[key] = self.lay(*key)
        return self.laid[key](x, told)

    def of(self, vector: Tensor) -> Tensor:
        """What all blocks are told of a vector."""
        return F.linear(F.mish(vector), self.of_vector)

    def taken(self, places: int) -> SingleConditionalUNet | None:
        """The network for one row, which the caller puts back; None while another thread has it."""
        if places not in self.single:
            self.single[places] = None
            return SingleConditionalUNet(self.plain, self.films, len(self.bias), places)
        single = self.single[places]
        self.single[places] = None
        return single

    def told(self, time: Tensor) -> Tensor:
        """What all blocks are told of the times (B,): (B, channels), or (1, channels) where all are equal, which is kept."""
        first = float(time[0])
        if len(time) > 1 and not bool((time == first).all()):
            return self.embedded(time)
        if first not in self.times:
            if len(self.times) >= MOST_TIMES:
                self.times.clear()
            self.times[first] = self.embedded(time[:1])
        return self.times[first]

    def embedded(self, time: Tensor) -> Tensor:
        """What all blocks are told of the times (B,), each by itself."""
        about = self.plain.time(sinusoids(time, self.plain.step, inclusive=True))
        return F.linear(F.mish(about), self.of_time, self.bias)

    def lay(self, places: int, many: bool) -> Laid:
        """All of the network for one horizon, and for many rows of a batch or few."""
        plain, levels = self.plain, self.plain.levels

        def blocks(pair: nn.Module, at: int) -> tuple[Filmed, ...]:
            return tuple(
                self.filmed(cast(FilmConv1d, block), at, many) for block in cast(nn.ModuleList, pair)
            )

        sizes = [places // 2**k for k in range(levels)]
        final, last = plain.final
        return Laid(
            tuple(blocks(pair, at) for pair, at in zip(plain.down, sizes, strict=True)),
            tuple(
                places_of(cast(nn.Conv1d, halve), at, torch.float32)
                for halve, at in zip(plain.halvings, sizes, strict=False)
            ),
            blocks(plain.middle, sizes[-1]),
            tuple(blocks(pair, at) for pair, at in zip(plain.up, sizes[:0:-1], strict=True)),
            tuple(
                places_of(cast(nn.ConvTranspose1d, d), at, torch.float32)
                for d, at in zip(plain.doublings, sizes[:0:-1], strict=True)
            ),
            block_of(final, places, torch.float32, many),  # pyright: ignore[reportArgumentType]
            places_of(last, places, torch.float32),  # pyright: ignore[reportArgumentType]
        )

    def filmed(self, block: FilmConv1d, places: int, many: bool) -> Filmed:
        """One block."""
        skip = places_of(block.skip, places, torch.float32) if isinstance(block.skip, nn.Conv1d) else None
        first, second = (block_of(part, places, torch.float32, many) for part in (block.first, block.second))
        return Filmed(first, second, skip, *self.films[block])


class FastConditionalUNet(nn.Module):
    """`ConditionalUNet` for inference, in float32; where a gradient is wanted, in training mode and while traced it is the plain network.

    Its weights are the plain network's own, under the same names: what trains or loads them changes what this computes.
    """

    def __init__(self, plain: ConditionalUNet) -> None:
        super().__init__()
        self.plain = plain.eval()
        self._laid: Derived | None = None
        self._watch = Watch(plain)
        share_names(self)
        self.train(plain.training)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        plain = self.plain
        vector = None if cond is None else cond.vector
        if (
            plain_serves(self, plain, x)
            or x.dtype != torch.float32
            or plain.final[1].weight.dtype != torch.float32
        ):
            return plain(x, time, cond)
        fits = plain.vector == 0 or (vector is not None and vector.shape == (len(x), plain.vector))
        if not fits or x.shape[1] % 2 ** (plain.levels - 1):
            return plain(x, time, cond)  # which says what is wrong
        with torch.no_grad():
            return self._derived()(x, time, vector, None if cond is None else cond.prefix)

    @torch.no_grad()
    def prefill(self, cond: Condition) -> Condition:
        """The condition with what all blocks are told of its vector (B, channels) as `prefix`: once for a sample, by the weights
        as they are now.

        Raises:
            ValueError: the condition has no vector of this network's size.
        """
        if cond.vector is None or cond.vector.ndim != 2 or cond.vector.shape[1] != self.plain.vector:
            got = None if cond.vector is None else tuple(cond.vector.shape)
            raise ValueError(
                f"FastConditionalUNet.prefill: the condition needs a vector (B, {self.plain.vector}), got {got}"
            )
        return replace(cond, prefix=self._derived().of(cond.vector))

    def _derived(self) -> Derived:
        """What is laid out, anew if the weights have changed; whoever computes keeps it, since another thread may replace it."""
        derived = self._laid
        if self._watch.changed() or derived is None:
            self._laid = derived = Derived(self.plain)
        return derived

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_laid": None}

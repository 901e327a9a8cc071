"""Diffusion Policy's U-Net for acting: the same function of the same weights in less time, for one environment above all.

Besides the pieces of `fast_conv1d.py`, whose weights are laid out once instead of at every call: the share of FiLM that depends on the time
alone is kept, since every decision has the same times, and all blocks' shares of the vector are one matrix product, once for all steps of
a decision (`prefill`). One row alone goes through `single_conditional_unet1d.py`.

The weights are copied when a horizon is first seen: change them, and make the module anew. Nothing here is for training.
"""

from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.conditional_unet1d import ConditionalUNet
from unveil.network.conv1d import FilmConv1d
from unveil.network.fast_conv1d import Block, Places, block_of, mish, places_of
from unveil.network.layers import sinusoids
from unveil.network.single_conditional_unet1d import SingleConditionalUNet

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


class FastConditionalUNet(nn.Module):
    """`ConditionalUNet` for inference, in float32; where a gradient is asked for it is the plain network."""

    def __init__(self, plain: ConditionalUNet) -> None:
        super().__init__()
        self.plain = plain.eval()
        self._films: dict[nn.Module, tuple[slice | None, slice]] = {}
        blocks = [m for m in plain.modules() if isinstance(m, FilmConv1d)]
        start = 0
        for block in blocks:
            middle, end = start + block.first.conv.out_channels, start + block.about.out_features
            self._films[block] = (slice(start, middle), slice(middle, end)) if block.scale else (None, slice(start, end))
            start = end
        weight = torch.cat([block.about.weight.detach() for block in blocks])
        self._of_time, self._of_vector = weight[:, : plain.step].contiguous(), weight[:, plain.step :].contiguous()
        self._bias = torch.cat([block.about.bias.detach() for block in blocks])
        self._times: dict[float, Tensor] = {}
        self._laid: dict[tuple[int, bool], Laid] = {}
        self._single: dict[int, SingleConditionalUNet | None] = {}  # by horizon; None while it is made, or in use by another thread

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        plain = self.plain
        vector = None if cond is None else cond.vector
        fits = plain.vector == 0 or (vector is not None and vector.shape == (len(x), plain.vector))
        if torch.is_grad_enabled() or not fits or x.shape[1] % 2 ** (plain.levels - 1):
            return plain(x, time, cond)  # which says what is wrong
        told, prefix = self._told(time), None if cond is None else cond.prefix
        if plain.vector and vector is not None:
            told = told + (prefix if isinstance(prefix, Tensor) else self._of(vector))
        if len(x) == 1 and x.dtype == torch.float32 and x.device.type == "cpu":
            single = self._taken(x.shape[1])
            if single is not None:
                try:
                    return single(x, told[0])
                finally:
                    self._single[x.shape[1]] = single
        key = (x.shape[1], len(x) >= MANY_ROWS)
        if key not in self._laid:
            self._laid[key] = self._lay(*key)
        return self._laid[key](x, told)

    @torch.no_grad()
    def prefill(self, cond: Condition) -> Condition:
        """The condition with what all blocks are told of its vector (B, channels) as `prefix`: once for all steps of a sample.

        Raises:
            ValueError: the condition has no vector of this network's size.
        """
        if cond.vector is None or cond.vector.ndim != 2 or cond.vector.shape[1] != self.plain.vector:
            got = None if cond.vector is None else tuple(cond.vector.shape)
            raise ValueError(f"FastConditionalUNet.prefill: the condition needs a vector (B, {self.plain.vector}), got {got}")
        return replace(cond, prefix=self._of(cond.vector))

    def _of(self, vector: Tensor) -> Tensor:
        return F.linear(F.mish(vector), self._of_vector)

    def _taken(self, places: int) -> SingleConditionalUNet | None:
        """The network for one row, which the caller puts back; None while another thread has it."""
        if places not in self._single:
            self._single[places] = None
            return SingleConditionalUNet(self.plain, self._films, len(self._bias), places)
        single = self._single[places]
        self._single[places] = None
        return single

    def _told(self, time: Tensor) -> Tensor:
        """What all blocks are told of the times (B,): (B, channels), or (1, channels) where all are equal, which is kept."""
        first = float(time[0])
        if len(time) > 1 and not bool((time == first).all()):
            return self._embedded(time)
        if first not in self._times:
            if len(self._times) >= MOST_TIMES:
                self._times.clear()
            self._times[first] = self._embedded(time[:1])
        return self._times[first]

    def _embedded(self, time: Tensor) -> Tensor:
        about = self.plain.time(sinusoids(time, self.plain.step, inclusive=True))
        return F.linear(F.mish(about), self._of_time, self._bias)

    @torch.no_grad()
    def _lay(self, places: int, many: bool) -> Laid:
        plain, levels = self.plain, self.plain.levels

        def blocks(pair: nn.Module, at: int) -> tuple[Filmed, ...]:
            return tuple(self._filmed(cast(FilmConv1d, block), at, many) for block in cast(nn.ModuleList, pair))

        sizes = [places // 2**k for k in range(levels)]
        final, last = plain.final
        return Laid(
            tuple(blocks(pair, at) for pair, at in zip(plain.down, sizes, strict=True)),
            tuple(places_of(cast(nn.Conv1d, halve), at, torch.float32) for halve, at in zip(plain.halvings, sizes, strict=False)),
            blocks(plain.middle, sizes[-1]),
            tuple(blocks(pair, at) for pair, at in zip(plain.up, sizes[:0:-1], strict=True)),
            tuple(places_of(cast(nn.ConvTranspose1d, d), at, torch.float32) for d, at in zip(plain.doublings, sizes[:0:-1], strict=True)),
            block_of(final, places, torch.float32, many),  # pyright: ignore[reportArgumentType]
            places_of(last, places, torch.float32),  # pyright: ignore[reportArgumentType]
        )

    def _filmed(self, block: FilmConv1d, places: int, many: bool) -> Filmed:
        skip = places_of(block.skip, places, torch.float32) if isinstance(block.skip, nn.Conv1d) else None
        first, second = (block_of(part, places, torch.float32, many) for part in (block.first, block.second))
        return Filmed(first, second, skip, *self._films[block])

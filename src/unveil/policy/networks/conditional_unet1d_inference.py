"""Diffusion Policy's U-Net for inference: the same function of the same weights in less time.

It gains most for one environment. It uses the layers of `conv1d_inference.py`, whose weights are laid out
once instead of at every call. The part of FiLM that depends on the time alone is cached, since every decision
has the same times, and the part that depends on the vector is one matrix product for all blocks, computed
once for all steps of a decision (`prefill`). `conditional_unet1d_batch_of_one.py` computes batches of one.

The weights are copied when a horizon first occurs, and again after they have changed (`inference_layout.py`);
in training, and where a graph is traced or compiled, the plain network is used.
"""

from dataclasses import replace
from typing import NamedTuple, cast

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

MANY_ROWS = 16  # batch size from which arithmetic costs more than reading weights
MOST_TIMES = 1024  # cached at once


class Filmed(NamedTuple):
    """A `FilmConv1d`; `gain` and `shift` are its slices of the FiLM vector, `gain` None where it has none."""

    first: Block
    second: Block
    skip: Places | None
    gain: slice | None
    shift: slice

    def __call__(self, x: Tensor, film: Tensor) -> Tensor:
        h, shift = mish(self.first(x).after), film[:, None, self.shift]
        h = h + shift if self.gain is None else torch.addcmul(shift, film[:, None, self.gain], h)
        return mish(self.second(h).after, x if self.skip is None else self.skip(x))


class Laid(NamedTuple):
    """The whole network for one horizon."""

    down: tuple[tuple[Filmed, ...], ...]
    halvings: tuple[Places, ...]
    middle: tuple[Filmed, ...]
    up: tuple[tuple[Filmed, ...], ...]
    doublings: tuple[Places, ...]
    final: Block
    last: Places

    def __call__(self, x: Tensor, film: Tensor) -> Tensor:
        kept = list[Tensor]()
        for k, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x, film)
            kept.append(x)
            if k < len(self.halvings):
                x = self.halvings[k](x)
        for block in self.middle:
            x = block(x, film)
        for blocks, double in zip(self.up, self.doublings, strict=True):
            x = torch.cat([x, kept.pop()], dim=2)
            for block in blocks:
                x = block(x, film)
            x = double(x)
        return self.last(mish(self.final(x).after))


class Derived:
    """Layouts and caches of one state of the weights.

    Attributes:
        single: the network for a batch of one, by horizon; None while it is made, or in use by another
            thread.
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
        self.of_time = weight[:, : plain.step].contiguous()
        self.of_vector = weight[:, plain.step :].contiguous()
        self.bias = torch.cat([block.about.bias.detach() for block in blocks])
        self.times: dict[float, Tensor] = {}
        self.laid: dict[tuple[int, bool], Laid] = {}
        self.single: dict[int, SingleConditionalUNet | None] = {}

    def __call__(self, x: Tensor, time: Tensor, vector: Tensor | None, prefix: object) -> Tensor:
        film = self.film(time)
        if self.plain.vector and vector is not None:
            film = film + (prefix if isinstance(prefix, Tensor) else self.of(vector))
        if len(x) == 1 and x.dtype == torch.float32 and x.device.type == "cpu":
            single = self.taken(x.shape[1])
            if single is not None:
                try:
                    return single(x, film[0])
                finally:
                    self.single[x.shape[1]] = single
        key = (x.shape[1], len(x) >= MANY_ROWS)
        if key not in self.laid:
            self.laid[key] = self.lay(*key)
        return self.laid[key](x, film)

    def of(self, vector: Tensor) -> Tensor:
        """The vector's part of all blocks' FiLM, (B, channels)."""
        return F.linear(F.mish(vector), self.of_vector)

    def taken(self, length: int) -> SingleConditionalUNet | None:
        """The network for a batch of one, which the caller puts back; None while another thread has it."""
        if length not in self.single:
            self.single[length] = None
            return SingleConditionalUNet(self.plain, self.films, len(self.bias), length)
        single = self.single[length]
        self.single[length] = None
        return single

    def film(self, time: Tensor) -> Tensor:
        """The times' part (B, channels) of all blocks' FiLM; where all are equal (1, channels), cached."""
        first = float(time[0])
        if len(time) > 1 and not bool((time == first).all()):
            return self.embedded(time)
        if first not in self.times:
            if len(self.times) >= MOST_TIMES:
                self.times.clear()
            self.times[first] = self.embedded(time[:1])
        return self.times[first]

    def embedded(self, time: Tensor) -> Tensor:
        """The part (B, channels) of times (B,), each computed."""
        embedding = self.plain.time(sinusoids(time, self.plain.step, inclusive=True))
        return F.linear(F.mish(embedding), self.of_time, self.bias)

    def lay(self, length: int, many: bool) -> Laid:
        """The whole network for one horizon, and for large or small batches."""
        plain, levels = self.plain, self.plain.levels

        def blocks(pair: nn.Module, at: int) -> tuple[Filmed, ...]:
            return tuple(
                self.filmed(cast(FilmConv1d, block), at, many) for block in cast(nn.ModuleList, pair)
            )

        sizes = [length // 2**k for k in range(levels)]
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
            block_of(final, length, torch.float32, many),  # pyright: ignore[reportArgumentType]
            places_of(last, length, torch.float32),  # pyright: ignore[reportArgumentType]
        )

    def filmed(self, block: FilmConv1d, length: int, many: bool) -> Filmed:
        """One block."""
        skip = places_of(block.skip, length, torch.float32) if isinstance(block.skip, nn.Conv1d) else None
        first, second = (block_of(part, length, torch.float32, many) for part in (block.first, block.second))
        return Filmed(first, second, skip, *self.films[block])


class FastConditionalUNet(nn.Module):
    """`ConditionalUNet` for inference, in float32.

    With gradients, in training mode and while traced it is the plain network. It shares the plain network's
    weights, under the same names: training or loading them changes its output, too.
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
            return plain(x, time, cond)  # which raises the error
        with torch.no_grad():
            return self._derived()(x, time, vector, None if cond is None else cond.prefix)

    @torch.no_grad()
    def prefill(self, cond: Condition) -> Condition:
        """The condition with the vector's part of all blocks' FiLM (B, channels) as `prefix`.

        It is computed once per sample.

        Raises:
            ValueError: the condition has no vector of this network's size.
        """
        if cond.vector is None or cond.vector.ndim != 2 or cond.vector.shape[1] != self.plain.vector:
            got = None if cond.vector is None else tuple(cond.vector.shape)
            needed = f"the condition needs a vector (B, {self.plain.vector})"
            raise ValueError(f"FastConditionalUNet.prefill: {needed}, got {got}")
        return replace(cond, prefix=self._derived().of(cond.vector))

    def _derived(self) -> Derived:
        """The layouts, made again if the weights have changed.

        Callers keep the object, since another thread may replace it.
        """
        derived = self._laid
        if self._watch.changed() or derived is None:
            self._laid = derived = Derived(self.plain)
        return derived

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_laid": None}

"""Diffuser's temporal U-Net and value network for planning: the same function of the same weights in less
time.

Besides the layers of `network/conv1d_inference.py`: the time embeddings of all blocks are one matrix product,
which is kept, since a diffusion step has the same embedding in every row and every plan; and the value is
computed with its gradient with respect to the input, so that no graph is recorded.

The weights are copied, on their device, at the first use of a horizon, and again after they have changed
(`network/inference_layout.py`). In training, and where a graph is traced or compiled, the plain network is
used.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.conv1d import ResidualConv1d
from unveil.network.conv1d_inference import (
    Attention,
    Normed,
    Places,
    Residual,
    attention_of,
    block_of,
    mish,
    mish_slope,
    places_of,
    residual_of,
)
from unveil.network.inference_layout import Watch, plain_serves, share_names
from unveil.network.layers import sinusoids
from unveil.planning.networks.temporal_unet import TemporalUNet, ValueNetwork

MANY_ROWS = 16  # batch size from which arithmetic costs more than reading weights
MOST_TIMES = 1024  # number of time embeddings that are kept
Quicker = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a function faster without changing what it computes, nor its type, which an alias cannot say."""


class Level(NamedTuple):
    """Blocks at one number of positions, attention, and a change of that number."""

    blocks: tuple[Residual, ...]
    attention: Attention | None
    change: Places | None

    def mixed(self, x: Tensor, film: Tensor) -> Tensor:
        """The output before the number of positions changes."""
        for block in self.blocks:
            x = block(x, film)
        return x if self.attention is None else self.attention(x)


class TimeEmbedding:
    """Times (B,) -> (B, channels): the time embeddings of all residual blocks, one after another, and that of
    the head.

    If all times are equal, the result has one row, (1, channels), and is kept.
    """

    def __init__(self, plain: TemporalUNet | ValueNetwork) -> None:
        blocks = [m for m in plain.modules() if isinstance(m, ResidualConv1d)]
        self.time, self.width = plain.time, plain.width
        self.weight = torch.cat([block.about.weight.detach() for block in blocks])
        self.bias = torch.cat([block.about.bias.detach() for block in blocks])
        self.kept: dict[float, Tensor] = {}
        self.films: dict[nn.Module, slice] = {}
        start = 0
        for block in blocks:
            self.films[block] = slice(start, start + block.about.out_features)
            start += block.about.out_features

    def __call__(self, time: Tensor, dtype: torch.dtype) -> Tensor:
        first = float(time[0])
        if len(time) > 1 and not bool((time == first).all()):
            return self._of(time).to(dtype)
        if first not in self.kept:
            if len(self.kept) >= MOST_TIMES:
                self.kept.clear()
            self.kept[first] = self._of(time[:1]).to(dtype)
        return self.kept[first]

    def _of(self, time: Tensor) -> Tensor:
        embedding = self.time(sinusoids(time, self.width, inclusive=True))
        return torch.cat([F.linear(F.mish(embedding), self.weight, self.bias), embedding], dim=1)


class FastUNet(nn.Module):
    """`TemporalUNet` for inference. For gradients, in training mode and while traced the plain network is
    used.

    Its weights are those of the plain network, under the same names, so training or loading them changes this
    network too.

    Args:
        plain: the network.
        dtype: type of weights and features; times, input and output keep theirs.
        quicker: makes the computation faster, such as `compiled.Measured`.
    """

    def __init__(
        self, plain: TemporalUNet, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None
    ) -> None:
        super().__init__()
        self.plain, self.dtype, self.quicker = plain, dtype, quicker
        self._laid: (
            tuple[TimeEmbedding, dict[tuple[int, bool], Callable[[Tensor, Tensor], Tensor]]] | None
        ) = None
        self._watch = Watch(plain)
        share_names(self)
        self.train(plain.training)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        if plain_serves(self, self.plain, x) or x.shape[1] % 2 ** (self.plain.levels - 1):
            return self.plain(x, time, cond)
        with torch.no_grad():
            if self._laid is None or self._watch.changed():
                self._laid = TimeEmbedding(self.plain), {}
            embedding, runs = self._laid
            key = x.shape[1], len(x) >= MANY_ROWS
            if key not in runs:
                run = _unet(self.plain, *key, self.dtype, embedding)
                runs[key] = run if self.quicker is None else self.quicker(run)
            return runs[key](x.to(self.dtype), embedding(time, self.dtype)).to(x.dtype)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_laid": None}


class FastValue(nn.Module):
    """`ValueNetwork` for planning: values, and their gradient with respect to x.

    If x requires a gradient, the result is value + <gradient, x - x>, so that autograd finds the computed
    gradient; there is no second derivative, and no gradient with respect to the weights. In training mode,
    while traced, and for gradients of the weights alone the plain network is used.
    """

    def __init__(
        self, plain: ValueNetwork, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None
    ) -> None:
        super().__init__()
        self.plain, self.dtype, self.quicker = plain, dtype, quicker
        self._laid: (
            tuple[
                TimeEmbedding, dict[tuple[int, bool, bool], Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]
            ]
            | None
        ) = None
        self._watch = Watch(plain)
        share_names(self)
        self.train(plain.training)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if plain_serves(self, self.plain, x, gradient_of_x=True):
            return self.plain(x, time)
        wanted = torch.is_grad_enabled() and x.requires_grad
        with torch.no_grad():
            if self._laid is None or self._watch.changed():
                self._laid = TimeEmbedding(self.plain), {}
            embedding, runs = self._laid
            key = x.shape[1], len(x) >= MANY_ROWS, wanted
            if key not in runs:
                run = _value(self.plain, *key, self.dtype, embedding)
                runs[key] = run if self.quicker is None or not wanted else self.quicker(run)
            value, gradient = runs[key](x.to(self.dtype), embedding(time, self.dtype))
        if not wanted:
            return value.to(x.dtype)
        return value.to(x.dtype) + ((x - x.detach()) * gradient.to(x.dtype)).flatten(1).sum(1)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_laid": None}


def _unet(
    plain: TemporalUNet, positions: int, many: bool, dtype: torch.dtype, embedding: TimeEmbedding
) -> Callable[[Tensor, Tensor], Tensor]:
    """The U-Net for one number of positions."""
    net: Any = plain  # the items of module lists have no types

    def level(blocks: Any, index: int, change: Any, positions: int) -> Level:
        laid = tuple(residual_of(b, positions, dtype, many, embedding.films[b]) for b in blocks)
        return Level(
            laid,
            attention_of(net.attention[index], dtype),
            None if change is None else places_of(change, positions, dtype),
        )

    count, deepest = plain.levels, positions >> plain.levels - 1
    down = [
        level(blocks, k, change, positions >> k)
        for k, (blocks, change) in enumerate(zip(net.down, [*net.halvings, None], strict=True))
    ]
    before = level([net.middle[0]], count, None, deepest)
    after = residual_of(net.middle[1], deepest, dtype, many, embedding.films[net.middle[1]])
    ups = zip(net.up, net.doublings, strict=True)
    up = [level(blocks, count + 1 + k, change, deepest << k) for k, (blocks, change) in enumerate(ups)]
    final, last = block_of(net.final[0], positions, dtype, many), places_of(net.final[1], positions, dtype)

    def run(x: Tensor, film: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for part in down:
            x = part.mixed(x, film)
            kept.append(x)
            x = x if part.change is None else part.change(x)
        x = after(before.mixed(x, film), film)
        for part in up:
            x = part.mixed(torch.cat([x, kept.pop()], dim=2), film)
            x = x if part.change is None else part.change(x)
        return last(mish(final(x).after))

    return run


def _value(
    plain: ValueNetwork, positions: int, many: bool, slope: bool, dtype: torch.dtype, embedding: TimeEmbedding
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The value for one number of positions, and its gradient with respect to the input if `slope`, else the
    value again."""
    net: Any = plain  # the items of module lists have no types
    levels: list[tuple[list[Residual], Places]] = []
    for blocks, halve in zip(net.levels, net.halvings, strict=True):
        levels.append(
            (
                [residual_of(b, positions, dtype, many, embedding.films[b]) for b in blocks],
                places_of(halve, positions, dtype),
            )
        )
        positions = levels[-1][1].outputs
    first, second = net.head[0], net.head[2]

    def run(x: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
        kept: list[tuple[Normed, Normed]] = []
        for blocks, halve in levels:
            for block in blocks:
                x, inner, outer = block.kept(x, film)
                kept.append((inner, outer))
            x = halve(x)
        read = torch.cat([x.float().mean(1), film[:, -plain.width :].float().expand(len(x), -1)], dim=1)
        hidden = F.linear(read, first.weight, first.bias)
        value = F.linear(F.mish(hidden), second.weight, second.bias)[:, 0]
        if not slope:
            return value, value
        g = (second.weight * mish_slope(hidden)) @ first.weight[:, : x.shape[2]]
        g = (g / positions)[:, None].expand(-1, positions, -1).to(dtype)
        for blocks, halve in reversed(levels):
            g = halve.back(g)
            for block in reversed(blocks):
                g = block.back(*kept.pop(), g)
        return value, g

    return run

"""Diffusion Policy's U-Net for one row at a time, as a robot asks for it: every convolution a matrix product in memory that stays.

At one row an operation's arithmetic costs less than what is around it: allocation, views, dispatch. So all memory and all views of it are
made once, for one horizon. Activations are (H, C) within zeros of as many rows as a kernel reaches over the ends; then what a convolution
of k taps sees is that memory itself, seen as (H, k C) rows that overlap:

    rows        0  x_1 x_2 x_3 0        kernel 3, one zero at each end
    seen        0 x_1 x_2 | x_1 x_2 x_3 | x_2 x_3 0         strides (C, 1): nothing is copied

and a convolution is one product with (k C, O), a halving one with strides (2 C, 1), a doubling one from (H, 3 C) to (H, 2 O) = (2 H, O).
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from unveil.network.conv1d import ConvBlock1d, FilmConv1d
from unveil.policy.networks.conditional_unet1d import ConditionalUNet

Film = tuple[slice | None, slice]
_mish: Callable[..., Tensor] = torch.ops.aten.mish.out  # pyright: ignore[reportAttributeAccessIssue]


class Rows:
    """Memory of (H, C) with zeros around, and how it is seen."""

    def __init__(self, places: int, channels: int, zeros: int) -> None:
        self.places, self.channels, self.zeros = places, channels, zeros
        self.whole = torch.zeros(places + 2 * zeros, channels)
        self.inner = self.whole[zeros : zeros + places]

    @property
    def image(self) -> Tensor:
        """As (1, C, 1, H), channels last, for GroupNorm."""
        return self.inner[None].transpose(1, 2)[:, :, None]

    def seen(self, taps: int, stride: int = 1) -> Tensor:
        """(H / stride, taps C): what a convolution that keeps the number of places sees, `taps` odd."""
        start = (self.zeros - taps // 2) * self.channels
        return self.whole.as_strided(
            (self.places // stride, taps * self.channels), (stride * self.channels, 1), start
        )


class SingleConditionalUNet:
    """(x (1, H, A), told (channels,)) -> (1, H, A): the plain network's function for one horizon, in float32, without gradients.

    Not to be entered twice at once: the memory is its own.

    Args:
        films: where each block's gain and shift are in `told`.
        channels: of `told`.
    """

    def __init__(
        self, plain: ConditionalUNet, films: dict[nn.Module, Film], channels: int, places: int
    ) -> None:
        convolutions = [m for m in plain.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
        self._zeros = max(m.kernel_size[0] // 2 for m in convolutions)
        self._films, self._told = films, torch.empty(channels)
        self._todo: list[Callable[[], object]] = []
        self._read = self._rows(
            places, cast(FilmConv1d, cast(nn.ModuleList, plain.down[0])[0]).first.conv.in_channels
        )
        x, kept = self._read, list[Rows]()
        for k, blocks in enumerate(plain.down):
            x = self._pair(blocks, x)
            kept.append(x)
            if k < len(plain.halvings):
                x = self._halved(cast(nn.Conv1d, plain.halvings[k]), x)
        x = self._pair(plain.middle, x)
        for blocks, double in zip(plain.up, plain.doublings, strict=True):
            beside = kept.pop()
            both = self._rows(x.places, x.channels + beside.channels)
            self._then(torch.cat, [x.inner, beside.inner], dim=1, out=both.inner)
            x = self._doubled(cast(nn.ConvTranspose1d, double), self._pair(blocks, both))
        final, last = cast(ConvBlock1d, plain.final[0]), cast(nn.Conv1d, plain.final[1])
        h = self._block(final, x)
        self._last = partial(
            torch.addmm, _bias(last), h.inner, last.weight.detach()[:, :, 0].t().contiguous()
        )

    def __call__(self, x: Tensor, told: Tensor) -> Tensor:
        self._read.inner.copy_(x[0])
        self._told.copy_(told)
        for do in self._todo:
            do()
        return self._last()[None]

    def _then(self, function: Callable[..., object], *arguments: object, **named: object) -> None:
        self._todo.append(partial(function, *arguments, **named))

    def _rows(self, places: int, channels: int) -> Rows:
        return Rows(places, channels, self._zeros)

    def _product(self, seen: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
        self._then(torch.addmm, bias, seen, weight.contiguous(), out=out)

    def _pair(self, blocks: nn.Module, x: Rows) -> Rows:
        for block in cast(nn.ModuleList, blocks):
            x = self._filmed(cast(FilmConv1d, block), x)
        return x

    def _filmed(self, block: FilmConv1d, x: Rows) -> Rows:
        h, (gain, shift) = self._block(block.first, x), self._films[block]
        if gain is None:
            self._then(h.inner.add_, self._told[shift])
        else:
            self._then(torch.addcmul, self._told[shift], self._told[gain], h.inner, out=h.inner)
        h, beside = self._block(block.second, h), x.inner
        if isinstance(block.skip, nn.Conv1d):
            beside = torch.empty_like(h.inner)
            self._product(x.inner, block.skip.weight.detach()[:, :, 0].t(), _bias(block.skip), beside)
        self._then(h.inner.add_, beside)
        return h

    def _block(self, block: ConvBlock1d, x: Rows) -> Rows:
        conv, norm = block.conv, block.norm
        before, after = self._rows(x.places, conv.out_channels), self._rows(x.places, conv.out_channels)
        self._product(x.seen(conv.kernel_size[0]), _matrix(conv.weight), _bias(conv), before.inner)
        image, out = before.image, after.image
        shape = (
            norm.weight.detach(),
            norm.bias.detach(),
            1,
            conv.out_channels,
            x.places,
            norm.num_groups,
            norm.eps,
        )

        def activate() -> None:
            _mish(torch.native_group_norm(image, *shape)[0], out=out)

        self._then(activate)
        return after

    def _halved(self, conv: nn.Conv1d, x: Rows) -> Rows:
        out = self._rows(x.places // 2, conv.out_channels)
        self._product(x.seen(conv.kernel_size[0], 2), _matrix(conv.weight), _bias(conv), out.inner)
        return out

    def _doubled(self, conv: nn.ConvTranspose1d, x: Rows) -> Rows:
        """Kernel 4, stride 2, padding 1: y_2i = x_(i-1) w_3 + x_i w_1, y_(2i+1) = x_i w_2 + x_(i+1) w_0."""
        w, out = conv.weight.detach(), self._rows(2 * x.places, conv.out_channels)
        nothing = torch.zeros_like(w[:, :, 0])
        even, odd = torch.cat([w[:, :, 3], w[:, :, 1], nothing]), torch.cat([nothing, w[:, :, 2], w[:, :, 0]])
        pairs = out.inner.view(x.places, 2 * conv.out_channels)
        self._product(x.seen(3), torch.cat([even, odd], dim=1), _bias(conv).repeat(2), pairs)
        return out


def _matrix(weight: Tensor) -> Tensor:
    """(O, C, k) as (k C, O)."""
    return weight.detach().permute(2, 1, 0).flatten(0, 1)


def _bias(conv: nn.Conv1d | nn.ConvTranspose1d) -> Tensor:
    if conv.bias is None:
        raise ValueError("single_conditional_unet1d: a convolution without a bias")
    return conv.bias.detach()

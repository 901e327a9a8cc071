"""Diffusion Policy's U-Net for a batch of one, as on a robot, by matrix products in preallocated memory.

Every convolution is such a product. With one row an operation's arithmetic costs less than its overhead:
allocation, views, dispatch. So all memory and all views are made once, for one horizon. Activations are
(H, C), padded with as many rows of zeros as a kernel reaches over the ends; the input patches of a
convolution with k taps are then a view of that memory, with (H, k C) overlapping rows:

    rows        0  x_1 x_2 x_3 0        kernel 3, one zero at each end
    patches     0 x_1 x_2 | x_1 x_2 x_3 | x_2 x_3 0         strides (C, 1): nothing is copied

A convolution is one product with (k C, O), a halving one has strides (2 C, 1), a doubling one maps (H, 3 C)
to (H, 2 O) = (2 H, O).
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
    """Memory of (H, C) with zero padding, and views of it."""

    def __init__(self, length: int, channels: int, zeros: int) -> None:
        self.length, self.channels, self.zeros = length, channels, zeros
        self.whole = torch.zeros(length + 2 * zeros, channels)
        self.inner = self.whole[zeros : zeros + length]

    @property
    def image(self) -> Tensor:
        """As (1, C, 1, H), channels last, for GroupNorm."""
        return self.inner[None].transpose(1, 2)[:, :, None]

    def patches(self, taps: int, stride: int = 1) -> Tensor:
        """The input patches (H / stride, taps C) of a padded convolution, `taps` odd."""
        start = (self.zeros - taps // 2) * self.channels
        size = self.length // stride, taps * self.channels
        return self.whole.as_strided(size, (stride * self.channels, 1), start)


class SingleConditionalUNet:
    """(x (1, H, A), film (channels,)) -> (1, H, A): the plain network's function for one horizon.

    It computes in float32, without gradients. It works in its own memory, so calls must not overlap.

    Args:
        films: slices of each block's gain and shift in `film`.
        channels: size of `film`.
        length: H.
    """

    def __init__(
        self, plain: ConditionalUNet, films: dict[nn.Module, Film], channels: int, length: int
    ) -> None:
        convolutions = [m for m in plain.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
        self._zeros = max(m.kernel_size[0] // 2 for m in convolutions)
        self._films, self._film = films, torch.empty(channels)
        self._todo: list[Callable[[], object]] = []
        first = cast(FilmConv1d, cast(nn.ModuleList, plain.down[0])[0]).first
        self._read = self._rows(length, first.conv.in_channels)
        x, kept = self._read, list[Rows]()
        for k, blocks in enumerate(plain.down):
            x = self._pair(blocks, x)
            kept.append(x)
            if k < len(plain.halvings):
                x = self._halved(cast(nn.Conv1d, plain.halvings[k]), x)
        x = self._pair(plain.middle, x)
        for blocks, double in zip(plain.up, plain.doublings, strict=True):
            skip = kept.pop()
            both = self._rows(x.length, x.channels + skip.channels)
            self._then(torch.cat, [x.inner, skip.inner], dim=1, out=both.inner)
            x = self._doubled(cast(nn.ConvTranspose1d, double), self._pair(blocks, both))
        final, last = cast(ConvBlock1d, plain.final[0]), cast(nn.Conv1d, plain.final[1])
        h = self._block(final, x)
        self._last = partial(
            torch.addmm, _bias(last), h.inner, last.weight.detach()[:, :, 0].t().contiguous()
        )

    def __call__(self, x: Tensor, film: Tensor) -> Tensor:
        self._read.inner.copy_(x[0])
        self._film.copy_(film)
        for do in self._todo:
            do()
        return self._last()[None]

    def _then(self, function: Callable[..., object], *arguments: object, **named: object) -> None:
        self._todo.append(partial(function, *arguments, **named))

    def _rows(self, length: int, channels: int) -> Rows:
        return Rows(length, channels, self._zeros)

    def _product(self, patches: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
        self._then(torch.addmm, bias, patches, weight.contiguous(), out=out)

    def _pair(self, blocks: nn.Module, x: Rows) -> Rows:
        for block in cast(nn.ModuleList, blocks):
            x = self._filmed(cast(FilmConv1d, block), x)
        return x

    def _filmed(self, block: FilmConv1d, x: Rows) -> Rows:
        h, (gain, shift) = self._block(block.first, x), self._films[block]
        if gain is None:
            self._then(h.inner.add_, self._film[shift])
        else:
            self._then(torch.addcmul, self._film[shift], self._film[gain], h.inner, out=h.inner)
        h, skip = self._block(block.second, h), x.inner
        if isinstance(block.skip, nn.Conv1d):
            skip = torch.empty_like(h.inner)
            self._product(x.inner, block.skip.weight.detach()[:, :, 0].t(), _bias(block.skip), skip)
        self._then(h.inner.add_, skip)
        return h

    def _block(self, block: ConvBlock1d, x: Rows) -> Rows:
        conv, norm = block.conv, block.norm
        before, after = self._rows(x.length, conv.out_channels), self._rows(x.length, conv.out_channels)
        self._product(x.patches(conv.kernel_size[0]), _matrix(conv.weight), _bias(conv), before.inner)
        image, out = before.image, after.image
        weight, bias = norm.weight.detach(), norm.bias.detach()
        sizes = 1, conv.out_channels, x.length, norm.num_groups, norm.eps

        def activate() -> None:
            _mish(torch.native_group_norm(image, weight, bias, *sizes)[0], out=out)

        self._then(activate)
        return after

    def _halved(self, conv: nn.Conv1d, x: Rows) -> Rows:
        out = self._rows(x.length // 2, conv.out_channels)
        self._product(x.patches(conv.kernel_size[0], 2), _matrix(conv.weight), _bias(conv), out.inner)
        return out

    def _doubled(self, conv: nn.ConvTranspose1d, x: Rows) -> Rows:
        """Kernel 4, stride 2, padding 1: y_2i = x_(i-1) w_3 + x_i w_1, y_(2i+1) = x_i w_2 + x_(i+1) w_0."""
        w, out = conv.weight.detach(), self._rows(2 * x.length, conv.out_channels)
        zeros = torch.zeros_like(w[:, :, 0])
        even, odd = torch.cat([w[:, :, 3], w[:, :, 1], zeros]), torch.cat([zeros, w[:, :, 2], w[:, :, 0]])
        pairs = out.inner.view(x.length, 2 * conv.out_channels)
        self._product(x.patches(3), torch.cat([even, odd], dim=1), _bias(conv).repeat(2), pairs)
        return out


def _matrix(weight: Tensor) -> Tensor:
    """(O, C, k) as (k C, O)."""
    return weight.detach().permute(2, 1, 0).flatten(0, 1)


def _bias(conv: nn.Conv1d | nn.ConvTranspose1d) -> Tensor:
    if conv.bias is None:
        raise ValueError("SingleConditionalUNet: a convolution without a bias")
    return conv.bias.detach()

"""The blocks of `conv1d.py` for fast inference, with the gradient with respect to the input written out.

Positions come before channels, (B, H, C). A convolution is computed as a two-dimensional one, (1 x k) with
channels last, whose weights are laid out once. For one or two positions it is one matrix, the convolution of
the unit vectors, since most of its taps would read padding. With many channels in float32 it is `toom_cook`.
Mish takes one exponential.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.conv1d import ConvBlock1d, LinearAttention1d, ResidualConv1d
from unveil.network.toom_cook import OUTPUTS, TAPS, ToomCook, toom_cook

FEW_PLACES = 2  # positions up to which a convolution is one matrix
MANY_CHANNELS = 128  # channels from which Toom-Cook, with fewer products and more sums, is faster
FEW_NUMBERS = 16_384  # elements up to which one call of torch's Mish is faster than several cheap ones


@dataclass(frozen=True, eq=False)
class Places:
    """A convolution from (B, inputs, C) to (B, outputs, O).

    It is computed in two dimensions or, if stride is 0, by one matrix (inputs C, outputs O).
    """

    weight: Tensor
    bias: Tensor
    inputs: int
    outputs: int
    stride: int = 0
    padding: int = 0
    upward: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        if not self.stride:
            return torch.addmm(self.bias, x.flatten(1), self.weight).unflatten(1, (self.outputs, -1))
        convolve = F.conv_transpose2d if self.upward else F.conv2d
        return _rows(convolve(_image(x), self.weight, self.bias, (1, self.stride), (0, self.padding)))

    def back(self, g: Tensor) -> Tensor:
        """The gradient with respect to the input, from that with respect to the output."""
        if not self.stride:
            return (g.flatten(1) @ self.weight.t()).unflatten(1, (self.inputs, -1))
        spare = self.inputs - ((self.outputs - 1) * self.stride - 2 * self.padding + self.weight.shape[-1])
        return _rows(
            F.conv_transpose2d(_image(g), self.weight, None, (1, self.stride), (0, self.padding), (0, spare))
        )


class Normed(NamedTuple):
    """The results of a `Block` that its gradient needs: input, statistics and output of GroupNorm."""

    before: Tensor
    mean: Tensor
    deviation: Tensor
    after: Tensor


class Block(NamedTuple):
    """A `ConvBlock1d` without its Mish."""

    conv: Places | ToomCook
    gain: Tensor
    shift: Tensor
    groups: int
    eps: float

    def __call__(self, x: Tensor) -> Normed:
        before = self.conv(x)
        batch, places, channels = before.shape
        after, mean, deviation = torch.native_group_norm(
            _image(before), self.gain, self.shift, batch, channels, places, self.groups, self.eps
        )
        return Normed(before, mean, deviation, _rows(after))

    def back(self, kept: Normed, g: Tensor) -> Tensor:
        """The gradient with respect to the input, from that with respect to the Mish of the output."""
        (batch, places, channels), g = kept.before.shape, g * mish_slope(kept.after)
        moments = (kept.mean, kept.deviation, self.gain, batch, channels, places, self.groups)
        g = torch.ops.aten.native_group_norm_backward(
            _image(g), _image(kept.before), *moments, [True, False, False]
        )[0]
        return self.conv.back(_rows(g))


class Residual(NamedTuple):
    """A `ResidualConv1d`; `film` selects its part of the time embedding's projections for all blocks."""

    first: Block
    second: Block
    skip: Places | None
    film: slice

    def __call__(self, x: Tensor, film: Tensor) -> Tensor:
        return self.kept(x, film)[0]

    def kept(self, x: Tensor, film: Tensor) -> tuple[Tensor, Normed, Normed]:
        """The output, and the results that `back` needs."""
        first = self.first(x)
        second = self.second(mish(first.after, film[:, None, self.film]))
        return mish(second.after, x if self.skip is None else self.skip(x)), first, second

    def back(self, first: Normed, second: Normed, g: Tensor) -> Tensor:
        """The gradient with respect to the input, from that with respect to the output."""
        through = self.first.back(first, self.second.back(second, g))
        return through + (g if self.skip is None else self.skip.back(g))


class Attention(NamedTuple):
    """A `LinearAttention1d`."""

    gain: Tensor
    shift: Tensor
    eps: float
    qkv: Tensor
    merge: Tensor
    bias: Tensor
    heads: int

    def __call__(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x, x.shape[-1:], self.gain, self.shift, self.eps)
        q, k, v = (
            F.linear(normed, self.qkv).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, heads, H, width) each
        context = k.softmax(dim=-2).transpose(-1, -2) @ v  # (B, heads, width of k, width of v)
        read = (q * q.shape[-1] ** -0.5) @ context  # (B, heads, H, width)
        return x + F.linear(read.transpose(1, 2).flatten(2), self.merge, self.bias)


def mish(x: Tensor, plus: Tensor | None = None) -> Tensor:
    """x tanh(log(1 + e^x)) + plus, by x - 2 x / ((1 + e^x)^2 + 1); if e^x overflows, the fraction is 0."""
    if x.numel() <= FEW_NUMBERS and not torch.compiler.is_compiling():
        return F.mish(x) if plus is None else F.mish(x) + plus
    r = x.exp().add_(1.0).square_().add_(1.0).reciprocal_()
    y = torch.addcmul(x, x, r, value=-2.0)
    return y if plus is None else y.add_(plus)


def mish_slope(x: Tensor) -> Tensor:
    """The derivative of Mish: 1 - 2 r + 4 x r (1 - r - r q), q = 1 + e^x, r = 1 / (q^2 + 1)."""
    q = x.clamp(max=40.0).exp_().add_(1.0)
    r = (q * q).add_(1.0).reciprocal_()
    return torch.addcmul(1.0 - 2.0 * r, x * r, 1.0 - r - r * q, value=4.0)


def _image(x: Tensor) -> Tensor:
    """(B, H, C) as an image (B, C, 1, H) with channels last, without a copy."""
    return x.transpose(1, 2)[:, :, None]


def _rows(x: Tensor) -> Tensor:
    """The inverse of `_image`."""
    return x[:, :, 0].transpose(1, 2).contiguous()


def places_of(conv: nn.Conv1d | nn.ConvTranspose1d, inputs: int, dtype: torch.dtype) -> Places:
    """Lay out a convolution for `inputs` positions."""
    weight, bias = conv.weight.detach(), conv.bias
    if bias is None:
        raise ValueError("fast inference layout: every convolution must have a bias")
    bias = bias.detach()
    (kernel,), (stride,), padding = conv.kernel_size, conv.stride, int(conv.padding[0])
    upward = isinstance(conv, nn.ConvTranspose1d)
    outputs = (
        (inputs - 1) * stride - 2 * padding + kernel
        if upward
        else (inputs + 2 * padding - kernel) // stride + 1
    )
    if kernel > 1 and inputs <= FEW_PLACES:
        units = (
            torch.eye(conv.in_channels * inputs, device=weight.device)
            .reshape(-1, inputs, conv.in_channels)
            .transpose(1, 2)
        )
        image = (F.conv_transpose1d if upward else F.conv1d)(units, weight, None, stride, padding)
        return Places(
            image.transpose(1, 2).flatten(1).to(dtype), bias.repeat(outputs).to(dtype), inputs, outputs
        )
    laid = weight[:, :, None].to(dtype).contiguous(memory_format=torch.channels_last)
    return Places(laid, bias.to(dtype), inputs, outputs, stride, padding, upward)


def block_of(block: ConvBlock1d, places: int, dtype: torch.dtype, many: bool) -> Block:
    """Lay out a block for a number of positions, and for batches of many rows or few."""
    norm, conv = block.norm, block.conv
    fewer = many and dtype == torch.float32 and conv.kernel_size == (TAPS,) and places % OUTPUTS == 0
    if fewer and min(conv.in_channels, conv.out_channels) >= MANY_CHANNELS and conv.bias is not None:
        laid = toom_cook(conv.weight.detach(), conv.bias.detach(), places)
    else:
        laid = places_of(conv, places, dtype)
    return Block(
        laid, norm.weight.detach().to(dtype), norm.bias.detach().to(dtype), norm.num_groups, norm.eps
    )


def residual_of(block: ResidualConv1d, places: int, dtype: torch.dtype, many: bool, film: slice) -> Residual:
    """Lay out a residual block likewise; `film` selects its part of the projections of the time embedding."""
    skip = places_of(block.skip, places, dtype) if isinstance(block.skip, nn.Conv1d) else None
    return Residual(
        block_of(block.first, places, dtype, many), block_of(block.second, places, dtype, many), skip, film
    )


def attention_of(layer: nn.Module, dtype: torch.dtype) -> Attention | None:
    """Lay out an attention layer; None if the layer is no attention."""
    if not isinstance(layer, LinearAttention1d):
        return None
    bias = layer.merge.bias
    assert bias is not None
    weights = (layer.qkv.weight[:, :, 0], layer.merge.weight[:, :, 0], bias)
    qkv, merge, bias = (w.detach().to(dtype) for w in weights)
    return Attention(
        layer.norm.weight.detach().to(dtype),
        layer.norm.bias.detach().to(dtype),
        layer.norm.eps,
        qkv,
        merge,
        bias,
        layer.heads,
    )

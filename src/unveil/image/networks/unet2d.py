"""The U-Net of image diffusion: DDPM's, with the options of Improved DDPM and ADM.

Ho et al. 2020, appendix B; Nichol & Dhariwal 2021; Dhariwal & Nichol 2021, section 3. At DDPM's CIFAR-10 size
it has the 35,746,307 parameters of `google/ddpm-cifar10-32`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import attention, by_eights, dropped, sinusoids

Generator = torch.Generator | None


@dataclass(frozen=True)
class UNet2dShape:
    """Shape of a `UNet2d`. From `heads` on the fields are those in which U-Nets of other releases differ from
    DDPM's.

    Args:
        channels: C.
        width, multiples: level k has `width * multiples[k]` channels.
        blocks: residual blocks per level on the way down; the way up has one more.
        attention: levels, 0 the finest, whose blocks are each followed by attention.
        head_width: channels per attention head; 0: `heads` decides.
        labels: rows of the label embedding, which is added to the time embedding; 0 disables it.
        scale_shift: the embedding scales and shifts the output of the second norm (AdaGN) instead of being
            added before it.
        big_gan: sides change inside a residual block of their own (BigGAN) instead of by a convolution.
        dropout: probability before the second convolution of a block, in training only, drawn from the
            attribute `generator`.
        learned_variance: the second half of the output channels is the variance's, see `GaussianDenoiser`.
        stem: patch size; stem x stem pixels are folded into channels, so sides are multiples of it.
        groups: of GroupNorm; divides every number of channels.
        norm_epsilon: of the norms; 1e-6 in DDPM, 1e-5 in ADM.
        concat: channels of `cond.concat`, concatenated with x (for example the upsampled low-resolution
            image); 0 disables it.
        heads: number of attention heads if `head_width` is 0.
        time_width: size of the sinusoidal time features; the embedding has four times as many; 0: `width`.
        cosine_first: the cosines come before the sines.
        inclusive: the longest wavelength is 2 pi 10,000 itself, see `sinusoids`.
        pad_after: the convolution that halves sides is padded on the right and below only, not on all sides.
        middle_attention, middle_norm: the middle has attention, and that a norm.
    """

    channels: int
    width: int = 128
    multiples: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    head_width: int = 0
    labels: int = 0
    scale_shift: bool = False
    big_gan: bool = False
    dropout: float = 0.0
    learned_variance: bool = False
    stem: int = 1
    groups: int = 32
    norm_epsilon: float = 1e-6
    concat: int = 0
    heads: int = 1
    time_width: int = 0
    cosine_first: bool = False
    inclusive: bool = True
    pad_after: bool = False
    middle_attention: bool = True
    middle_norm: bool = True


class UNet2d(nn.Module):
    """(x (B, C, H, W), time (B,), condition with label (B,) if `labels`) -> (B, C, H, W), or (B, 2 C, H, W)
    with `learned_variance`.

    Level k has `width * multiples[k]` channels and `blocks` residual blocks down, one more up; between levels
    sides are halved, odd ones to the larger half. The middle is residual block, attention, residual block.
    The last layer of each block, and the output, start at zero.

    Raises:
        ValueError: numbers that do not fit, an x or a concat of another shape, a label that is missing or out
            of range, or dropout without generator.
    """

    def __init__(self, shape: UNet2dShape) -> None:
        super().__init__()
        self.shape = shape
        width, groups, epsilon = shape.width, shape.groups, shape.norm_epsilon
        sizes = [width * m for m in shape.multiples]
        for size in sizes:
            if size % groups or size % (shape.head_width or shape.heads):
                many = f"heads of {shape.head_width} channels" if shape.head_width else f"{shape.heads} heads"
                raise ValueError(f"UNet2d: {size} channels are not a multiple of {groups} groups and {many}")
        if not set(shape.attention) <= set(range(len(sizes))):
            raise ValueError(
                f"UNet2d: attention at levels {shape.attention}, but there are levels 0 .. {len(sizes) - 1}"
            )
        self.generator: Generator = None
        self.time_width = shape.time_width or width
        channels, embedding = shape.channels, 4 * self.time_width
        self.time = time_embedding(self.time_width)
        self.label = nn.Embedding(shape.labels, embedding) if shape.labels else None
        self.enter = nn.Conv2d((channels + shape.concat) * shape.stem**2, sizes[0], 3, padding=1)

        def residual(inputs: int, outputs: int, change: str = "") -> ResidualConv2d:
            scale_shift, dropout = shape.scale_shift, shape.dropout
            return ResidualConv2d(
                inputs, outputs, embedding, groups, dropout, epsilon, scale_shift=scale_shift, change=change
            )

        def attend(size: int, present: bool, normed: bool = True) -> nn.Module:
            head_width = shape.head_width or size // shape.heads
            return (
                Attention2d(size, head_width, groups if normed else 0, epsilon) if present else nn.Identity()
            )

        def step(block: nn.Module, after: nn.Module | None = None) -> nn.ModuleList:
            return nn.ModuleList([block, nn.Identity() if after is None else after])

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept, now = [sizes[0]], sizes[0]  # channels of the skip connections
        for level, size in enumerate(sizes):
            for _ in range(shape.blocks):
                self.down.append(step(residual(now, size), attend(size, level in shape.attention)))
                kept.append(size)
                now = size
            if level + 1 < len(sizes):
                halve = residual(size, size, "halve") if shape.big_gan else Halve2d(size, shape.pad_after)
                self.down.append(step(halve))
                kept.append(size)
        first, attention = residual(now, now), attend(now, shape.middle_attention, shape.middle_norm)
        self.middle = nn.ModuleList([first, attention, residual(now, now)])
        for level, size in reversed(list(enumerate(sizes))):
            for _ in range(shape.blocks + 1):
                self.up.append(step(residual(now + kept.pop(), size), attend(size, level in shape.attention)))
                now = size
            if level:
                self.up.append(step(residual(size, size, "double") if shape.big_gan else Double2d(size)))
        self.norm = nn.GroupNorm(groups, now, eps=epsilon)
        outputs = channels * (1 + shape.learned_variance) * shape.stem**2
        self.leave = nn.Conv2d(now, outputs, 3, padding=1)
        _zero(self.leave)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        channels, stem = self.shape.channels, self.shape.stem
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % stem or x.shape[3] % stem:
            raise ValueError(
                f"UNet2d: x must be (B, {channels}, H, W) with sides that {stem} divides, got "
                f"{tuple(x.shape)}"
            )
        generator = self._generator()
        embedding = self._embedded(time)
        if self.label is not None:
            embedding = embedding + self.label(self._labels(len(x), cond))
        seen = self._joined(x, cond) if self.shape.concat else x
        h = self.enter(F.pixel_unshuffle(seen, stem) if stem > 1 else seen)
        kept = [h]
        for block, attend in self.down:  # pyright: ignore[reportGeneralTypeIssues]
            h = attend(block(h, embedding, generator))
            kept.append(h)
        first, attend, last = self.middle
        h = last(attend(first(h, embedding, generator)), embedding, generator)
        for block, attend in self.up:  # pyright: ignore[reportGeneralTypeIssues]
            if isinstance(block, Double2d) or block.change == "double":
                h = block(h, embedding, generator, kept[-1].shape[-2:])
            else:
                h = attend(block(torch.cat([h, kept.pop()], dim=1), embedding, generator))
        h = self.leave(F.silu(self.norm(h))).to(x.dtype)  # the dtype of x, not autocast's
        return F.pixel_shuffle(h, stem) if stem > 1 else h

    def _embedded(self, time: Tensor) -> Tensor:
        return embedded(self.time, time, self.time_width, self.shape.cosine_first, self.shape.inclusive)

    def _joined(self, x: Tensor, cond: Condition | None) -> Tensor:
        wanted = (len(x), self.shape.concat, *x.shape[2:])
        if cond is None or cond.concat is None or cond.concat.shape != wanted:
            raise ValueError(f"UNet2d: the condition needs concat of shape {wanted}, the image to enlarge")
        return torch.cat([x, cond.concat], dim=1)

    def _labels(self, batch: int, cond: Condition | None) -> Tensor:
        if cond is None or cond.label is None or cond.label.shape != (batch,):
            raise ValueError(f"UNet2d: the condition needs {batch} labels, one per sample")
        if bool(((cond.label < 0) | (cond.label >= self.shape.labels)).any()):
            raise ValueError(
                f"UNet2d: labels must lie in 0 .. {self.shape.labels - 1}, got {cond.label.min()} .. "
                f"{cond.label.max()}"
            )
        return cond.label

    def _generator(self) -> Generator:
        if not self.training or not self.shape.dropout:
            return None
        if self.generator is None:
            raise ValueError("UNet2d: training with dropout needs the attribute generator")
        return self.generator


def time_embedding(width: int) -> nn.Sequential:
    """The network of the time embedding: from `width` sinusoids to four times as many numbers."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))


def embedded(network: nn.Module, time: Tensor, width: int, cosine_first: bool, inclusive: bool) -> Tensor:
    """The embedding (B, 4 width) of times (B,); arguments as in `UNet2dShape`."""
    waves = sinusoids(time, width, inclusive=inclusive)  # (B, width)
    return by_eights(network, waves.roll(width // 2, -1) if cosine_first else waves)


class ResidualConv2d(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x))) + W a))), a = silu(embedding); with `scale_shift` norm(.)
    (1 + scale) + shift instead.

    Args:
        embedding: size of the time embedding.
        change: "halve" or "double" the sides, of both branches, before the first convolution: mean of 2 x 2,
            or nearest neighbour.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        groups: int,
        dropout: float = 0.0,
        norm_epsilon: float = 1e-6,
        *,
        scale_shift: bool = False,
        change: str = "",
    ) -> None:
        super().__init__()
        self.scale_shift, self.change, self.dropout = scale_shift, change, dropout
        self.first_norm = nn.GroupNorm(groups, inputs, eps=norm_epsilon)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.about = nn.Linear(embedding, 2 * outputs if scale_shift else outputs)
        self.second_norm = nn.GroupNorm(groups, outputs, eps=norm_epsilon)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        _zero(self.second)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(
        self, x: Tensor, embedding: Tensor, generator: Generator = None, sides: torch.Size | None = None
    ) -> Tensor:
        h = F.silu(self.first_norm(x))
        if self.change == "halve":
            h, x = _halved(h), _halved(x)
        elif self.change == "double":
            assert sides is not None
            h, x = _doubled(h, sides), _doubled(x, sides)
        h = self.first(h)
        shifts = by_eights(self.about, F.silu(embedding))[:, :, None, None]  # (B, C or 2 C, 1, 1)
        if self.scale_shift:
            scale, shift = shifts.chunk(2, dim=1)
            h = torch.addcmul(shift, self.second_norm(h), 1.0 + scale)
        else:
            h = self.second_norm(h + shifts)
        return self.skip(x) + self.second(dropped(F.silu(h), self.dropout, generator))


class Attention2d(nn.Module):
    """x + W attention(norm(x)) over all N = H W positions, with heads of `head_width` channels; 0 groups: no
    norm. W starts at zero."""

    def __init__(self, channels: int, head_width: int, groups: int, norm_epsilon: float = 1e-6) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.norm = nn.GroupNorm(groups, channels, eps=norm_epsilon) if groups else nn.Identity()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.merge = nn.Linear(channels, channels)
        _zero(self.merge)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, N, C)
        q, k, v = (  # each (B, heads, N, D)
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1)
        )
        mixed = attention(q, k, v, None).transpose(1, 2).flatten(-2)  # (B, N, C)
        return x + self.merge(mixed).transpose(1, 2).reshape(x.shape)


class Halve2d(nn.Module):
    """Convolution with stride 2: sides N to ceil(N / 2); with `after`, padded on the right and below only, to
    floor(N / 2)."""

    change = "halve"

    def __init__(self, channels: int, after: bool = False) -> None:
        super().__init__()
        self.after = after
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if after else 1)

    def forward(self, x: Tensor, embedding: Tensor, generator: Generator = None) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.after else x)


class Double2d(nn.Module):
    """Nearest-neighbour upsampling to the given sides (2 N, or 2 N - 1), then a convolution."""

    change = "double"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor, generator: Generator, sides: torch.Size) -> Tensor:
        return self.conv(_doubled(x, sides))


def sides_of(size: int, stem: int, levels: int) -> tuple[int, ...]:
    """The side of each level's feature maps for images of size x size pixels.

    Raises:
        ValueError: the stem does not divide the size, or a level is too small to be halved.
    """
    if size % stem:
        raise ValueError(f"`stem` {stem} does not divide a size of {size} pixels")
    sides = [size // stem]
    for _ in range(levels - 1):
        if sides[-1] < 2:
            raise ValueError(
                f"{size} pixels with `stem` {stem} cannot be halved {levels - 1} times; take fewer "
                "`multiples`"
            )
        sides.append((sides[-1] + 1) // 2)
    return tuple(sides)


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True)


def _doubled(x: Tensor, sides: torch.Size) -> Tensor:
    return x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)[..., : sides[0], : sides[1]]


def _zero(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)

"""The U-Net of image diffusion: DDPM's, with the options of Improved DDPM and ADM.

Ho et al. 2020, appendix B; Nichol & Dhariwal 2021; Dhariwal & Nichol 2021, section 3. At DDPM's CIFAR-10 size it has the 35,746,307
parameters of `google/ddpm-cifar10-32`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import attention, by_eights, dropped, sinusoids

Generator = torch.Generator | None


class UNet2d(nn.Module):
    """(x (B, C, H, W), time (B,), condition with label (B,) if `labels`) -> (B, C, H, W), or (B, 2 C, H, W) with `learned_variance`.

    Level k has `width * multiples[k]` channels and `blocks` residual blocks down, one more up; between levels sides are halved, odd ones
    to the larger half. The middle is residual block, attention, residual block. What each block adds, and the output, start at zero.
    From `heads` on the options are those in which others' U-Nets differ from DDPM's.

    Args:
        channels: C.
        attention: levels, 0 the finest, whose blocks are each followed by attention.
        head_width: channels of an attention head; 0: one head.
        labels: rows of the label embedding, which is added to the time's; 0: the condition is not read.
        scale_shift: the time scales and shifts what the second norm gives (AdaGN), instead of being added before it.
        big_gan: sides change inside a residual block of their own (BigGAN) instead of by a convolution.
        dropout: before the second convolution of a block, in training alone, drawn from the attribute `generator`.
        learned_variance: the second half of the output's channels is the variance's, see `GaussianDenoiser`.
        stem: the network works on squares of stem x stem pixels as one place with stem^2 C channels; sides are multiples of it.
        groups: of the norms; it divides every number of channels.
        given: channels of the condition's `concat` (B, given, H, W), which joins x: an enlarged picture, of an upsampler. 0: not read.
        norm_epsilon: of the norms; 1e-6 DDPM's, 1e-5 ADM's.
        heads: of attention where `head_width` is 0.
        time_width: sinusoids of the time, of which four times as many numbers are made; 0: as many as `width`.
        cosine_first: the cosines stand before the sines.
        inclusive: the longest wavelength is 2 pi 10,000 itself, see `sinusoids`.
        pad_after: the convolution that halves sides sees zeros on the right and below alone, not all round.
        middle_attention, middle_norm: the middle has attention, and that a norm.
    Raises:
        ValueError: numbers that do not fit, an x or a concat of another kind, a label that is missing or out of range, dropout without
            generator.
    """

    def __init__(
        self,
        channels: int,
        width: int = 128,
        multiples: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        head_width: int = 0,
        labels: int = 0,
        *,
        scale_shift: bool = False,
        big_gan: bool = False,
        dropout: float = 0.0,
        learned_variance: bool = False,
        stem: int = 1,
        groups: int = 32,
        norm_epsilon: float = 1e-6,
        given: int = 0,
        heads: int = 1,
        time_width: int = 0,
        cosine_first: bool = False,
        inclusive: bool = True,
        pad_after: bool = False,
        middle_attention: bool = True,
        middle_norm: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.width, self.stem, self.labels, self.dropout = (
            channels,
            width,
            stem,
            labels,
            dropout,
        )
        self.given = given
        sizes = [width * m for m in multiples]
        for size in sizes:
            if size % groups or size % (head_width or heads):
                many = f"heads of {head_width} channels" if head_width else f"{heads} heads"
                raise ValueError(f"UNet2d: {size} channels are not a multiple of {groups} groups and {many}")
        if not set(attention) <= set(range(len(sizes))):
            raise ValueError(
                f"UNet2d: attention at levels {attention}, but there are levels 0 .. {len(sizes) - 1}"
            )
        self.generator: Generator = None
        self.time_width, self.cosine_first, self.inclusive = time_width or width, cosine_first, inclusive
        about = 4 * self.time_width
        self.time = nn.Sequential(nn.Linear(self.time_width, about), nn.SiLU(), nn.Linear(about, about))
        self.label = nn.Embedding(labels, about) if labels else None
        self.enter = nn.Conv2d((channels + given) * stem**2, sizes[0], 3, padding=1)

        def residual(inputs: int, outputs: int, change: str = "") -> ResidualConv2d:
            return ResidualConv2d(
                inputs, outputs, about, groups, dropout, norm_epsilon, scale_shift=scale_shift, change=change
            )

        def attend(size: int, there: bool, normed: bool = True) -> nn.Module:
            return (
                Attention2d(size, head_width or size // heads, groups if normed else 0, norm_epsilon)
                if there
                else nn.Identity()
            )

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept, now = [sizes[0]], sizes[0]  # channels of what goes across
        for level, size in enumerate(sizes):
            for _ in range(blocks):
                self.down.append(nn.ModuleList([residual(now, size), attend(size, level in attention)]))
                kept.append(size)
                now = size
            if level + 1 < len(sizes):
                halve = residual(size, size, "halve") if big_gan else Halve2d(size, pad_after)
                self.down.append(nn.ModuleList([halve, nn.Identity()]))
                kept.append(size)
        self.middle = nn.ModuleList(
            [residual(now, now), attend(now, middle_attention, middle_norm), residual(now, now)]
        )
        for level, size in reversed(list(enumerate(sizes))):
            for _ in range(blocks + 1):
                self.up.append(
                    nn.ModuleList([residual(now + kept.pop(), size), attend(size, level in attention)])
                )
                now = size
            if level:
                self.up.append(
                    nn.ModuleList(
                        [residual(size, size, "double") if big_gan else Double2d(size), nn.Identity()]
                    )
                )
        self.norm = nn.GroupNorm(groups, now, eps=norm_epsilon)
        self.leave = nn.Conv2d(now, channels * (1 + learned_variance) * stem**2, 3, padding=1)
        _zero(self.leave)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % self.stem or x.shape[3] % self.stem:
            raise ValueError(
                f"UNet2d: x must be (B, {self.channels}, H, W) with sides that {self.stem} divides, got {tuple(x.shape)}"
            )
        generator = self._generator()
        waves = sinusoids(time, self.time_width, inclusive=self.inclusive)
        about = by_eights(self.time, waves.roll(self.time_width // 2, -1) if self.cosine_first else waves)
        if self.label is not None:
            about = about + self.label(self._labels(len(x), cond))
        seen = self._joined(x, cond) if self.given else x
        h = self.enter(F.pixel_unshuffle(seen, self.stem) if self.stem > 1 else seen)
        kept = [h]
        for block, attend in self.down:  # pyright: ignore[reportGeneralTypeIssues]
            h = attend(block(h, about, generator))
            kept.append(h)
        first, attend, last = self.middle
        h = last(attend(first(h, about, generator)), about, generator)
        for block, attend in self.up:  # pyright: ignore[reportGeneralTypeIssues]
            if isinstance(block, Double2d) or block.change == "double":
                h = block(h, about, generator, kept[-1].shape[-2:])
            else:
                h = attend(block(torch.cat([h, kept.pop()], dim=1), about, generator))
        h = self.leave(F.silu(self.norm(h))).to(x.dtype)  # not autocast's
        return F.pixel_shuffle(h, self.stem) if self.stem > 1 else h

    def _joined(self, x: Tensor, cond: Condition | None) -> Tensor:
        wanted = (len(x), self.given, *x.shape[2:])
        if cond is None or cond.concat is None or cond.concat.shape != wanted:
            raise ValueError(
                f"UNet2d: the condition needs concat of shape {wanted}, the picture that is enlarged"
            )
        return torch.cat([x, cond.concat], dim=1)

    def _labels(self, batch: int, cond: Condition | None) -> Tensor:
        if cond is None or cond.label is None or cond.label.shape != (batch,):
            raise ValueError(f"UNet2d: the condition needs {batch} labels, one a sample")
        if bool(((cond.label < 0) | (cond.label >= self.labels)).any()):
            raise ValueError(
                f"UNet2d: labels must lie in 0 .. {self.labels - 1}, got {cond.label.min()} .. {cond.label.max()}"
            )
        return cond.label

    def _generator(self) -> Generator:
        if not self.training or not self.dropout:
            return None
        if self.generator is None:
            raise ValueError("UNet2d: training with dropout needs the attribute generator")
        return self.generator


class ResidualConv2d(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x))) + W a))), a = silu(time); with `scale_shift` norm(.) (1 + scale) + shift instead.

    Args:
        about: size of the time's vector.
        change: "halve" or "double" the sides, of both branches, before the first convolution: mean of 2 x 2, or nearest neighbour.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        about: int,
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
        self.about = nn.Linear(about, 2 * outputs if scale_shift else outputs)
        self.second_norm = nn.GroupNorm(groups, outputs, eps=norm_epsilon)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        _zero(self.second)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(
        self, x: Tensor, about: Tensor, generator: Generator = None, sides: torch.Size | None = None
    ) -> Tensor:
        h = F.silu(self.first_norm(x))
        if self.change == "halve":
            h, x = _halved(h), _halved(x)
        elif self.change == "double":
            assert sides is not None
            h, x = _doubled(h, sides), _doubled(x, sides)
        h = self.first(h)
        told = by_eights(self.about, F.silu(about))[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = torch.addcmul(shift, self.second_norm(h), 1.0 + scale)
        else:
            h = self.second_norm(h + told)
        return self.skip(x) + self.second(dropped(F.silu(h), self.dropout, generator))


class Attention2d(nn.Module):
    """x + W attention(norm(x)) among all places, heads of `head_width` channels, 0 groups: no norm; W starts at zero."""

    def __init__(self, channels: int, head_width: int, groups: int, norm_epsilon: float = 1e-6) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.norm = nn.GroupNorm(groups, channels, eps=norm_epsilon) if groups else nn.Identity()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.merge = nn.Linear(channels, channels)
        _zero(self.merge)

    def forward(self, x: Tensor) -> Tensor:
        places = self.norm(x).flatten(2).transpose(1, 2)  # (B, N, C)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(places).chunk(3, dim=-1)
        )
        mixed = attention(q, k, v, None).transpose(1, 2).flatten(-2)
        return x + self.merge(mixed).transpose(1, 2).reshape(x.shape)


class Halve2d(nn.Module):
    """Every second place by a convolution: sides N to ceil(N / 2); with `after`, zeros on the right and below alone, to floor(N / 2)."""

    change = "halve"

    def __init__(self, channels: int, after: bool = False) -> None:
        super().__init__()
        self.after = after
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if after else 1)

    def forward(self, x: Tensor, about: Tensor, generator: Generator = None) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.after else x)


class Double2d(nn.Module):
    """Every place four times, to the given sides (2 N, or 2 N - 1), then a convolution."""

    change = "double"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, about: Tensor, generator: Generator, sides: torch.Size) -> Tensor:
        return self.conv(_doubled(x, sides))


def sides_of(size: int, stem: int, levels: int) -> tuple[int, ...]:
    """The side of each level's square for images of size x size pixels.

    Raises:
        ValueError: the stem does not divide the size, or a level would have nothing left to halve.
    """
    if size % stem:
        raise ValueError(f"a stem of {stem} does not divide a size of {size} pixels")
    sides = [size // stem]
    for _ in range(levels - 1):
        if sides[-1] < 2:
            raise ValueError(
                f"{size} pixels with a stem of {stem} cannot be halved {levels - 1} times; take fewer multiples"
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

"""A classifier of noisy images: the first half of the U-Net, with attention pooling.

Dhariwal & Nichol 2021, section 4 and appendix H."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.unet2d import (
    Attention2d,
    Halve2d,
    ResidualConv2d,
    embedded,
    sides_of,
    time_embedding,
)
from unveil.network.layers import attention

Generator = torch.Generator | None


@dataclass(frozen=True)
class Classifier2dShape:
    """Shape of a `Classifier2d`: side `size` S, `classes` K, other fields as in `UNet2dShape`."""

    size: int
    channels: int
    classes: int
    width: int = 128
    multiples: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    head_width: int = 0
    scale_shift: bool = True
    big_gan: bool = False
    dropout: float = 0.0
    stem: int = 1
    groups: int = 32
    norm_epsilon: float = 1e-6
    time_width: int = 0
    cosine_first: bool = False
    inclusive: bool = True

    @property
    def labels(self) -> int:
        """Number of classes; the name that shapes of U-Nets have for it."""
        return self.classes

    @property
    def learned_variance(self) -> bool:
        """False: it makes no images."""
        return False


class Classifier2d(nn.Module):
    """(x (B, C, S, S), time (B,)) -> logits (B, K).

    Raises:
        ValueError: numbers that do not fit, an x of another size, or training with dropout without the
            attribute generator.
    """

    def __init__(self, shape: Classifier2dShape) -> None:
        super().__init__()
        self.shape = shape
        groups, epsilon, head_width = shape.groups, shape.norm_epsilon, shape.head_width
        sizes = [shape.width * m for m in shape.multiples]
        for number in sizes:
            if number % groups or (head_width and number % head_width):
                raise ValueError(
                    f"Classifier2d: {number} channels are not a multiple of {groups} groups and heads of "
                    f"{head_width} channels"
                )
        self.generator: Generator = None
        self.time_width = shape.time_width or shape.width
        self.time = time_embedding(self.time_width)
        self.enter = nn.Conv2d(shape.channels * shape.stem**2, shape.width, 3, padding=1)

        def residual(inputs: int, outputs: int, change: str = "") -> ResidualConv2d:
            return ResidualConv2d(
                inputs,
                outputs,
                4 * self.time_width,
                groups,
                shape.dropout,
                epsilon,
                scale_shift=shape.scale_shift,
                change=change,
            )

        def attend(number: int) -> nn.Module:
            return Attention2d(number, head_width or number, groups, epsilon)

        self.down, now = nn.ModuleList(), shape.width
        for level, number in enumerate(sizes):
            for _ in range(shape.blocks):
                block = residual(now, number)
                after = attend(number) if level in shape.attention else nn.Identity()
                self.down.append(nn.ModuleList([block, after]))
                now = number
            if level + 1 < len(sizes):
                halve = residual(now, now, "halve") if shape.big_gan else Halve2d(now)
                self.down.append(nn.ModuleList([halve, nn.Identity()]))
        self.middle = nn.ModuleList([residual(now, now), attend(now), residual(now, now)])
        self.norm = nn.GroupNorm(groups, now, eps=epsilon)
        self.pool = AttentionPool2d(now, sides_of(shape.size, shape.stem, len(sizes))[-1], head_width or now)
        self.leave = nn.Linear(now, shape.classes)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.leave(self.features(x, time))

    def features(self, x: Tensor, time: Tensor) -> Tensor:
        """The features (B, width * multiples[-1]) whose linear function the logits are."""
        shape = self.shape
        if x.shape[1:] != (shape.channels, shape.size, shape.size):
            raise ValueError(
                f"Classifier2d: x must be (B, {shape.channels}, {shape.size}, {shape.size}), got "
                f"{tuple(x.shape)}"
            )
        if self.training and shape.dropout and self.generator is None:
            raise ValueError("Classifier2d: training with dropout needs the attribute generator")
        generator = self.generator if self.training and shape.dropout else None
        embedding = embedded(self.time, time, self.time_width, shape.cosine_first, shape.inclusive)
        h = self.enter(F.pixel_unshuffle(x, shape.stem) if shape.stem > 1 else x)
        for block, attend in self.down:  # pyright: ignore[reportGeneralTypeIssues]
            h = attend(block(h, embedding, generator))
        first, attend, last = self.middle
        h = last(attend(first(h, embedding, generator)), embedding, generator)
        return self.pool(F.silu(self.norm(h)))


class AttentionPool2d(nn.Module):
    """Attention pooling: the mean feature attends to itself and to all positions; (B, C, N, N) to (B, C).

    Radford et al. 2021, section 2.3. The tokens are the mean, then the positions row by row, each plus a
    learned vector; only the output of the mean is computed.
    """

    def __init__(self, channels: int, side: int, head_width: int) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.place = nn.Parameter(torch.randn(1 + side**2, channels) * channels**-0.5)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        positions = x.flatten(2).transpose(1, 2)  # (B, N^2, C)
        tokens = (
            torch.cat([positions.mean(1, keepdim=True), positions], dim=1) + self.place
        )  # (B, 1 + N^2, C)
        parts = (self.query(tokens[:, :1]), *self.key_value(tokens).chunk(2, dim=-1))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return attention(q, k, v, None).transpose(1, 2).flatten(1)

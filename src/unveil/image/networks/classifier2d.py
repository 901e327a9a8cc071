"""The first half of the U-Net, with attention pooling: a classifier of noisy images. Dhariwal & Nichol 2021, section 4 and appendix H."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.unet2d import Attention2d, Halve2d, ResidualConv2d, sides_of
from unveil.network.layers import attention, by_eights, sinusoids

Generator = torch.Generator | None


class Classifier2d(nn.Module):
    """(x (B, C, S, S), time (B,)) -> logits (B, K).

    Args:
        size: S.
        others: as of `UNet2d`; attention are levels, which the middle has too. From `time_width` on they are those of others' classifiers.
    Raises:
        ValueError: numbers that do not fit, an x of another size, training with dropout without the attribute generator.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        classes: int,
        width: int = 128,
        multiples: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        head_width: int = 0,
        *,
        scale_shift: bool = True,
        big_gan: bool = False,
        dropout: float = 0.0,
        stem: int = 1,
        groups: int = 32,
        norm_epsilon: float = 1e-6,
        time_width: int = 0,
        cosine_first: bool = False,
        inclusive: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.channels, self.width, self.stem, self.dropout = size, channels, width, stem, dropout
        sizes = [width * m for m in multiples]
        for number in sizes:
            if number % groups or (head_width and number % head_width):
                raise ValueError(
                    f"Classifier2d: {number} channels are not a multiple of {groups} groups and heads of {head_width} channels"
                )
        self.generator: Generator = None
        self.time_width, self.cosine_first, self.inclusive = time_width or width, cosine_first, inclusive
        about = 4 * self.time_width
        self.time = nn.Sequential(nn.Linear(self.time_width, about), nn.SiLU(), nn.Linear(about, about))
        self.enter = nn.Conv2d(channels * stem**2, width, 3, padding=1)

        def residual(inputs: int, outputs: int, change: str = "") -> ResidualConv2d:
            return ResidualConv2d(
                inputs, outputs, about, groups, dropout, norm_epsilon, scale_shift=scale_shift, change=change
            )

        def attend(number: int) -> nn.Module:
            return Attention2d(number, head_width or number, groups, norm_epsilon)

        self.down, now = nn.ModuleList(), width
        for level, number in enumerate(sizes):
            for _ in range(blocks):
                self.down.append(
                    nn.ModuleList(
                        [residual(now, number), attend(number) if level in attention else nn.Identity()]
                    )
                )
                now = number
            if level + 1 < len(sizes):
                self.down.append(
                    nn.ModuleList([residual(now, now, "halve") if big_gan else Halve2d(now), nn.Identity()])
                )
        self.middle = nn.ModuleList([residual(now, now), attend(now), residual(now, now)])
        self.norm = nn.GroupNorm(groups, now, eps=norm_epsilon)
        self.pool = AttentionPool2d(now, sides_of(size, stem, len(sizes))[-1], head_width or now)
        self.leave = nn.Linear(now, classes)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.leave(self.features(x, time))

    def features(self, x: Tensor, time: Tensor) -> Tensor:
        """What the logits are linear in, (B, width * multiples[-1])."""
        if x.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(
                f"Classifier2d: x must be (B, {self.channels}, {self.size}, {self.size}), got {tuple(x.shape)}"
            )
        if self.training and self.dropout and self.generator is None:
            raise ValueError("Classifier2d: training with dropout needs the attribute generator")
        generator = self.generator if self.training and self.dropout else None
        waves = sinusoids(time, self.time_width, inclusive=self.inclusive)
        about = by_eights(self.time, waves.roll(self.time_width // 2, -1) if self.cosine_first else waves)
        h = self.enter(F.pixel_unshuffle(x, self.stem) if self.stem > 1 else x)
        for block, attend in self.down:  # pyright: ignore[reportGeneralTypeIssues]
            h = attend(block(h, about, generator))
        first, attend, last = self.middle
        h = last(attend(first(h, about, generator)), about, generator)
        return self.pool(F.silu(self.norm(h)))


class AttentionPool2d(nn.Module):
    """What the mean over all places sees by attention among the places and itself: (B, C, N, N) to (B, C).

    Radford et al. 2021, section 2.3. Tokens are the mean, then the places row by row; each has a learned vector added, and only the mean's
    answer is computed.
    """

    def __init__(self, channels: int, side: int, head_width: int) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.place = nn.Parameter(torch.randn(1 + side**2, channels) * channels**-0.5)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([places.mean(1, keepdim=True), places], dim=1) + self.place
        parts = (self.query(tokens[:, :1]), *self.key_value(tokens).chunk(2, dim=-1))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return attention(q, k, v, None).transpose(1, 2).flatten(1)

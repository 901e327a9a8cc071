"""The U-Net of denoising-diffusion-pytorch: RMS norms, linear attention, learned keys and values."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import attention, by_eights, sinusoids

MEMORIES = 4


class LinearUNet2d(nn.Module):
    """(x (B, C, H, W), time (B,)) -> (B, C, H, W), or (B, 2 C, H, W) with `learned_variance`.

    Level k has two residual blocks and an attention with `sizes[k]` channels down and `sizes[k + 1]` up;
    between levels 2 x 2 positions are folded into channels.
    `github.com/lucidrains/denoising-diffusion-pytorch`; linear attention: Shen et al. 2021, `Efficient
    Attention`.

    Args:
        channels: C.
        width: size of the sinusoidal time features; the embedding has four times as many.
        sizes: channels of the first convolution and of each level, one more than there are levels.
        heads, head_width, full: attention of each level, linear unless full. The middle has full attention
            with the last heads.
    Raises:
        ValueError: numbers that do not fit, or an x of another shape.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        sizes: tuple[int, ...],
        heads: tuple[int, ...],
        head_width: tuple[int, ...],
        full: tuple[bool, ...],
        *,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        levels = len(sizes) - 1
        if levels < 1 or not levels == len(heads) == len(head_width) == len(full):
            raise ValueError(
                f"LinearUNet2d: {levels} levels need as many heads, head widths and kinds, got {heads}, "
                f"{head_width}, {full}"
            )
        self.channels, self.width, self.factor = channels, width, 2 ** (levels - 1)
        embedding = 4 * width
        self.time = nn.Sequential(nn.Linear(width, embedding), nn.GELU(), nn.Linear(embedding, embedding))
        self.enter = nn.Conv2d(channels, sizes[0], 7, padding=3)

        def level(k: int, inputs: int, size: int, change: nn.Module) -> nn.ModuleList:
            attend = MemoryAttention2d(size, heads[k], head_width[k], full[k])
            return nn.ModuleList(
                [
                    RMSResidual2d(inputs, size, embedding),
                    RMSResidual2d(inputs, size, embedding),
                    attend,
                    change,
                ]
            )

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k in range(levels):
            fine, coarse = sizes[k], sizes[k + 1]
            change = (
                nn.Conv2d(4 * fine, coarse, 1) if k + 1 < levels else nn.Conv2d(fine, coarse, 3, padding=1)
            )
            self.down.append(level(k, fine, fine, change))
        last = sizes[-1]
        attend = MemoryAttention2d(last, heads[-1], head_width[-1], full=True)
        self.middle = nn.ModuleList(
            [RMSResidual2d(last, last, embedding), attend, RMSResidual2d(last, last, embedding)]
        )
        for k in reversed(range(levels)):
            fine, coarse = sizes[k], sizes[k + 1]
            self.up.append(level(k, coarse + fine, coarse, nn.Conv2d(coarse, fine, 3, padding=1)))
        self.last = RMSResidual2d(2 * sizes[0], sizes[0], embedding)
        self.leave = nn.Conv2d(sizes[0], channels * (1 + learned_variance), 1)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % self.factor or x.shape[3] % self.factor:
            needed = f"(B, {self.channels}, H, W) with sides that {self.factor} divides"
            raise ValueError(f"LinearUNet2d: x must be {needed}, got {tuple(x.shape)}")
        embedding = by_eights(self.time, sinusoids(time, self.width, inclusive=True))
        h = first = self.enter(x)
        kept: list[Tensor] = []
        for k, (one, two, attend, change) in enumerate(self.down):  # pyright: ignore[reportGeneralTypeIssues]
            kept.append(h := one(h, embedding))
            kept.append(h := attend(two(h, embedding)))
            h = change(F.pixel_unshuffle(h, 2) if k + 1 < len(self.down) else h)
        one, attend, two = self.middle
        h = two(attend(one(h, embedding)), embedding)
        for k, (one, two, attend, change) in enumerate(self.up):  # pyright: ignore[reportGeneralTypeIssues]
            h = one(torch.cat([h, kept.pop()], dim=1), embedding)
            h = attend(two(torch.cat([h, kept.pop()], dim=1), embedding))
            h = change(
                h.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1) if k + 1 < len(self.up) else h
            )
        return self.leave(self.last(torch.cat([h, first], dim=1), embedding)).to(
            x.dtype
        )  # the dtype of x, not autocast's


class RMSNorm2d(nn.Module):
    """gain x / rms(x), over the channels at each position. Zhang & Sennrich 2019."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones((channels, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.gain * x.shape[1] ** 0.5


class RMSResidual2d(nn.Module):
    """skip(x) + silu(norm(conv(silu(norm(conv(x)) (1 + scale) + shift)))), scale and shift linear in
    silu(embedding)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.about = nn.Linear(embedding, 2 * outputs)
        self.first, self.first_norm = nn.Conv2d(inputs, outputs, 3, padding=1), RMSNorm2d(outputs)
        self.second, self.second_norm = nn.Conv2d(outputs, outputs, 3, padding=1), RMSNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = by_eights(self.about, F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.first_norm(self.first(x)), 1.0 + scale))
        return self.skip(x) + F.silu(self.second_norm(self.second(h)))


class MemoryAttention2d(nn.Module):
    """x + W attention(norm(x)) over all positions and learned memories; linear attention has a norm after W.

    Full: softmax(q k' / sqrt(D)) v. Linear: softmax_D(q) / sqrt(D) times the D x D matrix softmax_N(k)' v, so
    that the cost is linear in the number of positions N.
    """

    def __init__(self, channels: int, heads: int, head_width: int, full: bool) -> None:
        super().__init__()
        self.heads, self.full = heads, full
        self.norm = RMSNorm2d(channels)
        self.memory = nn.Parameter(torch.randn((2, heads, MEMORIES, head_width)))
        self.qkv = nn.Conv2d(channels, 3 * heads * head_width, 1, bias=False)
        self.merge = nn.Conv2d(heads * head_width, channels, 1)
        self.merged_norm = nn.Identity() if full else RMSNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (  # each (B, heads, N, D)
            part.unflatten(1, (self.heads, -1)).flatten(3).transpose(-1, -2)
            for part in self.qkv(self.norm(x)).chunk(3, dim=1)
        )
        k, v = (  # each (B, heads, MEMORIES + N, D)
            torch.cat([own.expand(x.shape[0], -1, -1, -1), part], dim=-2)
            for own, part in zip(self.memory, (k, v), strict=True)
        )
        if self.full:
            mixed = attention(q, k, v, None)
        else:
            mixed = (q.softmax(dim=-1) * q.shape[-1] ** -0.5) @ (k.softmax(dim=-2).transpose(-1, -2) @ v)
        return x + self.merged_norm(
            self.merge(mixed.transpose(-1, -2).flatten(1, 2).view(x.shape[0], -1, *x.shape[-2:]))
        )

"""Layers that several networks share."""

from math import log, pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.inference_layout import recording


def sinusoids(value: Tensor, width: int, longest: float = 10_000.0, inclusive: bool = False) -> Tensor:
    """Sinusoidal embedding, (...,) to (..., width), with wavelengths from 2 pi to 2 pi * longest.

    Vaswani et al. 2017, section 3.5.

    Args:
        inclusive: the last wavelength is 2 pi * longest itself, as in the code of DDPM and Diffuser;
            otherwise that would be the next one.
    """
    half = width // 2
    rates = torch.exp(
        torch.arange(half, device=value.device, dtype=value.dtype) * (-log(longest) / (half - inclusive))
    )
    angles = value[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def fourier(value: Tensor, octaves: int) -> Tensor:
    """Fourier features, (..., D) to (..., 2 * octaves * D): sin and cos of pi/4 * 2^k * value, k < octaves.

    Tancik et al. 2020.
    """
    rates = 0.25 * pi * 2.0 ** torch.arange(octaves, device=value.device, dtype=value.dtype)
    angles = (value[..., None] * rates).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def by_eights(linear: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear map to rows (B, D), padded to a multiple of eight rows in evaluation mode.

    Matrix products of fewer than eight rows use another kernel with other rounding, so without padding the
    result of a sample would depend on the batch size. In a recorded graph, which holds for all batch sizes,
    there is no padding.
    """
    if linear.training or recording() or not (lacking := -len(x) % 8):
        return linear(x)
    return linear(F.pad(x, (0, 0, 0, lacking)))[: len(x)]


def mlp(inputs: int, hidden: int, outputs: int, depth: int = 1) -> nn.Sequential:
    """A multilayer perceptron with `depth` hidden layers and SiLU."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(inputs if i == 0 else hidden, hidden), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


class ModulatedBlock(nn.Module):
    """A pre-norm transformer block with adaLN-Zero conditioning.

        x + gate f((1 + scale) norm(x) + shift),    f attention, then an MLP

    Shift, scale and gate are linear in the condition and start at zero, so the block starts as the identity.
    Peebles & Xie 2023, figure 3.

    Shapes: x (B, N, W), condition (B, W), valid (B, N) bool, false at padding, or None.
    """

    def __init__(self, width: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.rise = nn.Linear(width, expansion * width)
        self.fall = nn.Linear(expansion * width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor, valid: Tensor | None) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)[:, None].chunk(
            6, dim=-1
        )
        x = torch.addcmul(x, gate_a, self._attend(torch.addcmul(shift_a, _normed(x), 1.0 + scale_a), valid))
        risen = self.rise(torch.addcmul(shift_m, _normed(x), 1.0 + scale_m))
        return torch.addcmul(x, gate_m, self.fall(F.gelu(risen, approximate="tanh")))

    def _attend(self, x: Tensor, valid: Tensor | None) -> Tensor:
        batch, count, width = x.shape
        # q, k, v: (B, heads, N, W / heads) each
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v, None if valid is None else valid[:, None, None, :])
        return self.merge(mixed.transpose(1, 2).reshape(batch, count, width))


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(D)) v.

    For training on short sequences on a CPU it is written out, because there the backward pass of PyTorch's
    fused kernel takes eight times as long.

    Args:
        q, k, v: (..., N, D).
        mask: bool, broadcastable to (..., N, N), true where a query may attend to a key; None is everywhere.
    Returns:
        (..., N, D)
    """
    # while memory is counted on `meta`, PyTorch would write out the kernel that it fuses on devices
    if q.is_meta and q.shape[-2] > 256 and q.ndim == 4:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]
    if not q.requires_grad or q.device.type not in ("cpu", "meta") or q.shape[-2] > 256:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (..., N, N)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1).to(v.dtype) @ v


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) in float32, then times a weight in x's type. Zhang & Sennrich 2019."""

    def __init__(self, width: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float()
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * exact.to(x.dtype)


def seeded(device: torch.device, seed: int) -> torch.Generator:
    """A generator on the device; on the CPU for `meta`, which has no generators."""
    return torch.Generator(device="cpu" if device.type == "meta" else device).manual_seed(seed)


def dropped(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Dropout: set numbers to zero with probability `share`, and scale the others by 1 / (1 - share).

    Without a generator x is unchanged. Srivastava et al. 2014.
    """
    if generator is None or not share:
        return x
    return (
        x
        * (torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) >= share)
        / (1.0 - share)
    )


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])

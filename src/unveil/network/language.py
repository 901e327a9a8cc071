"""A LLaMA-style transformer over tokens, bidirectional for masked diffusion or causal. Its tensors are named and laid out as LLaDA's."""

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import attention


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


class Rotation:
    """Rotary places (RoPE): the pair (i, i + D / 2) of a head turns by place * theta^(-2 i / D). Su et al. 2021, as NeoX pairs.

    Args:
        places: (B or 1, L), whole numbers.
        size: D, of a head.
    """

    def __init__(self, places: Tensor, size: int, theta: float) -> None:
        half = torch.arange(0, size, 2, dtype=torch.float32, device=places.device)
        angles = places[..., None].float() * theta ** (-half / size)
        self.cos, self.sin = angles.cos()[:, None], angles.sin()[:, None]  # (B, 1, L, D / 2)

    def turn(self, x: Tensor) -> Tensor:
        """(B, heads, L, D), turned in float32."""
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], dim=-1).to(x.dtype)


class LanguageBlock(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)). Shapes: x (B, L, W), mask (B or 1, 1, L or 1, L) bool or None.

    Grouped heads: each of `kv_heads` keys and values serves heads / kv_heads neighbouring queries (Ainslie et al. 2023).
    """

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.attn_norm = RMSNorm(width, epsilon)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.size, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_norm = RMSNorm(width, epsilon)
        self.ff_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.ff_out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None) -> Tensor:
        x = x + self._attend(self.attn_norm(x), rotation, mask)
        h = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(h)) * self.up_proj(h))

    def _attend(self, x: Tensor, rotation: Rotation, mask: Tensor | None) -> Tensor:
        q = rotation.turn(self._split(self.q_proj(x), self.heads))
        k = rotation.turn(self._split(self.k_proj(x), self.kv_heads))
        v = self._split(self.v_proj(x), self.kv_heads)
        if self.kv_heads != self.heads:
            k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=1) for part in (k, v))
        return self.attn_out(attention(q, k, v, mask).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.size)).transpose(1, 2)


class LanguageTransformer(nn.Module):
    """(tokens (B, L), time unread, condition) -> logits (B, L, V), or (B, P, V) at `positions` (B, P). Nie et al. 2025, section 2.1.

    The belief about a masked token does not depend on the time (Ou et al. 2025, RADD, theorem 1), so no time is told.

    A LLaDA tensor `model.transformer.X` is our `X`: wte, blocks.i.{attn_norm, q_proj, k_proj, v_proj, attn_out, ff_norm, ff_proj, up_proj,
    ff_out}, ln_f and ff_out, the head, each `.weight`. LLaMA's are the same maps under other names.

    Condition:
        valid (B, L): real positions; the others are seen by nobody, and places are counted without them, so that a padded row is what it
            would be alone.

    Args:
        vocabulary: V, [MASK] included.
        kv_heads: keys and values; 0: as many as heads.
        hidden: of SwiGLU; 0: 8/3 of the width, up to a multiple of 32.
        causal: position i sees positions <= i only: an autoregressive model on the same trunk.
        tied: the head's weights are those of the embedding.
    Raises:
        ValueError: heads do not divide the width into even sizes, or kv_heads not the heads.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        kv_heads: int = 0,
        hidden: int = 0,
        theta: float = 10_000.0,
        epsilon: float = 1e-5,
        causal: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__()
        kv_heads = kv_heads or heads
        if width % (2 * heads) or heads % kv_heads:
            raise ValueError(f"width must be a multiple of twice the heads and heads of kv_heads, got {width}, {heads} and {kv_heads}")
        hidden = hidden or -(-8 * width // 96) * 32
        self.theta, self.causal, self.tied, self.size = theta, causal, tied, width // heads
        self.wte = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(LanguageBlock(width, heads, kv_heads, hidden, epsilon) for _ in range(depth))
        self.ln_f = RMSNorm(width, epsilon)
        if not tied:
            self.ff_out = nn.Linear(width, vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                into_residual = name.startswith("blocks.") and name.split(".")[2] in ("attn_out", "ff_out")
                nn.init.normal_(weight, std=0.02 / (2.0 * depth) ** 0.5 if into_residual else 0.02)

    def forward(
        self, x: Int[Tensor, "B L"], time: Tensor | None = None, cond: Condition | None = None, positions: Tensor | None = None
    ) -> Tensor:
        valid = None if cond is None else cond.valid
        if valid is not None and valid.shape != x.shape:
            raise ValueError(f"LanguageTransformer: for tokens {tuple(x.shape)} valid must be of that shape, got {tuple(valid.shape)}")
        rotation = Rotation(self._places(x, valid), self.size, self.theta)
        mask = self._mask(x, valid)
        h = self.wte(x)
        for block in self.blocks:
            h = block(h, rotation, mask)
        if positions is not None:
            h = h.gather(1, positions[..., None].expand(-1, -1, h.shape[-1]))
        h = self.ln_f(h)
        return F.linear(h, self.wte.weight) if self.tied else self.ff_out(h)

    def _places(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            return torch.arange(x.shape[1], device=x.device)[None]
        return (valid.long().cumsum(1) - 1).clamp(min=0)

    def _mask(self, x: Tensor, valid: Tensor | None) -> Tensor | None:
        """Which keys a query sees; every position sees itself, so that no row of the softmax is empty."""
        length = x.shape[1]
        seen = None if valid is None or bool(valid.all()) else valid[:, None, None, :]
        if self.causal:
            before = torch.ones((length, length), dtype=torch.bool, device=x.device).tril()[None, None]
            seen = before if seen is None else before & seen
        if seen is None or valid is None:
            return seen
        return seen | torch.eye(length, dtype=torch.bool, device=x.device)

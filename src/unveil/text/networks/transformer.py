"""A LLaMA-style transformer over tokens, bidirectional for masked diffusion or causal. Tensors are named as
LLaDA's."""

from collections.abc import Iterable
from copy import copy
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import RMSNorm, attention
from unveil.text.networks.prefix import Prefix, joined, prefix_of
from unveil.text.shape import TextShape


class Rotation:
    """Rotary position embedding (RoPE): the pair (i, i + D / 2) is rotated by position * theta^(-2 i / D).

    Su et al. 2021, with the pairs of GPT-NeoX.

    Args:
        places: (B or 1, L) integer positions.
        size: D, the width of a head.
        theta: base of the frequencies.
    """

    def __init__(self, places: Tensor, size: int, theta: float) -> None:
        half = torch.arange(0, size, 2, dtype=torch.float32, device=places.device)
        angles = places[..., None].float() * theta ** (-half / size)
        self.cos, self.sin = angles.cos()[:, None], angles.sin()[:, None]  # (B, 1, L, D / 2)

    def at(self, positions: Tensor) -> "Rotation":
        """The rotation of the columns `positions` (B, N) only."""
        picked = copy(self)
        index = positions[:, None, :, None].expand(-1, -1, -1, self.cos.shape[-1])
        picked.cos, picked.sin = (
            part.expand(len(positions), -1, -1, -1).gather(2, index) for part in (self.cos, self.sin)
        )
        return picked

    def turn(self, x: Tensor) -> Tensor:
        """x (B, heads, L, D), rotated in float32."""
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], dim=-1).to(x.dtype)


class LanguageBlock(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)). Shapes: x (B, L, W), mask (B or 1, 1, L or 1, K) bool
    or None.

    Grouped heads: each of `kv_heads` keys and values serves heads / kv_heads neighbouring queries (Ainslie et
    al. 2023).
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

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        before: Tensor | None = None,
        at: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output, and the rotated keys and values of x (B, kv_heads, L, D).

        Args:
            before: keys and values (B, 2, kv_heads, P, D) of a prefix, attended to before those of x.
            at: (B, N), the positions whose output is needed; None: all.
        """
        normed = self.attn_norm(x)
        own = self.keys_values(normed, rotation)
        k, v = own
        if before is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(before.unbind(1), own, strict=True))
        if at is not None:
            x, normed = (part.gather(1, at[..., None].expand(-1, -1, part.shape[-1])) for part in (x, normed))
            rotation = rotation.at(at)
            if mask is not None and mask.shape[2] > 1:
                index = at[:, None, :, None].expand(-1, -1, -1, mask.shape[3])
                mask = mask.expand(len(at), -1, -1, -1).gather(2, index)
        q = rotation.turn(self._split(self.q_proj(normed), self.heads))
        if self.kv_heads != self.heads:
            k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=1) for part in (k, v))
        x = x + self.attn_out(attention(q, k, v, mask).transpose(1, 2).flatten(2))
        h = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(h)) * self.up_proj(h)), own

    def keys_values(self, normed: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """Rotated keys and values (B, kv_heads, L, D) of normed x (B, L, W)."""
        k, v = (self._split(projected(normed), self.kv_heads) for projected in (self.k_proj, self.v_proj))
        return rotation.turn(k), v

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.size)).transpose(1, 2)


class LanguageTransformer(nn.Module):
    """Tokens (B, L) to logits (B, L, V), or (B, P, V) at `positions` (B, P). Nie et al. 2025, section 2.1.

    The belief about a masked token does not depend on the time (Ou et al. 2025, RADD, theorem 1), so that the
    network does not use it.

    A LLaDA tensor `model.transformer.X` is our `X`: wte, blocks.i.{attn_norm, q_proj, k_proj, v_proj,
    attn_out, ff_norm, ff_proj, up_proj, ff_out}, ln_f and ff_out, the head, each `.weight`. LLaMA's are the
    same layers under other names.

    Condition:
        valid (B, L): real tokens; padding is masked in the attention and not counted in positions, so that a
            padded row equals the row alone.
        places (B, L): position indices, if they do not begin at 0.
        prefix: clean context from `prefill`, attended to besides x. A bidirectional network attends to all of
            it. In block diffusion x are noised blocks: a position attends to the clean blocks before its own,
            and to its own noised block (BD3, Arriola et al. 2025, section 3.2: their mask over [x_t; x_0],
            with the halves computed separately).

    Args:
        vocabulary: V, [MASK] included.
        kv_heads: heads of keys and values; 0: as many as `heads`.
        hidden: hidden width of SwiGLU; 0: 8/3 of the width, rounded up to a multiple of 32.
        causal: position i attends to positions <= i only: blocks of 1.
        block: block size; positions attend to their own block and earlier ones. 0: to all.
        begin: first input token of an autoregressive network (needs `causal`): position i reads the token at
            i - 1, so that its logits predict the token at i.
        tied: the output layer has the weights of the embedding.
    Raises:
        ValueError: a size that `TextShape` refuses; or begin without causal.
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
        block: int = 0,
        begin: int | None = None,
    ) -> None:
        super().__init__()
        # refuses sizes that do not fit
        TextShape(vocabulary, 1, width, depth, heads, kv_heads, hidden, theta, tied, epsilon, block=block)
        if begin is not None and not causal:
            raise ValueError(
                "LanguageTransformer: begin makes an autoregressive network, which must be causal"
            )
        kv_heads, hidden = kv_heads or heads, hidden or -(-8 * width // 96) * 32
        self.theta, self.tied, self.size, self.begin = theta, tied, width // heads, begin
        self.block = 1 if causal else block
        self.wte = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            LanguageBlock(width, heads, kv_heads, hidden, epsilon) for _ in range(depth)
        )
        self.ln_f = RMSNorm(width, epsilon)
        if not tied:
            self.ff_out = nn.Linear(width, vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                into_residual = name.startswith("blocks.") and name.split(".")[2] in ("attn_out", "ff_out")
                nn.init.normal_(weight, std=0.02 / (2.0 * depth) ** 0.5 if into_residual else 0.02)

    def forward(
        self,
        x: Int[Tensor, "B L"],
        time: Tensor | None = None,
        cond: Condition | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        cond = _checked(cond, x)
        prefix, places = prefix_of(cond), _places(x, cond)
        rotation = Rotation(places, self.size, self.theta)
        mask = self._mask(places, cond.valid, prefix, clean=False)
        h = self.wte(self._read(x, cond.valid, prefix))
        for i, block in enumerate(self.blocks):  # the last block computes only the needed positions
            at = positions if i + 1 == len(self.blocks) else None
            h, _ = block(h, rotation, mask, None if prefix is None else prefix[2 + i], at)
        h = self.ln_f(h)
        return F.linear(h, self.wte.weight) if self.tied else self.ff_out(h)

    def prefill(self, x: Int[Tensor, "B L"], cond: Condition | None = None) -> Prefix:
        """Keys and values of x, as context: `Condition(prefix=network.prefill(tokens))`.

        It is differentiable; training of block diffusion back-propagates through it.

        Args:
            cond: valid and places as in `forward`; with `prefix`, x follows it, and the result includes it.
        """
        cond = _checked(cond, x)
        prefix, places = prefix_of(cond), _places(x, cond)
        rotation = Rotation(places, self.size, self.theta)
        mask = self._mask(places, cond.valid, prefix, clean=True)
        h = self.wte(self._read(x, cond.valid, prefix))
        there = places.expand(x.shape) if cond.valid is None else places.masked_fill(~cond.valid, -1)
        parts = [x, there]
        for i, block in enumerate(cast(Iterable[LanguageBlock], self.blocks)):
            if i + 1 < len(self.blocks):
                h, own = block(h, rotation, mask, None if prefix is None else prefix[2 + i])
            else:
                own = block.keys_values(block.attn_norm(h), rotation)
            parts.append(torch.stack(own, dim=1))
        return joined(prefix, tuple(parts))

    def _read(self, x: Tensor, valid: Tensor | None, prefix: Prefix | None) -> Tensor:
        """The input tokens: x, or in an autoregressive network x shifted right by one position."""
        if self.begin is None:
            return x
        first = torch.full_like(x[:, :1], self.begin) if prefix is None else prefix[0][:, -1:]
        read = torch.cat([first, x[:, :-1]], dim=1)
        if valid is None:
            return read
        before = torch.cat([torch.full_like(valid[:, :1], prefix is not None), valid[:, :-1]], dim=1)
        return torch.where(before, read, torch.full_like(read, self.begin))

    def _mask(
        self, places: Tensor, valid: Tensor | None, prefix: Prefix | None, clean: bool
    ) -> Tensor | None:
        """The attention mask over the prefix and then x, (B or 1, 1, L or 1, K); None: everything is visible.

        Every position attends to itself, so that no row of the softmax is empty.
        """
        own = None if valid is None or bool(valid.all()) else valid[:, None, None, :]
        number = places[:, None] // self.block if self.block else places[:, None]  # (B or 1, 1, L)
        if self.block:
            query, key = number[..., None], number[:, :, None]
            rule = query == key if prefix is not None and not clean else query >= key
            own = rule if own is None else own & rule
        if own is not None and valid is not None:
            own = own | torch.eye(places.shape[1], dtype=torch.bool, device=places.device)
        if prefix is None:
            return own
        before = prefix[1][:, None, None, :]
        seen = before >= 0
        if self.block:
            seen = seen & (before // self.block < number[..., None])
        if own is None and bool(seen.all()):
            return None
        length = places.shape[1]
        rows = max(len(seen), len(places))
        if own is None:
            own = torch.ones((1, 1, length, length), dtype=torch.bool, device=places.device)
        mask = torch.cat([seen.expand(rows, 1, length, -1), own.expand(rows, 1, length, length)], dim=3)
        return None if not torch.is_grad_enabled() and bool(mask.all()) else mask


def _checked(cond: Condition | None, x: Tensor) -> Condition:
    if cond is None:
        return Condition()
    for name in ("valid", "places"):
        value = getattr(cond, name)
        if value is not None and value.shape != x.shape:
            raise ValueError(
                f"LanguageTransformer: for tokens {tuple(x.shape)} {name} must be of that shape, got "
                f"{tuple(value.shape)}"
            )
    return cond


def _places(x: Tensor, cond: Condition) -> Tensor:
    if cond.places is not None:
        return cond.places
    if cond.valid is None:
        return torch.arange(x.shape[1], device=x.device)[None]
    return (cond.valid.long().cumsum(1) - 1).clamp(min=0)

"""The network of unCLIP's diffusion prior: a causal transformer over text, time and a noisy embedding."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.blocks2d import embedded
from unveil.image.networks.inputs2d import pooled_vector, text_tokens
from unveil.image.networks.text_encoder import TextBlock, draw
from unveil.network.condition import Condition
from unveil.network.layers import by_eights, mlp

BEHIND = 4
"""Tokens behind those of the text: pooled text, time, noisy embedding, query."""


@dataclass(frozen=True)
class PriorShape:
    """Shape of a prior, which draws image embeddings for texts.

    Args:
        embedding: E, the width of the image embeddings.
        context: width of the text tokens.
        pooled: P, the width of the text's one vector.
        length: N, the number of text tokens, padding included.
        width: W of the transformer.
        layers: number of transformer blocks.
        heads: heads of an attention; they divide `width`.
        expansion: width of the hidden layer of an MLP, in widths.
    Raises:
        ValueError: heads do not divide the width, or the width is odd.
    """

    embedding: int
    context: int
    pooled: int
    length: int
    width: int = 256
    layers: int = 4
    heads: int = 4
    expansion: int = 4

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"`heads` {self.heads} and 2 must divide the width {self.width} of the prior")


class PriorTransformer(nn.Module):
    """(x (B, E), time (B,), condition) -> (B, E), the predicted clean embedding.

    A pre-norm transformer over N + 4 tokens with learned positions: the text tokens, the pooled text, the
    time, the noisy image embedding x, and a learned query, at whose place the result is read. A token sees
    those before it that are not padding. Ramesh et al. 2022, section 2.2; wired as Karlo and diffusers'
    `PriorTransformer`. Of the condition it reads `tokens` (B, N, context) with `token_valid` (B, N), whose
    first token must be valid, and `vector` (B, P).

    Raises:
        ValueError: a part of the condition that is missing or of another shape.
    """

    def __init__(self, shape: PriorShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.text, self.pooled = nn.Linear(shape.context, width), nn.Linear(shape.pooled, width)
        self.time = mlp(width, width, width)
        self.noisy = nn.Linear(shape.embedding, width)
        self.query = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(shape.length + BEHIND, width))
        self.blocks = nn.ModuleList(
            TextBlock(width, shape.heads, shape.expansion * width, F.gelu) for _ in range(shape.layers)
        )
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, shape.embedding)
        draw(self.query, std=0.02)
        draw(self.positions, std=0.01)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        tokens, valid = prefix("PriorTransformer", len(x), self.shape, cond)
        pooled = pooled_vector("PriorTransformer", len(x), self.shape.pooled, cond).to(x)
        behind = [
            by_eights(self.pooled, pooled),
            embedded(self.time, time, self.shape.width, cosine_first=True, inclusive=False),
            by_eights(self.noisy, x),
            self.query.expand(len(x), -1),
        ]
        h = torch.cat([self.text(tokens.to(x)), torch.stack(behind, dim=1)], dim=1) + self.positions
        mask = causal_mask(F.pad(valid, (0, BEHIND), value=True))
        for block in self.blocks:
            h = block(h, mask)
        return by_eights(self.leave, self.norm(h[:, -1])).to(x)


def prefix(name: str, batch: int, shape: PriorShape, cond: Condition | None) -> tuple[Tensor, Tensor]:
    """The text tokens (B, N, context) of a condition, and which are valid (B, N).

    Raises:
        ValueError: they are missing or of another shape.
    """
    tokens, valid = text_tokens(name, batch, shape.context, cond)
    assert tokens is not None
    if tokens.shape[1] != shape.length:
        raise ValueError(f"{name}: it reads {shape.length} text tokens, got {tokens.shape[1]}")
    if valid is None:
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return tokens, valid


def causal_mask(valid: Tensor) -> Tensor:
    """(B, 1, M, M) bool: query i may attend to key j if j <= i and j is valid, of (B, M)."""
    count = valid.shape[1]
    causal = torch.ones((count, count), dtype=torch.bool, device=valid.device).tril()
    return causal & valid[:, None, None, :]

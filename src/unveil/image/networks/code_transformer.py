"""The network of unCLIP's autoregressive prior: a causal transformer over text and codes of an embedding."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.inputs2d import pooled_vector
from unveil.image.networks.prior import PriorShape, causal_mask, prefix
from unveil.image.networks.text_encoder import TextBlock, draw, embedding
from unveil.network.condition import Condition
from unveil.network.layers import by_eights


@dataclass(frozen=True)
class CodesShape:
    """Shape of the codes that an autoregressive prior draws.

    Args:
        dimensions: K, the number of principal components.
        bins: number of values of a component.
        products: number of values of the product of text and image embedding; one more is for unknown.
    """

    dimensions: int
    bins: int
    products: int = 64


class CodeTransformer(nn.Module):
    """(codes (B, M), products (B,), condition) -> logits (B, M + 1, bins), of the codes 1 .. M + 1.

    A pre-norm transformer with learned positions over the N text tokens, the pooled text, a token of the
    product of both embeddings, and the codes so far. A token sees those before it that are not padding; the
    logits of a code are read at the token before it. Ramesh et al. 2022, section 2.2. Of the condition it
    reads what `PriorTransformer` reads.

    Raises:
        ValueError: more codes than `dimensions` - 1, or a part of the condition of another shape.
    """

    def __init__(self, shape: PriorShape, codes: CodesShape) -> None:
        super().__init__()
        self.shape, self.codes = shape, codes
        width = shape.width
        self.text, self.pooled = nn.Linear(shape.context, width), nn.Linear(shape.pooled, width)
        self.product, self.code = embedding(codes.products + 1, width), embedding(codes.bins, width)
        self.positions = nn.Parameter(torch.empty(shape.length + 1 + codes.dimensions, width))
        self.blocks = nn.ModuleList(
            TextBlock(width, shape.heads, shape.expansion * width, F.gelu) for _ in range(shape.layers)
        )
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, codes.bins)
        for table in (self.product.weight, self.code.weight):
            draw(table, std=0.02)
        draw(self.positions, std=0.01)

    def forward(self, codes: Int[Tensor, "B M"], products: Int[Tensor, " B"], cond: Condition) -> Tensor:
        name, (batch, count) = "CodeTransformer", codes.shape
        if count >= self.codes.dimensions:
            raise ValueError(
                f"{name}: {count} codes are given, but it continues at most {self.codes.dimensions - 1}"
            )
        tokens, valid = prefix(name, batch, self.shape, cond)
        pooled = pooled_vector(name, batch, self.shape.pooled, cond)
        parts = [
            self.text(tokens),
            by_eights(self.pooled, pooled)[:, None],
            self.product(products)[:, None],
            self.code(codes),
        ]
        h = torch.cat(parts, dim=1)  # (B, N + 2 + M, W)
        h = h + self.positions[: h.shape[1]]
        mask = causal_mask(F.pad(valid, (0, 2 + count), value=True))
        for block in self.blocks:
            h = block(h, mask)
        return self.leave(self.norm(h[:, -1 - count :]))

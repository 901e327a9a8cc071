"""The embedding of an image as condition of an image network: unCLIP's decoder."""

import torch
from torch import Tensor, nn

from unveil.network.layers import by_eights


class ImageEmbedding(nn.Module):
    """z (B, E) -> what is added to the time embedding (B, time), and `count` tokens (B, count, context).

    The tokens stand before those of the text in every attention. `null` is the learned embedding of no image.
    Ramesh et al. 2022, section 2.1.

    Args:
        scale: factor of the embeddings; E^1/2 gives the numbers of unit vectors a variance of 1.
    """

    def __init__(self, width: int, time: int, context: int, count: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.count, self.scale = count, scale
        self.null = nn.Parameter(torch.zeros(width))
        self.time = nn.Linear(width, time)
        self.tokens = nn.Linear(width, count * context) if context else None

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor | None]:
        z = self.scale * embedding
        tokens = None if self.tokens is None else by_eights(self.tokens, z).unflatten(1, (self.count, -1))
        return by_eights(self.time, z), tokens

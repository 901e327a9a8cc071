"""GLIDE's text transformer: learned padding, attention without a mask, the last position as summary."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.text_encoder import EncodedText, TextBlock, draw, embedding, initialize


@dataclass(frozen=True)
class GlideTextShape:
    """Shape of a `GlideText`; the defaults are those of the released GLIDE.

    Args:
        vocabulary: number of ids.
        length: number of tokens N of every text, with its padding.
        width: W, the width of the tokens and of the pooled vector.
        layers: number of transformer blocks.
        heads: heads of an attention; they divide `width`.
    """

    vocabulary: int = 50_257
    length: int = 128
    width: int = 512
    layers: int = 16
    heads: int = 8


class GlideText(nn.Module):
    """A bidirectional pre-norm transformer over tokens and padding. Nichol et al. 2021, section 3.1.

    At padding the whole input row, word and position, is replaced by a learned one of that position. Nothing
    is masked: tokens attend to padding, and the denoiser attends to all N rows, so that `valid` is all true.
    `pooled` is the last position, which is padding unless the text is full. The empty text, all padding, is
    the null condition. Weights are initialized as CLIP's (Radford et al. 2021).

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, shape: GlideTextShape) -> None:
        super().__init__()
        if shape.width % shape.heads:
            raise ValueError(f"`heads` {shape.heads} must divide the width {shape.width} of the text encoder")
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.positions = nn.Parameter(torch.empty(shape.length, shape.width))
        self.padding = nn.Parameter(torch.empty(shape.length, shape.width))
        self.blocks = nn.ModuleList(
            TextBlock(shape.width, shape.heads, 4 * shape.width, F.gelu) for _ in range(shape.layers)
        )
        self.norm = nn.LayerNorm(shape.width)
        initialize(self.words, self.positions, self.blocks)
        draw(self.padding, std=0.02)

    def forward(self, ids: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]) -> EncodedText:
        """Encode texts.

        Args:
            ids: of the tokens; those of padding have no influence.
            valid: false at padding.
        Raises:
            ValueError: another number of tokens than the encoder has positions.
        """
        if ids.shape[1] != self.shape.length:
            raise ValueError(
                f"the text encoder has {self.shape.length} positions, and all are read; got rows of "
                f"{ids.shape[1]} tokens"
            )
        x = torch.where(valid[..., None], self.words(ids) + self.positions, self.padding)  # (B, N, W)
        for block in self.blocks:
            x = block(x, None)
        x = self.norm(x)
        return EncodedText(x, torch.ones_like(valid), x[:, -1])

"""BERT's encoder, as in the sentence encoders MiniLM."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.text_encoder import (
    EncodedText,
    TextAttention,
    check_length,
    draw,
    embedding,
    masked_mean,
)


@dataclass(frozen=True)
class BertShape:
    """Shape of a `Bert`; the defaults are those of all-MiniLM-L6-v2.

    Args:
        vocabulary: number of ids.
        length: number of positions.
        width: W of the tokens and of the pooled vector.
        layers: number of transformer blocks.
        heads: heads of an attention; they divide `width`.
        hidden: width of the hidden layer of an MLP.
        types: number of token types, of which a prompt uses the first.
        epsilon: number that LN adds to the variance.
    """

    vocabulary: int = 30_522
    length: int = 512
    width: int = 384
    layers: int = 6
    heads: int = 12
    hidden: int = 1536
    types: int = 2
    epsilon: float = 1e-12


class Bert(nn.Module):
    """A bidirectional post-norm transformer. Devlin et al. 2019.

    Padding is masked in the attention. `pooled` is the mean of the real tokens, divided by its L2 norm: the
    sentence vector of MiniLM (Reimers & Gurevych 2019). Every row needs a real token. Initial weights have
    the standard deviation (inputs)^-1/2, not BERT's .02, so that a random encoder mixes its tokens, too.

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        if shape.width % shape.heads:
            raise ValueError(f"`heads` {shape.heads} must divide the width {shape.width} of the text encoder")
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.positions = nn.Parameter(torch.empty(shape.length, shape.width))
        self.types = nn.Parameter(torch.empty(shape.types, shape.width))
        self.norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.blocks = nn.ModuleList(
            BertBlock(shape.width, shape.heads, shape.hidden, shape.epsilon) for _ in range(shape.layers)
        )
        for table in (self.words.weight, self.positions, self.types):
            draw(table, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                draw(module.weight, std=module.in_features**-0.5)

    def forward(self, ids: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]) -> EncodedText:
        """Encode texts.

        Args:
            ids: [CLS], text, [SEP], padding.
            valid: false at padding.
        Raises:
            ValueError: more tokens than the encoder has positions.
        """
        check_length(ids, len(self.positions))
        x = self.norm(self.words(ids) + self.types[0] + self.positions[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, valid[:, None, None, :])
        return EncodedText(x, valid, F.normalize(masked_mean(x, valid), dim=-1))


class BertBlock(nn.Module):
    """A post-norm transformer block: x = LN(x + attention(x)), then LN(x + MLP(x)). Vaswani et al. 2017.

    Shapes: x (B, N, W), mask as in `TextAttention`.
    """

    def __init__(self, width: int, heads: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.attend, self.first_norm = TextAttention(width, heads), nn.LayerNorm(width, epsilon)
        self.rise, self.fall = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.second_norm = nn.LayerNorm(width, epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.first_norm(x + self.attend(x, mask))
        return self.second_norm(x + self.fall(F.gelu(self.rise(x))))

"""What every text encoder returns, and our own small one, which is trained together with the denoiser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.layers import attention


class EncodedText(NamedTuple):
    """What an encoder makes of B texts of N tokens.

    Args:
        tokens: (B, N, W), a vector for each token.
        valid: (B, N) bool, the tokens that a denoiser attends to: the padding of most encoders is false, that
            of CLIP true, as Stable Diffusion attends to all 77 positions.
        pooled: (B, P), one vector for each text.
    """

    tokens: Tensor
    valid: Tensor
    pooled: Tensor


class TextAttention(nn.Module):
    """Multi-head self-attention over (B, N, W), with biases.

    Shapes: mask bool, broadcastable to (B, heads, N, N), true where a query may attend to a key, or None.

    Args:
        key_bias: the keys have a bias, too, which changes no attention: it adds the same to all logits.
    """

    def __init__(self, width: int, heads: int, key_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=key_bias)
        self.value, self.merge = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        # q, k, v: (B, heads, N, W / heads) each
        q, k, v = (
            projected(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query, self.key, self.value)
        )
        return self.merge(attention(q, k, v, mask).transpose(1, 2).flatten(2))


class TextBlock(nn.Module):
    """A pre-norm transformer block: x + attention(LN(x)), then x + MLP(LN(x)). Xiong et al. 2020.

    Shapes: x (B, N, W), mask as in `TextAttention`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        activation: Callable[[Tensor], Tensor],
        key_bias: bool = True,
    ) -> None:
        super().__init__()
        self.first_norm, self.attend = nn.LayerNorm(width), TextAttention(width, heads, key_bias)
        self.second_norm, self.activation = nn.LayerNorm(width), activation
        self.rise, self.fall = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attend(self.first_norm(x), mask)
        return x + self.fall(self.activation(self.rise(self.second_norm(x))))


@dataclass(frozen=True)
class WordTransformerShape:
    """Shape of a `WordTransformer`.

    Args:
        vocabulary: number of ids.
        length: largest number of tokens N of a text.
        width: W, the width of the tokens and of the pooled vector.
        layers: number of transformer blocks.
        heads: heads of an attention; they divide `width`.
        expansion: width of the hidden layer of an MLP, in widths.
    """

    vocabulary: int
    length: int
    width: int = 128
    layers: int = 2
    heads: int = 4
    expansion: int = 4


class WordTransformer(nn.Module):
    """A bidirectional transformer over words: embedding + learned position, pre-norm blocks, a final LN.

    Padding is masked in the attention, so that a text has the same vectors whatever the padding; `pooled` is
    the mean of the real tokens. Every row needs at least one of them: `Tokenizer` gives an empty text its
    start token, whose vectors are the null condition. Words and positions begin as N(0, 1), so that the
    residual stream holds them beside what the blocks add. With CLIP's 0.02 and 0.01, which suit long
    trainings, all tokens of a text begin as almost the same vector, its mean word: "left" and "right" were
    still one word after 3,750 steps. The blocks are initialized as CLIP's (Radford et al. 2021): their output
    projections with standard deviation (2 layers W)^-1/2.

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, shape: WordTransformerShape) -> None:
        super().__init__()
        if shape.width % shape.heads:
            raise ValueError(f"`heads` {shape.heads} must divide the width {shape.width} of the text encoder")
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.positions = nn.Parameter(torch.empty(shape.length, shape.width))
        self.blocks = nn.ModuleList(
            TextBlock(shape.width, shape.heads, shape.expansion * shape.width, F.gelu)
            for _ in range(shape.layers)
        )
        self.norm = nn.LayerNorm(shape.width)
        initialize(self.words, self.positions, self.blocks, words_std=1.0, positions_std=1.0)

    def forward(self, ids: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]) -> EncodedText:
        """Encode texts.

        Args:
            ids: of the words; those of padding have no influence.
            valid: false at padding.
        Raises:
            ValueError: more tokens than the encoder has positions.
        """
        check_length(ids, len(self.positions))
        x = self.words(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, valid[:, None, None, :])
        x = self.norm(x)
        return EncodedText(x, valid, masked_mean(x, valid))


def check_length(ids: Tensor, most: int) -> None:
    """Refuse rows of more tokens than an encoder has positions.

    Raises:
        ValueError: there are more.
    """
    if ids.shape[1] > most:
        raise ValueError(f"the text encoder has {most} positions, got rows of {ids.shape[1]} tokens")


def masked_mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid tokens: (B, N, W) and (B, N) to (B, W)."""
    weight = valid.to(tokens.dtype)
    return torch.einsum("bnw,bn->bw", tokens, weight) / weight.sum(1, keepdim=True)


def embedding(count: int, width: int) -> nn.Embedding:
    """An embedding whose weights are still to be drawn."""
    return nn.Embedding(count, width, _weight=torch.empty(count, width))


def draw(parameter: Tensor, std: float) -> None:
    """Draw initial weights of N(0, std^2).

    Not on `meta`, where there are no numbers, and PyTorch would import its compiler for it, for seconds.
    """
    if not parameter.is_meta:
        nn.init.normal_(parameter, std=std)


def initialize(
    words: nn.Embedding,
    positions: nn.Parameter,
    blocks: nn.ModuleList,
    words_std: float = 0.02,
    positions_std: float = 0.01,
) -> None:
    """Initialize an embedding and `TextBlock`s as CLIP's text encoder. Radford et al. 2021, section 2.5."""
    width = words.weight.shape[1]
    draw(words.weight, std=words_std)
    draw(positions, std=positions_std)
    for block in blocks:
        assert isinstance(block, TextBlock)
        attend, last = block.attend, (2 * len(blocks) * width) ** -0.5
        for projected in (attend.query, attend.key, attend.value):
            draw(projected.weight, std=width**-0.5)
        draw(attend.merge.weight, std=last)
        draw(block.rise.weight, std=(2 * width) ** -0.5)
        draw(block.fall.weight, std=last)
        for linear in (attend.query, attend.key, attend.value, attend.merge, block.rise, block.fall):
            nn.init.zeros_(linear.bias)

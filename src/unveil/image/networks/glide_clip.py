"""The towers of GLIDE's CLIP of noisy images: a vision transformer that sees the time, and a causal one of
text."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.text_encoder import EncodedText, TextBlock, check_length, draw, embedding

MEANS, DEVIATIONS = (122.77093945, 116.74601272, 104.09373519), (68.50053285, 66.63215831, 70.32316309)
"""Of the colours, in 0 .. 255; those of OpenAI's CLIP."""


@dataclass(frozen=True)
class GlideClipImageShape:
    """Shape of a `GlideClipImage`; the defaults are those of the released one.

    Args:
        size: side S of the images in pixels.
        patch: side of a patch, which becomes a token.
        width: W of the tokens.
        layers: number of transformer blocks.
        heads: heads of an attention; they divide `width`.
        embedding: E, the width of the result.
        steps: number of entries of the table of betas.
    """

    size: int = 64
    patch: int = 4
    width: int = 768
    layers: int = 12
    heads: int = 12
    embedding: int = 512
    steps: int = 1000


@dataclass(frozen=True)
class GlideClipTextShape:
    """Shape of a `GlideClipText`; the defaults are those of the released one, fields as in the image's."""

    vocabulary: int = 65_536
    length: int = 77
    width: int = 512
    layers: int = 12
    heads: int = 8
    embedding: int = 512


class GlideClipImage(nn.Module):
    """(x_t (B, 3, S, S), time (B,)) -> (B, E): the class token is a learned vector of the time.

    Nichol et al. 2021, section 2.4, and the released code: the image is scaled as a clean one's, and the time
    is the entry of the table, counted from 0.

    Raises:
        ValueError: numbers that do not divide each other, or a time beyond the table.
    """

    def __init__(self, shape: GlideClipImageShape) -> None:
        super().__init__()
        if shape.size % shape.patch or shape.width % shape.heads:
            raise ValueError(
                f"`patch` {shape.patch} must divide {shape.size} pixels, and `heads` {shape.heads} the width "
                f"{shape.width}"
            )
        self.shape = shape
        width = shape.width
        self.patches = nn.Conv2d(3, width, shape.patch, stride=shape.patch, bias=False)
        self.times = embedding(shape.steps, width)
        self.positions = nn.Parameter(torch.empty(1 + (shape.size // shape.patch) ** 2, width))
        self.first_norm = nn.LayerNorm(width)
        self.blocks = _blocks(width, shape.layers, shape.heads)
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, shape.embedding, bias=False)
        for parameter in (self.times.weight, self.positions):
            draw(parameter, std=width**-0.5)

    def forward(self, x: Float[Tensor, "B 3 S S"], time: Float[Tensor, " B"]) -> Float[Tensor, "B E"]:
        entry = time.round().long()
        if not entry.is_meta and bool(((entry < 0) | (entry >= self.shape.steps)).any()):
            raise ValueError(f"this CLIP knows the times 0 .. {self.shape.steps - 1}, got {time.tolist()}")
        means, deviations = (x.new_tensor(each)[:, None, None] for each in (MEANS, DEVIATIONS))
        patches = self.patches(((x + 1.0) * 127.5 - means) / deviations).flatten(2).transpose(1, 2)
        h = self.first_norm(torch.cat([self.times(entry)[:, None], patches], dim=1) + self.positions)
        for block in self.blocks:
            h = block(h, None)
        return self.projection(self.norm(h[:, 0]))


class GlideClipText(nn.Module):
    """A causal pre-norm transformer over tokens; `pooled` (B, E) is projected from the last real one."""

    def __init__(self, shape: GlideClipTextShape) -> None:
        super().__init__()
        if shape.width % shape.heads:
            raise ValueError(f"`heads` {shape.heads} must divide the width {shape.width} of the text encoder")
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.positions = nn.Parameter(torch.empty(shape.length, shape.width))
        self.blocks = _blocks(shape.width, shape.layers, shape.heads)
        self.norm = nn.LayerNorm(shape.width)
        self.projection = nn.Linear(shape.width, shape.embedding, bias=False)
        draw(self.words.weight, std=0.02)
        draw(self.positions, std=0.01)

    def forward(self, ids: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]) -> EncodedText:
        """Encode texts.

        Args:
            ids: start token, text, end token, padding.
            valid: false at padding.
        Raises:
            ValueError: more tokens than positions.
        """
        check_length(ids, len(self.positions))
        count = ids.shape[1]
        causal = torch.ones((count, count), dtype=torch.bool, device=ids.device).tril()
        h = self.words(ids) + self.positions[:count]
        for block in self.blocks:
            h = block(h, causal)
        last = h[torch.arange(len(ids), device=ids.device), valid.sum(1) - 1]
        return EncodedText(h, valid, self.projection(self.norm(last)))


def _blocks(width: int, layers: int, heads: int) -> nn.ModuleList:
    return nn.ModuleList(TextBlock(width, heads, 4 * width, F.gelu, key_bias=False) for _ in range(layers))

"""CLIP's text encoder: that of OpenAI (Stable Diffusion 1) and of OpenCLIP (Stable Diffusion 2)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.text_encoder import (
    EncodedText,
    TextBlock,
    check_length,
    draw,
    embedding,
    initialize,
)
from unveil.network.layers import by_eights


@dataclass(frozen=True)
class ClipTextShape:
    """Shape of a `ClipText`; the defaults are those of CLIP ViT-L/14, the encoder of Stable Diffusion 1.

    Args:
        vocabulary: number of ids.
        length: number of positions.
        width: W of the tokens.
        layers: number of transformer blocks.
        heads: heads of an attention; they divide `width`.
        hidden: width of the hidden layer of an MLP.
        quick: the activation is x sigmoid(1.702 x), OpenAI's; otherwise GELU, OpenCLIP's.
        end: id of the end token, at whose first place the text is pooled; None: at its largest id, as in
            OpenAI's code, which is wrong where words were added to the vocabulary.
        projection: P of the projection of the pooled vector; 0: there is none, P = W.
    """

    vocabulary: int = 49_408
    length: int = 77
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    quick: bool = True
    end: int | None = None
    projection: int = 0


STABLE_DIFFUSION_1 = ClipTextShape()
# 23 of OpenCLIP ViT-H's 24 layers: Stable Diffusion 2 reads the output of the last but one
STABLE_DIFFUSION_2 = ClipTextShape(width=1024, layers=23, heads=16, hidden=4096, quick=False)


class ClipText(nn.Module):
    """A causal pre-norm transformer over token and position embeddings. Radford et al. 2021, section 2.4.

    Padding is not masked, and `valid` of the result is true everywhere: Stable Diffusion attends to all 77
    positions. `pooled` is the last layer's vector, after the final LN, at the end token, times the
    projection if there is one.

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, shape: ClipTextShape) -> None:
        super().__init__()
        if shape.width % shape.heads:
            raise ValueError(f"`heads` {shape.heads} must divide the width {shape.width} of the text encoder")
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.positions = nn.Parameter(torch.empty(shape.length, shape.width))
        activation = quick_gelu if shape.quick else F.gelu
        self.blocks = nn.ModuleList(
            TextBlock(shape.width, shape.heads, shape.hidden, activation) for _ in range(shape.layers)
        )
        self.norm = nn.LayerNorm(shape.width)
        self.projection = nn.Linear(shape.width, shape.projection, bias=False) if shape.projection else None
        initialize(self.words, self.positions, self.blocks)
        if self.projection is not None:
            draw(self.projection.weight, std=shape.width**-0.5)

    def forward(self, ids: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"], skip: int = 1) -> EncodedText:
        """Encode texts.

        Args:
            ids: start token, text, end token, padding.
            valid: unused, as CLIP knows no padding.
            skip: `tokens` are the output of the `skip`-th layer from the end, after the final LN: A1111's
                "Clip skip", which is diffusers' `clip_skip` plus one. `pooled` is that of the last layer.
        Raises:
            ValueError: more tokens than positions, or a layer that does not exist.
        """
        check_length(ids, len(self.positions))
        if not 1 <= skip <= len(self.blocks):
            raise ValueError(
                f"`clip_skip` must be in 1 .. {len(self.blocks)}, the layers of CLIP, got {skip}"
            )
        count = ids.shape[1]
        causal = torch.ones((count, count), dtype=torch.bool, device=ids.device).tril()
        x = tokens = self.words(ids) + self.positions[:count]
        for layer, block in enumerate(self.blocks):
            x = block(x, causal)
            if layer == len(self.blocks) - skip:
                tokens = x
        last = self.norm(x)
        pooled = last[torch.arange(len(ids), device=ids.device), self._ends(ids)]
        if self.projection is not None:
            pooled = by_eights(self.projection, pooled)
        return EncodedText(last if skip == 1 else self.norm(tokens), torch.ones_like(valid), pooled)

    def _ends(self, ids: Tensor) -> Tensor:
        """(B,), the position of the end token in each row."""
        return (ids if self.shape.end is None else (ids == self.shape.end).int()).argmax(dim=-1)


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), an approximation of GELU. Hendrycks & Gimpel 2016, section 2."""
    return x * torch.sigmoid(1.702 * x)

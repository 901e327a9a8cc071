"""T5's encoder, the text encoder of Imagen."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.text_encoder import EncodedText, draw, embedding, masked_mean
from unveil.network.layers import RMSNorm


@dataclass(frozen=True)
class T5Shape:
    """Shape of a `T5Encoder`; the defaults are those of T5 v1.1 small.

    Args:
        vocabulary: number of ids.
        width: W of the tokens and of the pooled vector.
        layers: number of transformer blocks.
        heads: heads of an attention.
        head_width: width of a head; heads * head_width need not be W.
        hidden: width of the hidden layer of an MLP.
        buckets: number of relative distances that the attention tells apart.
        distance: beyond it all distances are one bucket.
        gated: the MLP is gelu(a x) * (b x), as in v1.1; otherwise relu(a x), as in v1.0.
        epsilon: number that RMSNorm adds to the mean square.
    """

    vocabulary: int = 32_128
    width: int = 512
    layers: int = 8
    heads: int = 6
    head_width: int = 64
    hidden: int = 1024
    buckets: int = 32
    distance: int = 128
    gated: bool = True
    epsilon: float = 1e-6


class T5Encoder(nn.Module):
    """A bidirectional pre-norm transformer with relative positions and without biases. Raffel et al. 2020.

    The logits of attention are q k' + bias(bucket(j - i)), without 1 / sqrt(D); all layers share the table of
    biases. Padding is masked. `pooled` is the mean of the real tokens, as in Imagen. The residual stream and
    the last product of each MLP are float32 whatever the weights, because they exceed float16.
    """

    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.biases = embedding(shape.buckets, shape.heads)
        self.blocks = nn.ModuleList(T5Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.epsilon)
        draw(self.words.weight, std=1.0)
        draw(self.biases.weight, std=shape.width**-0.5)

    def forward(self, ids: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"]) -> EncodedText:
        """Encode texts.

        Args:
            ids: text, end token, padding.
            valid: false at padding.
        """
        places = torch.arange(ids.shape[1], device=ids.device)
        bucket = buckets(places[None, :] - places[:, None], self.shape.buckets, self.shape.distance)
        bias = self.biases(bucket).permute(2, 0, 1)  # (heads, N, N)
        bias = bias.masked_fill(~valid[:, None, None, :], float("-inf"))  # (B, heads, N, N)
        x = self.words(ids).float()
        for block in self.blocks:
            x = block(x, bias)
        tokens = self.norm(x).to(self.words.weight.dtype)
        return EncodedText(tokens, valid, masked_mean(tokens, valid))


class T5Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)). Shapes: x (B, N, W) float32, bias (B, heads, N, N)."""

    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        inner, width = shape.heads * shape.head_width, shape.width
        self.heads = shape.heads
        self.first_norm, self.second_norm = RMSNorm(width, shape.epsilon), RMSNorm(width, shape.epsilon)
        self.query, self.key = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.value, self.merge = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
        self.rise = nn.Linear(width, shape.hidden, bias=False)
        self.gate = nn.Linear(width, shape.hidden, bias=False) if shape.gated else None
        self.fall = nn.Linear(shape.hidden, width, bias=False)
        # the logits are not divided by sqrt(D), so that the queries are initialized smaller by it
        draw(self.query.weight, std=(width * shape.head_width) ** -0.5)
        for linear in (self.key, self.value, self.rise, self.gate):
            if linear is not None:
                draw(linear.weight, std=width**-0.5)
        draw(self.merge.weight, std=inner**-0.5)
        draw(self.fall.weight, std=shape.hidden**-0.5)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        weights = self.query.weight.dtype
        normed = self.first_norm(x).to(weights)
        # q, k, v: (B, heads, N, D) each
        q, k, v = (
            projected(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        x = x + self.merge(mixed.transpose(1, 2).flatten(2))
        normed = self.second_norm(x).to(weights)
        if self.gate is None:
            risen = F.relu(self.rise(normed))
        else:
            risen = F.gelu(self.rise(normed), approximate="tanh") * self.gate(normed)
        return x + F.linear(risen.float(), self.fall.weight.float())


def buckets(distance: Tensor, count: int, most: int) -> Tensor:
    """The bucket of each relative distance j - i of a key at j and a query at i. Raffel et al. 2020, 2.1.

    Half of the `count` buckets are for distances <= 0, half for the others. Of the n buckets of a half,
    |distance| < n / 2 has its own, and larger ones share buckets whose width grows with the logarithm up to
    `most`.
    """
    half = count // 2
    exact, far = half // 2, distance.abs()
    logarithmic = (
        exact + ((far.clamp(min=1).float() / exact).log() / log(most / exact) * (half - exact)).long()
    )
    return (distance > 0).long() * half + torch.where(far < exact, far, logarithmic.clamp(max=half - 1))

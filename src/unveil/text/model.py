"""What is learned of text: a denoiser of masked tokens, and the vocabulary that belongs to it. Nie et al. 2025 (LLaDA)."""

from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Literal, cast

import torch
from torch import nn

from unveil.errors import UnveilError
from unveil.process.masking import MaskedCosine, MaskedDenoiser
from unveil.process.schedule import Flow
from unveil.text.data.tokens import Tokens
from unveil.text.networks.transformer import LanguageTransformer


@dataclass(frozen=True)
class TextShape:
    """What fixes the tensors of a `TextModel`.

    Args:
        vocabulary: V, end-of-text and [MASK] included.
        context: the longest sequence that it was trained on.
        width, depth, heads, kv_heads, hidden, theta, tied: of the `LanguageTransformer`.
        epsilon: of its RMSNorm.
        schedule: linear, alpha = 1 - t, or `MaskedCosine`.
        forbid_mask: [MASK] has no probability; LLaDA's published weights leave it in the softmax.
        block: tokens of a block of block diffusion (BD3, Arriola et al. 2025): blocks follow one another autoregressively, and each is
            masked diffusion. 0: masked diffusion of the whole.
        causal: autoregressive on the same trunk, for comparison: every position predicts the next token.
    Raises:
        ValueError: a value of another type or out of range, or blocks and causal at once.
    """

    vocabulary: int
    context: int = 256
    width: int = 192
    depth: int = 6
    heads: int = 6
    kv_heads: int = 0
    hidden: int = 0
    theta: float = 10_000.0
    tied: bool = False
    epsilon: float = 1e-5
    schedule: Literal["linear", "cosine"] = "linear"
    forbid_mask: bool = True
    block: int = 0
    causal: bool = False

    def __post_init__(self) -> None:
        least = {
            "vocabulary": 3,
            "context": 1,
            "width": 2,
            "depth": 1,
            "heads": 1,
            "kv_heads": 0,
            "hidden": 0,
            "block": 0,
        }
        for name, smallest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < smallest:
                raise ValueError(
                    f"TextShape: {name} must be a whole number, at least {smallest}, got {value!r}"
                )
        if self.width % (2 * self.heads) or self.heads % (self.kv_heads or self.heads):
            raise ValueError(
                "TextShape: width must be a multiple of twice the heads and heads of kv_heads, got "
                f"{self.width}, {self.heads} and {self.kv_heads}"
            )
        for name, most in (("theta", inf), ("epsilon", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 < float(value) < most:
                raise ValueError(
                    f"TextShape: {name} must be a finite number above 0{' and below 1' if most == 1.0 else ''}, got {value!r}"
                )
        if self.schedule not in ("linear", "cosine"):
            raise ValueError(f"TextShape: schedule must be linear or cosine, got {self.schedule!r}")
        if self.causal and self.block:
            raise ValueError(f"TextShape: a causal model has no blocks, but block is {self.block}")


class TextModel(nn.Module):
    """Denoiser of token sequences (B, L) and its vocabulary.

    Raises:
        UnveilError: the vocabulary is not of the size that the weights have.
    """

    def __init__(self, shape: TextShape, tokens: Tokens) -> None:
        super().__init__()
        if tokens.size != shape.vocabulary:
            raise UnveilError(
                f"these weights are of {shape.vocabulary} tokens, but the tokenizer has {tokens.size}; give its own tokenizer"
            )
        self.shape, self.tokens = shape, tokens
        sizes = (
            shape.vocabulary,
            shape.width,
            shape.depth,
            shape.heads,
            shape.kv_heads,
            shape.hidden,
            shape.theta,
            shape.epsilon,
        )
        begin = tokens.eos_id if shape.causal else None
        network = LanguageTransformer(
            *sizes, tied=shape.tied, causal=shape.causal, block=shape.block, begin=begin
        )
        schedule = Flow() if shape.schedule == "linear" else MaskedCosine()
        self.denoiser = MaskedDenoiser(network, schedule, tokens.mask_id, shape.forbid_mask)

    @property
    def network(self) -> LanguageTransformer:
        """The denoiser's."""
        return cast(LanguageTransformer, self.denoiser.network)

    @property
    def window(self) -> int:
        """Tokens that are decided together, given all before: 1 of a causal model, a block's, or 0 for all."""
        return 1 if self.shape.causal else self.shape.block

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

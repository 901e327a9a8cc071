"""What is learned of text: a denoiser of masked tokens, and the vocabulary that belongs to it. Nie et al. 2025 (LLaDA)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from unveil.data.tokens import Tokens
from unveil.errors import UnveilError
from unveil.network.language import LanguageTransformer
from unveil.process.masking import MaskedCosine, MaskedDenoiser
from unveil.process.schedule import Flow


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
        network = LanguageTransformer(
            shape.vocabulary,
            shape.width,
            shape.depth,
            shape.heads,
            shape.kv_heads,
            shape.hidden,
            shape.theta,
            shape.epsilon,
            tied=shape.tied,
        )
        schedule = Flow() if shape.schedule == "linear" else MaskedCosine()
        self.denoiser = MaskedDenoiser(network, schedule, tokens.mask_id, shape.forbid_mask)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

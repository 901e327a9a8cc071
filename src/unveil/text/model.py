"""A text model: a denoiser of masked tokens, and its vocabulary. Nie et al. 2025 (LLaDA)."""

from typing import cast

import torch
from torch import nn

from unveil.errors import UnveilError
from unveil.process.masking import MaskedCosine, MaskedDenoiser
from unveil.process.schedule import Flow
from unveil.text.data.tokens import Tokens
from unveil.text.networks.transformer import LanguageTransformer
from unveil.text.shape import TextShape


class TextModel(nn.Module):
    """Denoiser of token sequences (B, L) and its vocabulary.

    Raises:
        UnveilError: the vocabulary has another size than `shape` says.
    """

    def __init__(self, shape: TextShape, tokens: Tokens) -> None:
        super().__init__()
        if tokens.size != shape.vocabulary:
            raise UnveilError(
                f"these weights are of {shape.vocabulary} tokens, but the tokenizer has {tokens.size}; give "
                "its own tokenizer"
            )
        self.shape, self.tokens = shape, tokens
        others = ("context", "schedule", "forbid_mask")  # fields that the network does not have
        options = {name: value for name, value in vars(shape).items() if name not in others}
        network = LanguageTransformer(**options, begin=tokens.eos_id if shape.causal else None)
        schedule = Flow() if shape.schedule == "linear" else MaskedCosine()
        self.denoiser = MaskedDenoiser(network, schedule, tokens.mask_id, shape.forbid_mask)

    @property
    def network(self) -> LanguageTransformer:
        """The denoiser's network."""
        return cast(LanguageTransformer, self.denoiser.network)

    @property
    def window(self) -> int:
        """Number of tokens per autoregressive step: 1 for a causal model, the block size for block diffusion,
        0 for masked diffusion of the whole sequence."""
        return 1 if self.shape.causal else self.shape.block

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

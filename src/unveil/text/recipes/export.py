"""The network of a text model for `unveil export`: tokens to logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unveil.runs.exported import Exportable, Sampling
from unveil.text.model import TextModel

if TYPE_CHECKING:
    from unveil.runs.exported import Inputs


class Logits(nn.Module):
    """Tokens (B, L), masks among them, to logits (B, L, V) of the token at each position."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.network = model.network

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network(tokens)


def exportable(model: object, sampling: Sampling) -> Exportable | None:
    """The network of a text model that `unveil.load` returned; None for anything else.

    Raises:
        ValueError: `steps` or `solver`, which belong to sampling.
    """
    if not isinstance(model, TextModel):
        return None
    if sampling != Sampling():
        raise ValueError(
            "`steps` and `solver` are for policies and planners; of text the network is exported"
        )
    shape = model.shape

    def draw(count: int) -> dict[str, Tensor]:
        generator = torch.Generator(device="cpu").manual_seed(count)
        length = min(shape.context, 8 + 4 * count)
        tokens = torch.randint(shape.vocabulary, (count, length), generator=generator)
        hidden = torch.rand((count, length), generator=generator) < 0.5
        return {"tokens": tokens.masked_fill(hidden, model.tokens.mask_id)}

    def library(inputs: Inputs) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (model.network(inputs["tokens"]).float(),)

    window = {0: "masked diffusion", 1: "autoregressive"}.get(model.window, f"blocks of {model.window}")
    return Exportable(
        Logits(model).eval(),
        draw,
        ("logits",),
        {"tokens": {0: "batch", 1: "length"}},
        library,
        {
            "kind": "text network",
            "inputs": {
                "tokens": f"(batch, length) int64, up to {shape.context} positions; [MASK] is "
                f"{model.tokens.mask_id}"
            },
            "outputs": {"logits": f"(batch, length, {shape.vocabulary}), of the token at each position"},
            "mask_id": model.tokens.mask_id,
            "training": window,
        },
        ("the tokenizer and the choice of tokens are not in the graph",),
    )

"""How likely text is under a model: the l-form's Monte-Carlo bound."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.apps.text_model import TextModel
from unveil.network.condition import Condition
from unveil.process.masked_objective import counted_loss
from unveil.process.masking import stratified_counts


@torch.no_grad()
def text_nats(
    model: TextModel,
    ids: Int[Tensor, "B L"],
    draws: int,
    generator: torch.Generator,
    known: Bool[Tensor, "B L"] | None = None,
    valid: Bool[Tensor, "B L"] | None = None,
) -> Float[Tensor, "B N"]:
    """`draws` unbiased estimates for each row of a bound on -log p(unknown tokens | known ones) / their number, in nats a token.

    The rows' mean over draws estimates the bound; draws of one row share their numbers of masked tokens out evenly, so their own spread is
    above the mean's. Nie et al. 2025, eq. 6 and appendix B.5.

    Args:
        known: given, not scored: a prompt.
        valid: real tokens; padding is neither seen nor scored.
    Raises:
        ValueError: draws < 1, or a row without a token to score.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    aside = torch.zeros_like(ids, dtype=torch.bool) if known is None else known
    aside = aside if valid is None else aside | ~valid
    total = (~aside).sum(1)
    if bool((total == 0).any()):
        raise ValueError("every row needs a token to score; a row is all known or padding")
    cond = None if valid is None else Condition(valid=valid)
    counts = stratified_counts(torch.rand(len(ids), generator=generator, device="cpu"), draws, total)
    nats: list[Tensor] = []
    for k in range(draws):
        uniform = torch.rand(ids.shape, generator=generator, device="cpu").to(ids.device)
        nats.append(counted_loss(model.denoiser, ids, counts[:, k].to(ids.device), uniform, cond=cond, known=aside))
    return torch.stack(nats, dim=1)

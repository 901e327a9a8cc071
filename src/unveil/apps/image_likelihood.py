"""How likely images are under a model with a table of steps: the whole variational bound, in bits a dimension."""

from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.apps.image_model import TABLES, ImageModel
from unveil.process.corrupt import corrupt, like
from unveil.process.objective import bound_term, gaussian_kl


class Bits(NamedTuple):
    """total (B,) = prior (B,) + the sum of terms (B, T); column i - 1 is the step from i / T, so the first is the decoder's."""

    total: Tensor
    prior: Tensor
    terms: Tensor


@torch.no_grad()
def bits_per_dim(model: ImageModel, pixels: Tensor, labels: Tensor | None, generator: torch.Generator, variance: str = "small") -> Bits:
    """L_0 + .. + L_T of Ho et al. 2020, eq. 5, every one of the T terms once; only x_t is drawn. The belief is clipped to -1 .. 1, as
    in Improved DDPM's code.

    Args:
        pixels: (B, C, S, S), 0 .. 255.
        variance: small or large; of a model that learned it, its own.
    Raises:
        ValueError: a model without a table of steps, or another variance.
    """
    shape, denoiser = model.shape, model.denoiser
    if shape.schedule not in TABLES:
        raise ValueError(f"bits a dimension need a model with a table of steps (linear or cosine), this has {shape.schedule}")
    if variance not in ("small", "large"):
        raise ValueError(f"the variance is small or large, got {variance!r}")
    x_0, count, steps = model.normalized(pixels), len(pixels), shape.diffusion_steps
    cond = model.condition(labels, count, model.reduced(x_0))
    columns: list[Tensor] = []
    for i in range(1, steps + 1):
        t = torch.full((count,), i / steps, dtype=torch.float64, device="cpu")
        s = torch.full((count,), (i - 1) / steps, dtype=torch.float64, device="cpu")
        noise = torch.randn(x_0.shape, generator=generator, device="cpu").to(x_0.device)
        x_t = corrupt(denoiser.schedule, x_0, t, noise)
        belief = denoiser(x_t, t, cond)
        fraction = belief.variance_fraction
        if fraction is None:
            fraction = torch.full_like(x_t, float(variance == "large"))
        columns.append(bound_term(denoiser.schedule, x_0, x_t, belief.mean.clamp(-1.0, 1.0), fraction, t, s))
    one = torch.ones(count, dtype=torch.float64, device="cpu")
    alpha, sigma = denoiser.schedule.alpha(one), denoiser.schedule.sigma(one)
    zero = torch.zeros_like(x_0)
    prior = gaussian_kl(like(alpha, x_0) * x_0, like(2.0 * sigma.log(), x_0), zero, zero).flatten(1).mean(1) / log(2.0)
    terms = torch.stack(columns, dim=1)
    return Bits(prior + terms.sum(1), prior, terms)

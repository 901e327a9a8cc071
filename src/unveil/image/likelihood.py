"""Likelihood of images under a model with a table of steps: the variational bound."""

from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.image.generation import noise_by_sample
from unveil.image.model import ImageModel, check_labels, check_pixels
from unveil.image.shape import TABLES
from unveil.process.corrupt import corrupt, like
from unveil.process.objective import bound_term, gaussian_kl
from unveil.sampling.noise import Noise, normal_like


class Bits(NamedTuple):
    """Bits per dimension: total (B,) = prior (B,) + the sum of terms (B, T), of the steps from i / T."""

    total: Tensor
    prior: Tensor
    terms: Tensor


@torch.no_grad()
def bits_per_dim(
    model: ImageModel,
    pixels: Tensor,
    labels: Tensor | None,
    generator: Noise | int = None,
    variance: str = "small",
    noise: Tensor | None = None,
) -> Bits:
    """L_0 + .. + L_T of Ho et al. 2020, eq. 5, with each of the T terms evaluated once at a random x_t. The
    belief about x_0 is clipped to -1 .. 1, as in Improved DDPM's code.

    Args:
        pixels: (B, C, S, S) in 0 .. 255.
        generator: as of `generate`; each image has random numbers of its own.
        variance: small or large; a model that learned it uses its own.
        noise: (T, B, C, S, S) recorded noise, where noise[i - 1] makes x_t at t = i / T; None draws it.
    Raises:
        ValueError: a model without a table of steps or of latents, another variance, or tensors of another
            shape or type.
    """
    shape, denoiser = model.shape, model.denoiser
    if shape.schedule not in TABLES:
        raise ValueError(
            "bits per dimension need a model with a table of steps (linear or cosine), this has "
            f"{shape.schedule}"
        )
    if variance not in ("small", "large"):
        raise ValueError(f"the variance is small or large, got {variance!r}")
    if model.latent is not None:
        raise ValueError("bits per dimension are those of pixels, and this model is of latents")
    check_pixels(pixels, model.picture)
    count, steps = len(pixels), shape.diffusion_steps
    if labels is not None:
        check_labels(labels, count, shape.classes)
    wanted = (steps, *pixels.shape)
    if noise is not None and (
        tuple(noise.shape) != wanted or not noise.is_floating_point() or not bool(noise.isfinite().all())
    ):
        raise ValueError(
            f"noise must be finite floating-point numbers {wanted}, got {noise.dtype} {tuple(noise.shape)}"
        )
    model.eval()
    own = noise_by_sample(generator, count)(slice(0, count)) if noise is None else None
    x_0 = model.normalized(pixels)
    cond = model.condition(labels, count, model.reduced(x_0))
    columns: list[Tensor] = []
    for i in range(1, steps + 1):
        t = torch.full((count,), i / steps, dtype=torch.float64, device="cpu")
        s = torch.full((count,), (i - 1) / steps, dtype=torch.float64, device="cpu")
        x_t = corrupt(
            denoiser.schedule, x_0, t, normal_like(x_0, own) if noise is None else noise[i - 1].to(x_0)
        )
        belief = denoiser(x_t, t, cond)
        fraction = belief.variance_fraction
        if fraction is None:
            fraction = torch.full_like(x_t, float(variance == "large"))
        columns.append(bound_term(denoiser.schedule, x_0, x_t, belief.mean.clamp(-1.0, 1.0), fraction, t, s))
    one = torch.ones(count, dtype=torch.float64, device="cpu")
    alpha, sigma = denoiser.schedule.alpha(one), denoiser.schedule.sigma(one)
    zero = torch.zeros_like(x_0)
    prior = gaussian_kl(like(alpha, x_0) * x_0, like(2.0 * sigma.log(), x_0), zero, zero).flatten(1).mean(
        1
    ) / log(2.0)
    terms = torch.stack(columns, dim=1)
    return Bits(prior + terms.sum(1), prior, terms)

"""Refuse beliefs and edits that are not finite, in one line with the cause and the remedy."""

import torch

from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.sampling.edit import Edit
from unveil.sampling.noise import Noise

DAMAGED = "its weights are damaged, or the observation is far outside its data"


def finite(denoise: GaussianDenoise, cause: str, remedy: str) -> GaussianDenoise:
    """The denoiser, refusing beliefs that are not finite.

    Args:
        cause, remedy: cause and remedy for the message.
    """

    def checked(x_t: torch.Tensor, t: torch.Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        if not bool(torch.isfinite(belief.mean).all()):
            raise ValueError(
                f"policy: {cause} made actions that are not finite at t = {float(t.max()):.2f}; {remedy}"
            )
        return belief

    return checked


def finite_edit(edit: Edit) -> Edit:
    """The edit, refusing states that are not finite."""

    def checked(x_t: torch.Tensor, t: torch.Tensor, generator: Noise) -> torch.Tensor:
        x = edit(x_t, t, generator)
        if not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"policy: the edit (edit=) made actions that are not finite at t = {float(t.max()):.2f}; "
                "correct what it adds"
            )
        return x

    return checked

"""Checks of what a policy is given from Python: whole numbers, numbers, arrays and functions, each refusal in one line with its name."""

import torch

from unveil.policy.networks.observation import Part
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.sampling.edit import Edit
from unveil.sampling.noise import Noise

DAMAGED = "its weights are damaged, or what it observes is far outside its data"


def parts_text(parts: tuple[Part, ...]) -> str:
    """The parts of an observation in their order, for people."""
    return ", ".join(f"{part.key} {'x'.join(map(str, part.shape))}" for part in parts)


def finite(denoise: GaussianDenoise, what: str, how: str) -> GaussianDenoise:
    """The denoiser, whose beliefs are refused where they are not finite.

    Args:
        what, how: that makes them so, and what to do about it, for people.
    """

    def checked(x_t: torch.Tensor, t: torch.Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        if not bool(torch.isfinite(belief.mean).all()):
            raise ValueError(
                f"policy: {what} made actions that are not finite at t = {float(t.max()):.2f}; {how}"
            )
        return belief

    return checked


def finite_edit(edit: Edit) -> Edit:
    """The edit, refused where it makes numbers that are not finite."""

    def checked(x_t: torch.Tensor, t: torch.Tensor, generator: Noise) -> torch.Tensor:
        x = edit(x_t, t, generator)
        if not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"policy: the edit (edit=) made actions that are not finite at t = {float(t.max()):.2f}; mend what it adds"
            )
        return x

    return checked

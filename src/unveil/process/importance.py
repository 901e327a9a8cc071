"""Importance sampling of timesteps, reweighted so that the loss stays unbiased."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.checks import Bounds, whole, within

KEPT = 10  # newest losses stored per timestep


class Draw(NamedTuple):
    """Timestep indices `places` (B,) in 0 .. T - 1, and the weight (B,) of each loss."""

    places: Tensor
    weights: Tensor


class LossHistory:
    """Draws of timesteps i with probability p_i proportional to sqrt(E[L_i^2]), and loss weights 1 / (T p_i).

    E[w L] is the mean of L_i over all T timesteps for any p > 0, and this p minimises the variance. E[L_i^2]
    is the mean square of the last ten losses of timestep i; until every timestep has ten, p is uniform.
    Nichol & Dhariwal 2021, eq. 18 and section 3.3.

    Args:
        steps: T, the number of timesteps.
        even: probability of a uniform draw, in 0 .. 1, so that every timestep keeps being sampled; the
            default is that of the released code of Improved DDPM.
    Raises:
        ValueError: `steps` is below 1, or `even` is outside 0 .. 1.
    """

    def __init__(self, steps: int, even: float = 0.001) -> None:
        whole("LossHistory: steps", steps)
        within("LossHistory: even", even, Bounds(0, 1))
        self.even = even
        self.losses = torch.zeros((steps, KEPT), dtype=torch.float64, device="cpu")
        self.counts = torch.zeros(steps, dtype=torch.int64, device="cpu")

    @property
    def memory(self) -> Mapping[str, Tensor]:
        """State to checkpoint: losses (T, 10), oldest first, and how many of them are filled (T,)."""
        return {"losses": self.losses, "counts": self.counts}

    def probabilities(self) -> Tensor:
        """The probabilities p (T,) of the timesteps."""
        count = len(self.counts)
        if int(self.counts.min()) < KEPT:
            return torch.full((count,), 1.0 / count, dtype=torch.float64, device="cpu")
        root = self.losses.square().mean(1).sqrt()
        total = float(root.sum())
        share = root / total if total > 0.0 else torch.full_like(root, 1.0 / count)
        return (1.0 - self.even) * share + self.even / count

    def draw(self, size: int, generator: torch.Generator) -> Draw:
        """Draw `size` timesteps with replacement, with their weights 1 / (T p).

        Raises:
            ValueError: `size` is below 1.
        """
        whole("LossHistory: size", size)
        p = self.probabilities()
        places = torch.multinomial(p, size, replacement=True, generator=generator)
        return Draw(places, 1.0 / (len(p) * p[places]))

    def note(self, places: Tensor, losses: Tensor) -> None:
        """Store unweighted losses (B,) of timestep indices `places` (B,); each timestep keeps its newest ten.

        Raises:
            ValueError: other shapes, or an index outside 0 .. T - 1.
        """
        if places.shape != losses.shape or places.ndim != 1:
            raise ValueError(
                "LossHistory: places and losses must be (B,), "
                f"got {tuple(places.shape)} and {tuple(losses.shape)}"
            )
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(self.counts):
            raise ValueError(
                f"LossHistory: places must lie in 0 .. {len(self.counts) - 1}, "
                f"got {int(places.min())} .. {int(places.max())}"
            )
        for index, loss in zip(
            places.tolist(), losses.detach().to("cpu", torch.float64).tolist(), strict=True
        ):
            if int(self.counts[index]) == KEPT:
                self.losses[index] = self.losses[index].roll(-1)
                self.losses[index, -1] = loss
            else:
                self.losses[index, int(self.counts[index])] = loss
                self.counts[index] += 1

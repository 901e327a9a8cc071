"""Which times a loss is estimated at: more often where it is large, each weighed so that the mean stays what it was."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

KEPT = 10  # losses of each time


class Draw(NamedTuple):
    """places (B,), from 0 to T - 1, and the weight (B,) of each loss."""

    places: Tensor
    weights: Tensor


class LossHistory:
    """Draws one of T times with probability p_i proportional to sqrt(E[L_i^2]), and weighs its loss by 1 / (T p_i).

    E[w L] is the mean over all T of L_i, whatever p is; this p has the least variance. E[L_i^2] is the mean square of the last ten losses
    there; until every time has ten, all are drawn alike. Nichol & Dhariwal 2021, eq. 18 and section 3.3.

    Args:
        steps: T.
        even: share of draws that are even, so that no time is forgotten; 0.001 as in Improved DDPM's code.
    Raises:
        ValueError: no step, or a share outside 0 .. 1.
    """

    def __init__(self, steps: int, even: float = 0.001) -> None:
        if steps < 1:
            raise ValueError(f"LossHistory: steps must be at least 1, got {steps!r}")
        if not 0.0 <= even <= 1.0:
            raise ValueError(f"LossHistory: even must lie in 0 .. 1, got {even!r}")
        self.even = even
        self.losses = torch.zeros((steps, KEPT), dtype=torch.float64, device="cpu")
        self.counts = torch.zeros(steps, dtype=torch.int64, device="cpu")

    @property
    def memory(self) -> Mapping[str, Tensor]:
        """What a checkpoint must keep: losses (T, 10), the oldest first, and how many there were (T,), at most ten."""
        return {"losses": self.losses, "counts": self.counts}

    def probabilities(self) -> Tensor:
        """p (T,)."""
        count = len(self.counts)
        if int(self.counts.min()) < KEPT:
            return torch.full((count,), 1.0 / count, dtype=torch.float64, device="cpu")
        root = self.losses.square().mean(1).sqrt()
        total = float(root.sum())
        share = root / total if total > 0.0 else torch.full_like(root, 1.0 / count)
        return (1.0 - self.even) * share + self.even / count

    def draw(self, size: int, generator: torch.Generator) -> Draw:
        """Times with replacement, and 1 / (T p).

        Raises:
            ValueError: fewer than one.
        """
        if size < 1:
            raise ValueError(f"LossHistory: size must be at least 1, got {size!r}")
        p = self.probabilities()
        places = torch.multinomial(p, size, replacement=True, generator=generator)
        return Draw(places, 1.0 / (len(p) * p[places]))

    def note(self, places: Tensor, losses: Tensor) -> None:
        """Take in unweighted losses (B,) at places (B,); the oldest of a time goes when there are ten.

        Raises:
            ValueError: other shapes, or a place that there is not.
        """
        if places.shape != losses.shape or places.ndim != 1:
            raise ValueError(
                f"LossHistory: places and losses must be (B,), got {tuple(places.shape)} and {tuple(losses.shape)}"
            )
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(self.counts):
            raise ValueError(
                f"LossHistory: places must lie in 0 .. {len(self.counts) - 1}, got {int(places.min())} .. {int(places.max())}"
            )
        for place, loss in zip(
            places.tolist(), losses.detach().to("cpu", torch.float64).tolist(), strict=True
        ):
            if int(self.counts[place]) == KEPT:
                self.losses[place] = self.losses[place].roll(-1)
                self.losses[place, -1] = loss
            else:
                self.losses[place, int(self.counts[place])] = loss
                self.counts[place] += 1

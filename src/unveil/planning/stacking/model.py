"""The diffusion of sequences of states, and what it is told."""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.normalization import Normalization
from unveil.planning.data.stacking_states import CUBES, PLACES, SIZE
from unveil.planning.networks.trajectory_transformer import SequenceTransformer
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import x0
from unveil.process.schedule import Cosine

TOLD = 2 * CUBES + 3 * CUBES + 1
"""Size of the condition: angles of the cubes, angles and positions of the goal, whether there is a goal."""


@dataclass(frozen=True)
class StackingShape:
    """The sizes of a `StackingModel`.

    Args:
        horizon: H, rows of a plan in training; other horizons work with the same weights.
        stride: environment steps between two rows.
        width, depth, heads, patch: sizes of the transformer; a token has `patch` rows.
    """

    horizon: int = 96
    stride: int = 2
    width: int = 160
    depth: int = 6
    heads: int = 5
    patch: int = 4


class StackingModel(nn.Module):
    """Denoiser of plans (B, H, 39), whose first row is known.

    The condition has the cubes' angles on the circle around the arm, in the units of joint 1: where the arm
    turns to is then a copy of what it is told, and as exact.
    """

    def __init__(self, shape: StackingShape) -> None:
        super().__init__()
        self.shape = shape
        network = SequenceTransformer(SIZE, shape.width, shape.depth, shape.heads, shape.patch, TOLD)
        self.denoiser = GaussianDenoiser(network, Cosine(), x0)
        self.normalization = Normalization(SIZE)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.normalization.low.device

    def condition(
        self, start: Float[Tensor, "B 39"], goals: Float[Tensor, "B 4 3"] | None, told: Tensor | None = None
    ) -> Condition:
        """What the network is told.

        Args:
            start: states, in their units.
            goals: positions of the cubes at the end, in m; None: no goal.
            told: (B,) bool, rows that are told their goal; None: all.
        """
        here = self.angles(start[:, PLACES])
        if goals is None:
            goals, told = start[:, PLACES], torch.zeros(len(start), dtype=torch.bool, device=start.device)
        known = torch.ones(len(start), device=start.device) if told is None else told.to(start.dtype)
        places = start.clone()
        places[:, PLACES] = goals
        there = self.normalization.normalized(places)[:, PLACES].flatten(1)
        goal = torch.cat([self.angles(goals), there], 1) * known[:, None]
        return Condition(vector=torch.cat([here, goal, known[:, None]], dim=1))

    def angles(self, places: Float[Tensor, "B 4 3"]) -> Float[Tensor, "B 4"]:
        """Angles of the cubes around the arm, normalised as joint 1."""
        angle = torch.atan2(places[..., 1], places[..., 0])
        low, high = self.normalization.low[0], self.normalization.high[0]
        return 2.0 * (angle - low) / (high - low).clamp(min=1e-3 * pi) - 1.0


def first_known(horizon: int) -> Tensor:
    """(1, H, 1) bool: the known rows of a plan."""
    return torch.arange(horizon, device="cpu")[None, :, None] == 0

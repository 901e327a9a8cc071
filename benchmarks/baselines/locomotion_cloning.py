"""Behaviour cloning: the first baseline of planners on recorded behaviour."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.network.layers import mlp
from unveil.network.normalization import Normalization
from unveil.planning.data.episodes import Episodes


class Pairs(NamedTuple):
    """Observations (B, D) and the actions (B, A) that followed."""

    observations: Tensor
    actions: Tensor


class Clone(nn.Module):
    """An MLP with two hidden layers of 256 that predicts the mean action."""

    def __init__(self, episodes: Episodes) -> None:
        super().__init__()
        self.normalization = Normalization(episodes.observations.shape[1])
        self.normalization.learn(episodes.observations, "gaussian")
        self.network = mlp(episodes.observations.shape[1], 256, episodes.actions.shape[1], depth=2)

    def forward(self, observations: Tensor) -> Tensor:
        return self.network(self.normalization.normalized(observations))

    @torch.no_grad()
    def act(self, observations: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B A"]:
        """Actions, clipped to [-1, 1]."""
        return self(torch.from_numpy(observations).float()).clamp(-1.0, 1.0).double().numpy()


def pairs(episodes: Episodes, size: int) -> Callable[[torch.Generator], Pairs]:
    """A function generator -> random batch of all transitions."""
    observations, actions = (
        torch.from_numpy(np.asarray(a, np.float32)) for a in (episodes.observations, episodes.actions)
    )

    def draw(generator: torch.Generator) -> Pairs:
        chosen = torch.randint(len(observations), (size,), generator=generator, device="cpu")
        return Pairs(observations[chosen], actions[chosen])

    return draw


def cloning_loss(model: nn.Module, batch: Pairs) -> tuple[Tensor, Mapping[str, float]]:
    """Mean squared error of the action."""
    return ((model(batch.observations) - batch.actions) ** 2).mean(), {}


def best_episodes(episodes: Episodes, share: float) -> Episodes:
    """The episodes of highest return that together have a fraction `share` of the transitions, at least one
    episode (for "10 % BC").

    Raises:
        ValueError: share outside (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"best_episodes: share must lie in (0, 1], got {share}")
    order = np.argsort(-episodes.returns, kind="stable")
    lengths = (episodes.ends - episodes.starts)[order]
    count = int(np.searchsorted(np.cumsum(lengths), share * len(episodes))) + 1
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[:count]] = True
    return episodes.chosen(chosen)

"""Behaviour cloning: the first baseline of planners on recorded behaviour."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.network.layers import mlp
from unveil.network.normalization import Normalization
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.interface import Interface, returned


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
    def act(self, observations: Float[np.ndarray, "B D"], interface: Interface | None = None) -> np.ndarray:
        """Actions (B, A), clipped to [-1, 1]; or what an environment with this interface gets."""
        actions = self(torch.from_numpy(observations).float()).double().numpy()
        return np.clip(actions, -1.0, 1.0) if interface is None else returned(interface, actions)


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


def cloned(
    episodes: Episodes,
    steps: int,
    seed: int,
    goal: tuple[int, ...] = (),
    on_step: Callable[[int], object] | None = None,
) -> Clone:
    """Clone the behaviour of episodes, with AdamW and batches of 256.

    Args:
        goal: the numbers of an observation that a goal fixes; the clone then reads an observation and a goal,
            and learns from goals that the same episode reached later (Ghosh et al. 2021).
        on_step: called every 100 steps with their number.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    known = relabelled(episodes, goal, np.random.default_rng(seed)) if goal else episodes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clone = Clone(known)
    optimizer = torch.optim.AdamW(clone.parameters(), 1e-3, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = pairs(known, 256)
    for step in range(steps):
        loss, _ = cloning_loss(clone, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if on_step is not None and step % 100 == 0:
            on_step(step)
    return clone.eval()


def relabelled(episodes: Episodes, goal: tuple[int, ...], rng: np.random.Generator) -> Episodes:
    """Episodes whose observations are followed by a goal, which the same episode reaches at a uniform later
    step (hindsight)."""
    rows = np.arange(len(episodes))
    last = np.repeat(episodes.ends - 1, episodes.ends - episodes.starts)
    later = rows + np.ceil(rng.random(len(rows)) * (last - rows)).astype(np.int64)
    goals = episodes.observations[later][:, list(goal)]
    wide = np.concatenate([episodes.observations, goals], axis=1)
    return replace(episodes, observations=wide, final_observations=None)

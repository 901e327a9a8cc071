"""Windows of actions and observations, and the returns that follow them."""

from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.planning.data.episodes import Episodes


class Trajectories:
    """Windows (B, H, A + D) of rows (action, observation), which may begin at every step of the data.

        row     i        i + 1    ...  last of the episode   last    last
        window  0        1             H - 3                 H - 2   H - 1
                known                                        padded with the last row

    Diffuser's released code pads with zeros in the data's units, so that a terminal state is followed by a
    jump to zero, and leaves out the last step of each episode.

    Args:
        unpadded: windows begin only where the episode has at least this number of rows left.
    Raises:
        ValueError: no episode is that long.
    """

    def __init__(self, episodes: Episodes, unpadded: int = 1) -> None:
        rows = np.concatenate([episodes.actions, episodes.observations], axis=1).astype(np.float32)
        self.rows: Float[Tensor, "N D"] = torch.from_numpy(rows)
        self._last: Int[Tensor, " N"] = torch.from_numpy(
            np.repeat(episodes.ends - 1, episodes.ends - episodes.starts)
        )
        room = self._last - torch.arange(len(rows), device="cpu")
        self._first = torch.nonzero(room >= unpadded - 1)[:, 0]
        if not len(self._first):
            longest = int((episodes.ends - episodes.starts).max())
            raise ValueError(
                f"these data have no episode of {unpadded} steps; the longest of {len(episodes.ends)} has "
                f"{longest}"
            )
        self.episodes = int(
            ((episodes.ends - episodes.starts) >= unpadded).sum()
        )  # those that windows come from

    def __len__(self) -> int:
        return len(self._first)

    def windows(
        self, first: Int[Tensor, " B"], horizon: int
    ) -> tuple[Float[Tensor, "B H D"], Bool[Tensor, "B H"]]:
        """The windows that begin at steps `first`, and which of their rows are no padding."""
        index = first[:, None] + torch.arange(horizon, device="cpu")
        last = self._last[first][:, None]
        return self.rows[torch.minimum(index, last)], index <= last

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, " B"]:
        """The first steps of `count` windows, drawn uniformly."""
        return self._first[torch.randint(len(self), (count,), generator=generator, device="cpu")]

    def draw_whole(self, count: int, horizon: int, generator: torch.Generator) -> Int[Tensor, " B"]:
        """The first steps of `count` windows without padding, drawn uniformly.

        Raises:
            ValueError: no episode has `horizon` steps.
        """
        order, ascending = self._by_room
        fitting = len(order) - int(torch.searchsorted(ascending, horizon - 1))
        if not fitting:
            raise ValueError(f"these data have no episode of {horizon} steps; give a smaller horizon")
        chosen = torch.randint(fitting, (count,), generator=generator, device="cpu")
        return order[len(order) - fitting :][chosen]

    @cached_property
    def _by_room(self) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
        """The first steps of windows in the order of how many steps follow in their episode, and that."""
        room = self._last[self._first] - self._first
        ascending, order = room.sort(stable=True)
        return self._first[order], ascending


def returns_to_go(
    episodes: Episodes, discount: float, termination_penalty: float = 0.0
) -> Float[np.ndarray, " N"]:
    """G_t = sum_{k >= 0} discount^k r_{t+k} up to the end of the episode. Rewards after a `timeouts` count as
    0, as in the released code.

    Args:
        episodes: the data.
        discount: per environment step, in (0, 1].
        termination_penalty: added to the reward of a terminal transition.
    Returns:
        (N,), the return that follows each step.

    Raises:
        ValueError: discount outside (0, 1].
    """
    if not 0.0 < discount <= 1.0:
        raise ValueError(f"discount must lie in (0, 1], got {discount}")
    rewards = episodes.rewards.astype(np.float64) + termination_penalty * episodes.terminals
    following = np.empty(len(rewards), np.float32)

    def earlier(after: float, reward: float) -> float:
        return reward + discount * after

    for start, end in zip(episodes.starts.tolist(), episodes.ends.tolist(), strict=True):
        backwards = accumulate(rewards[start:end][::-1].tolist(), earlier)
        following[start:end] = np.fromiter(backwards, np.float64, end - start)[::-1]
    return following


def continued_returns(
    episodes: Episodes, discount: float, termination_penalty: float = 0.0
) -> Float[np.ndarray, " N"]:
    """`returns_to_go` of episodes that go on after their recording: an episode without a terminal transition
    has, after its last step, the mean reward of its last 1 / (1 - discount) steps for ever.

        G_t += discount^(T - t) mean / (1 - discount)        (T steps, of which t is the first to count)

    Without this the last steps of a recording of costs look best, since little cost is left.

    Raises:
        ValueError: discount outside (0, 1).
    """
    if not 0.0 < discount < 1.0:
        raise ValueError(f"continued returns need a discount in (0, 1), got {discount}")
    following = returns_to_go(episodes, discount, termination_penalty)
    last = max(1, round(1.0 / (1.0 - discount)))
    for start, end in zip(episodes.starts.tolist(), episodes.ends.tolist(), strict=True):
        if not episodes.terminals[end - 1]:
            tail = float(episodes.rewards[max(start, end - last) : end].mean(dtype=np.float64))
            following[start:end] += (
                discount ** np.arange(end - start, 0, -1) * tail / (1.0 - discount)
            ).astype(np.float32)
    return following


def ranks(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The fraction of the other values that are smaller than each value, 0 for the smallest and 1 for the
    largest; ties get their mean."""
    order = np.sort(values)
    below, upto = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return (0.5 * (below + upto - 1) / max(1, len(values) - 1)).astype(np.float32)

"""Training windows of block stacking: what is commanded from a state until its move is done."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.stacking_states import CONTACTS, CUBES, JOINTS, PLACES, SIZE

AT_BEGIN = 0.3
"""Probability that a window begins where its move does, as most plans do."""


class Windows(NamedTuple):
    """Windows of one batch.

    Args:
        rows: (B, H, 39). Row 0 is a state. Row h > 0 has the commanded joints, the cubes and the commanded
            suction of h `stride` steps later; after the end of the move its last ones.
        goals: (B, 4, 3), positions of the cubes at the end of the move, in m.
    """

    rows: Float[Tensor, "B H 39"]
    goals: Float[Tensor, "B 4 3"]


class StackingWindows:
    """The moves of recorded episodes that have succeeded and fit into a window.

    Args:
        episodes: as `unveil data stacking` writes them.
        horizon: H, rows of a window.
        stride: environment steps between two rows.
    Raises:
        ValueError: no states of 39 numbers, no `infos` about moves, or no move that has succeeded.
    """

    def __init__(self, episodes: Episodes, horizon: int, stride: int) -> None:
        if episodes.observations.shape[1] != SIZE or episodes.actions.shape[1] != JOINTS + 1:
            raise ValueError(
                f"block stacking has states of {SIZE} numbers ({CUBES} cubes) and actions of {JOINTS + 1}, "
                f"got {episodes.observations.shape[1]} and {episodes.actions.shape[1]}"
            )
        if not {"move", "cube"} <= set(episodes.infos):
            raise ValueError("infos/move and infos/cube are missing; make the data by: unveil data stacking")
        self.horizon, self.stride = horizon, stride
        self.begins, self.ends = moves_of(episodes)
        if not len(self.begins):
            raise ValueError("no move of these data has succeeded (no reward of 1)")
        self.longest = (horizon - 1) * stride
        self.states = torch.from_numpy(episodes.observations.astype(np.float32))
        self.commands = torch.from_numpy(commanded(episodes))

    def __len__(self) -> int:
        return len(self.begins)

    def draw(self, size: int, generator: torch.Generator) -> Windows:
        """Random windows; moves in proportion to their lengths."""

        def uniform() -> Tensor:
            return torch.rand(size, generator=generator, device="cpu", dtype=torch.float64)

        begins, ends = torch.from_numpy(self.begins), torch.from_numpy(self.ends)
        which = torch.multinomial((ends - begins).double(), size, replacement=True, generator=generator)
        first, last = begins[which], ends[which] - 1
        earliest = torch.maximum(first, last - self.longest)
        inside = earliest + (uniform() * (last - earliest)).long()
        starts = torch.where(uniform() < AT_BEGIN, earliest, inside)
        return self.at(starts, last)

    def at(self, starts: Int[Tensor, " B"], last: Int[Tensor, " B"]) -> Windows:
        """The windows from some steps to the last steps of their moves."""
        steps = starts[:, None] + self.stride * torch.arange(self.horizon)
        rows = self.commands[torch.minimum(steps, last[:, None])]
        rows[:, 0] = self.states[starts]
        return Windows(rows, self.states[last][:, PLACES])


def moves_of(episodes: Episodes) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """First steps of the moves that have succeeded, and the steps after their last ones."""
    move = episodes.infos["move"]
    new = np.ones(len(episodes), bool)
    new[1:] = move[1:] != move[:-1]
    new[episodes.starts] = True
    begins = np.flatnonzero(new)
    ends = np.append(begins[1:], len(episodes))
    done: Bool[np.ndarray, " M"] = episodes.rewards[ends - 1] > 0.5
    return begins[done], ends[done]


def commanded(episodes: Episodes) -> Float[np.ndarray, "N 39"]:
    """States with the commanded joints in place of the measured ones, and the commanded suction, at the cube
    that is moved, in place of the contacts."""
    rows = episodes.observations.astype(np.float32)
    rows[:, :JOINTS] = episodes.actions[:, :JOINTS]
    moved = np.arange(CUBES) == episodes.infos["cube"][:, None]
    rows[:, CONTACTS] = moved * (episodes.actions[:, JOINTS:] > 0.5)
    return rows

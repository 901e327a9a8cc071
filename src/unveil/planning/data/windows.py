"""Windows of recorded paths: parts of one episode, of every length, at a stride."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.planning.data.episodes import Episodes


class Windows(NamedTuple):
    """Windows (B, H, D), which of their positions are no padding (B, H), and how many (B,)."""

    positions: Float[Tensor, "B H D"]
    valid: Bool[Tensor, "B H"]
    lengths: Int[Tensor, " B"]


class PathWindows:
    """Draw windows (B, H, D) of positions, the first D numbers of observations, inside one episode and
    `stride` steps apart.

        step      i        i + stride   i + 2 stride  ...  i + (H - 1) stride  <= last of the episode
        position  0        1            2             ...  H - 1
                  start                                    goal

    Of two uniform first steps the one with more of its episode ahead is taken, since long windows are rare
    and difficult. A fraction `to_end` of the windows reaches to the last position of the episode (the start
    moves by less than a stride, or further if `longest` cuts the window); the others stop at a uniform later
    position. Windows are padded by repeating the goal. The windows of a batch have similar lengths, from a
    sorted pool, so that padding is short; the distribution of windows over all batches is not changed by
    this.

    Args:
        episodes: the data.
        dimensions: D, size of a position.
        stride: environment steps between two positions.
        to_end: fraction of the windows that reach to the end of their episode.
        pool: number of windows drawn per window used.
        longest: positions of the longest window; by default the longest episode's.
    Raises:
        ValueError: no episode is longer than one stride.
    """

    def __init__(
        self,
        episodes: Episodes,
        dimensions: int,
        stride: int,
        to_end: float = 0.5,
        pool: int = 4,
        longest: int | None = None,
    ) -> None:
        self.stride, self.to_end, self.pool = stride, to_end, pool
        self.values = torch.from_numpy(
            np.ascontiguousarray(episodes.observations[:, :dimensions], dtype=np.float32)
        )
        last = np.repeat(episodes.ends - 1, episodes.ends - episodes.starts)
        room = (last - np.arange(len(episodes))) // stride
        if longest is not None:
            room = np.minimum(room, longest - 1)
        self._first = torch.from_numpy(np.flatnonzero(room > 0))
        if not len(self._first):
            raise ValueError(
                f"windows: no episode has more than {stride} steps, of {len(episodes.ends)}; give a smaller "
                "stride or longer episodes"
            )
        self.episodes = int(
            ((episodes.ends - episodes.starts) > stride).sum()
        )  # those that windows come from
        self._last = torch.from_numpy(last)[self._first]
        self._room = torch.from_numpy(room)[self._first]

    @property
    def longest(self) -> int:
        """Number of positions of the longest window."""
        return int(self._room.max()) + 1

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        """Draw `count` windows of similar length."""
        first, strides = self.propose(count * self.pool, generator)
        return batch(self.values, self.stride, first, strides, count, generator)

    def propose(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
        """First steps, and lengths in strides, of `count` windows, unsorted."""
        pair = torch.randint(len(self._first), (2, count), generator=generator, device="cpu")
        picked = torch.where(self._room[pair[0]] >= self._room[pair[1]], pair[0], pair[1])
        room, first = self._room[picked], self._first[picked]
        whole = torch.rand(len(picked), generator=generator, device="cpu") < self.to_end
        shorter = 1 + (torch.rand(len(picked), generator=generator, device="cpu") * room).long().clamp(
            max=room - 1
        )
        strides = torch.where(whole, room, shorter)
        return torch.where(whole, self._last[picked] - strides * self.stride, first), strides

    def ends(
        self, first: Int[Tensor, " N"], strides: Int[Tensor, " N"]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Start and goal of windows."""
        return self.values[first], self.values[first + strides * self.stride]


class ListedWindows:
    """Draw from a list of windows, the longer one of two uniform ones, in batches of similar length.

    Args:
        windows: the data.
        first: (N,), first step of each window.
        strides: (N,), length of each window in strides.
    Raises:
        ValueError: the list is empty.
    """

    def __init__(self, windows: PathWindows, first: Int[Tensor, " N"], strides: Int[Tensor, " N"]) -> None:
        if not len(first):
            raise ValueError("windows: the list is empty")
        self.windows, self.first, self.strides = windows, first, strides
        self.episodes = windows.episodes

    @property
    def longest(self) -> int:
        """Number of positions of the longest window."""
        return int(self.strides.max()) + 1

    def draw(self, count: int, generator: torch.Generator) -> Windows:
        """Draw `count` windows of similar length."""
        pair = torch.randint(
            len(self.first), (2, count * self.windows.pool), generator=generator, device="cpu"
        )
        picked = torch.where(self.strides[pair[0]] >= self.strides[pair[1]], pair[0], pair[1])
        return batch(
            self.windows.values,
            self.windows.stride,
            self.first[picked],
            self.strides[picked],
            count,
            generator,
        )


def batch(
    values: Float[Tensor, "T D"],
    stride: int,
    first: Int[Tensor, " N"],
    strides: Int[Tensor, " N"],
    count: int,
    generator: torch.Generator,
) -> Windows:
    """A uniformly drawn block of `count` of the N windows, sorted by length."""
    order = strides.argsort(stable=True)
    block = int(torch.randint(len(first) // count, (1,), generator=generator, device="cpu"))
    chosen = order[block * count : (block + 1) * count]
    strides, first = strides[chosen], first[chosen]
    place = torch.arange(int(strides.max()) + 1, device="cpu")
    valid = place <= strides[:, None]
    index = first[:, None] + torch.minimum(place, strides[:, None]) * stride
    return Windows(values[index], valid, strides + 1)

"""Windows of demonstrations: observations, and the actions around them. Diffusion Policy, Chi et al. 2023."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from unveil.files.notes import note
from unveil.policy.data.frames import Frames, Held


class Chunks:
    """Windows of H steps, up to n_obs - 1 of them before an episode and up to n_action - 1 after it.

        n_obs 2, horizon 16, n_action 8; o: observed, a: action, x: action that is executed; "now" is step k

        step of the episode   k-1  k   k+1 ... k+7  k+8 ... k+14
        row of the window      0   1    2  ...  8    9  ...  15
        observations           o   o
        actions                a   x    x  ...  x    a  ...  a
                                   ^ n_obs - 1     ^ n_obs - 1 + n_action

        episode of L steps     row 0 is step -(n_obs - 1) .. L - H + n_action - 1
        before its first step  the first step again (observation and action)
        after its last step    the last step again

    So the first decision of an episode is conditioned on n_obs copies of its first observation, and the
    n_action executed actions of every decision are data, except for padding. There is a window at every such
    position. Episodes of fewer than H - n_action - n_obs + 2 steps have none, as in the published code: they
    are left out, with a note.

    Args:
        whole: `windows` returns the observations of all H rows, not only of the first n_obs.
        pictures: images of the observation, in memory or by camera. They stay bytes, are decoded window by
            window, and in a window their C h w numbers follow the others, camera by camera.
    Attributes:
        episodes: number of episodes with at least one window.
    Raises:
        ValueError: horizon < n_obs + n_action - 1, numbers below 1, observations of another length, or no
            window at all.
    """

    def __init__(
        self,
        observations: Float[np.ndarray, "N D"],
        actions: Float[np.ndarray, "N A"],
        episode_ends: Int[np.ndarray, " E"],
        n_obs: int,
        horizon: int,
        n_action: int,
        pictures: UInt8[np.ndarray, "N h w C"] | Sequence[Frames] | None = None,
        whole: bool = False,
    ) -> None:
        check_window(n_obs, horizon, n_action)
        self.cameras: tuple[Frames, ...] = (
            (Held(pictures),) if isinstance(pictures, np.ndarray) else tuple(pictures or ())
        )
        for count in (len(observations), *(camera.shape[0] for camera in self.cameras)):
            if count != len(actions):
                raise ValueError(f"chunks: {count} observations, but {len(actions)} actions")
        self.n_obs, self.horizon, self.rows = n_obs, horizon, horizon if whole else n_obs
        self.observations = torch.from_numpy(np.ascontiguousarray(observations, np.float32))
        self.actions = torch.from_numpy(np.ascontiguousarray(actions, np.float32))
        ends = torch.from_numpy(np.asarray(episode_ends, np.int64))
        starts = torch.cat([ends.new_zeros(1), ends])[:-1]
        windows = (ends - starts - horizon + n_action + n_obs - 1).clamp(min=0)  # per episode
        self.low, self.high = (bound.repeat_interleave(windows) for bound in (starts, ends - 1))
        before = (windows.cumsum(0) - windows).repeat_interleave(windows)  # windows of earlier episodes
        self.begins = self.low - (n_obs - 1) + torch.arange(len(before), device="cpu") - before
        shortest, count = max(1, horizon - n_action - n_obs + 2), len(episode_ends)
        self.episodes = int((windows > 0).sum())
        if not self.episodes:
            raise ValueError(
                f"chunks: no episode is long enough for a window of {horizon} steps: {shortest} are needed; "
                "give a shorter horizon"
            )
        if self.episodes < count:
            note(
                f"{count - self.episodes} of {count} episodes have fewer than {shortest} steps, "
                "horizon - n_action - n_obs + 2, too few for a window, and are left out; a shorter horizon "
                "includes them"
            )

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def pictures(self) -> Tensor | None:
        """(N, h, w, C) of the only camera, where its pictures are in memory."""
        held = [camera.values for camera in self.cameras if isinstance(camera, Held)]
        return torch.from_numpy(held[0]) if len(held) == 1 else None

    def windows(self, which: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B n D"], Float[Tensor, "B H A"]]:
        """The observations and the actions of these windows."""
        rows = self.begins[which][:, None] + torch.arange(self.horizon, device="cpu")
        rows = torch.minimum(torch.maximum(rows, self.low[which][:, None]), self.high[which][:, None])
        observations = self.observations[rows[:, : self.rows]]
        if self.cameras:
            once, back = np.unique(rows[:, : self.rows].numpy(), return_inverse=True)  # padding repeats rows
            for camera in self.cameras:
                pixels = torch.from_numpy(camera.read(once))[
                    torch.from_numpy(back.reshape(rows[:, : self.rows].shape))
                ]
                pixels = pixels.permute(0, 1, 4, 2, 3).flatten(2)  # (B, n, C h w)
                observations = torch.cat([observations, pixels.to(torch.float32)], dim=2)
        return observations, self.actions[rows]

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, " B"]:
        """The numbers of `count` uniformly random windows."""
        return torch.randint(len(self), (count,), generator=generator, device="cpu")


def check_window(n_obs: int, horizon: int, n_action: int) -> None:
    """Refuse windows that do not hold the observations and the executed actions of a decision.

    Raises:
        ValueError: horizon < n_obs + n_action - 1, or a number below 1.
    """
    if min(n_obs, horizon, n_action) < 1:
        raise ValueError(
            f"n_obs, horizon and n_action must be at least 1, got {n_obs}, {horizon} and {n_action}"
        )
    if horizon < n_obs + n_action - 1:
        raise ValueError(
            f"horizon must be at least n_obs + n_action - 1 = {n_obs + n_action - 1}, to predict all "
            f"executed actions; got {horizon}"
        )


def published_split(episodes: int, share: float, most: int, seed: int) -> np.ndarray:
    """The training episodes, (E,) bool, drawn as in the published code.

    round(share * E), at least one if share > 0, are held out by numpy's `default_rng(seed).choice`; of the
    others at most `most` (0: all) are drawn by another generator with the same seed.

    Raises:
        ValueError: share outside [0, 1), or nothing is left.
    """
    if not 0.0 <= share < 1.0 or most < 0:
        raise ValueError(f"a share in [0, 1) and a number of at least 0 are needed, got {share} and {most}")
    kept = np.ones(episodes, dtype=bool)
    held = min(max(1, round(share * episodes)), episodes - 1) if share else 0
    kept[np.random.default_rng(seed).choice(episodes, held, replace=False)] = False
    if most and most < kept.sum():
        rest = np.flatnonzero(kept)
        kept[:] = False
        kept[rest[np.random.default_rng(seed).choice(len(rest), most, replace=False)]] = True
    return kept

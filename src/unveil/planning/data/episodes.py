"""Recorded behaviour: flat transitions and the ends of their episodes."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Origin(NamedTuple):
    """What a source says of its transitions beside their numbers.

    Args:
        fields: the entries of dictionary observations that a row holds, in its order; () for flat ones.
        rewarded: whether the source has rewards; without them they are all 0.
        whole: whether actions were stored as one whole number per step, as discrete actions are.
        environment: the id of the environment that was recorded, such as Pendulum-v1; "" if unknown.
    """

    fields: tuple[str, ...] = ()
    rewarded: bool = True
    whole: bool = False
    environment: str = ""


UNKNOWN = Origin()


@dataclass(frozen=True)
class Episodes:
    """N transitions of E episodes, one after another, as in D4RL.

    An episode ends with a transition whose `terminals` or `timeouts` is set; the rest after the last such
    transition is an episode too.

    Args:
        observations: (N, D), before the actions.
        actions: (N, A).
        rewards: (N,).
        terminals: (N,), transitions after which the task ended.
        timeouts: (N,), transitions after which the recording ended.
        final_observations: (E, D), the observation after the last action of each episode, or None if the
            source lacks them.
        infos: further arrays of N rows.
        origin: what else the source says.
    Raises:
        ValueError: no transition, arrays of different length, a wrong rank, or a number that is not finite.
    """

    observations: Float[np.ndarray, "N D"]
    actions: Float[np.ndarray, "N A"]
    rewards: Float[np.ndarray, " N"]
    terminals: Bool[np.ndarray, " N"]
    timeouts: Bool[np.ndarray, " N"]
    final_observations: Float[np.ndarray, "E D"] | None = None
    infos: dict[str, np.ndarray] = field(default_factory=dict)
    origin: Origin = UNKNOWN

    def __post_init__(self) -> None:
        arrays = {"observations": self.observations, "actions": self.actions, "rewards": self.rewards}
        arrays |= {"terminals": self.terminals, "timeouts": self.timeouts} | {
            f"infos/{k}": v for k, v in self.infos.items()
        }
        count = len(self.observations) if self.observations.ndim else 0
        if count == 0:
            raise ValueError("episodes: at least one transition is needed, got none")
        for name, array in arrays.items():
            rank = 2 if name in ("observations", "actions") else 1
            if array.ndim < rank or (array.ndim != rank and not name.startswith("infos/")):
                raise ValueError(f"episodes: {name} must have {rank} axes, got shape {array.shape}")
            if len(array) != count:
                raise ValueError(f"episodes: {name} has {len(array)} rows, but observations have {count}")
            _check_finite(name, array)
        if self.final_observations is not None and self.final_observations.shape != (
            len(self.ends),
            self.observations.shape[1],
        ):
            raise ValueError(
                "episodes: final_observations must have shape "
                f"{(len(self.ends), self.observations.shape[1])}, "
                f"got {self.final_observations.shape}"
            )
        if self.final_observations is not None:
            _check_finite("final_observations", self.final_observations)

    def __len__(self) -> int:
        return len(self.observations)

    @cached_property
    def ends(self) -> Int[np.ndarray, " E"]:
        """The index after the last transition of each episode, ascending; the last one is N."""
        marks = np.flatnonzero(self.terminals | self.timeouts) + 1
        return marks if marks.size and marks[-1] == len(self) else np.append(marks, len(self))

    @cached_property
    def starts(self) -> Int[np.ndarray, " E"]:
        """The index of the first transition of each episode."""
        return np.concatenate([[0], self.ends[:-1]])

    @cached_property
    def returns(self) -> Float[np.ndarray, " E"]:
        """The sum of rewards of each episode, in float64."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.starts)

    def chosen(self, which: Bool[np.ndarray, " E"]) -> "Episodes":
        """The selected episodes, with the same ends.

        Args:
            which: (E,), whether an episode is selected.
        Raises:
            ValueError: none is selected.
        """
        rows = np.repeat(which, self.ends - self.starts)
        timeouts = self.timeouts.copy()
        timeouts[-1] |= not self.terminals[-1]  # an episode without a mark at the end gets one
        final = self.final_observations
        return Episodes(
            self.observations[rows],
            self.actions[rows],
            self.rewards[rows],
            self.terminals[rows],
            timeouts[rows],
            None if final is None else final[which],
            {name: values[rows] for name, values in self.infos.items()},
            self.origin,
        )


def _check_finite(name: str, array: np.ndarray) -> None:
    """Refuse numbers that are not finite.

    Raises:
        ValueError: there is one; the message says where.
    """
    if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
        return
    rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    where = np.argwhere(~np.isfinite(array))[0].tolist()
    value = array[tuple(where)]
    raise ValueError(
        f"episodes: {name} holds numbers that are not finite, in {len(rows)} of {len(array)} rows; the "
        f"first is {value} in row {rows[0]}" + (f", column {where[1]}" if len(where) > 1 else "")
    )


def held_out(episodes: Episodes, share: float, seed: int) -> tuple[Episodes, Episodes]:
    """Split off episodes: those for training, and a fraction `share` of the episodes (at least one) for
    validation.

    Raises:
        ValueError: share outside (0, 1), or fewer than two episodes.
    """
    count = len(episodes.ends)
    if not 0.0 < share < 1.0 or count < 2:
        raise ValueError(
            f"held_out: a share in (0, 1) of at least two episodes is needed, got {share} of {count}"
        )
    order = np.random.default_rng(seed).permutation(count)
    apart = np.zeros(count, dtype=bool)
    apart[order[: max(1, round(share * count))]] = True
    return episodes.chosen(~apart), episodes.chosen(apart)

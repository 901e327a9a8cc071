"""Demonstrations: observations, actions, and the ends of episodes; the common form of all replay buffers."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from unveil.errors import UnveilError
from unveil.files.atomic import MADE, output
from unveil.files.notes import note
from unveil.files.npz import npz_arrays, npz_words
from unveil.policy.data.fields import PICTURE_AXES, Pictures, Unread, as_pictures, check_kind, picture_wanted
from unveil.policy.data.frames import ChosenFrames, Frames

ACTIONS, ENDS, NAMES, HZ = ("action", "actions"), "episode_ends", "action_names", "hz"


class Recording(NamedTuple):
    """What a file records beside the steps.

    Args:
        hz: steps per second; None if it is not recorded.
        action_names: a name for each number of an action; empty if there are none.
        filters: named subsets of the episodes, (E,) bool: robomimic's masks, LeRobot's splits.
        unread: pictures that are there and were not asked for, by name, with their shape (h, w, C).
    """

    hz: float | None = None
    action_names: tuple[str, ...] = ()
    filters: Mapping[str, np.ndarray] = {}
    unread: Mapping[str, tuple[int, ...]] = {}


@dataclass(frozen=True)
class Demonstrations:
    """N steps of E episodes, one after another.

    Args:
        observations: arrays (N, ...) by name, observed before the action of the same row; floats, or uint8
            pictures (N, H, W, C).
        actions: (N, A).
        episode_ends: (E,), one past each episode's last row, increasing; the last is N.
        left: fields of the file that were left out, and the reason, as the end of a sentence.
        recording: what the file records beside the steps.
        cameras: pictures (N, h, w, C) by name that are decoded when they are needed.
    Raises:
        ValueError: no step, arrays of different length, ends that do not increase from above 0 to N, or a
            number that is not finite.
    """

    observations: Mapping[str, np.ndarray]
    actions: Float[np.ndarray, "N A"]
    episode_ends: Int[np.ndarray, " E"]
    left: Mapping[str, str] = field(default_factory=dict[str, str])
    recording: Recording = field(default_factory=Recording)
    cameras: Mapping[str, Frames] = field(default_factory=dict[str, Frames])

    def __post_init__(self) -> None:
        count = len(self.actions)
        if self.actions.ndim != 2 or 0 in self.actions.shape:
            raise ValueError(
                f"actions must have shape (N, A) with N and A of at least 1, got {self.actions.shape}"
            )
        ends = self.episode_ends
        if ends.ndim != 1 or not len(ends) or ends[0] < 1 or bool((np.diff(ends) <= 0).any()):
            got = ends[:8].tolist() if ends.ndim == 1 else f"shape {ends.shape}"
            raise ValueError(f"episode_ends must increase from above 0, got {got}")
        if int(ends[-1]) != count:
            raise ValueError(
                f"episode_ends must end with the number of actions, {count}, got {int(ends[-1])}"
            )
        for name, values in {"actions": self.actions, **self.observations}.items():
            if values.ndim < 2 or len(values) != count:
                raise ValueError(
                    f"{name!r} must have {count} rows of numbers, one per action, got shape {values.shape}"
                )
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise ValueError(f"{name!r} holds a number that is not finite in row {row}")
        for name, frames in self.cameras.items():
            if frames.shape[0] != count:
                raise ValueError(f"{name!r} has {frames.shape[0]:,} pictures for {count:,} actions")

    def __len__(self) -> int:
        return len(self.actions)

    @cached_property
    def starts(self) -> Int[np.ndarray, " E"]:
        """The first row of each episode."""
        return np.concatenate([[0], self.episode_ends[:-1]])

    def chosen(self, which: Bool[np.ndarray, " E"]) -> "Demonstrations":
        """Only the marked episodes.

        Raises:
            ValueError: none is marked.
        """
        if not which.any():
            raise ValueError("no episode is chosen")
        lengths = self.episode_ends - self.starts
        rows = np.repeat(which, lengths)
        observations = {name: values[rows] for name, values in self.observations.items()}
        filters = {name: mask[which] for name, mask in self.recording.filters.items()}
        kept = np.flatnonzero(rows)
        return Demonstrations(
            observations,
            self.actions[rows],
            np.cumsum(lengths[which]),
            self.left,
            self.recording._replace(filters=filters),
            {name: ChosenFrames(frames, kept) for name, frames in self.cameras.items()},
        )

    def observed(self, *names: str) -> Float[np.ndarray, "N D"]:
        """Observations of these names side by side, each flattened.

        Raises:
            UnveilError: one is missing.
        """
        for name in names:
            if name not in self.observations:
                why = f" that can be read: it {self.left[name]}" if name in self.left else ""
                known = sorted(self.observations)
                raise UnveilError(
                    f"these demonstrations have no observation {name!r}{why}; they have {known}"
                )
        flat = [self.observations[name].reshape(len(self), -1) for name in names]
        return np.concatenate(flat, axis=1).astype(np.float32)


def checked(
    where: Path | str,
    observations: Mapping[str, np.ndarray],
    actions: np.ndarray,
    episode_ends: np.ndarray,
    left: Mapping[str, str] | None = None,
    recording: Recording = Recording(),  # noqa: B008
    cameras: Mapping[str, Frames] | None = None,
) -> Demonstrations:
    """Demonstrations from a file's arrays, each by `as_rows`.

    Args:
        left: fields that were left out, and the reason; printed as a note.
    Raises:
        UnveilError: the arrays are not demonstrations; the message begins with the file.
    """
    kept, left = dict[str, np.ndarray](), dict(left or {})
    try:
        if episode_ends.dtype.kind not in "iu":
            raise ValueError(f"episode_ends must be whole numbers, got {episode_ends.dtype}")
        for name, values in observations.items():
            if values.ndim == 0:
                left[name] = "is a single number"
            elif values.ndim == 1 and len(values) != len(actions) and len(values) == len(episode_ends):
                left[name] = "has one number for each episode, not for each step"
            else:
                kept[name] = as_rows(name, values)
        rows = as_rows("actions", actions).astype(np.float32)
        if len(recording.action_names) != rows.shape[-1]:
            recording = recording._replace(action_names=())
        ends = episode_ends.astype(np.int64)
        demonstrations = Demonstrations(kept, rows, ends, left, recording, cameras or {})
    except (ValueError, TypeError) as error:
        raise UnveilError(f"{where}: {error}") from error
    if left:
        note(f"{where}: left out {', '.join(f'{name!r}, which {why}' for name, why in left.items())}")
    return demonstrations


def as_rows(name: str, values: np.ndarray) -> np.ndarray:
    """Numbers as float32 rows, single ones as (N, 1); uint8 unchanged; pictures by `as_pictures`.

    Raises:
        ValueError: an unknown dtype, or colours with an unknown scale.
    """
    try:
        check_kind(values.dtype.kind, values.dtype)
        if values.ndim >= PICTURE_AXES:
            return as_pictures([values])
    except Unread as error:
        raise ValueError(f"{name!r} {error}") from error
    if values.dtype != np.uint8:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, which is refused
            values = values.astype(np.float32)
    return values[:, None] if values.ndim == 1 else values


def read_demonstrations_npz(path: Path | str, pictures: Pictures = True) -> Demonstrations:
    """Read `action` or `actions`, `episode_ends`, and all other arrays of numbers as observations.

    Args:
        pictures: read arrays of more than three axes, too, or those with these names.
    Raises:
        UnveilError: a file that is missing, damaged, or holds no demonstrations.
    """
    left, unread = dict[str, str](), dict[str, tuple[int, ...]]()

    def wanted(name: str, shape: tuple[int, ...]) -> bool:
        if not picture_wanted(name, len(shape), pictures):
            unread[name] = shape[1:]
        return name not in unread

    arrays = npz_arrays(path, (ENDS,), None, wanted, left)
    name = next((name for name in ACTIONS if name in arrays or name in left), None)
    if name is None:
        raise UnveilError(f"{path}: 'action' is missing; the file has {sorted(arrays)[:12]}")
    if name in left:
        raise UnveilError(f"{path}: {name!r} {left[name]}")
    actions, ends = arrays.pop(name), arrays.pop(ENDS)
    hz = arrays.pop(HZ) if HZ in arrays and arrays[HZ].size == 1 else None
    words = npz_words(path, NAMES) if left.pop(NAMES, None) else None
    names = () if words is None else tuple(map(str, words.reshape(-1).tolist()))
    recording = Recording(None if hz is None else float(hz.item()), names, {}, unread)
    return checked(path, arrays, actions, ends, left, recording)


def write_demonstrations(path: Path, demonstrations: Demonstrations) -> None:
    """Write an .npz for `read_demonstrations_npz`, completely or not at all.

    Raises:
        UnveilError: as `output`: a file that unveil did not write is not replaced.
    """
    ours: dict[str, np.ndarray] = {"action": demonstrations.actions, ENDS: demonstrations.episode_ends}
    recording = demonstrations.recording
    ours |= {} if recording.hz is None else {HZ: np.array(recording.hz)}
    ours |= {NAMES: np.array(recording.action_names)} if recording.action_names else {}
    arrays = dict(demonstrations.observations) | ours
    with output(path) as partial:
        with open(partial, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
        with zipfile.ZipFile(partial, "a") as archive:
            archive.comment = MADE.encode()

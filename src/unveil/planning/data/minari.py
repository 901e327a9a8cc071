"""Minari's HDF5 layout: one group `episode_<i>` per episode, with one observation more than actions."""

import os
import re
from pathlib import Path

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import array, check_held, created, opened, stored
from unveil.files.notes import left_out, note
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.transitions import column, flags, matrix


def is_minari(path: Path | str) -> bool:
    """Whether a path is a Minari data set: a folder, or a file with a group `episode_0`."""
    path = Path(path)
    if path.is_dir():
        return True
    with opened(path) as file:
        return "episode_0" in file


def read_minari(path: Path | str) -> Episodes:
    """Read a Minari data set: its folder, or its file main_data.hdf5.

    Of the dictionary observations of goal tasks, `observation` is kept and `desired_goal` becomes
    `infos["goal"]`. Of other dictionaries and tuples all arrays of numbers are concatenated, in the order of
    their names; images and text are left out, with a note. Episodes without a transition are left out too.

    Raises:
        UnveilError: missing, damaged, truncated or wrongly shaped.
    """
    path = Path(path)
    if os.path.isdir(path):
        inside = (path / "data" / "main_data.hdf5", path / "main_data.hdf5")
        if not any(place.is_file() for place in inside):
            raise UnveilError(
                f"{path}: a folder without data/main_data.hdf5, so it is no Minari data set; give that, an "
                "HDF5 file or an .npz"
            )
        path = next(place for place in inside if place.is_file())
    with opened(path) as file:
        names = sorted(
            (n for n in map(str, file) if re.fullmatch(r"episode_\d+", n)), key=lambda n: int(n[8:])
        )
        if not names:
            raise UnveilError(f"{path}: no group episode_0, episode_1, ...; is this a Minari file?")
        lost: set[str] = set()
        parts: list[dict[str, np.ndarray]] = []
        taken = 0
        for name in names:
            if (part := _episode(stored(file, name), name, path, lost)) is not None:
                parts.append(part)
                check_held(file, taken := taken + sum(values.nbytes for values in part.values()))
    if not parts:
        raise UnveilError(f"{path}: none of its {len(names)} episodes has a transition")
    if len(parts) < len(names):
        note(
            f"{path}: {len(names) - len(parts)} of {len(names)} episodes have no transition and are left out"
        )
    if lost:
        note(
            f"{path}: left out of the observations, since they are not numbers with at most one axis per "
            f"step: {left_out(sorted(lost))}"
        )
    goals = [part["goal"] for part in parts if "goal" in part]
    try:
        return Episodes(
            **{
                key: np.concatenate([part[key] for part in parts])
                for key in parts[0]
                if key not in ("final", "goal")
            },
            final_observations=np.stack([part["final"] for part in parts]),
            infos={"goal": np.concatenate(goals)} if len(goals) == len(parts) else {},
        )
    except (ValueError, TypeError) as error:
        raise UnveilError(f"{path}: {error}") from error


def _episode(group: object, name: str, path: Path, lost: set[str]) -> dict[str, np.ndarray] | None:
    """The arrays of an episode, or None if it has no transition."""
    if not isinstance(group, h5py.Group):
        raise UnveilError(f"{path}: {name} is not a group")
    seen = stored(group, "observations")
    actions, rewards = matrix(array(group, "actions")), column(array(group, "rewards"))
    if actions.shape[:1] == rewards.shape[:1] == (0,):
        return None
    observations = matrix(
        _side_by_side(seen, f"{path}: {name}", lost)
        if isinstance(seen, h5py.Group)
        else array(group, "observations")
    )
    terminals, timeouts = (
        flags(f"{path}: {name}'s {key}", array(group, key)) for key in ("terminations", "truncations")
    )
    shapes = [values.shape for values in (actions, rewards, terminals, timeouts, observations)]
    count = actions.shape[0] if actions.ndim else 0
    if (
        not count
        or actions.ndim != 2
        or observations.shape[:-1] != (count + 1,)
        or any(shape != (count,) for shape in shapes[1:4])
    ):
        raise UnveilError(
            f"{path}: {name} needs T >= 1 actions, rewards, terminations and truncations and T + 1 "
            "observations, "
            f"got shapes {', '.join(map(str, shapes))}"
        )
    if (terminals | timeouts)[:-1].any():
        raise UnveilError(f"{path}: {name} is marked as ended before its last transition")
    timeouts[-1] |= not terminals[-1]  # the group's end is the episode's end
    part = {
        "observations": observations[:-1],
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "timeouts": timeouts,
    }
    part["final"] = observations[-1]
    if isinstance(seen, h5py.Group) and "desired_goal" in seen:
        goal = array(seen, "desired_goal")
        if goal.shape[:1] != (count + 1,):
            raise UnveilError(
                f"{path}: {name} needs T + 1 = {count + 1} desired goals, got shape {goal.shape}"
            )
        part["goal"] = goal[:-1]
    return part


def _side_by_side(group: h5py.Group, where: str, lost: set[str]) -> np.ndarray:
    """The array `observation` of a group, or all its arrays (T + 1,) and (T + 1, D), concatenated in the
    order of their names.

    Args:
        lost: names of other entries are added to it.
    Raises:
        UnveilError: no such array, or arrays of different lengths.
    """
    if isinstance(stored(group, "observation"), h5py.Dataset):
        return array(group, "observation")
    found: list[np.ndarray] = []

    def look(inside: h5py.Group, before: str) -> None:
        for key in sorted(map(str, inside)):
            part = stored(inside, key)
            if isinstance(part, h5py.Group):
                look(part, f"{before}{key}/")
            elif isinstance(part, h5py.Dataset) and part.dtype.kind in "fiub" and part.ndim in (1, 2):
                found.append(matrix(array(inside, key)))
            else:
                lost.add(before + key)

    look(group, "")
    if not found or len({len(values) for values in found}) > 1:
        raise UnveilError(
            f"{where}: observations have no arrays of numbers of one length; they have "
            f"{sorted(map(str, group))[:12]}"
        )
    return np.concatenate(found, axis=1)


def write_minari(path: Path | str, episodes: Episodes) -> None:
    """Write a Minari data set, whole or not at all. This layout has no `infos`; they are left out.

    Raises:
        ValueError: the episodes lack `final_observations`, which this layout needs.
    """
    if episodes.final_observations is None:
        raise ValueError(
            "write_minari: final_observations are needed (T + 1 observations per episode), and these "
            "episodes have none"
        )
    with created(path) as file:
        for i, (start, end) in enumerate(zip(episodes.starts, episodes.ends, strict=True)):
            group = file.create_group(f"episode_{i}")
            group.attrs["id"], group.attrs["total_steps"] = i, end - start
            last = episodes.final_observations[i : i + 1]
            group["observations"] = np.concatenate([episodes.observations[start:end], last])
            group["actions"], group["rewards"] = episodes.actions[start:end], episodes.rewards[start:end]
            group["terminations"], group["truncations"] = (
                episodes.terminals[start:end],
                episodes.timeouts[start:end],
            )

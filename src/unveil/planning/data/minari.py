"""Minari's layouts: one group `episode_<i>` of HDF5, or one folder of arrow files, per episode, with one
observation more than actions."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import array, check_held, created, opened, stored
from unveil.files.notes import left_out, note
from unveil.planning.data.episodes import Episodes, Origin
from unveil.planning.data.fields import (
    ACHIEVED,
    DEFAULT,
    GOAL,
    Reading,
    check_vectors,
    hdf5_fields,
    row_fields,
)
from unveil.planning.data.transitions import column, flags, float32, is_whole, matrix


def is_minari(path: Path | str) -> bool:
    """Whether a path is a Minari data set: a folder, or a file with a group `episode_0`."""
    path = Path(path)
    if path.is_dir():
        return True
    with opened(path) as file:
        return "episode_0" in file


class Stored(NamedTuple):
    """One episode as it is stored: T actions, and T + 1 observations.

    Args:
        observations: the entries of a row by name, in its order; "" for flat observations.
        goals: `desired_goal` and `achieved_goal`, where they are read.
        rewards: None if there are none.
    """

    observations: dict[str, np.ndarray]
    goals: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray | None
    terminals: np.ndarray
    timeouts: np.ndarray


def read_minari(path: Path | str, how: Reading = DEFAULT) -> Episodes:
    """Read a Minari data set: its folder (of the format hdf5 or arrow), or its file main_data.hdf5.

    Of the dictionary observations of goal tasks, `observation` is kept and `desired_goal` becomes
    `infos["goal"]`. Of other dictionaries and tuples all arrays of numbers are concatenated, in the order of
    their names; images and text are left out, with a note. Episodes without a transition are left out too.

    Args:
        how: which entries of dictionary observations are read.
    Raises:
        UnveilError: missing, damaged, truncated or wrongly shaped.
    """
    path, lost = Path(path), dict[str, str]()
    folder = path if os.path.isdir(path) else path.parent
    if os.path.isdir(path):
        inside = (path / "data" / "main_data.hdf5", path / "main_data.hdf5")
        if is_arrow(path):
            names, parts, whole = _arrow_parts(path, how, lost)
            return _joined(path, folder, names, parts, how, lost, whole)
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
        parts: list[dict[str, np.ndarray]] = []
        taken, whole = 0, False
        for name in names:
            episode = _stored_group(stored(file, name), name, path, how, lost)
            whole = whole or is_whole(episode.actions)
            if (part := _part(episode, f"{path}: {name}", how)) is not None:
                parts.append(part)
                check_held(file, taken := taken + sum(values.nbytes for values in part.values()))
    return _joined(path, folder, names, parts, how, lost, whole)


def _joined(
    path: Path,
    folder: Path,
    names: list[str],
    parts: list[dict[str, np.ndarray]],
    how: Reading,
    lost: dict[str, str],
    whole: bool,
) -> Episodes:
    """The episodes one after another, with notes of what is left out."""
    if not parts:
        raise UnveilError(f"{path}: none of its {len(names)} episodes has a transition")
    if len(parts) < len(names):
        note(
            f"{path}: {len(names) - len(parts)} of {len(names)} episodes have no transition and are left out"
        )
    if lost and not how.observe:
        note(
            f"{path}: left out of the observations, since they are not numbers with at most one axis per "
            f"step: {left_out(sorted(lost))}"
        )
    infos = {
        name: np.concatenate([part[name] for part in parts])
        for name in ("goal", ACHIEVED)
        if all(name in part for part in parts)
    }
    of_rows = {"observations", "actions", "rewards", "terminals", "timeouts"}
    fields = tuple(key.removeprefix("field ") for key in parts[0] if key.startswith("field "))
    try:
        return Episodes(
            **{key: np.concatenate([part[key] for part in parts]) for key in parts[0] if key in of_rows},
            final_observations=np.stack([part["final"] for part in parts]),
            infos=infos,
            origin=Origin(fields, "unrewarded" not in parts[0], whole, environment_of(folder)),
        )
    except (ValueError, TypeError) as error:
        raise UnveilError(f"{path}: {error}") from error


def _part(episode: Stored, where: str, how: Reading) -> dict[str, np.ndarray] | None:
    """The arrays of an episode, or None if it has no transition."""
    actions = matrix(float32(f"{where}'s actions", episode.actions))
    rewards = (
        np.zeros(actions.shape[:1], np.float32)
        if episode.rewards is None
        else column(episode.rewards.astype(np.float32))
    )
    if actions.shape[:1] == rewards.shape[:1] == (0,):
        return None
    values = [matrix(float32(f"{where}'s observations", v)) for v in episode.observations.values()]
    if len(values) == 1:
        check_vectors(values[0], f"{where}'s observations")
    if not values or len({len(value) for value in values}) > 1:
        raise UnveilError(
            f"{where}: observations have no arrays of numbers of one length; they have "
            f"{sorted(episode.observations)[:12]}"
        )
    observations = np.concatenate(values, axis=1) if len(values) > 1 else values[0]
    terminals, timeouts = (
        flags(f"{where}'s {key}", value)
        for key, value in (("terminations", episode.terminals), ("truncations", episode.timeouts))
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
            f"{where} needs T >= 1 actions, rewards, terminations and truncations and T + 1 observations, "
            f"got shapes {', '.join(map(str, shapes))}"
        )
    if (terminals | timeouts)[:-1].any():
        raise UnveilError(f"{where} is marked as ended before its last transition")
    timeouts[-1] |= not terminals[-1]  # the group's end is the episode's end
    part = {
        "observations": observations[:-1],
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "timeouts": timeouts,
        "final": observations[-1],
    }
    part |= {f"field {name}": np.zeros(0) for name in episode.observations if name}
    part |= {"unrewarded": np.zeros(0)} if episode.rewards is None else {}
    for name, goal in episode.goals.items():
        if goal.shape[:1] != (count + 1,):
            raise UnveilError(
                f"{where} needs T + 1 = {count + 1} {'desired' if name == GOAL else 'achieved'} goals, got "
                f"shape {goal.shape}"
            )
        part["goal" if name == GOAL else name] = matrix(goal[:-1])
    return part


def _stored_group(group: object, name: str, path: Path, how: Reading, lost: dict[str, str]) -> Stored:
    """An episode of an HDF5 file.

    Args:
        lost: receives the entries of observations that make no row, and what they are.
    """
    if not isinstance(group, h5py.Group):
        raise UnveilError(f"{path}: {name} is not a group")
    seen = stored(group, "observations")
    rewards = array(group, "rewards") if how.rewards or stored(group, "rewards") is not None else None
    if isinstance(seen, h5py.Group):
        observations, goals = hdf5_fields(seen, f"{path}: {name}", how, lost)
    else:
        observations, goals = {"": array(group, "observations")}, {}
    return Stored(
        observations,
        goals,
        array(group, "actions", "n"),
        rewards,
        array(group, "terminations"),
        array(group, "truncations"),
    )


def _arrow_parts(
    path: Path, how: Reading, lost: dict[str, str]
) -> tuple[list[str], list[dict[str, np.ndarray]], bool]:
    """The names of the episodes of a folder of the format arrow, their arrays, and whether actions are whole
    numbers."""
    from unveil.planning.data.minari_arrow import arrow_columns, arrow_folders

    names, parts, whole = arrow_folders(path), list[dict[str, np.ndarray]](), False
    for folder in names:
        columns = arrow_columns(folder, lost)
        seen = {key.removeprefix("observations/"): v for key, v in columns.items() if "/" in key}
        if "observations" in columns:
            chosen, goals = {"": columns["observations"]}, {}
        else:
            chosen = {name: seen[name] for name in row_fields(list(seen), lost, how)}
            goals = {key: seen[key] for key in (GOAL, ACHIEVED)[: 1 + how.goals] if key in seen}
        own = [columns[key][:-1] for key in ("actions", "terminations", "truncations")]
        rewards = columns["rewards"][:-1] if "rewards" in columns else None
        episode = Stored(chosen, goals, own[0], rewards, own[1], own[2])
        whole = whole or is_whole(episode.actions)
        if (part := _part(episode, str(folder), how)) is not None:
            parts.append(part)
    return [str(folder) for folder in names], parts, whole


def is_arrow(path: Path) -> bool:
    """Whether a folder is a Minari data set of the format arrow."""
    data = path / "data" if (path / "data").is_dir() else path
    return not (data / "main_data.hdf5").is_file() and any(data.glob("*/*.arrow"))


def environment_of(folder: Path) -> str:
    """The id of the environment that a Minari data set was recorded in, from its metadata; "" if unknown."""
    for place in (folder / "metadata.json", folder / "data" / "metadata.json"):
        try:
            described = json.loads(place.read_text(encoding="utf-8"))
            spec = described.get("env_spec")
            spec = json.loads(spec) if isinstance(spec, str) else spec
            if isinstance(spec, dict) and isinstance(spec.get("id"), str):
                return spec["id"]
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
    return ""


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

"""D4RL's HDF5 layout: flat arrays `observations, actions, rewards, terminals, timeouts` and `infos/*`."""

from pathlib import Path

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import array, created, opened, stored
from unveil.files.notes import left_out, note
from unveil.files.npz import npz_arrays, npz_names
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


def read_d4rl(path: Path | str, how: Reading = DEFAULT) -> Episodes:
    """Read a D4RL data set. Without `timeouts` (in the oldest files) only `terminals` end an episode.

    Rewards, marks and one-dimensional actions may have a second axis of size 1, or lack it. Entries of
    `infos` that are not finite numbers for each transition are left out, with a note. `observations` may be a
    group of arrays.

    Args:
        how: which entries of a group of observations are read.
    Raises:
        UnveilError: missing, damaged, truncated or wrongly shaped.
    """
    with opened(path) as file:
        unrewarded = not how.rewards and stored(file, "rewards") is None
        rewards = np.zeros(0, np.float32) if unrewarded else column(array(file, "rewards"))
        actions = array(file, "actions", "n")
        rewards = np.zeros(actions.shape[:1], np.float32) if unrewarded else rewards
        timeouts = (
            np.zeros(rewards.shape[:1], dtype=bool)
            if stored(file, "timeouts") is None
            else flags(f"{path}: 'timeouts'", array(file, "timeouts"))
        )
        infos, lost = _infos(stored(file, "infos"), len(rewards) if rewards.ndim else 0)
        if lost:
            note(
                f"{path}: left out of infos, since they are not finite numbers for each transition: "
                f"{left_out(lost)}"
            )
        seen, goals, strange = stored(file, "observations"), {}, dict[str, str]()
        if isinstance(seen, h5py.Group):
            parts, goals = hdf5_fields(seen, str(path), how, strange)
        else:
            parts = {"": array(file, "observations")}
        terminals = flags(f"{path}: 'terminals'", array(file, "terminals"))
    return _episodes(str(path), parts, goals, actions, (rewards, terminals, timeouts), infos, unrewarded)


def _episodes(
    where: str,
    parts: dict[str, np.ndarray],
    goals: dict[str, np.ndarray],
    actions: np.ndarray,
    marks: tuple[np.ndarray, np.ndarray, np.ndarray],
    infos: dict[str, np.ndarray],
    unrewarded: bool,
) -> Episodes:
    """The episodes of arrays of transitions.

    Args:
        parts: the entries of a row by name; "" for flat observations.
        goals: `desired_goal` and `achieved_goal`.
        marks: rewards, terminals, timeouts.
    """
    values = [matrix(float32(f"{where}: {name or 'observations'!r}", part)) for name, part in parts.items()]
    for value in values:
        if not value.ndim:
            raise UnveilError(f"{where}: observations are a single number, but rows (N, D) are needed")
        check_vectors(value, f"{where}: observations")
    named = tuple(name for name in parts if name)
    if len({len(value) for value in values}) > 1:
        raise UnveilError(f"{where}: the fields of observations differ in their number of rows")
    infos = infos | {
        "goal" if name == GOAL else name: matrix(float32(f"{where}: {name!r}", goal))
        for name, goal in goals.items()
    }
    try:
        return Episodes(
            np.concatenate(values, axis=1) if len(values) > 1 else values[0],
            matrix(float32(f"{where}: 'actions'", actions)),
            marks[0],
            marks[1],
            marks[2],
            infos=infos,
            origin=Origin(named, not unrewarded, is_whole(actions)),
        )
    except (ValueError, TypeError) as error:
        raise UnveilError(f"{where}: {error}") from error


def _infos(group: object, count: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The usable entries of `infos`, in their stored type, and the names of the others: text, images, other
    lengths, NaN."""
    infos: dict[str, np.ndarray] = {}
    lost: list[str] = []
    if not isinstance(group, h5py.Group):
        return infos, lost
    for name in map(str, group):
        try:
            values, data = array(group, name), stored(group, name)
            if (
                isinstance(data, h5py.Dataset) and data.dtype.kind in "iu"
            ):  # float32 cannot represent all whole numbers
                values = np.asarray(data[()], data.dtype.newbyteorder("="))
        except (UnveilError, OSError):
            lost.append(name)
            continue
        if values.shape[:1] == (count,) and (values.dtype.kind != "f" or bool(np.isfinite(values).all())):
            infos[name] = values
        else:
            lost.append(name)
    return infos, lost


def write_d4rl(path: Path | str, episodes: Episodes) -> None:
    """Write a D4RL data set, whole or not at all. This layout has no `final_observations`; they are left
    out."""
    arrays = {
        "observations": episodes.observations,
        "actions": episodes.actions,
        "rewards": episodes.rewards,
        "terminals": episodes.terminals,
        "timeouts": episodes.timeouts,
    } | {f"infos/{name}": values for name, values in episodes.infos.items()}
    with created(path) as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip", compression_opts=1)


def read_npz(path: Path | str, how: Reading = DEFAULT) -> Episodes:
    """Read an .npz file of flat transitions: `observations, actions, rewards, terminals`, and optionally
    `timeouts`.

    Without `timeouts` only `terminals` end an episode. Rewards, marks and one-dimensional actions may have a
    second axis of size 1, or lack it. Dictionary observations are arrays `observations/NAME`. Other arrays
    are ignored, such as the `qpos` and `qvel` of OGBench.

    Args:
        how: which entries of dictionary observations are read.
    Raises:
        UnveilError: missing, damaged, truncated, hostile or wrongly shaped.
    """
    names = [name for name in npz_names(path) if name.startswith("observations/")]
    needed = [*(names or ["observations"]), "actions", "terminals"]
    if how.rewards or "rewards" in npz_names(path):
        needed.insert(-1, "rewards")
    strange = dict[str, str]()
    wanted = [name for name in needed if not name.startswith("observations/")]
    arrays = npz_arrays(
        path, wanted, [*names, "timeouts"], lambda name, shape: name == "timeouts" or len(shape) < 3, strange
    )
    if names:
        seen = [name.removeprefix("observations/") for name in names]
        lost = {name: "an array of text or pictures" for name in seen if f"observations/{name}" not in arrays}
        here = sorted(name for name in seen if name not in lost)
        parts = {name: arrays[f"observations/{name}"] for name in row_fields(here, lost, how)}
        goals = {
            key: arrays[f"observations/{key}"] for key in (GOAL, ACHIEVED)[: 1 + how.goals] if key in here
        }
        if lost and not how.observe:
            note(f"{path}: left out of the observations, since they are no vectors: {left_out(sorted(lost))}")
    else:
        parts, goals = {"": arrays["observations"]}, {}
    where = {name: f"{path}: {name!r}" for name in arrays}
    terminals = flags(where["terminals"], arrays["terminals"])
    timeouts = (
        flags(where["timeouts"], arrays["timeouts"])
        if "timeouts" in arrays
        else np.zeros(terminals.shape, dtype=bool)
    )
    unrewarded = "rewards" not in arrays
    rewards = (
        np.zeros(terminals.shape, np.float32)
        if unrewarded
        else column(float32(where["rewards"], arrays["rewards"]))
    )
    return _episodes(
        str(path), parts, goals, arrays["actions"], (rewards, terminals, timeouts), {}, unrewarded
    )

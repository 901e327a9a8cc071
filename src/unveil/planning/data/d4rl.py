"""D4RL's HDF5 layout: flat arrays `observations, actions, rewards, terminals, timeouts` and `infos/*`."""

from pathlib import Path

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import array, created, opened, stored
from unveil.files.notes import left_out, note
from unveil.files.npz import npz_arrays
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.transitions import column, flags, float32, matrix


def read_d4rl(path: Path | str) -> Episodes:
    """Read a D4RL data set. Without `timeouts` (in the oldest files) only `terminals` end an episode.

    Rewards, marks and one-dimensional actions may have a second axis of size 1, or lack it. Entries of
    `infos` that are not finite numbers for each transition are left out, with a note.

    Raises:
        UnveilError: missing, damaged, truncated or wrongly shaped.
    """
    with opened(path) as file:
        rewards = column(array(file, "rewards"))
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
        try:
            return Episodes(
                observations=matrix(array(file, "observations")),
                actions=matrix(array(file, "actions")),
                rewards=rewards,
                terminals=flags(f"{path}: 'terminals'", array(file, "terminals")),
                timeouts=timeouts,
                infos=infos,
            )
        except (ValueError, TypeError) as error:
            raise UnveilError(f"{path}: {error}") from error


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


def read_npz(path: Path | str) -> Episodes:
    """Read an .npz file of flat transitions: `observations, actions, rewards, terminals`, and optionally
    `timeouts`.

    Without `timeouts` only `terminals` end an episode. Rewards, marks and one-dimensional actions may have a
    second axis of size 1, or lack it. Other arrays are ignored.

    Raises:
        UnveilError: missing, damaged, truncated, hostile or wrongly shaped.
    """
    arrays = npz_arrays(path, ("observations", "actions", "rewards", "terminals"), ("timeouts",))
    where = {name: f"{path}: {name!r}" for name in arrays}
    terminals = flags(where["terminals"], arrays["terminals"])
    timeouts = (
        flags(where["timeouts"], arrays["timeouts"])
        if "timeouts" in arrays
        else np.zeros(terminals.shape, dtype=bool)
    )
    observations, actions, rewards = (
        float32(where[name], arrays[name]) for name in ("observations", "actions", "rewards")
    )
    try:
        return Episodes(matrix(observations), matrix(actions), column(rewards), terminals, timeouts)
    except (ValueError, TypeError) as error:
        raise UnveilError(f"{path}: {error}") from error

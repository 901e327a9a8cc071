"""D4RL's HDF5 layout: flat arrays `observations, actions, rewards, terminals, timeouts` and `infos/*`."""

from pathlib import Path

import h5py
import numpy as np

from unveil.data.episodes import Episodes
from unveil.data.hdf5 import array, check_held, created, opened, stored
from unveil.errors import UnveilError


def read_d4rl(path: Path | str) -> Episodes:
    """Read a D4RL dataset; without `timeouts` (the oldest files) only `terminals` end an episode.

    Raises:
        UnveilError: missing, damaged, truncated or wrongly shaped.
    """
    with opened(path) as file:
        extra = stored(file, "infos")
        infos: dict[str, np.ndarray] = {}
        if isinstance(extra, h5py.Group):
            for name in map(str, extra):
                if isinstance(stored(extra, name), h5py.Dataset):
                    infos[name] = array(extra, name)
                    check_held(file, sum(values.nbytes for values in infos.values()))
        rewards = array(file, "rewards")
        timeouts = np.zeros(rewards.shape[:1], dtype=bool) if stored(file, "timeouts") is None else array(file, "timeouts", "b")
        try:
            return Episodes(
                observations=array(file, "observations"),
                actions=array(file, "actions"),
                rewards=rewards,
                terminals=array(file, "terminals", "b"),
                timeouts=timeouts,
                infos=infos,
            )
        except (ValueError, TypeError) as error:
            raise UnveilError(f"{path}: {error}") from error


def write_d4rl(path: Path | str, episodes: Episodes) -> None:
    """Write a D4RL dataset, whole or not at all; `final_observations` have no place in this layout and are left out."""
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

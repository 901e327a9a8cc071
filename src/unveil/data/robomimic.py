"""robomimic's HDF5: data/demo_<i>/actions and data/demo_<i>/obs/<name>. Mandlekar et al. 2021."""

import re
from pathlib import Path

import h5py
import numpy as np

from unveil.data.demonstrations import Demonstrations, checked
from unveil.data.hdf5 import array, check_held, opened, stored
from unveil.errors import UnveilError


def read_robomimic(path: Path | str, pictures: bool = False) -> Demonstrations:
    """Read all demonstrations, in the order of their numbers.

    Args:
        pictures: read observations of three or more axes a step, too.
    Raises:
        UnveilError: missing, damaged, no `data/demo_<i>`, or demonstrations that do not have the same observations.
    """
    with opened(path) as file:
        data = stored(file, "data")
        names = map(str, data) if isinstance(data, h5py.Group) else []
        found = [(int(m[1]), m[0]) for m in (re.fullmatch(r"demo_(\d+)", name) for name in names) if m]
        if not isinstance(data, h5py.Group) or not found:
            raise UnveilError(
                f"{path}: no 'data/demo_0' here, so this is not robomimic's layout; the file has {sorted(map(str, file))[:12]}"
            )
        pieces: list[dict[str, np.ndarray]] = []
        taken = 0
        for _, name in sorted(found):
            demo = stored(data, name)
            seen = stored(demo, "obs") if isinstance(demo, h5py.Group) else None
            if not isinstance(demo, h5py.Group) or not isinstance(seen, h5py.Group):
                raise UnveilError(f"{path}: 'data/{name}/obs' is missing")
            piece = {"": array(demo, "actions")}
            for key in sorted(map(str, seen)):
                shape = getattr(stored(seen, key), "shape", ())
                if pictures or len(shape) < 4:
                    piece[key] = array(seen, key, "u" if len(shape) == 4 else "f")
            if pieces and piece.keys() != pieces[0].keys():
                raise UnveilError(f"{path}: 'data/{name}' has other observations than 'data/{sorted(found)[0][1]}'")
            if any(len(values) != len(piece[""]) for values in piece.values()):
                raise UnveilError(f"{path}: 'data/{name}' has {len(piece[''])} actions, but observations of another length")
            pieces.append(piece)
            check_held(file, taken := taken + sum(values.nbytes for values in piece.values()))
    ends = np.cumsum([len(piece[""]) for piece in pieces])
    joined = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
    actions = joined.pop("")
    return checked(path, joined, actions, ends)

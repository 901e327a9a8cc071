"""Find recorded behaviour: by a path, a D4RL name, a Minari id, or the name of a D4RL-style set made by
unveil."""

import os
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.download import download, verify
from unveil.files.places import found, home
from unveil.planning.data.d4rl import read_d4rl, read_npz
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.fields import DEFAULT, Reading
from unveil.planning.data.minari import is_minari, read_minari
from unveil.planning.data.names import D4RL, D4RL_MAZES, MINARI, OWN

D4RL_ROOT = "https://rail.eecs.berkeley.edu/datasets/offline_rl/"
D4RL_URL = D4RL_ROOT + "gym_mujoco_v2/"
D4RL_MAZE_URL = D4RL_ROOT + "maze2d/"
FILES = (".hdf5", ".h5", ".npz")


def read_episodes(source: str, how: Reading = DEFAULT) -> Episodes:
    """The episodes of a source.

    - a path, absolute, relative, or below `$UNVEIL_DATA` or the cache: HDF5 in D4RL's or Minari's layout, a
      Minari folder, or .npz;
    - a D4RL name such as `hopper-medium-replay-v2` or `maze2d-large-v1`: below `$UNVEIL_DATA`, or downloaded
      into the cache, `d4rl/`;
    - `hopper-medium` without a version: the D4RL-style set that `unveil data locomotion` makes;
    - a Minari id such as `mujoco/hopper/medium-v0`: downloaded before, or downloaded now with the package
      minari.

    Args:
        how: which entries of dictionary observations are read, and whether rewards must be there.
    Raises:
        UnveilError: no such source, or one that cannot be downloaded or is damaged; the message says how to
            get it.
    """
    path = found(Path(source))
    if source.strip() and os.path.exists(path):
        return read_file(path, how)
    if source in D4RL:
        return read_d4rl(_d4rl_file(D4RL[source]), how)
    if source in D4RL_MAZES:
        return read_d4rl(_d4rl_file(D4RL_MAZES[source], D4RL_MAZE_URL), how)
    if source in OWN:
        return read_file(_own_file(source), how)
    if MINARI.fullmatch(source):
        return read_minari(_minari_folder(source), how)
    if source.endswith(FILES) or source.startswith((".", "/", "~")):
        raise UnveilError(f"{source}: no such file, neither here nor below $UNVEIL_DATA or {home()}")
    close = get_close_matches(source, [*D4RL, *D4RL_MAZES, *OWN], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UnveilError(
        f"unknown data {source!r}{hint}; give a path (.hdf5, .npz or a Minari folder), a D4RL name such as "
        "hopper-medium-v2, "
        "a Minari id such as mujoco/hopper/medium-v0, or hopper-medium for what `unveil data locomotion` "
        "makes"
    )


def read_file(path: Path, how: Reading = DEFAULT) -> Episodes:
    """The episodes of a file or a Minari folder, in any of the layouts.

    Raises:
        UnveilError: missing, damaged or wrongly shaped.
    """
    if path.suffix.lower() == ".npz" or is_zip(path):
        return read_npz(path, how)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnveilError(
            f"{path}: neither a file nor a folder; give an HDF5 file, an .npz or a Minari folder"
        )
    return read_minari(path, how) if is_minari(path) else read_d4rl(path, how)


def _d4rl_file(name: str, url: str = D4RL_URL) -> Path:
    """A file of D4RL's server: below `$UNVEIL_DATA`, in the cache, or downloaded into it."""
    local = next(
        (place for place in (found(Path("d4rl") / name), found(Path(name))) if place.is_file()), None
    )
    if local is None:
        return download(url + name, home() / "d4rl" / name)
    verify(local)
    return local


def _own_file(name: str) -> Path:
    path = found(Path("locomotion") / f"{name}.hdf5")
    if path.is_file():
        return path
    body, _, mix = name.partition("-")
    raise UnveilError(
        f"{name}: our own D4RL-style set is not made yet ({home() / path}); make it with "
        f"`unveil data locomotion --body {body} --mix {mix} --policies DIR`, or name D4RL's {name}-v2"
    )


def _minari_folder(name: str) -> Path:
    """The folder of a Minari id: below `$UNVEIL_DATA`, or in minari's folder, downloaded if necessary."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    for folder in (found(Path("minari") / name), root / name):
        if folder.is_dir():
            return folder
    try:
        minari = import_module("minari")
    except ImportError as error:
        raise UnveilError(
            f"{name} is a Minari id; install minari to download it: pip install 'unveil[rl]'"
        ) from error
    try:
        minari.download_dataset(name)
    except Exception as error:  # whatever minari and its transports raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnveilError(
            f"cannot download {name} with minari ({reason}); `minari download {name}` would put it at "
            f"{root / name}"
        ) from error
    if not (root / name).is_dir():
        raise UnveilError(f"minari downloaded {name}, but there is no folder {root / name}")
    return root / name


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip archive, as .npz files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"

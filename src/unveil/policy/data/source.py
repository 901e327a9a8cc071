"""Demonstrations from a path in any known format, or from the https address of a file."""

import re
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.download import download
from unveil.files.places import found, home
from unveil.policy.data.aloha import aloha_files, read_aloha
from unveil.policy.data.demonstrations import Demonstrations, read_demonstrations_npz
from unveil.policy.data.fields import Pictures
from unveil.policy.data.lerobot import is_lerobot, read_lerobot
from unveil.policy.data.robomimic import read_robomimic
from unveil.policy.data.zarr import is_zarr, read_zarr


def read_demonstrations(source: str, pictures: Pictures = False, lazy: bool = False) -> Demonstrations:
    """Read the demonstrations of a source, whose format is recognised.

    - a zarr replay buffer, format 2 or 3, a folder or zipped: `data/*` and `meta/episode_ends`;
    - a LeRobot dataset folder, v2.0 to v3.0; robomimic's HDF5; ALOHA's, a folder of episode_<i>.hdf5;
    - an .npz with `action` and `episode_ends`;
    - an https address of one of these files, which is downloaded into the cache.

    Paths may be below `$UNVEIL_DATA` or the cache. Fields that are not numbers, such as text, are left out
    with a note.

    Args:
        pictures: read pictures, too, or those with these names: arrays of more than three axes, and a LeRobot
            dataset's images and videos. Colours become bytes, and all else, such as depth, keeps its numbers:
            `as_pictures`.
        lazy: pictures are `cameras`, decoded when they are needed, except those of an .npz.
    Raises:
        UnveilError: there is no such source, it cannot be downloaded, or it is damaged.
    """
    path = found(Path(source))
    if re.match(r"https?://", source):
        name = source.rstrip("/").rpartition("/")[2] or "demonstrations"
        path = download(source, home() / "downloads" / name)
    if is_lerobot(path):
        return read_lerobot(path, pictures, lazy)
    if not path.exists():
        raise UnveilError(
            f"{source}: no such file or folder, neither here nor below $UNVEIL_DATA or {home()}"
        )
    if aloha_files(path):
        return read_aloha(path, pictures, lazy)
    if path.suffix == ".npz":
        return read_demonstrations_npz(path, pictures)
    if path.suffix in (".hdf5", ".h5"):
        return read_robomimic(path, pictures, lazy)
    if is_zarr(path) or path.suffix in (".zarr", ".zip"):
        return read_zarr(path, pictures, lazy)
    if path.is_dir() and next((path / "data").rglob("*.parquet"), None) is not None:
        raise UnveilError(
            f"{source}: a LeRobot dataset without its meta/info.json; is the download complete?"
        )
    raise UnveilError(
        f"{source}: unknown format; a zarr folder or its .zip, a LeRobot dataset folder, .hdf5 of "
        "robomimic or ALOHA or an .npz with action and episode_ends is needed"
    )

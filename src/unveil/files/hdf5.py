"""Read untrusted HDF5 files without running code from them; write our own atomically."""

import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.atomic import MADE, output
from unveil.files.reading import reading

LARGEST = 16 * 2**30  # bytes of one array; a header that claims more is damaged or malicious
# Bytes of arrays per byte of the file: uniform pictures as floats reach 90, zeros under deflate 1032.
DENSEST = 200


def room(size: int) -> int:
    """The most bytes that a compressed file of `size` bytes may unpack to; 64 MiB for any file."""
    return min(LARGEST, 2**26 + DENSEST * size)


@contextmanager
def opened(path: Path | str) -> Generator[h5py.File]:
    """Open a file for reading.

    Raises:
        UnveilError: it is missing, a folder, or not a complete HDF5 file; errors of h5py while the file is
            open are raised as this one.
    """
    if not os.path.isfile(path):
        raise UnveilError(
            f"{path}: {'a folder, but an HDF5 file is needed' if os.path.isdir(path) else 'no such file'}"
        )
    if not os.path.getsize(path):
        raise UnveilError(f"{path}: not a whole HDF5 file: it is empty")
    with reading(path, "not a whole HDF5 file, damaged or cut short"), h5py.File(path, "r") as file:
        yield file


def check_held(file: h5py.File, taken: int) -> None:
    """Refuse a file from which more bytes were read than it can hold.

    Arrays that were never written read as zeros, and many of them exceed memory, though each alone is
    allowed.

    Raises:
        UnveilError: more bytes than the file can hold.
    """
    if taken > 4 * room(file.id.get_filesize()):  # 4: float32 converted from bytes
        raise UnveilError(
            f"{file.filename}: its arrays hold more than {taken:,} bytes together, more than this file can "
            "hold"
        )


@contextmanager
def created(path: Path | str) -> Generator[h5py.File]:
    """Create a file that is written once the block succeeds.

    It is built in memory, since HDF5 crashes the process when the disk is full.

    Raises:
        UnveilError: as `output`; a file that unveil did not make is not replaced.
    """
    with output(Path(path)) as partial:
        image = io.BytesIO()
        with h5py.File(image, "w") as file:
            file.attrs["origin"] = MADE
            yield file
        partial.write_bytes(image.getbuffer())


def stored(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | h5py.Datatype | None:
    """The object of that name in this file; None if there is none.

    Raises:
        UnveilError: it is a link to another object or file.
    """
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise UnveilError(
            f"{group.file.filename}: {name!r} is a link to somewhere else; only what the file itself stores "
            "is read"
        )
    return group[name]


def unread(group: h5py.Group, name: str) -> str:
    """Why the object of that name is no readable array of numbers, to end a sentence; "" if it is one."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        return "is a link to somewhere else; only what the file itself stores is read"
    data = group[name]
    if not isinstance(data, h5py.Dataset) or data.shape is None or data.dtype.kind not in "fiub":
        return "is not an array of numbers"
    if data.external or data.is_virtual:
        return "keeps its numbers in another file; only what the file itself stores is read"
    creation = data.id.get_create_plist()
    filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
    if missing := [number for number, *_ in filters if not h5py.h5z.filter_avail(number)]:
        return f"is stored by HDF5's filter {missing[0]}, which is not installed here"
    return ""


def array(group: h5py.Group, name: str, kind: str = "f") -> np.ndarray:
    """Read the array of that name.

    Args:
        kind: "f" converts to float32, "b" to bool; "n" keeps the stored dtype.
    Raises:
        UnveilError: it is missing, not an array of numbers in this file, or larger than the file can hold.
    """
    where = f"{group.file.filename}: {name!r}"
    if stored(group, name) is None:
        raise UnveilError(f"{where} is missing; the file has {sorted(map(str, group))[:12]}")
    if why := unread(group, name):
        raise UnveilError(f"{where} {why}")
    data = group[name]
    assert isinstance(data, h5py.Dataset)
    if data.size * data.dtype.itemsize > room(group.file.id.get_filesize()):
        raise UnveilError(
            f"{where} claims {data.size:,} numbers, more than this file can hold or {LARGEST >> 30} GiB; if "
            "it is sound, save it without compression"
        )
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which `Episodes` refuses
        return np.asarray(data[()], dtype={"b": bool, "n": data.dtype}.get(kind, np.float32))

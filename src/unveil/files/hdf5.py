"""HDF5 from strangers: open without running anything, fail in one line; and HDF5 of our own, written whole or not at all."""

import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.atomic import MADE, output

LARGEST = 16 * 2**30  # bytes of one array; a header that claims more is damaged or hostile
DENSEST = 200  # bytes of arrays for one of the file: flat pictures as floats reach 90, zeros by deflate 1032; any file may claim 64 MiB


def room(size: int) -> int:
    """Bytes that may come out of a packed file of so many."""
    return min(LARGEST, 2**26 + DENSEST * size)


@contextmanager
def opened(path: Path | str) -> Generator[h5py.File]:
    """The file, open for reading.

    Raises:
        UnveilError: it is missing, a folder, or not whole HDF5; whatever h5py says while it is read becomes one line.
    """
    if not os.path.isfile(path):
        raise UnveilError(
            f"{path}: {'a folder, but an HDF5 file is needed' if os.path.isdir(path) else 'no such file'}"
        )
    if not os.path.getsize(path):
        raise UnveilError(f"{path}: not a whole HDF5 file: it is empty")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnveilError(f"{path}: not a whole HDF5 file, damaged or cut short ({reason})") from error


def check_held(file: h5py.File, taken: int) -> None:
    """Refuse a file of which more bytes were read than it can hold: many arrays that nobody filled, each of them allowed, read as zeros.

    Raises:
        UnveilError: so it is.
    """
    if taken > 4 * room(file.id.get_filesize()):  # float32 of bytes
        raise UnveilError(
            f"{file.filename}: its arrays hold more than {taken:,} bytes together, more than this file can hold"
        )


@contextmanager
def created(path: Path | str) -> Generator[h5py.File]:
    """A new file that takes its place once the block succeeds. It grows in memory: on a full disk HDF5 itself crashes the process.

    Raises:
        UnveilError: as `output`: a file that unveil did not make is not replaced.
    """
    with output(Path(path)) as partial:
        image = io.BytesIO()
        with h5py.File(image, "w") as file:
            file.attrs["origin"] = MADE
            yield file
        partial.write_bytes(image.getbuffer())


def stored(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | h5py.Datatype | None:
    """What has that name inside this very file, or None.

    Raises:
        UnveilError: it is a link to somewhere else.
    """
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise UnveilError(
            f"{group.file.filename}: {name!r} is a link to somewhere else; only what the file itself stores is read"
        )
    return group[name]


def unread(group: h5py.Group, name: str) -> str:
    """Why what has that name is no array of numbers that can be read, as the end of a sentence; "" if it is one."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        return "is a link to somewhere else; only what the file itself stores is read"
    data = group[name]
    if not isinstance(data, h5py.Dataset) or data.shape is None or data.dtype.kind not in "fiub":
        return "is not an array of numbers"
    if data.external or data.is_virtual:
        return "keeps its numbers in another file; only what the file itself stores is read"
    packed = data.id.get_create_plist()
    filters = [packed.get_filter(i) for i in range(packed.get_nfilters())]
    if missing := [number for number, *_ in filters if not h5py.h5z.filter_avail(number)]:
        return f"is stored by HDF5's filter {missing[0]}, which is not installed here"
    return ""


def array(group: h5py.Group, name: str, kind: str = "f") -> np.ndarray:
    """The array of that name: floats as float32 (kind 'f'), flags as bool (kind 'b') or as they are stored (kind 'n').

    Raises:
        UnveilError: it is missing, not an array inside this very file, of another kind, or absurdly large.
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
            f"{where} claims {data.size:,} numbers, more than this file can hold or {LARGEST >> 30} GiB; if it is sound, save it unpacked"
        )
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and infinite is refused by `Episodes`
        return np.asarray(data[()], dtype={"b": bool, "n": data.dtype}.get(kind, np.float32))

"""Pictures that stay in their file: rows of HDF5 and zarr arrays, and encoded pictures."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Protocol, runtime_checkable

import h5py
import numpy as np
from jaxtyping import Int

from unveil.errors import UnveilError
from unveil.files.reading import reading
from unveil.policy.data.fields import Scale, Unread, scale_of, scaled
from unveil.policy.data.frames import Frames, Rows

LARGEST_CHUNK = 2**30  # bytes of a stored chunk, which is decoded whole
MOST_OPEN = 16  # files
SCANNED = 256  # rows of a piece that is looked through for the scale of colours


@runtime_checkable
class StoredRows(Protocol):
    """Numbers of pictures as they are stored, row by row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...), as stored."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The stored dtype."""
        ...

    def read(self, rows: Rows) -> np.ndarray:
        """The stored numbers of these rows."""
        ...


@dataclass(frozen=True)
class ScaledFrames:
    """Stored rows as pictures: colours as bytes, channels last."""

    stored: StoredRows
    scale: Scale

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, h, w, C)."""
        shape = self.stored.shape
        return (shape[0], *shape[2:], shape[1]) if self.scale.first else shape

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return np.dtype(np.float32 if self.scale.kind == "number" else np.uint8)

    def read(self, rows: Rows) -> np.ndarray:
        """The pictures of these rows."""
        return scaled(self.stored.read(rows), self.scale)


def scaled_frames(stored: StoredRows) -> Frames:
    """The pictures of stored rows; colours that are no bytes are looked through once for their scale.

    Raises:
        Unread: colours with an unknown scale, or no pictures.
    """
    count = stored.shape[0]
    if len(stored.shape) != 4:
        raise Unread(f"has shape {stored.shape}, but pictures (N, h, w, C) are needed")
    whole = stored.dtype.kind == "b" or stored.dtype == np.uint8
    first = stored.read(np.arange(1))
    pieces: Iterable[np.ndarray] = (
        [first]
        if whole
        else (stored.read(np.arange(i, min(i + SCANNED, count))) for i in range(0, count, SCANNED))
    )
    return ScaledFrames(stored, scale_of(pieces))


@dataclass(frozen=True)
class Hdf5Rows:
    """The rows of one array after the other, in HDF5 files that are opened when they are needed.

    Args:
        places: file and name of each array.
        ends: one past each array's last row.
        shape: (N, ...) of all of them.
        dtype: of all of them.
    """

    places: tuple[tuple[Path, str], ...]
    ends: Int[np.ndarray, " E"]
    shape: tuple[int, ...]
    dtype: np.dtype
    _open: dict[Path, h5py.File] = field(default_factory=dict[Path, h5py.File], compare=False, repr=False)

    def read(self, rows: Rows) -> np.ndarray:
        """The stored numbers of these rows."""
        made = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        which = np.searchsorted(self.ends, rows, side="right")
        for i in np.unique(which).tolist():
            path, name = self.places[i]
            begin = self.ends[i - 1] if i else 0
            with reading(path, f"{name!r} cannot be read, damaged or cut short"):
                data = self._file(path)[name]
                assert isinstance(data, h5py.Dataset)
                for place in np.flatnonzero(which == i).tolist():
                    stored = data[int(rows[place] - begin)]
                    made[place, : len(stored)] = stored  # rows of bytes may be shorter than those of others
        return made

    def _file(self, path: Path) -> h5py.File:
        if path not in self._open:
            while len(self._open) >= MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = h5py.File(path, "r")
        return self._open[path]


def frames_of(
    dtypes: Sequence[np.dtype], places: Sequence[tuple[Path, str]], shapes: Sequence[tuple[int, ...]]
) -> Frames:
    """The pictures of several arrays of HDF5 files, one array after the other.

    Raises:
        Unread: they have several shapes or dtypes, or colours with an unknown scale.
    """
    if other := [shape for shape in shapes if shape[1:] != shapes[0][1:]]:
        raise Unread(f"has several shapes, such as {shapes[0]} and {other[0]}")
    if len(set(dtypes)) > 1:
        raise Unread(f"has several dtypes, {sorted({str(dtype) for dtype in dtypes})}")
    ends = np.cumsum([shape[0] for shape in shapes])
    return scaled_frames(Hdf5Rows(tuple(places), ends, (int(ends[-1]), *shapes[0][1:]), dtypes[0]))


def check_chunk(where: str, data: h5py.Dataset) -> None:
    """Refuse an array whose chunks are too large to be decoded one by one.

    Raises:
        UnveilError: such an array.
    """
    numbers = np.prod(data.chunks if data.chunks else data.shape[1:], dtype=float)
    if numbers * data.dtype.itemsize > LARGEST_CHUNK:
        raise UnveilError(f"{where}: its chunks of {data.chunks} have more than {LARGEST_CHUNK >> 30} GiB")


@dataclass(frozen=True)
class ZarrRows:
    """The rows of a zarr array.

    Args:
        array: the array, whose codecs and chunks have been checked.
        where: the store and the name, for messages.
    """

    array: Any  # zarr has no stubs for what is used
    where: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...), as stored."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """The stored dtype."""
        return np.dtype(self.array.dtype)

    def read(self, rows: Rows) -> np.ndarray:
        """The stored numbers of these rows."""
        try:
            return np.asarray(self.array.get_orthogonal_selection((np.asarray(rows, np.int64),)))
        except Exception as error:  # zarr and its codecs raise anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnveilError(f"{self.where} is damaged or cut short ({reason})") from error


@dataclass(frozen=True)
class Closing:
    """Calls a function when the last reference to it is gone."""

    close: Callable[[], object]

    def __post_init__(self) -> None:
        weakref.finalize(self, self.close)


@dataclass(frozen=True)
class KeptFrames:
    """Other frames, and what must live as long as they do, such as the folder that a zip was unpacked to."""

    frames: Frames
    keep: Closing

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, h, w, C)."""
        return self.frames.shape

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self.frames.dtype

    def read(self, rows: Rows) -> np.ndarray:
        """The pictures of these rows."""
        return self.frames.read(rows)


@dataclass(frozen=True)
class SpooledFrames:
    """Encoded pictures, PNG or JPEG, one after the other in a temporary file, which ends with this object.

    Args:
        file: the file.
        begins: (N + 1,), where each picture begins; the last is the length.
        decode: (bytes, number of the row) -> picture (h, w, C).
        where: the data set and the name, for messages.
    """

    file: IO[bytes]
    begins: Int[np.ndarray, " N1"]
    decode: Callable[[bytes, int], np.ndarray]
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    def read(self, rows: Rows) -> np.ndarray:
        """The pictures of these rows."""
        made = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        for i, row in enumerate(np.asarray(rows).tolist()):
            self.file.seek(int(self.begins[row]))
            picture = self.decode(self.file.read(int(self.begins[row + 1] - self.begins[row])), row)
            if picture.shape != self.shape[1:] or picture.dtype != self.dtype:
                raise UnveilError(
                    f"{self.where}: the picture of row {row} is {picture.dtype} of shape {picture.shape}, "
                    f"that of row 0 {self.dtype} of shape {self.shape[1:]}"
                )
            made[i] = picture
        return made


def in_file(
    frames: Frames, folder: Path, progress: Callable[[int, int], None], piece: int = 64
) -> SpooledFrames:
    """Frames decoded once, in order, into a temporary file of their bytes.

    Args:
        folder: folder of the file, which disappears with the frames.
        progress: (pictures done, pictures in all) -> None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = TemporaryFile(dir=folder)  # noqa: SIM115
    count, size = frames.shape[0], int(np.prod(frames.shape[1:])) * frames.dtype.itemsize
    for start in range(0, count, piece):
        rows = np.arange(start, min(start + piece, count))
        file.write(np.ascontiguousarray(frames.read(rows)).tobytes())
        progress(int(rows[-1]) + 1, count)
    shape, dtype = frames.shape, frames.dtype

    def decode(stored: bytes, row: int) -> np.ndarray:
        return np.frombuffer(stored, dtype).reshape(shape[1:])

    return SpooledFrames(file, size * np.arange(count + 1), decode, "pictures", shape, dtype)


def spooled(
    pictures: Iterable[bytes], decode: Callable[[bytes, int], np.ndarray], where: str
) -> SpooledFrames:
    """Encoded pictures written into a temporary file one after the other.

    Raises:
        UnveilError: no picture, or the first one cannot be decoded.
    """
    file = TemporaryFile()  # noqa: SIM115
    begins, total = [0], 0
    try:
        for one in pictures:
            file.write(one)
            total += len(one)
            begins.append(total)
        if len(begins) < 2:
            raise UnveilError(f"{where}: no pictures")
        file.seek(0)
        first = decode(file.read(begins[1]), 0)
    except BaseException:
        file.close()
        raise
    return SpooledFrames(file, np.array(begins), decode, where, (len(begins) - 1, *first.shape), first.dtype)

"""numpy's .npz archives, .npy and .gz files from strangers: sizes are checked before anything is read, and nothing is unpickled."""

import gzip
import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.lib import format as npy

from unveil.errors import UnveilError
from unveil.files.hdf5 import LARGEST, room

DAMAGE = (
    *(
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        tokenize.TokenError,
        EOFError,
        ValueError,
        TypeError,
    ),
    *(LookupError, RuntimeError, SyntaxError, ArithmeticError, MemoryError, AttributeError),
)
LONGEST_HEADER = 2**17  # version 1 has at most 2^16; longer ones are of records, which are refused
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_arrays(
    path: Path | str,
    needed: Sequence[str] = (),
    wanted: Sequence[str] | None = (),
    asked: Callable[[str, int], bool] | None = None,
    left: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of numbers in an archive by name: all that are needed, and those that are wanted and there (None: every one).

    Args:
        asked: whether an array of that name and number of axes is asked for; others are not looked at. None: all are.
        left: gains arrays of text or objects that are not needed, and why they are left out; without it they are refused.
    Raises:
        UnveilError: not a whole .npz, a needed array is missing, one holds objects or text, or claims more than the file can hold.
    """
    path = Path(path)
    if not path.is_file():
        raise UnveilError(
            f"{path}: {'a folder, but an .npz file is needed' if path.is_dir() else 'no such file'}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise UnveilError(f"{path}: two arrays have the same name")
            if missing := [name for name in needed if name not in members]:
                raise UnveilError(f"{path}: {missing[0]!r} is missing; the file has {sorted(members)[:12]}")
            names = members if wanted is None else [*needed, *(name for name in wanted if name in members)]
            if asked is not None or left is not None:
                names = [
                    name
                    for name in names
                    if name in needed or _worth(archive, members[name], name, asked, left)
                ]
            if (claimed := sum(members[name].file_size for name in names)) > room(path.stat().st_size):
                raise UnveilError(
                    f"{path}: claims {claimed:,} bytes, more than this file can hold or {LARGEST >> 30} GiB; if it is sound, write it with "
                    "numpy.savez instead of savez_compressed"
                )
            return {name: _array(_whole(archive, members[name]), f"{path}: {name!r}") for name in names}
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnveilError(f"{path}: not a whole .npz file, damaged or cut short ({reason})") from error


def npy_array(path: Path | str) -> np.ndarray:
    """The array of numbers of a .npy file.

    Raises:
        UnveilError: missing, not a whole .npy, or it holds objects or text.
    """
    try:
        with open(path, "rb") as file:
            stored = bytearray(Path(path).stat().st_size)  # which, unlike bytes, may be written to
            del stored[file.readinto(stored) :]
        return _array(stored, str(path))
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnveilError(f"{path}: not a whole .npy file, damaged or cut short ({reason})") from error


def unpacked(path: Path | str) -> bytes:
    """What a .gz file holds.

    Raises:
        UnveilError: missing, damaged, or more than such a file of data or text ever holds.
    """
    try:
        largest = room(Path(path).stat().st_size)
        with gzip.open(path) as stream:
            data = stream.read(largest + 1)
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnveilError(f"{path}: cannot be read, not a whole .gz file ({reason})") from error
    if len(data) > largest:
        raise UnveilError(f"{path}: unpacks to more than {largest:,} bytes; if it is sound, unpack it first")
    return data


def npz_names(path: Path | str) -> list[str]:
    """What the arrays of a .npz file are called.

    Raises:
        UnveilError: missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [member.removesuffix(".npy") for member in archive.namelist()]
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnveilError(f"{path}: not a whole .npz file, damaged or cut short ({reason})") from error


def npz_words(path: Path | str, name: str) -> np.ndarray | None:
    """An array of text of a .npz file; None if it holds neither text nor anything else that can be read without running code.

    Raises:
        UnveilError: damaged, or it claims more than the file can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
            if member.file_size > room(Path(path).stat().st_size):
                raise UnveilError(
                    f"{path}: {name!r} claims {member.file_size:,} bytes, more than this file can hold"
                )
            with archive.open(member) as stream:
                read = HEADERS.get(npy.read_magic(stream))
                if read is None or read(stream)[2].kind not in "US":
                    return None
            return _array(_whole(archive, member), f"{path}: {name!r}", "US")
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnveilError(f"{path}: not a whole .npz file, damaged or cut short ({reason})") from error


def _whole(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """A member's bytes, as many as it says: whatever else is packed in it stays packed.

    Raises:
        BadZipFile: packed in another way than numpy's own two, of which pieces may unpack to anything, or not what its checksum says.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename!r} is packed in another way than numpy does")
    held, done = bytearray(member.file_size), 0
    with archive.open(member) as stream:
        while got := cast(io.BufferedIOBase, stream).readinto(memoryview(held)[done:]):
            done += got
        if done < len(held) or stream.read(1):
            raise zipfile.BadZipFile(f"{member.filename!r} is not of the size that it says")
    return held


def _worth(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    name: str,
    asked: Callable[[str, int], bool] | None,
    left: dict[str, str] | None,
) -> bool:
    """Whether an array is asked for and holds numbers, by its header; true of a version that `_array` refuses."""
    with archive.open(member) as stream:
        read = HEADERS.get(npy.read_magic(stream))
        if read is None:
            return True
        shape, _, dtype = read(stream)
    if asked is not None and not asked(name, len(shape)):
        return False
    if left is not None and dtype.kind not in "fiub":
        left[name] = f"holds {'objects' if dtype.hasobject else dtype}, but an array of numbers is needed"
        return False
    return True


def _array(stored: bytes | bytearray, where: str, kinds: str = "fiub") -> np.ndarray:
    """The array of a .npy file in memory; the header's claim is held against the bytes before memory is taken for it."""
    stream = io.BytesIO(memoryview(stored)[:LONGEST_HEADER])
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise UnveilError(f"{where} is stored in version {version} of .npy, which numbers never need")
    shape, fortran, dtype = HEADERS[version](stream)
    if dtype.kind not in kinds:
        raise UnveilError(
            f"{where} holds {'objects' if dtype.hasobject else dtype}, but an array of numbers is needed"
        )
    count = 1
    for length in shape:  # in Python's integers: numpy's overflow
        count *= length
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(stored) - stream.tell():
        raise UnveilError(
            f"{where} has a header of shape {shape} and {len(stored) - stream.tell():,} bytes, which do not fit"
        )
    return np.frombuffer(stored, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")

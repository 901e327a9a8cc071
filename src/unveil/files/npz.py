"""Untrusted .npz, .npy and .gz files: sizes are checked before anything is read, and nothing is unpickled."""

import gzip
import io
import lzma
import struct
import tarfile
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
from unveil.files.reading import reading

DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, SyntaxError, ArithmeticError),
    *(MemoryError, AttributeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(tarfile.TarError, tokenize.TokenError),
)  # types of errors that damaged files raise
WHOLE = "not a whole .npz file, damaged or cut short"
LONGEST_HEADER = 2**17  # version 1 has at most 2^16 bytes; longer headers describe records, which are refused
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_arrays(
    path: Path | str,
    needed: Sequence[str] = (),
    wanted: Sequence[str] | None = (),
    asked: Callable[[str, tuple[int, ...]], bool] | None = None,
    left: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Read arrays of numbers from an archive, by name.

    Args:
        needed: names that must be present.
        wanted: names that are read if present; None reads all.
        asked: (name, shape) -> whether to read an array that is not needed; None reads all.
        left: receives, by name, why an array of text or objects was left out; None refuses such arrays.
    Raises:
        UnveilError: not a complete .npz file, a needed array is missing, an array holds objects or text, or
            claims more than the file can hold.
    """
    path = Path(path)
    check_file(path)
    with reading(path, WHOLE), zipfile.ZipFile(path) as archive:
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
                if name in needed or _selected(archive, members[name], name, asked, left)
            ]
        if (claimed := sum(members[name].file_size for name in names)) > room(path.stat().st_size):
            raise UnveilError(
                f"{path}: claims {claimed:,} bytes, more than this file can hold or {LARGEST >> 30} GiB; "
                "if it is sound, write it with numpy.savez instead of savez_compressed"
            )
        return {name: _array(_whole(archive, members[name]), f"{path}: {name!r}") for name in names}


def npy_array(path: Path | str) -> np.ndarray:
    """Read the array of numbers of a .npy file.

    Raises:
        UnveilError: missing, not a complete .npy file, or it holds objects or text.
    """
    with reading(path, "not a whole .npy file, damaged or cut short"):
        with open(path, "rb") as file:
            stored = bytearray(Path(path).stat().st_size)  # writable, unlike bytes, and so is the array
            del stored[file.readinto(stored) :]
        return _array(stored, str(path))


def unpacked(path: Path | str) -> bytes:
    """Decompress a .gz file.

    Raises:
        UnveilError: missing, damaged, or it unpacks to more than data or text of its size can.
    """
    with reading(path, "cannot be read, not a whole .gz file"), gzip.open(path) as stream:
        largest = room(Path(path).stat().st_size)
        data = stream.read(largest + 1)
    if len(data) > largest:
        raise UnveilError(f"{path}: unpacks to more than {largest:,} bytes; if it is sound, unpack it first")
    return data


def check_file(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        UnveilError: a folder, or nothing.
    """
    if not path.is_file():
        raise UnveilError(
            f"{path}: {'a folder, but an .npz file is needed' if path.is_dir() else 'no such file'}"
        )


def npz_names(path: Path | str) -> list[str]:
    """The names of the arrays of a .npz file.

    Raises:
        UnveilError: missing or damaged.
    """
    check_file(Path(path))
    with reading(path, WHOLE), zipfile.ZipFile(path) as archive:
        return [member.removesuffix(".npy") for member in archive.namelist()]


def npz_words(path: Path | str, name: str) -> np.ndarray | None:
    """Read an array of text of a .npz file; None if it does not hold text.

    Raises:
        UnveilError: damaged, or it claims more than the file can hold.
    """
    with reading(path, WHOLE), zipfile.ZipFile(path) as archive:
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


def _whole(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """Read a member of exactly its declared size.

    Raises:
        BadZipFile: compressed by a method that numpy does not use, or of another size or checksum than
            declared.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename!r} is compressed by a method that numpy does not use")
    data, done = bytearray(member.file_size), 0
    with archive.open(member) as stream:
        while count := cast(io.BufferedIOBase, stream).readinto(memoryview(data)[done:]):
            done += count
        if done < len(data) or stream.read(1):
            raise zipfile.BadZipFile(f"{member.filename!r} is not of its declared size")
    return data


def _selected(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    name: str,
    asked: Callable[[str, tuple[int, ...]], bool] | None,
    left: dict[str, str] | None,
) -> bool:
    """Whether an array is asked for and holds numbers, by its header.

    Arrays of an unknown version are selected, so that `_array` refuses them.
    """
    with archive.open(member) as stream:
        read = HEADERS.get(npy.read_magic(stream))
        if read is None:
            return True
        shape, _, dtype = read(stream)
    if asked is not None and not asked(name, shape):
        return False
    if left is not None and dtype.kind not in "fiub":
        left[name] = f"holds {'objects' if dtype.hasobject else dtype}, but an array of numbers is needed"
        return False
    return True


def _array(stored: bytes | bytearray, where: str, kinds: str = "fiub") -> np.ndarray:
    """The array of a .npy file in memory, without a copy; its header must fit the bytes after it."""
    stream = io.BytesIO(memoryview(stored)[:LONGEST_HEADER])
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise UnveilError(
            f"{where} is stored in version {version} of .npy, which arrays of numbers never need"
        )
    shape, fortran, dtype = HEADERS[version](stream)
    if dtype.kind not in kinds:
        raise UnveilError(
            f"{where} holds {'objects' if dtype.hasobject else dtype}, but an array of numbers is needed"
        )
    count = 1
    for length in shape:  # in Python's integers, since numpy's overflow
        count *= length
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(stored) - stream.tell():
        raise UnveilError(
            f"{where} has a header of shape {shape} and {len(stored) - stream.tell():,} bytes, which do not "
            "fit"
        )
    return np.frombuffer(stored, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")

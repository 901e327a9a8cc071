"""Where files are found, and how they are written: whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.places import SEARCHED

MADE = "made by unveil"
"""Stands in every file that a person may name as an output: PNG text, GIF and MP4 comment, JSON value, HDF5 attribute, .npz comment."""
MARKS = (
    MADE.encode(),
    b"tEXtunveil\x00",
    b'{\n "recipe": "',
)  # the last two: pictures and results of versions before MADE


def check_writable(path: Path) -> None:
    """Refuse before long work a file that could not be written after it.

    Raises:
        UnveilError: the target is a folder, a device or a pipe, or its folder cannot be made or written to.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnveilError(f"{path}: a device or pipe, which would be replaced by a file; give a file name")
    if path.is_dir():
        raise UnveilError(f"{path}: a folder is in the way; give a file name")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UnveilError(
            f"{path}: cannot write ({there} is {'not writable' if there.is_dir() else 'no folder'})"
        )


def made_by_unveil(path: Path, mark: str = "") -> bool:
    """Whether a file carries a mark of ours near its beginning or its end, or begins with `mark`, such as the head of a table."""
    with open(path, "rb") as file:
        read = file.read(SEARCHED)
        file.seek(max(len(read), path.stat().st_size - SEARCHED))
        read += file.read(SEARCHED)
    return any(known in read for known in MARKS) or bool(mark and read.startswith(mark.encode()))


def check_output(path: Path, mark: str = "") -> None:
    """Refuse before long work an output that could not be written after it, or that would replace a file which unveil did not make.

    A file without content may be replaced, and so may every file with a mark (`made_by_unveil`): the same command runs twice.

    Raises:
        UnveilError: as `check_writable`, or somebody else's file is in the way.
    """
    check_writable(path)
    try:
        strange = path.exists() and path.stat().st_size > 0 and not made_by_unveil(path, mark)
    except OSError as error:
        raise UnveilError(
            f"{path}: is in the way and cannot be read ({error.strerror or error}); give another name"
        ) from error
    if strange:
        raise UnveilError(
            f"{path} exists and was not made by unveil, so it is not replaced; give another name, or move the file away"
        )


@contextmanager
def output(path: Path, mark: str = "") -> Generator[Path]:
    """`replacing`, for a file that a person named: one that unveil did not make is not replaced.

    What is written needs the text `MADE` in it, or `mark` as its beginning where the format has no place for a remark, such as CSV.

    Raises:
        UnveilError: as `replacing` and `check_output`.
    """
    check_output(path, mark)
    with replacing(path) as partial:
        yield partial


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path in the same folder that replaces `path` once the block succeeds (fsync, rename, fsync of the folder).

    Raises:
        UnveilError: the folder cannot be made, the target is a folder, or the disk is full; the old file, if any, is untouched.
    """
    check_writable(path)
    partial = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise UnveilError(f"{path}: cannot write ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

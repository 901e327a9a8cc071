"""Atomic writes: a file is written completely or not at all, and files of others are not replaced."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.places import SEARCHED

MADE = "made by unveil"
"""Marks every output file: PNG text, GIF and MP4 comment, JSON value, HDF5 attribute, .npz comment."""
# the last two: pictures and results of versions before MADE
MARKS = (MADE.encode(), b"tEXtunveil\x00", b'{\n "recipe": "')


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises:
        UnveilError: the target is a folder, a device or a pipe, or its folder cannot be made or written to.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnveilError(f"{path}: a device or pipe, which a file would replace; give a file name")
    if path.is_dir():
        raise UnveilError(f"{path}: a folder is in the way; give a file name")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UnveilError(
            f"{path}: cannot write ({there} is {'not writable' if there.is_dir() else 'no folder'})"
        )


def made_by_unveil(path: Path, mark: str = "") -> bool:
    """Whether a file has one of `MARKS` near its beginning or end, or begins with `mark` (a table header)."""
    with open(path, "rb") as file:
        read = file.read(SEARCHED)
        file.seek(max(len(read), path.stat().st_size - SEARCHED))
        read += file.read(SEARCHED)
    return any(known in read for known in MARKS) or bool(mark and read.startswith(mark.encode()))


def check_output(path: Path, mark: str = "") -> None:
    """Refuse an output that could not be written, or that would replace a file which unveil did not make.

    An empty file and a file with a mark (`made_by_unveil`) may be replaced, so that the same command can run
    twice.

    Raises:
        UnveilError: as `check_writable`, or the file exists and was not made by unveil.
    """
    check_writable(path)
    try:
        foreign = path.exists() and path.stat().st_size > 0 and not made_by_unveil(path, mark)
    except OSError as error:
        raise UnveilError(
            f"{path}: is in the way and cannot be read ({error.strerror or error}); give another name"
        ) from error
    if foreign:
        raise UnveilError(
            f"{path} exists and was not made by unveil, so it is not replaced; give another name, or move "
            "the file away"
        )


@contextmanager
def output(path: Path, mark: str = "") -> Generator[Path]:
    """Like `replacing`, for a file that the user named: one that unveil did not make is not replaced.

    What is written must contain the text `MADE`, or begin with `mark` where the format has no comments, as
    CSV.

    Raises:
        UnveilError: as `replacing` and `check_output`.
    """
    check_output(path, mark)
    with replacing(path) as partial:
        yield partial


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` once the block succeeds.

    The file is synced, renamed, and its folder synced.

    Raises:
        UnveilError: the folder cannot be made, the target is a folder, or the disk is full; the old file, if
            any, is untouched.
    """
    check_writable(path)
    partial = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    except OSError as error:
        raise UnveilError(f"{path}: cannot write ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def sync(path: Path) -> None:
    """Sync a file to the disk, or a folder, so that renames in it survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

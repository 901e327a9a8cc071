"""Where files are found, and how they are written: whole or not at all."""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from unveil.errors import UnveilError

MINARI = re.compile(r"[\w-]+(/[\w-]+)+-v\d+")  # ids of Minari's data sets, such as mujoco/hopper/medium-v0


def home() -> Path:
    """The cache folder: `$UNVEIL_HOME`, by default `~/.cache/unveil`."""
    return Path(os.environ.get("UNVEIL_HOME") or Path.home() / ".cache" / "unveil")


def found(path: Path) -> Path:
    """The path if it exists, else the same below `$UNVEIL_DATA` or the cache if it exists there, else the path."""
    places = [path, *(Path(root) / path for root in (os.environ.get("UNVEIL_DATA"), home()) if root)]
    return next((place for place in places if os.path.exists(place)), path)


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
        raise UnveilError(f"{path}: cannot write ({there} is {'not writable' if there.is_dir() else 'no folder'})")


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

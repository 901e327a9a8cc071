"""Unpack tar and zip archives safely: only regular files and folders, and only below one new folder."""

import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from gzip import GzipFile
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from unveil.errors import UnveilError
from unveil.files.atomic import sync
from unveil.files.npz import DAMAGE

LARGEST = 16 * 2**30  # bytes that one archive may unpack to
MOST = 100_000  # files and folders in one archive
SWELL = 100  # unpacked size / archive size, at most; weights are hardly compressible
BLOCK = 2**20
HEADERS = 64  # reads per member's headers, at most; long names and extended headers take a few


class Member(NamedTuple):
    """A file or a folder of an archive.

    Args:
        size: bytes that it unpacks to.
        inside: opens the file; None for a folder.
    """

    name: str
    size: int
    inside: Callable[[], IO[bytes]] | None


def is_page(file: Path) -> bool:
    """Whether a file is a web page, which servers of large files may send in place of the file."""
    with open(file, "rb") as handle:
        return (
            handle.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
        )


def extract(archive: Path, out: Path) -> int:
    """Unpack a tar, tar.gz or zip into the new folder `out`, completely or not at all.

    Permissions, owners and times are not restored.

    Returns:
        The number of files.
    Raises:
        UnveilError: `out` exists; the archive is missing, damaged or too large; or it holds anything but
            files and folders with plain relative names that differ by more than upper and lower case.
    """
    if out.exists() or out.is_symlink():
        raise UnveilError(f"{out} exists already; give another `out`")
    fresh = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        with _opened(archive) as members:
            count = _unpack(members, fresh, min(LARGEST, SWELL * archive.stat().st_size))
        if count == 0:
            raise ValueError("no file in it")
        fresh.rename(out)
        sync(out.parent)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            raise UnveilError(f"{archive}: cannot be unpacked into {out} ({error.strerror})") from error
        raise UnveilError(f"{archive}: refused, nothing was unpacked: {error or 'damaged'}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return count


def _unpack(members: Generator[Member], folder: Path, largest: int) -> int:
    """Write the members; their declared sizes must be their real ones and sum to at most `largest`."""
    taken: dict[str, tuple[str, bool]] = {}  # case-folded path -> the path, whether it is a folder
    declared, files = 0, 0
    for number, member in enumerate(members):
        declared += member.size
        if number >= MOST or member.size < 0 or declared > largest:
            raise ValueError(f"more than {MOST:,} members, or larger than {largest:,} bytes in all")
        parts = _parts(member.name)
        if not parts:
            continue
        _claim(taken, parts, member.inside is None)
        target_path = folder.joinpath(*parts)
        if member.inside is None:
            target_path.mkdir(parents=True, exist_ok=True)
            continue
        target_path.parent.mkdir(parents=True, exist_ok=True)
        files += 1
        with member.inside() as source, open(target_path, "xb") as target:
            shutil.copyfileobj(source, target, BLOCK)
            if target.tell() != member.size:
                raise ValueError(
                    f"{member.name[:80]!r} has {target.tell():,} bytes instead of {member.size:,}"
                )
    return files


def _parts(name: str) -> list[str]:
    """Split a relative path into its parts, without "." parts.

    Raises:
        ValueError: not a plain relative path.
    """
    parts = [part for part in name.removesuffix("/").split("/") if part != "."]
    if (
        name.startswith("/")
        or ".." in parts
        or "" in parts
        or not name.isprintable()
        or set(name) & set('\\:*?"<>|')
    ):
        raise ValueError(f"{name[:80]!r} is not a plain relative name")
    return parts


def _claim(taken: dict[str, tuple[str, bool]], parts: list[str], folder: bool) -> None:
    """Record a path and the folders above it; a folder may occur more than once.

    Raises:
        ValueError: the path is taken by a file, or by a name that differs only in case.
    """
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        is_folder = folder or depth < len(parts)
        folded = unicodedata.normalize("NFKC", path).casefold()
        before = taken.get(folded)
        if before is not None and (before != (path, True) or not is_folder):
            raise ValueError(f"{path[:80]!r} occurs twice, or beside {before[0][:80]!r}")
        taken[folded] = (path, is_folder)


@contextmanager
def _opened(archive: Path) -> Generator[Generator[Member]]:
    """The members of an archive, whose format its first bytes tell."""
    with open(archive, "rb") as handle:
        magic = handle.read(4)
        handle.seek(0)
        if magic == b"PK\x03\x04":
            with zipfile.ZipFile(handle) as zipped:
                yield _zip_members(zipped)
        else:
            zipped = magic[:2] == b"\x1f\x8b"
            # tarfile seeks back by a byte, for which gzip alone would decompress from the beginning
            source = BufferedReader(GzipFile(fileobj=handle), 2 * BLOCK) if zipped else handle
            reader = _BoundedReader(source)
            reader.header(HEADERS)  # opening the archive reads the first member's
            with tarfile.open(fileobj=cast(IO[bytes], reader), mode="r:") as tar:
                yield _tar_members(tar, reader)


class _BoundedReader:
    """A file with bounded reads, so that headers which claim gigabytes are refused before any allocation.

    The number of reads per member's headers is bounded, too, since tarfile recurses into headers of headers.
    """

    def __init__(self, file: BufferedIOBase) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self._left = 0

    def header(self, blocks: int) -> None:
        """Allow this many reads until the next call; 0: any number, for the contents of a member."""
        self._left = blocks

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        if not 0 <= size <= BLOCK:
            raise ValueError(f"a header of {size:,} bytes")
        if self._left == 1:
            raise ValueError("a member with headers of headers")
        self._left = max(0, self._left - 1)
        return self._read(size)


def _tar_members(tar: tarfile.TarFile, reader: _BoundedReader) -> Generator[Member]:
    while True:
        reader.header(HEADERS)
        info = tar.next()
        reader.header(0)
        if info is None:
            break
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or info.issparse():
            raise ValueError(
                f"{info.name[:80]!r} is neither a file nor a folder (a link, a device or the like)"
            )
        if info.isdir():
            yield Member(info.name, 0, None)
        else:
            yield Member(info.name, info.size, lambda info=info: cast(IO[bytes], tar.extractfile(info)))
        cast(Any, tar).members.clear()  # otherwise tarfile keeps all headers
    source = cast(IO[bytes], tar.fileobj)
    source.seek(tar.offset)
    # tarfile takes a damaged header for the end of the archive
    if source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError("truncated or damaged: no end-of-archive block after the last file")


def _zip_members(zipped: zipfile.ZipFile) -> Generator[Member]:
    for info in zipped.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not info.is_dir()):
            raise ValueError(
                f"{info.filename[:80]!r} is neither a file nor a folder (a link, a device or the like)"
            )
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{info.filename[:80]!r} is encrypted, or compressed by another method than deflate"
            )
        if info.orig_filename != info.filename:
            raise ValueError(f"{info.orig_filename[:80]!r} is not a plain relative name")
        yield Member(
            info.filename, info.file_size, None if info.is_dir() else lambda info=info: zipped.open(info)
        )

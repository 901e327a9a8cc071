"""Public archives of checkpoints: where they are, and unpacked by us. Only regular files and folders come out, below one new folder."""

import os
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from gzip import BadGzipFile, GzipFile
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from unveil.errors import UnveilError
from unveil.files.atomic import sync_folder

LARGEST = 16 * 2**30  # bytes that come out of one archive
MOST = 100_000  # files and folders in it
SWELL = 100  # times its own size; weights hardly shrink
BLOCK = 2**20
HEADERS = 64  # reads that a member's headers may take; long names and extended headers take a few
DAMAGED = (
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
)


class Member(NamedTuple):
    """A file (`inside` opens it in the archive) or folder (None)."""

    name: str
    size: int
    inside: Callable[[], Any] | None


def is_page(file: Path) -> bool:
    """Whether a file is a web page: what servers of large files send when they want to be clicked on first."""
    with open(file, "rb") as handle:
        return (
            handle.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
        )


def extract(archive: Path, out: Path) -> int:
    """Unpack a tar, tar.gz or zip into the new folder `out`, whole or not at all; returns the number of files.

    Names decide nothing but places below `out`; rights, owners and times are not taken over.

    Raises:
        UnveilError: `out` is there already, no such archive, damaged, larger than the caps, or anything in it but files and folders with
            plain relative names that differ even where upper and lower case are the same.
    """
    if out.exists() or out.is_symlink():
        raise UnveilError(f"{out} is there already; give another folder with --out")
    fresh = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        with _opened(archive) as members:
            count = _unpack(members, fresh, min(LARGEST, SWELL * archive.stat().st_size))
        if count == 0:
            raise ValueError("no file in it")
        fresh.rename(out)
        sync_folder(out.parent)
    except DAMAGED as error:
        raise UnveilError(f"{archive}: refused, nothing was unpacked: {error or 'damaged'}") from error
    except OSError as error:
        raise UnveilError(f"{archive}: cannot be unpacked into {out} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return count


def _unpack(members: Generator[Member], folder: Path, largest: int) -> int:
    """Write members as they come; `largest` bounds what they declare, and what they declare is what they must be."""
    places: dict[str, tuple[str, bool]] = {}  # folded -> as written first, and whether it is a folder
    declared, files = 0, 0
    for number, member in enumerate(members):
        declared += member.size
        if number >= MOST or member.size < 0 or declared > largest:
            raise ValueError(f"more than {MOST:,} members, or larger than {largest:,} bytes in all")
        parts = _parts(member.name)
        if not parts:
            continue
        _claim(places, parts, member.inside is None)
        place = folder.joinpath(*parts)
        if member.inside is None:
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        files += 1
        with member.inside() as source, open(place, "xb") as target:
            shutil.copyfileobj(source, target, BLOCK)
            if target.tell() != member.size:
                raise ValueError(
                    f"{member.name[:80]!r} has {target.tell():,} bytes instead of {member.size:,}"
                )
    return files


def _parts(name: str) -> list[str]:
    """The parts of a relative path, those that mean nothing dropped.

    Raises:
        ValueError: anything else.
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


def _claim(places: dict[str, tuple[str, bool]], parts: list[str], folder: bool) -> None:
    """Note a path and the folders above it; folders may come more than once.

    Raises:
        ValueError: a file of this name is there, or the same name in other letters.
    """
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        is_folder = folder or depth < len(parts)
        folded = unicodedata.normalize("NFKC", path).casefold()
        before = places.get(folded)
        if before is not None and (before != (path, True) or not is_folder):
            raise ValueError(f"{path[:80]!r} stands in it twice, or beside {before[0][:80]!r}")
        places[folded] = (path, is_folder)


@contextmanager
def _opened(archive: Path) -> Generator[Generator[Member]]:
    """The members of an archive, whose kind its first bytes say."""
    with open(archive, "rb") as handle:
        magic = handle.read(4)
        handle.seek(0)
        if magic == b"PK\x03\x04":
            with zipfile.ZipFile(handle) as zipped:
                yield _zip_members(zipped)
        else:
            zipped = (
                magic[:2] == b"\x1f\x8b"
            )  # tarfile looks back by a byte: within the buffer, or gzip begins anew
            source = BufferedReader(cast(Any, GzipFile(fileobj=handle)), 2 * BLOCK) if zipped else handle
            sips = _Sips(source)
            sips.header(HEADERS)  # opening reads the first
            with tarfile.open(fileobj=cast(IO[bytes], sips), mode="r:") as tar:
                yield _tar_members(tar, sips)


class _Sips:
    """A file that is read a block at a time: headers that claim gigabytes are refused, not allocated.

    So are headers of headers of headers, by which tarfile would call itself without end: `header` says that one member's begin.
    """

    def __init__(self, file: Any) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self._left = 0

    def header(self, blocks: int) -> None:
        """So many reads may come before this is called again; 0: any number, as of contents."""
        self._left = blocks

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        if not 0 <= size <= BLOCK:
            raise ValueError(f"a header of {size:,} bytes")
        if self._left == 1:
            raise ValueError("a member with headers of headers")
        self._left = max(0, self._left - 1)
        return self._read(size)


def _tar_members(tar: tarfile.TarFile, sips: _Sips) -> Generator[Member]:
    while True:
        sips.header(HEADERS)
        info = tar.next()
        sips.header(0)
        if info is None:
            break
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or info.issparse():
            raise ValueError(
                f"{info.name[:80]!r} is neither a file nor a folder (a link, a device or the like)"
            )
        if info.isdir():
            yield Member(info.name, 0, None)
        else:
            yield Member(info.name, info.size, lambda info=info: tar.extractfile(info))
        cast(Any, tar).members.clear()  # it keeps all headers otherwise
    source = cast(IO[bytes], tar.fileobj)
    source.seek(tar.offset)
    if source.read(tarfile.BLOCKSIZE) != bytes(
        tarfile.BLOCKSIZE
    ):  # tarfile takes a damaged header for the end
        raise ValueError("cut short or damaged: no end where the last file ends")


def _zip_members(zipped: zipfile.ZipFile) -> Generator[Member]:
    for info in zipped.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not info.is_dir()):
            raise ValueError(
                f"{info.filename[:80]!r} is neither a file nor a folder (a link, a device or the like)"
            )
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename[:80]!r} is encrypted, or packed in another way than zip's own")
        if info.orig_filename != info.filename:
            raise ValueError(f"{info.orig_filename[:80]!r} is not a plain relative name")
        yield Member(
            info.filename, info.file_size, None if info.is_dir() else lambda info=info: zipped.open(info)
        )

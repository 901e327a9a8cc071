"""Chunks of untrusted zarr arrays: their unpacked size is checked before a codec allocates memory for it."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MOST_CHUNKS = 1_000_000
PIECE = 2**16


def chunk_files(folder: Path) -> list[Path]:
    """The chunk files of an array, without its metadata."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file.name != "zarr.json"
    ]


def check_chunks(folder: Path, codec: str, size: int) -> None:
    """Refuse chunks with a wrong length in their header, or that unpack to more than a chunk's numbers.

    Codecs trust both lengths. Blosc copies uncompressed data by the header's length, even past a file's
    end; it, lz4 and zstd allocate the header's size, and the others continue as long as there is data to
    unpack.

    Args:
        codec: the outermost codec, by its name in zarr; other codecs than the known ones are not checked.
        size: bytes of a chunk's numbers.
    Raises:
        ValueError: such a chunk, by name.
    """
    most = 2 * size + PIECE  # room for the overhead of filters and codecs
    for file in chunk_files(folder):
        place, stored = file.relative_to(folder), file.stat().st_size
        if stored > most:
            raise ValueError(f"chunk {place} has {stored:,} bytes for {size:,} bytes of numbers")
        with file.open("rb") as handle:
            head = handle.read(18)
            handle.seek(0)
            if codec == "blosc" and (len(head) < 16 or int.from_bytes(head[12:16], "little") != stored):
                raise ValueError(f"chunk {place} is not as long as its header says")
            if _unpacked(codec, head, handle, most) > most:
                raise ValueError(f"chunk {place} unpacks to more than the {size:,} bytes of its numbers")


def _unpacked(codec: str, head: bytes, handle: BinaryIO, most: int) -> int:
    """The unpacked bytes of a chunk, or a number above `most`; 0 for a damaged one, refused by its codec."""
    if codec == "blosc":
        return int.from_bytes(head[4:8], "little")
    if codec == "lz4":
        return int.from_bytes(head[:4], "little")
    if codec == "zstd":
        return _zstd(head)
    if codec not in ("gzip", "zlib", "bz2", "lzma"):
        return 0
    total = 0
    try:
        for count in _streamed(codec, handle):
            total += count
            if total > most:
                break
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
        return total
    return total


def _streamed(codec: str, handle: BinaryIO) -> Iterator[int]:
    """The sizes of the unpacked pieces of all streams of a file, at most 64 KiB each."""
    make = {"bz2": bz2.BZ2Decompressor, "lzma": lzma.LZMADecompressor}.get(codec)
    data = handle.read()
    while data:
        if make is None:
            plain = zlib.decompressobj(47)  # gzip or zlib
            while data and not plain.eof:
                yield len(plain.decompress(data, PIECE))
                data = plain.unconsumed_tail
            data = plain.unused_data
        else:
            packed = make()
            while not packed.eof:
                piece = packed.decompress(data, PIECE)
                if not piece and packed.needs_input:
                    return
                yield len(piece)
                data = b""
            data = packed.unused_data


def _zstd(head: bytes) -> int:
    """The content size of a zstd frame's header. RFC 8878, section 3.1.1.1; 0 where it has none."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 6:
        return 0
    descriptor = head[4]
    single, dictionary = bool(descriptor & 0x20), (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not single) + dictionary
    field = head[start : start + width]
    return int.from_bytes(field, "little") + (256 if width == 2 else 0) if width else 0

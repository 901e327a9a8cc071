"""Chunks of zarr arrays from strangers: what they unpack to is found out before a codec takes memory for it."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_CHUNKS = 1_000_000
PIECE = 2**16


def chunk_files(folder: Path) -> list[Path]:
    """The files of an array that are not its description."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file.name != "zarr.json"
    ]


def check_chunks(folder: Path, codec: str, size: int) -> None:
    """Refuse chunks that are not as long as they say, or that unpack to more than a chunk's numbers: codecs believe both.

    Blosc copies what it stored uncompressed by its header, past a file's end, too; it, lz4 and zstd allocate what a header says, and the
    others go on as long as there is something to unpack.

    Args:
        codec: the outermost, by its name in zarr; others than those above are not looked at.
        size: bytes of a chunk's numbers.
    Raises:
        ValueError: one is not; the message names it.
    """
    most = 2 * size + PIECE  # whatever filters and codecs add
    for file in chunk_files(folder):
        place, stored = file.relative_to(folder), file.stat().st_size
        if stored > most:
            raise ValueError(f"chunk {place} has {stored:,} bytes for {size:,} bytes of numbers")
        with file.open("rb") as handle:
            head = handle.read(18)
            handle.seek(0)
            if codec == "blosc" and (len(head) < 16 or int.from_bytes(head[12:16], "little") != stored):
                raise ValueError(f"chunk {place} is not as long as it says")
            if _unpacked(codec, head, handle, most) > most:
                raise ValueError(f"chunk {place} unpacks to more than the {size:,} bytes of its numbers")


def _unpacked(codec: str, head: bytes, handle: Any, most: int) -> int:
    """How many bytes come out of a chunk, or some number above `most`; 0 where it is damaged, which the codec will say."""
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


def _streamed(codec: str, handle: Any) -> Iterator[int]:
    """The sizes of the pieces that come out of all streams of a file, of at most 64 KiB each."""
    make: Any = {"bz2": bz2.BZ2Decompressor, "lzma": lzma.LZMADecompressor}.get(codec)
    data: bytes = handle.read()
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
    said = head[4]
    single, dictionary = bool(said & 0x20), (0, 1, 2, 4)[said & 3]
    width = (1 if single else 0, 2, 4, 8)[said >> 6]
    start = 5 + (not single) + dictionary
    field = head[start : start + width]
    return int.from_bytes(field, "little") + (256 if width == 2 else 0) if width else 0

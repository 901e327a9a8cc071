"""Damage to pictures, HDF5, parquet and zarr, by what these formats can say; the rest is in `robustness_bytes.py`."""

from __future__ import annotations

import io
import random
import struct
import zlib
from contextlib import suppress
from functools import cache
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robustness_bytes import STRINGS, WHOLE, bomb_gzip, bomb_zlib, bytes_damage, json_damage, zeros


def png_damage(data: bytes, rng: random.Random) -> bytes:
    """A PNG, chunk by chunk, mostly with right checksums: sizes, depths, colours, texts and numbers that unpack without end."""
    if data[:4] != b"\x89PNG" or rng.random() < 0.15:
        return bytes_damage(data, rng)
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(rng.choice((1, 1, 2))):
        k = rng.randrange(len(chunks))
        kind, body = chunks[k]
        match rng.randrange(10):
            case 0 | 1:
                head = bytearray(chunks[0][1].ljust(13, b"\0"))
                field = rng.randrange(7)
                if field < 2:
                    sizes = (0, 1, 3, 9000, 13_000, 20_000, 40_000, 2**31 - 1, 2**31, 2**32 - 1)
                    head[4 * field : 4 * field + 4] = struct.pack(">I", rng.choice(sizes))
                else:
                    head[6 + field] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
                chunks[0] = (b"IHDR", bytes(head))
            case 2:
                del chunks[k]
                chunks = chunks or [(kind, body)]
            case 3:
                chunks.insert(rng.randrange(len(chunks) + 1), chunks[k])
            case 4:
                chunks[k] = (kind, bytes_damage(body, rng) if body else b"\0")
            case 5:
                packed = bomb_zlib(rng.choice((8, 64, 300)))
                texts = [
                    (b"zTXt", b"unveil\0\0" + packed),
                    (b"iCCP", b"x\0\0" + packed),
                    (b"iTXt", b"unveil\0\1\0\0\0" + packed),
                    (b"IDAT", packed),
                ]
                chunks.insert(rng.choice((1, len(chunks) - 1)), rng.choice(texts))
            case 6:
                more: list[tuple[bytes, bytes]] = [
                    *(
                        (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 300)))),
                        (b"PLTE", rng.randbytes(rng.choice((0, 3, 7, 768, 900)))),
                    ),
                    *(
                        (b"gAMA", rng.randbytes(rng.choice((0, 4)))),
                        (b"pHYs", rng.randbytes(3)),
                        (b"eXIf", rng.randbytes(40)),
                        (b"sRGB", b""),
                    ),
                    *(
                        (b"tEXt", b"unveil\0" + rng.choice(STRINGS).encode(errors="surrogatepass")),
                        (b"tEXt", b""),
                        (b"cHRM", b"\0"),
                    ),
                    *(
                        (b"acTL", struct.pack(">II", rng.choice((0, 1, 2**31)), 0)),
                        (b"fdAT", b"\0\0\0\1x"),
                        (b"XXXX", b""),
                        (b"\0\0\0\0", b""),
                    ),
                    (b"fcTL", struct.pack(">IIIIIHHBB", 0, 2**31 - 1, 5, 0, 0, 0, 0, 0, 0)),
                ]
                chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(more))
            case 7:
                rng.shuffle(chunks)
            case 8 if kind == b"IDAT":
                try:
                    raw = zlib.decompress(body)
                except zlib.error:
                    raw = body
                chunks[k] = (
                    kind,
                    zlib.compress(
                        rng.choice((raw[:-1], raw * 3, b"", bytes_damage(raw, rng), b"\xff" * len(raw)))
                    ),
                )
            case _:
                chunks[k] = (kind, body[: rng.randrange(len(body) + 1)])
    out = data[:8]
    wrong = rng.randrange(len(chunks)) if rng.random() < 0.1 else -1
    for k, (kind, body) in enumerate(chunks):
        out += (
            struct.pack(">I", len(body))
            + kind
            + body
            + struct.pack(">I", zlib.crc32(kind + body) ^ (k == wrong))
        )
    return out


def jpeg_damage(data: bytes, rng: random.Random) -> bytes:
    """A JPEG, segment by segment: sizes, tables, Adobe's and Exif's marks, scans that are lost or too many."""
    if data[:2] != b"\xff\xd8" or rng.random() < 0.25:
        return bytes_damage(data, rng)
    parts: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big") + 2
        parts.append(data[at : at + size])
        at += size
    scan = data[at:]
    for _ in range(rng.choice((1, 1, 2))):
        k = rng.randrange(len(parts) or 1)
        match rng.randrange(8) if scan and parts else 0:
            case 0 | 1:
                frames = [i for i, part in enumerate(parts) if part[1:2] in (b"\xc0", b"\xc1", b"\xc2")]
                if frames:
                    frame = bytearray(parts[frames[0]])
                    field = rng.randrange(max(1, len(frame) - 4))
                    new = rng.choice(
                        (b"\xff\xff", b"\0\0", b"\xff\xdc", b"\x00\x01", b"\x44", b"\x04", b"\x0c")
                    )
                    frame[4 + field : 4 + field + len(new)] = new
                    frame[1] = rng.choice((frame[1], 0xC1, 0xC2, 0xC3, 0xC9, 0xCA))
                    parts[frames[0]] = bytes(frame)
            case 2 if len(parts) > 1:
                del parts[k]
            case 3:
                parts.insert(rng.randrange(len(parts) + 1), parts[k])
            case 4:
                parts[k] = bytes_damage(parts[k], rng)
            case 5:
                bodies = [
                    b"Exif\0\0" + rng.randbytes(rng.choice((0, 8, 60))),
                    b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
                    b"Adobe\0d\0\0\0\0\2",
                    b"ICC_PROFILE\0\1\2",
                ]
                bodies += [
                    b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0\0\0\0\0",
                    b"MPF\0" + rng.randbytes(60),
                    b"JFIF\0",
                    b"",
                    b"Photoshop 3.0\0",
                ]
                body = rng.choice(bodies)
                mark = bytes([0xFF, rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xC4, 0xDB))])
                parts.insert(rng.randrange(len(parts) + 1), mark + struct.pack(">H", len(body) + 2) + body)
            case 6:
                scan = rng.choice(
                    (
                        scan[: rng.randrange(len(scan))],
                        scan * 3,
                        bytes_damage(scan, rng),
                        b"",
                        scan[:-2],
                        scan[:-2] + parts[k] + scan,
                    )
                )
            case _:
                scan = bytes_damage(scan, rng)
    return data[:2] + b"".join(parts) + scan


def hdf5_damage(data: bytes, rng: random.Random) -> bytes:
    """HDF5: an object becomes another kind of object, a link, an array without numbers, of other numbers, or one that claims too much."""
    if rng.random() < 0.3:
        return bytes_damage(data, rng)
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(lambda name: names.append(name))
        for _ in range(rng.choice((1, 1, 2))):
            with suppress(
                ValueError, RuntimeError, OSError, KeyError, TypeError
            ):  # what h5py does not write; what was taken out stays out
                _hdf5_change(file, rng.choice(names), rng)
    out = stream.getvalue()
    return bytes_damage(out, rng) if out == data or rng.random() < 0.1 else out


def _hdf5_change(file: h5py.File, name: str, rng: random.Random) -> None:
    if name not in file:
        return
    old = file[name]
    ours = (
        isinstance(old, h5py.Dataset) and not old.is_virtual and not old.external
    )  # HDF5 crashes on what is a view of itself
    held = (
        old[()] if ours and old.shape is not None and old.size < 10**6 and old.dtype.kind in "fiub" else None
    )
    shape = (4, 2) if held is None else held.shape
    kind = rng.randrange(15)
    if kind == 0:
        file.move(
            name,
            rng.choice(
                ("observation", "a/b", "episode_99999999999999999999", "demo_7", "é", "x" * 1000, f"{name}_2")
            ),
        )
        return
    del file[name]
    match kind:
        case 1:
            pass
        case 2:
            links: list[Any] = [
                h5py.SoftLink(f"/{name}"),
                h5py.SoftLink("/"),
                h5py.SoftLink("/nowhere"),
                h5py.ExternalLink("o.h5", "/x"),
            ]
            file[name] = rng.choice(
                [*links, h5py.ExternalLink("/etc/passwd", "/"), h5py.ExternalLink("/dev/zero", "/")]
            )
        case 3:
            file[name] = file["/"]  # a group within itself
        case 4:
            values = (
                b"text",
                "text",
                3.0,
                h5py.Empty("f4"),
                np.array([b"a"]),
                np.zeros((0,)),
                np.zeros((3, 0)),
                np.ones(()),
                np.array(["a"], object),
            )
            value = rng.choice(values)
            file.create_dataset(
                name,
                data=value,
                dtype=h5py.string_dtype()
                if isinstance(value, np.ndarray) and value.dtype.hasobject
                else None,
            )
        case 5:
            file.create_dataset(name, data=file.ref, dtype=h5py.ref_dtype)
        case 6 | 7:
            huge = (
                (10**6,),
                (10**7, 2),
                (5 * 10**7, 4),
                (10**9,),
                (2**40,),
                (2**62, 2),
                (2**31, 2**31),
                (6 * 10**6, 2),
                (1, 10**7),
            )
            dtype = rng.choice(("f4", "f8", "u1", "?", "i8"))
            options: dict[str, Any] = {"chunks": True} if rng.random() < 0.8 else {}
            file.create_dataset(
                name, rng.choice(huge), dtype=dtype, **options, fillvalue=rng.choice((None, 1))
            )
        case 8:
            types = (
                "f2",
                ">f8",
                "i1",
                ">u8",
                "c8",
                "S3",
                "O",
                [("a", "f4")],
                ("f4", (3,)),
                "V5",
                "?",
                "f4",
                "g",
            )
            dtype = rng.choice(types)
            dtype = (
                h5py.vlen_dtype(np.float32)
                if dtype == "O"
                else h5py.enum_dtype({"A": 0}, basetype="i1")
                if dtype == "V5"
                else dtype
            )
            file.create_dataset(name, shape, dtype=np.dtype(dtype))
        case 9:
            numbers = np.zeros(shape) if held is None else np.array(held, np.float64)
            numbers[...] = numbers + rng.choice((np.nan, np.inf, -np.inf, 1e300, -1e39, 0.5))
            file[name] = numbers
        case 10:
            rows = np.zeros(shape) if held is None else np.array(held)
            file[name] = rng.choice(
                (
                    rows[:-1] if rows.ndim else rows,
                    rows[None],
                    rows.T,
                    np.concatenate([rows, rows]) if rows.ndim else rows,
                    rows.reshape(-1),
                )
            )
        case 11:
            layout = h5py.VirtualLayout(shape or (1,), "f4")
            layout[...] = h5py.VirtualSource(rng.choice((".", "/dev/zero", "o.h5")), name, shape or (1,))
            file.create_virtual_dataset(name, layout)
        case 12:
            file.create_dataset(
                name, (1000, 2), "f4", external=[(rng.choice(("/dev/zero", "/etc/passwd")), 0, 8000)]
            )
        case 13:
            packings: tuple[dict[str, Any], ...] = (
                {"compression": "gzip"},
                {"compression": "lzf"},
                {"shuffle": True},
                {"fletcher32": True},
                {"scaleoffset": 2},
            )
            size = rng.choice((1000, 1000, 40_000_000))
            made = file.create_dataset(name, (size,), "f4", chunks=(size,), **rng.choice(packings))
            if size > 1000 and made.compression == "gzip":
                made.id.write_direct_chunk((0,), b"\x78\xda" + zeros(152)[0])
        case _:
            group = file.create_group(name)
            for i in range(rng.choice((0, 1, 300))):
                group.create_group(f"{rng.choice(('demo_', 'episode_', 'x'))}{i}")


@cache
def endless_parquet(columns: tuple[str, ...], groups: int = 12) -> bytes:
    """Rows of zeros: a million a group in a few hundred bytes."""
    stream = io.BytesIO()
    rows = pa.table(
        {name: pa.array(np.zeros(2**20, np.float64 if "index" not in name else np.int64)) for name in columns}
    )
    with pq.ParquetWriter(stream, rows.schema, compression="zstd", use_dictionary=True) as writer:
        for _ in range(groups):
            writer.write_table(rows)
    return stream.getvalue()


@cache
def wide_parquet(columns: tuple[str, ...]) -> bytes:
    """Few rows of very long lists of zeros."""
    rows = {
        name: pa.array([np.zeros(2**21)] * 8) if "index" not in name else pa.array(np.arange(8))
        for name in columns
    }
    stream = io.BytesIO()
    pq.write_table(pa.table(rows), stream, compression="zstd", use_dictionary=True)
    return stream.getvalue()


def parquet_damage(data: bytes, rng: random.Random) -> bytes:
    """A parquet file: its own bytes, columns of other kinds, values missing, lists of unlike lengths, rows without end."""
    if rng.random() < 0.5:
        return bytes_damage(data, rng)
    table = pq.read_table(io.BytesIO(data))
    names, count = table.column_names, table.num_rows
    name = rng.choice(names)
    kind = rng.randrange(12)
    if kind == 0:
        return endless_parquet(tuple(names)) if rng.random() < 0.7 else wide_parquet(tuple(names))
    new: Any = {
        1: lambda: pa.array([rng.choice([*STRINGS[1:2], "a"])] * count),
        2: lambda: pa.array([None] * count, pa.float32()),
        3: lambda: pa.array([[1.0] * (i % 3) for i in range(count)]),
        4: lambda: pa.array([[[1.0]] if i % 2 else None for i in range(count)]),
        5: lambda: pa.array([rng.choice((float("nan"), 1e300, -1.0)) for _ in range(count)]),
        6: lambda: pa.array([b"\x89PNG" + rng.randbytes(9)] * count),
        7: lambda: pa.array([{"bytes": rng.choice((None, b"", b"x")), "path": "x"}] * count),
        8: lambda: pa.array(["a"] * count).dictionary_encode(),
        9: lambda: pa.array([rng.choice((True, False)) for _ in range(count)]),
        10: lambda: pa.array([rng.choice((-1, 0, 2**62, 5)) for _ in range(count)]),
        11: lambda: pa.nulls(count),
    }[kind]()
    table = table.set_column(names.index(name), rng.choice((name, name, name, name.upper(), "index")), new)
    if rng.random() < 0.2:
        table = rng.choice(
            (table.slice(0, 0), table.slice(1), table.remove_column(rng.randrange(table.num_columns)))
        )
    stream = io.BytesIO()
    pq.write_table(table, stream, compression=rng.choice(("snappy", "zstd", "gzip", "none", "lz4", "brotli")))
    out = stream.getvalue()
    return bytes_damage(out, rng) if rng.random() < 0.2 else out


def chunk_damage(data: bytes, rng: random.Random) -> bytes:
    """A zarr chunk: its bytes, blosc's header, or one that unpacks without end."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(
            (bomb_gzip(300), bomb_zlib(300), bomb_gzip(900), bomb_zlib(900), b"", rng.randbytes(40))
        )
    if kind < 4 and len(data) > 16:
        out = bytearray(data)
        field, size = rng.choice(((0, 1), (1, 1), (2, 1), (3, 1), (4, 4), (8, 4), (12, 4), (16, 4)))
        out[field : field + size] = (rng.choice(WHOLE) % 2 ** (8 * size)).to_bytes(size, "little")
        if rng.random() < 0.5:
            out[12:16] = len(out).to_bytes(4, "little")
        return bytes(out)
    return bytes_damage(data, rng)


def zarr_damage(name: str) -> Any:
    """What a file of a store is: JSON, or a chunk."""
    return (
        json_damage
        if name.rpartition("/")[2] in (".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json")
        else chunk_damage
    )

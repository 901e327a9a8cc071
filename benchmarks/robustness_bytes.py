"""Damage to files: bytes of any format, JSON, archives, pickles, safetensors and NumPy's arrays; all of it follows from one generator.

A file is bytes, a source (a file or a folder) a dict of files by their names. `damaged` takes a valid source and gives a malformed one.
"""

from __future__ import annotations

import gzip
import io
import json
import pickletools
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

Tree = dict[str, bytes]
Damage = Callable[[bytes, random.Random], bytes]

WHOLE = [
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    10**6,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
STRINGS = [
    "",
    "\0",
    "\ud800",
    "a\nb",
    "\x1b[2J",
    "x" * 200,
    "x" * 70_000,
    "../x",
    "/etc/passwd",
    "NaN",
    "-1",
    "1e999",
    "pickle",
    "float128",
]
STRINGS += [
    "|O",
    "<f8",
    "object",
    "None",
    "true",
    "image",
    "video",
    "zstd",
    "lz4",
    "v2.1",
    "F64",
    "I8",
    "BF16",
    "text",
    "maze",
    "weights",
]
NUMBERS: list[Any] = [
    *WHOLE,
    -1,
    -(2**31),
    -(2**63),
    10**400,
    0.0,
    -0.5,
    0.5,
    1e-300,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
]
RAW = [  # JSON that json.dumps does not write
    "[" * 100_000,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    "1" * 6000,
    "-" + "9" * 5000 + "e-9999",
    '"\\ud800"',
    '"\\u0000"',
    "1e400",
    "Infinity",
    '{"a": 1, "a": 2}',
    "undefined",
    '"\x01"',
    "\ufeff{}",
]
MARK = "\ue000"
BOMBS = (8, 64, 152, 300, 900, 3000)  # megabytes


@cache
def zeros(megabytes: int, level: int = 9) -> tuple[bytes, int]:
    """That many zeros by raw deflate, about a thousandth as long, and their CRC-32."""
    block = bytes(2**20)
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    parts = [packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)]
    crc = 0
    for _ in range(megabytes):
        crc = zlib.crc32(block, crc)
    return parts[0] * megabytes + b"\x03\x00", crc


def bomb_gzip(megabytes: int) -> bytes:
    """A gzip file of zeros."""
    packed, crc = zeros(megabytes)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed + struct.pack("<II", crc, (megabytes << 20) % 2**32)


def bomb_zlib(megabytes: int) -> bytes:
    """A zlib stream of zeros; its Adler-32 is right."""
    size = megabytes << 20
    return b"\x78\xda" + zeros(megabytes)[0] + struct.pack(">I", (size % 65521) << 16 | 1)


def place(size: int, rng: random.Random) -> int:
    """Somewhere in a file, more often at its ends, where formats say what they are."""
    where = rng.random()
    if where < 0.35:
        return rng.randrange(min(size, 64))
    if where < 0.6:
        return size - 1 - rng.randrange(min(size, 256))
    return rng.randrange(size)


def bytes_damage(data: bytes, rng: random.Random) -> bytes:
    """Bits, bytes, words, blocks: flipped, set, put in, taken out, doubled, cut."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not out:
            return rng.randbytes(rng.randrange(1, 64))
        at = place(len(out), rng)
        match rng.randrange(9):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            case 2:
                size, order = rng.choice((2, 4, 4, 8)), rng.choice(("little", "big"))
                out[at : at + size] = (rng.choice(WHOLE) % 2 ** (8 * size)).to_bytes(size, order)
            case 3:
                out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 64)))
            case 4:
                del out[at : at + rng.choice((1, 2, 4, 64, 1024))]
            case 5:
                size = rng.choice((4, 16, 256))
                out[at:at] = out[at : at + size] * rng.choice((1, 1, 3))
            case 6:
                del out[at:]
            case 7:
                other, size = place(len(out), rng), rng.choice((4, 16, 256))
                out[at : at + size] = out[other : other + size]
            case _:
                size = rng.choice((4, 64, 512))
                out[at : at + size] = bytes([rng.choice((0, 255, 32))]) * len(out[at : at + size])
    return bytes(out)


def value(rng: random.Random) -> Any:
    """A JSON value that nobody waits for."""
    return rng.choice(
        [
            None,
            True,
            False,
            [],
            {},
            [[]],
            [None],
            {"": None},
            rng.choice(NUMBERS),
            rng.choice(NUMBERS),
            rng.choice(STRINGS),
        ]
    )


def spoiled(tree: Any, rng: random.Random) -> Any:
    """A JSON tree with one place changed: another value, a lost, doubled or renamed key, another order or length."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in (
            list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        ):
            places.append((node, key))
            if len(places) < 4000:
                walk(node[key])

    walk(tree)
    if not places or rng.random() < 0.03:
        return value(rng)
    node, key = rng.choice(places)
    old = node[key]
    match rng.randrange(9):
        case 0 | 1 | 2:
            node[key] = value(rng)
        case 3:
            node[key] = MARK + str(rng.randrange(len(RAW)))
        case 4:
            del node[key]
        case 5 if isinstance(node, dict):
            node[rng.choice(STRINGS)] = node.pop(key)
        case 5:
            node.insert(rng.randrange(len(node) + 1), value(rng))
        case 6 if isinstance(old, int | float) and not isinstance(old, bool):
            node[key] = rng.choice(
                (-old, old + 1, old - 1, old * 1000, old * 10**9, old / 3, str(old), [old])
            )
        case 6 if isinstance(old, str):
            node[key] = rng.choice(
                (old + "x", old[:-1], old[::-1], old.upper(), [old], {old: old}, old * 200)
            )
        case 6 if isinstance(old, list):
            node[key] = rng.choice(
                (old * 2, old[:-1], old[::-1], [old], old * 3000, {str(i): v for i, v in enumerate(old)})
            )
        case 7:
            other, name = rng.choice(places)
            if (other is not node or name != key) and (
                name in other if isinstance(other, dict) else name < len(other)
            ):
                node[key] = json.loads(json.dumps(other[name]))
        case _ if isinstance(node, dict):
            node[rng.choice(STRINGS)] = value(rng)
        case _:
            node[key] = [old]
    return tree


def dumped(tree: Any) -> bytes:
    """The text of a spoiled tree."""
    text = json.dumps(tree, ensure_ascii=False)
    for number in range(len(RAW)):
        text = text.replace(f'"{MARK}{number}"', RAW[number])
    return text.encode(errors="surrogatepass")


def json_damage(data: bytes, rng: random.Random) -> bytes:
    """One JSON document, or one of its lines where it is one a line."""
    try:
        tree = json.loads(data)
    except ValueError:
        lines = data.split(b"\n")
        whole = [i for i, line in enumerate(lines) if line.strip()]
        if not whole:
            return bytes_damage(data, rng)
        at = rng.choice(whole)
        try:
            lines[at] = dumped(spoiled(json.loads(lines[at]), rng))
        except ValueError:
            return bytes_damage(data, rng)
        return b"\n".join(lines)
    for _ in range(rng.choice((1, 1, 2))):
        tree = spoiled(tree, rng)
    return dumped(tree)


def text_damage(data: bytes, rng: random.Random) -> bytes:
    """Text: other encodings, marks, nothing, endless lines."""
    text = data.decode(errors="replace")
    match rng.randrange(7):
        case 0:
            return text.encode(rng.choice(("utf-16", "utf-32", "latin-1")), errors="replace")
        case 1:
            return b"\xef\xbb\xbf" + data
        case 2:
            return rng.choice(
                (b"", b"\n", b" " * 1000, b"\0" * 1000, b"\n" * 100_000, b"\xff\xfe", b"\xed\xa0\x80")
            )
        case 3:
            return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\0", "\u2028".encode(), b"")))
        case 4:
            return data * rng.choice((2, 50))
        case 5:
            at = place(len(data) or 1, rng)
            return data[:at] + rng.choice(STRINGS).encode(errors="surrogatepass") + data[at:]
        case _:
            return bytes_damage(data, rng)


def npy_damage(data: bytes, rng: random.Random) -> bytes:
    """A .npy file: its header says something else than its numbers."""
    if data[:6] != b"\x93NUMPY" or rng.random() < 0.25:
        return bytes_damage(data, rng)
    size = int.from_bytes(data[8:10], "little")
    header, body = data[10 : 10 + size].decode("latin-1"), data[10 + size :]
    said = dict(eval(header, {"__builtins__": {}}))
    shape = list(said["shape"])
    match rng.randrange(9):
        case 0:
            said["shape"] = tuple([*shape[:-1], rng.choice(WHOLE)] if shape else [rng.choice(WHOLE)])
        case 1:
            said["shape"] = rng.choice(
                (
                    (),
                    (0,),
                    (-1,),
                    (2**40, 0),
                    (1,) * 70,
                    (len(body),),
                    ("3",),
                    (2.0,),
                    5,
                    None,
                    (True,),
                    (10**30,),
                )
            )
        case 2:
            types = (
                "|O",
                "<f8",
                ">f4",
                "<f2",
                "<f16",
                "<c8",
                "|S8",
                "<U4",
                "|V4",
                "<M8[s]",
                "|b1",
                "<i8",
                ">u2",
                "x",
                "",
                "|u1",
                "<u8",
            )
            said["descr"] = rng.choice(types)
        case 3:
            deep: Any = "<f4"
            for _ in range(rng.choice((1, 40, 400))):
                deep = [("a", deep)]
            said["descr"] = rng.choice(
                (deep, [("a", "<f4", (3,))], [("a", "|O")], None, 4, ("<f4", (2,)), [("", ""), ("", "")])
            )
        case 4:
            said["fortran_order"] = rng.choice((not said["fortran_order"], "False", None, 0))
        case 5:
            said.pop(rng.choice(list(said)))
        case 6:
            said[rng.choice(STRINGS)] = 1
        case 7:
            said["shape"] = tuple(rng.sample(shape, len(shape)) if len(shape) > 1 else [*shape, 1])
        case _:
            header = rng.choice(
                (
                    "(" * 5000,
                    "[" * 200 + "]" * 200,
                    "{'a': 10**10**10}",
                    "__import__('os')",
                    "{" * 9000,
                    "9" * 9000,
                    "'" * 99,
                )
            )
            return data[:8] + struct.pack("<H", len(header)) + header.encode() + body
    text = repr(said).encode("latin-1", errors="replace")
    version = rng.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\4\0", b"\0\0"))
    length = struct.pack("<H", len(text) % 2**16) if version < b"\2\0" else struct.pack("<I", len(text))
    if rng.random() < 0.1:
        body = rng.choice((b"", body[:-1], body + b"\0", body * 2))
    return data[:6] + version + length + text + body


def zipped(members: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    """An archive of these members, names twice and all."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for info, data in members:
            archive.writestr(info, data)
    return stream.getvalue()


def bombed(data: bytes, name: str, megabytes: int, size: int | None = None) -> bytes:
    """An archive with one member more, of zeros packed a thousandfold; `size`: what is declared of it."""
    packed, crc = zeros(megabytes)
    info, real = name.encode(errors="replace"), megabytes << 20
    told = struct.pack(
        "<HHHIIIHH", 8, 0, 33, crc, len(packed), (real if size is None else size) % 2**32, len(info), 0
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start, count = archive.start_dir, len(archive.infolist())
    body, directory = data[:start], data[start:]
    end = directory.rfind(b"PK\5\6")
    directory = directory[:end]
    entry = b"PK\1\2\x14\0\x14\0\0\0" + told + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + info
    body += b"PK\3\4\x14\0\0\0" + told + info + packed
    tail = struct.pack("<HHHHIIH", 0, 0, count + 1, count + 1, len(directory) + len(entry), len(body), 0)
    return body + directory + entry + b"PK\5\6" + tail


def zip_damage(inner: Callable[[str], Damage] | None = None) -> Damage:
    """Archives: members spoiled by what they are, names, kinds, sizes that lie, bombs."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return bytes_damage(data, rng)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
        at = rng.randrange(len(members))
        info, content = members[at]
        kind = rng.randrange(12)
        if kind < 5 and inner is not None:
            members[at] = (info, inner(info.filename)(content, rng))
            return zipped(members)
        match kind:
            case 5:
                names = (
                    "../x",
                    "/x",
                    "a\\b",
                    "x\ny",
                    "",
                    "a/../b",
                    "C:x",
                    "x" * 300,
                    "é",
                    members[0][0].filename.upper(),
                    "a/",
                    "nul\0x",
                    ".",
                )
                fresh = zipfile.ZipInfo(rng.choice(names) or "x")
                fresh.external_attr = rng.choice((0, 0o120777 << 16, 0o60777 << 16, 0o40777 << 16, 0x10))
                members.insert(
                    rng.randrange(len(members) + 1), (fresh, b"" if fresh.filename.endswith("/") else content)
                )
            case 6:
                members.append((zipfile.ZipInfo(info.filename), content))
                import warnings

                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return zipped(members)
            case 7:
                del members[at]
            case 8:
                fresh = zipfile.ZipInfo(info.filename)
                fresh.compress_type = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
                members[at] = (fresh, content)
            case 9:
                megabytes = rng.choice((64, 300, 300, 300, 900, 900, 3000))
                name = info.filename if rng.random() < 0.5 else rng.choice(("a.npy", "x", "data/0"))
                if name == info.filename:
                    del members[at]
                return bombed(zipped(members), name, megabytes, rng.choice((None, None, 16, 2**32 - 1)))
            case 10:
                out = bytearray(zipped(members))  # the directory tells another size, method, flag, place
                spots = [i for i in range(len(out) - 46) if out[i : i + 4] == b"PK\1\2"]
                spot = rng.choice(spots)
                field, size = rng.choice(
                    ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (38, 4), (42, 4))
                )
                out[spot + field : spot + field + size] = (rng.choice(WHOLE) % 2 ** (8 * size)).to_bytes(
                    size, "little"
                )
                return bytes(out)
            case 11:
                members[at] = (
                    info,
                    rng.choice(
                        (
                            b"",
                            content[:-1],
                            content + b"\0",
                            rng.randbytes(64),
                            members[rng.randrange(len(members))][1],
                        )
                    ),
                )
            case _:
                members[at] = (info, bytes_damage(content, rng))
        return zipped(members)

    return damage


def tar_damage(data: bytes, rng: random.Random) -> bytes:
    """A tar, gzipped or not: links, devices, sparse and endless headers, names, bombs."""
    packed = data[:2] == b"\x1f\x8b"
    if rng.random() < 0.25:
        return bytes_damage(data, rng)
    if packed and rng.random() < 0.1:
        return bomb_gzip(rng.choice((300, 300, 3000))) if rng.random() < 0.5 else data + bomb_gzip(300)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(info, archive.extractfile(info).read() if info.isfile() else b"") for info in archive]
    at = rng.randrange(len(members))
    info, content = members[at]
    form = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    match rng.randrange(6):
        case 0:
            info.name = rng.choice(
                (
                    "../x",
                    "/x",
                    "a\\b",
                    "x\ny",
                    "a/../b",
                    "x" * 300,
                    "é",
                    members[0][0].name.upper(),
                    "nul\0x",
                    ".",
                )
            )
        case 1:
            info.type = rng.choice(
                (
                    tarfile.SYMTYPE,
                    tarfile.LNKTYPE,
                    tarfile.CHRTYPE,
                    tarfile.FIFOTYPE,
                    tarfile.DIRTYPE,
                    b"S",
                    b"V",
                    b"\xff",
                )
            )
            info.linkname = rng.choice(("/etc/passwd", "../..", info.name, ""))
        case 2:
            members.append((info, content))
        case 3:
            info.pax_headers = {
                rng.choice(
                    ("size", "path", "mtime", "GNU.sparse.size", "GNU.sparse.map", "x", "hdrcharset")
                ): rng.choice(STRINGS[1:])
            }
            info.pax_headers |= {
                rng.choice(("size", "path", "GNU.sparse.realsize", "GNU.sparse.major")): str(
                    rng.choice(NUMBERS)
                )
            }
            form = tarfile.PAX_FORMAT
        case 4:
            del members[at]
        case _:
            content = bytes_damage(content, rng)
            info.size = len(content)
            members[at] = (info, content)
    stream = io.BytesIO()
    try:
        with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
            for one, inside in members:
                archive.addfile(one, io.BytesIO(inside + bytes(max(0, one.size - len(inside)))))
    except (ValueError, UnicodeError, OSError, struct.error):
        return bytes_damage(data, rng)
    out = bytearray(stream.getvalue())
    if rng.random() < 0.4:  # a header's field, its checksum made right
        head = 512 * rng.randrange(max(1, len(out) // 512 // 4))
        field, size = rng.choice(
            (
                (0, 100),
                (100, 8),
                (124, 12),
                (124, 12),
                (156, 1),
                (157, 100),
                (257, 8),
                (345, 155),
                (386, 12),
                (482, 1),
            )
        )
        new = rng.choice(
            (
                b"\xff" * size,
                b"7" * size,
                b"\x80" + b"\0" * (size - 5) + b"\xff" * 4,
                b"-1",
                b"x",
                bytes(size),
                rng.randbytes(size),
            )
        )
        out[head + field : head + field + min(size, len(new))] = new[:size]
        out[head + 148 : head + 156] = b" " * 8
        out[head + 148 : head + 156] = b"%06o\0 " % sum(out[head : head + 512])
    return gzip.compress(bytes(out), 1, mtime=0) if packed else bytes(out)


def gzip_damage(inner: Damage) -> Damage:
    """A gzip file: what is in it, its own bytes, or bombs."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        kind = rng.randrange(10)
        if kind == 0:
            return (
                bomb_gzip(rng.choice((300, 300, 300, 3000)))
                if rng.random() < 0.3
                else bytes_damage(data, rng)
            )
        if kind == 1:
            return data + rng.choice((data, b"\0" * 9, b"x", b"\x1f\x8b", data[:-4]))
        if kind < 4:
            return bytes_damage(data, rng)
        return gzip.compress(inner(gzip.decompress(data), rng), 1, mtime=0)

    return damage


OPERATIONS = [
    *(
        b"cos\nsystem\n",
        b"R",
        b"b",
        b"\x81",
        b"}",
        b"]",
        b")",
        b"(",
        b"0",
        b"1",
        b"2",
        b"s",
        b"u",
        b"a",
        b"e",
        b"t",
        b"\x85",
        b"\x86",
        b"N",
    ),
    *(
        b".",
        b"Q",
        b"P1\n",
        b"\x93",
        b"\x92",
        b"\x94",
        b"o",
        b"ios\nsystem\n",
        b"d",
        b"l",
        b"\x88",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"\x97",
    ),
    *(
        b"\x82\x01",
        b"\x83\x01\x02",
        b"\x84\x01\0\0\0",
        b"\x80\xff",
        b"\x95" + b"\xff" * 8,
        b"\x8b\xff\xff\xff\x7f",
        b"\x8a\xff" + b"\x7f" * 255,
    ),
    *(
        b"X\xff\xff\xff\x7f",
        b"\x8d" + b"\xff" * 7 + b"\0",
        b"\x8e" + b"\xff" * 7 + b"\x0f",
        b"B\xff\xff\xff\x7f",
        b"T\0\0\0\x80",
        b"\x96\xff" + b"\0" * 7,
    ),
    *(
        b"h\0",
        b"h\xff",
        b"j\xff\xff\xff\xff",
        b"r\xff\xff\xff\x7f",
        b"q\0",
        b"g0\n",
        b"p-1\n",
        b"ga\n",
        b"I" + b"9" * 6000 + b"\n",
        b"I01\n",
        b"L9L\n",
    ),
    *(
        b"Fnan\n",
        b"Fx\n",
        b"S'a'\n",
        b"S'\n",
        b"V\\ud800\n",
        b"X\x03\0\0\0\xed\xa0\x80",
        b"\x8c\x02\xff\xff",
        b"G\x7f\xf8\0\0\0\0\0\0",
        b"J\xff\xff\xff\xff",
    ),
    *(
        b"]" + b"]a" * 3000,
        b"N" + b"\x85" * 3000,
        b"}" * 50 + b"s" * 40,
        b"](" + b"N" * 5000 + b"e",
        b"X\x04\0\0\0\xf0\x9f\x98\x80",
        b"c" + b"a" * 3000 + b"\nb\n",
    ),
    *(
        b"X\x0c\0\0\0storage\n\0\0\0\0",
        b"cbuiltins\neval\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"K\xff",
        b"M\xff\xff",
    ),
]


def pickle_damage(data: bytes, rng: random.Random) -> bytes:
    """A pickle, operation by operation; what follows it stays."""
    if rng.random() < 0.2:
        return bytes_damage(data, rng)
    try:
        found = list(pickletools.genops(io.BytesIO(data)))
    except Exception:
        return bytes_damage(data, rng)
    spots = [position for _, _, position in found] + [len(data) if found[-1][2] is None else found[-1][2] + 1]
    parts = [data[a:b] for a, b in pairwise(spots)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(parts) or 1)
        match rng.randrange(6):
            case 0 | 1:
                parts.insert(at, rng.choice(OPERATIONS))
            case 2 if parts:
                del parts[at]
            case 3 if parts:
                parts.insert(rng.randrange(len(parts)), parts[at])
            case 4 if parts:
                parts[at] = bytes_damage(parts[at], rng)
            case _ if parts:
                parts[at] = rng.choice(OPERATIONS)
    return b"".join(parts) + data[spots[-1] :]


def safetensors_damage(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file: its header as JSON, its length, its numbers."""
    kind = rng.randrange(8)
    size = int.from_bytes(data[:8], "little")
    if kind == 0 or size > len(data):
        return bytes_damage(data, rng)
    head, body = data[8 : 8 + size], data[8 + size :]
    if kind == 1:
        return (
            (rng.choice([*WHOLE, len(data), size + 1, size - 1]) % 2**64).to_bytes(8, "little") + head + body
        )
    if kind == 2:
        return data[:8] + head + rng.choice((b"", body[:-1], body + b"\0", body * 2))
    if kind == 3:
        head = bytes_damage(head, rng)
    elif kind == 4:
        head += b" " * rng.choice((1, 7, 100_000))
    else:
        head = json_damage(head, rng)
    return len(head).to_bytes(8, "little") + head + body


def lines_damage(data: bytes, rng: random.Random) -> bytes:
    """JSON lines: as JSON or as text."""
    return json_damage(data, rng) if rng.random() < 0.6 else text_damage(data, rng)


def tree_damage(tree: Tree, rng: random.Random) -> Tree:
    """A folder: files lost, empty, of another name or each other's contents, cut, doubled."""
    names = sorted(tree)
    name, out = rng.choice(names), dict(tree)
    match rng.randrange(6):
        case 0:
            del out[name]
        case 1:
            out[name] = b""
        case 2:
            other = rng.choice(names)
            out[name], out[other] = out[other], out[name]
        case 3:
            out[f"{name}/inside" if rng.random() < 0.3 else f"{name}.bak"] = out.pop(name)
        case 4:
            stem, dot, end = name.rpartition(".")
            out[f"{stem}2{dot}{end}"] = out[name]
        case _:
            out[name] = out[name][: rng.randrange(len(out[name]) + 1)]
    return out


def fallen_back(damage: Damage) -> Damage:
    """A damage by kind; bytes alone where the file is no longer of that kind."""

    def either(data: bytes, rng: random.Random) -> bytes:
        try:
            return damage(data, rng)
        except Exception:  # whatever zipfile, tarfile, gzip, h5py and pyarrow say of it
            return bytes_damage(data, rng)

    return either


def damaged(tree: Tree, kinds: Callable[[str], Damage], rng: random.Random) -> Tree:
    """One malformed source of a valid one: mostly one file of it by its own kind, else the folder; never the valid one."""
    for _ in range(20):
        if len(tree) > 1 and rng.random() < 0.15:
            out = tree_damage(tree, rng)
        else:
            names = sorted(tree)
            short = [
                name for name in names if len(tree[name]) < 200_000 or len(names) == 1
            ]  # configs before numbers
            name = rng.choice(short or names)
            out = tree | {
                name: kinds(name)(tree[name], rng) if rng.random() < 0.8 else bytes_damage(tree[name], rng)
            }
        if out != tree:
            return out
    return tree | {sorted(tree)[0]: b""}

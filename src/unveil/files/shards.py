"""safetensors files, one or several by an index: what is in them before any of it is read, and tensors one by one, memory-mapped."""

import json
import struct
from collections.abc import Generator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.safetensors import without_repeats

LARGEST_HEADER = 64 * 2**20
LONGEST_NAME = 200  # of a file; systems refuse 256 bytes
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class Stored(NamedTuple):
    """Where one tensor is, and what: `kind` is F32, F16 or BF16."""

    file: Path
    shape: tuple[int, ...]
    kind: str


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder, by their names, from the headers alone.

    Every shard that the index names must be there and as long as its own header says, and hold what the index says it does.

    Raises:
        UnveilError: a file is missing, truncated, damaged, or holds numbers of another kind.
    """
    if not (folder / INDEX).is_file():
        if not (folder / SINGLE).is_file():
            raise UnveilError(
                f"{folder}: no weights here; needed is {SINGLE}, or {INDEX} and the shards it names"
            )
        return header(folder / SINGLE)
    places = _index(folder / INDEX)
    files = sorted(set(places.values()))
    if lacking := [name for name in files if not (folder / name).is_file()]:
        some = ", ".join(lacking[:3]) + (" and others" if len(lacking) > 3 else "")
        raise UnveilError(
            f"{folder}: {len(lacking)} of {len(files)} shards are missing ({some}); download them into this folder"
        )
    found: dict[str, Stored] = {}
    for name in files:
        inside = header(folder / name)
        if absent := [key for key, file in places.items() if file == name and key not in inside]:
            raise UnveilError(
                f"{folder / name}: it lacks {absent[0]}, which {INDEX} says is in it; download both anew"
            )
        for key, it in inside.items():
            if key in found or places.get(key, name) != name:
                raise UnveilError(
                    f"{folder / name}: {key[:80]} is in it and in another shard, too; download all shards and {INDEX} anew"
                )
            if key not in places:
                raise UnveilError(
                    f"{folder / name}: it holds {key[:80]}, of which {INDEX} says nothing; download both anew"
                )
            found[key] = it
    return found


def header(file: Path) -> dict[str, Stored]:
    """What one safetensors file holds, without reading it.

    Raises:
        UnveilError: truncated, damaged, or holds numbers of another kind.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > min(LARGEST_HEADER, size - 8):
                raise ValueError(
                    "its header is longer than the file"
                    if length <= LARGEST_HEADER
                    else "its header is too long"
                )
            entries = cast(
                dict[str, dict[str, Any]], json.loads(handle.read(length), object_pairs_hook=without_repeats)
            )
        entries.pop("__metadata__", None)
        found = {
            name: Stored(file, tuple(map(_count, it["shape"])), str(it["dtype"]))
            for name, it in entries.items()
        }
        ends = {
            name: (_count(it["data_offsets"][0]), _count(it["data_offsets"][1]))
            for name, it in entries.items()
        }
        at = 0
        for name, (first, last) in sorted(ends.items(), key=lambda it: it[1]):
            if first != at or last < first:
                raise ValueError(f"tensors overlap or leave gaps: {name[-40:]}")
            at = last
    except OSError as error:
        raise UnveilError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
        struct.error,
    ) as error:
        raise UnveilError(f"{file}: truncated or damaged ({str(error)[:80]}); download it anew") from error
    wanted = 8 + length + max((end for _, end in ends.values()), default=0)
    if size != wanted:
        raise UnveilError(
            f"{file}: truncated, {size:,} bytes of {wanted:,}; download it anew"
            if size < wanted
            else f"{file}: damaged"
        )
    for name, it in found.items():
        if it.kind not in _BYTES:
            raise UnveilError(
                f"{file}: {name[:60]} holds numbers of kind {it.kind[:20]}; {', '.join(_BYTES)} can be read"
            )
        if ends[name][1] - ends[name][0] != prod(it.shape) * _BYTES[it.kind]:
            raise UnveilError(f"{file}: damaged ({name[:60]} has another length than its shape)")
    return found


def each_shard(
    stored: Mapping[str, Stored], device: torch.device, dtype: torch.dtype | None
) -> Generator[dict[str, Tensor]]:
    """The tensors of one file after another, on a device and in a type (None: as stored).

    On the CPU a tensor whose type is kept is a view of the memory-mapped file: nothing is copied, and pages are read when they are first
    used. Otherwise each tensor is converted or moved by itself, so that there is never a second copy of all.

    Raises:
        UnveilError: a file that its own reader refuses, though its header makes sense.
    """
    for file in sorted({it.file for it in stored.values()}):
        names = [name for name, it in stored.items() if it.file == file]
        try:
            with safe_open(file, framework="pt", device=str(device)) as handle:
                tensors = {
                    name: tensor if dtype is None else tensor.to(dtype)
                    for name in names
                    for tensor in (handle.get_tensor(name),)
                }
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise UnveilError(
                f"{file}: truncated or damaged ({str(error)[:80]}); download it anew"
            ) from error
        yield tensors


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{str(value)[:20]} is no size")
    return value


def _index(file: Path) -> dict[str, str]:
    try:
        if file.stat().st_size > LARGEST_HEADER:
            raise ValueError("too long")
        places = cast(
            dict[str, Any],
            json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=without_repeats)["weight_map"],
        )
        if not places or not all(isinstance(name, str) for name in places.values()):
            raise ValueError("its weight_map is empty or names no files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnveilError(f"{file}: damaged ({str(error)[:80]})") from error
    if outside := [
        n
        for n in places.values()
        if Path(n).name != n or not n.endswith(".safetensors") or len(n) > LONGEST_NAME
    ]:
        raise UnveilError(
            f"{file}: it names {outside[0][:60]!r}, which is no safetensors file of this folder"
        )
    return places

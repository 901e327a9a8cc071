"""Sharded safetensors files: contents by the headers alone, then one tensor after another, memory-mapped."""

from collections.abc import Callable, Generator, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.json_objects import read_object, without_repeats
from unveil.files.reading import reading
from unveil.files.safetensors import LARGEST_HEADER, read_header

LONGEST_NAME = 200  # characters of a file name; systems refuse 256 bytes
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
AGAIN = "; download it again"
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_BYTES_OF_ANY = _BYTES | {"F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class Stored(NamedTuple):
    """File, shape and dtype of a tensor; `kind` is F32, F16, BF16 or another name of safetensors."""

    file: Path
    shape: tuple[int, ...]
    kind: str


def stored_tensors(
    folder: Path,
    index: str = INDEX,
    suffix: str = ".safetensors",
    contents: Callable[[Path], dict[str, Stored]] | None = None,
) -> dict[str, Stored]:
    """The tensors of a folder, by name, from the headers alone.

    Every shard that the index names must exist, be as long as its header says, and hold the tensors that the
    index says.

    Args:
        index: name of the index.
        suffix: of the shards.
        contents: the tensors of a file; None: `header`.
    Raises:
        UnveilError: a file is missing, truncated, damaged, or holds tensors of another dtype.
    """
    contents = contents or header
    if not (folder / index).is_file():
        if not (folder / SINGLE).is_file():
            raise UnveilError(
                f"{folder}: no weights here; needed is {SINGLE}, or {index} and the shards it names"
            )
        return contents(folder / SINGLE)
    shards = _index(folder / index, suffix)
    files = sorted(set(shards.values()))
    if lacking := [name for name in files if not (folder / name).is_file()]:
        some = ", ".join(lacking[:3]) + (" and others" if len(lacking) > 3 else "")
        raise UnveilError(
            f"{folder}: {len(lacking)} of {len(files)} shards are missing ({some}); download them into this "
            "folder"
        )
    tensors: dict[str, Stored] = {}
    for name in files:
        inside = contents(folder / name)
        if absent := [key for key, file in shards.items() if file == name and key not in inside]:
            raise UnveilError(
                f"{folder / name}: it lacks {absent[0]}, which {index} says is in it; download both again"
            )
        for key, it in inside.items():
            if key in tensors or shards.get(key, name) != name:
                raise UnveilError(
                    f"{folder / name}: {key[:80]} is in it and in another shard, too; download all shards "
                    f"and {index} again"
                )
            if key not in shards:
                raise UnveilError(
                    f"{folder / name}: it holds {key[:80]}, of which {index} says nothing; download both "
                    "again"
                )
            tensors[key] = it
    return tensors


def header(file: Path, any_kind: bool = False) -> dict[str, Stored]:
    """The tensors of one safetensors file, from its header, which must describe exactly the file's length.

    Args:
        any_kind: other numbers than float32, float16 and bfloat16 are accepted, too.
    Raises:
        UnveilError: truncated, damaged, or holds tensors of another dtype.
    """
    with reading(file, "truncated or damaged", AGAIN):
        size = file.stat().st_size
        entries, offset = read_header(file)
        tensors = {
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
    wanted = offset + max((end for _, end in ends.values()), default=0)
    if size != wanted:
        raise UnveilError(
            f"{file}: truncated, {size:,} bytes of {wanted:,}; download it again"
            if size < wanted
            else f"{file}: damaged"
        )
    known = _BYTES_OF_ANY if any_kind else _BYTES
    for name, it in tensors.items():
        if it.kind not in known:
            raise UnveilError(
                f"{file}: {name[:60]} holds numbers of kind {it.kind[:20]}; {', '.join(known)} can be read"
            )
        if ends[name][1] - ends[name][0] != prod(it.shape) * known[it.kind]:
            raise UnveilError(f"{file}: damaged ({name[:60]} has another length than its shape)")
    return tensors


def each_shard(
    stored: Mapping[str, Stored], device: torch.device, dtype: torch.dtype | None
) -> Generator[dict[str, Tensor]]:
    """Yield the tensors of one file after another.

    On the CPU a tensor whose dtype is kept is a view of the memory-mapped file: nothing is copied, and pages
    are read at first use. Otherwise tensors are converted or moved one by one, so that there is never a
    second copy of all.

    Args:
        device: device of the tensors.
        dtype: dtype of the tensors; None keeps the stored one.
    Raises:
        UnveilError: a file that safetensors refuses, though its header is plausible.
    """
    for file in sorted({it.file for it in stored.values()}):
        names = [name for name, it in stored.items() if it.file == file]
        with (
            reading(file, "truncated or damaged", AGAIN),
            safe_open(file, framework="pt", device=str(device)) as handle,
        ):
            tensors = {
                name: tensor if dtype is None else tensor.to(dtype)
                for name in names
                for tensor in (handle.get_tensor(name),)
            }
        yield tensors


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{str(value)[:20]} is no size")
    return value


def _index(file: Path, suffix: str) -> dict[str, str]:
    with reading(file):
        shards = read_object(file, LARGEST_HEADER, without_repeats)["weight_map"]
        if not shards or not all(isinstance(name, str) for name in shards.values()):
            raise ValueError("its weight_map is empty or names no files")
    if outside := [
        n for n in shards.values() if Path(n).name != n or not n.endswith(suffix) or len(n) > LONGEST_NAME
    ]:
        raise UnveilError(
            f"{file}: it names {outside[0][:60]!r}, which is no {suffix[1:]} file of this folder"
        )
    return shards

"""Tensors of safetensors files: the header is checked before anything is read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from unveil.errors import UnveilError

LARGEST_HEADER = 64 * 2**20


class Stored(NamedTuple):
    """What a header says of a tensor, or what it must say."""

    dtype: str
    shape: tuple[int, ...]


DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


HALVES = ("F16", "BF16")


def read_tensors(
    file: Path, expected: Mapping[str, Tensor] | None = None, *, halves: bool = False, sha256: str = ""
) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    The header is checked before anything else is read: no name twice, and the names, shapes and dtypes that
    are expected.

    Args:
        halves: float32 may be stored as float16 or bfloat16, as packaged weights are.
        sha256: the digest that the whole file must have; "": any.
    Raises:
        UnveilError: missing, damaged, or not the tensors that are expected.
    """
    with reading(file):
        stored = header(file)
        if expected is not None:
            wanted = {
                name: Stored(DTYPES.get(value.dtype, str(value.dtype)), tuple(value.shape))
                for name, value in expected.items()
            }
            expect(stored, wanted, halves)
        if sha256 and digest(file) != sha256:
            raise ValueError("damaged: its checksum differs from the manifest's")
        return load_file(file)


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def reading(file: Path) -> Generator[None]:
    """Whatever is wrong with a file is one clear line."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnveilError(f"{file}: no such file") from error
    except Exception as error:
        raise UnveilError(
            f"{file}: not the weights that are needed ({(str(error).splitlines() or [type(error).__name__])[0]})"
        ) from error


def header(file: Path) -> dict[str, Stored]:
    """The header of an open safetensors file, checked: name, place, type and shape of every tensor."""
    with open(file, "rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > LARGEST_HEADER:
            raise ValueError("its header is too long")
        header = json.loads(handle.read(length), object_pairs_hook=without_repeats)
    header.pop("__metadata__", None)
    return {name: Stored(str(entry["dtype"]), tuple(entry["shape"])) for name, entry in header.items()}


def expect(stored: Mapping[str, Stored], wanted: Mapping[str, Stored], halves: bool) -> None:
    """Refuse tensors of other names, types or shapes than are expected."""
    missing, foreign = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if missing or foreign:
        raise ValueError(
            f"{len(missing)} tensors are missing {missing[:2]}, {len(foreign)} are foreign {foreign[:2]}"
        )
    for name, (dtype, shape) in wanted.items():
        found = stored[name]
        if found.shape != shape:
            raise ValueError(f"{name} has shape {found.shape}, needed is {shape}")
        if found.dtype != dtype and not (halves and dtype == "F32" and found.dtype in HALVES):
            raise ValueError(f"{name} has dtype {found.dtype}, needed is {dtype}")


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different; of two values by one name, readers would take one or the other.

    Raises:
        ValueError: a name that stands twice.
    """
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"a name stands twice: {next(n for n in names if names.count(n) > 1)[:60]}")
    return dict(pairs)

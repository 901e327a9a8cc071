"""Read safetensors files: the header is checked before any tensor is read."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from unveil.files.digest import digest
from unveil.files.json_objects import JsonObject, without_repeats
from unveil.files.reading import reading

LARGEST_HEADER = 64 * 2**20
NOT_NEEDED = "not the weights that are needed"
Stored = tuple[str, tuple[int, ...]]  # dtype and shape of a tensor, as a header says or must say


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

    The header is checked before any tensor is read.

    Args:
        expected: tensors whose names, shapes and dtypes the file must have; None accepts all.
        halves: float32 may be stored as float16 or bfloat16, as packaged weights are.
        sha256: digest that the whole file must have; "" accepts any.
    Raises:
        UnveilError: missing, damaged, or not the expected tensors.
    """
    with reading(file, NOT_NEEDED):
        stored = header(file)
        if expected is not None:
            wanted = {
                name: (DTYPES.get(value.dtype, str(value.dtype)), tuple(value.shape))
                for name, value in expected.items()
            }
            expect(stored, wanted, halves)
        if sha256 and digest(file) != sha256:
            raise ValueError("damaged: its checksum differs from the manifest's")
        return load_file(file)


def header(file: Path) -> dict[str, Stored]:
    """Dtype and shape of every tensor of a file, by name."""
    entries, _ = read_header(file)
    return {name: (str(entry["dtype"]), tuple(entry["shape"])) for name, entry in entries.items()}


def read_header(file: Path) -> tuple[dict[str, JsonObject], int]:
    """The JSON header of a file, by tensor name, and the offset of the data behind it.

    Raises:
        ValueError: the header is longer than the file or than `LARGEST_HEADER`, not JSON, or has a name
            twice.
    """
    entries, offset = _json(file)
    entries.pop("__metadata__", None)
    return entries, offset


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a file: strings by name, often none.

    Raises:
        UnveilError: the file cannot be read, or its header is damaged.
    """
    with reading(file, NOT_NEEDED):
        metadata: object = _json(file)[0].get("__metadata__") or {}
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not strings")
    return dict(metadata)


def _json(file: Path) -> tuple[JsonObject, int]:
    with open(file, "rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > LARGEST_HEADER:
            raise ValueError("its header is too long")
        if length > file.stat().st_size - 8:
            raise ValueError("its header is longer than the file")
        return json.loads(handle.read(length), object_pairs_hook=without_repeats), 8 + length


def expect(stored: Mapping[str, Stored], wanted: Mapping[str, Stored], halves: bool) -> None:
    """Refuse tensors of other names, dtypes or shapes than expected."""
    missing, foreign = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if missing or foreign:
        raise ValueError(
            f"{len(missing)} tensors are missing {missing[:2]}, {len(foreign)} are foreign {foreign[:2]}"
        )
    for name, (dtype, shape) in wanted.items():
        stored_dtype, stored_shape = stored[name]
        if stored_shape != shape:
            raise ValueError(f"{name} has shape {stored_shape}, needed is {shape}")
        if stored_dtype != dtype and not (halves and dtype == "F32" and stored_dtype in HALVES):
            raise ValueError(f"{name} has dtype {stored_dtype}, needed is {dtype}")

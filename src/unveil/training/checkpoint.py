"""Checkpoints: a folder that is whole or absent, and verified before anything in it is believed.

    checkpoint-<step>/  network.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json

Written beside its final name, each file synced, the manifest (size and SHA-256 of each) last, then renamed. Nothing in it is code.
"""

import hashlib
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unveil.data.files import sync_folder
from unveil.errors import UnveilError

LARGEST_HEADER = 64 * 2**20


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write `<name>.safetensors` for each entry of `tensors`, `state.json` and the manifest, whole or not at all.

    Raises:
        UnveilError: the disk is full, or the folder cannot be written, or is there and no checkpoint of ours, such as another program's; no
            half of a checkpoint stays behind.
    """
    if folder.exists() and not any((folder / name).is_file() for name in ("manifest.json", "state.json")):
        raise UnveilError(f"{folder} exists and was not made by unveil, so it is not replaced; give another --out, or move it away")
    partial = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        for name, weights in tensors.items():
            save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, partial / f"{name}.safetensors")
        (partial / "state.json").write_text(json.dumps(state))
        files = sorted(partial.iterdir())
        for file in files:
            _sync(file)
        manifest = {file.name: {"bytes": file.stat().st_size, "sha256": _digest(file)} for file in files}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        _sync(partial / "manifest.json")
        sync_folder(partial)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(partial, folder)
        sync_folder(folder.parent)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) or "I/O error" in str(error):
            raise UnveilError(f"{folder}: cannot write the checkpoint ({getattr(error, 'strerror', None) or error})") from error
        raise


def verify_checkpoint(folder: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        UnveilError: a file is missing or differs by a single bit.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        entries = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UnveilError(f"{folder}: no checkpoint here (no readable manifest.json)") from error
    for name, (size, digest) in entries.items():
        file = folder / name
        if "/" in name or len(name) > 200 or not file.is_file() or file.stat().st_size != size or _digest(file) != digest:
            raise UnveilError(f"{folder}: {name} is missing or damaged (its checksum differs from the manifest)")


def checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; unfinished ones (`.tmp-`) are none."""
    found = [(int(m[1]), p) for p in run.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))]
    return [folder for _, folder in sorted(found)]


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints once the newest verifies; 0 keeps all."""
    if keep and latest_checkpoint(run, warn=False) is not None:
        for folder in checkpoints(run)[:-keep]:
            shutil.rmtree(folder)


def remove_unfinished(run: Path) -> None:
    """Remove what killed writers left; only for who holds the run's lock."""
    for folder in run.glob("checkpoint-*.tmp-*"):
        shutil.rmtree(folder)


def latest_checkpoint(run: Path, *, warn: bool = True) -> Path | None:
    """The newest checkpoint of a run whose manifest verifies; None if there is none.

    Args:
        warn: tell of each damaged one that is passed over, and of what serves instead, in a line on the standard error.
    """
    damaged: list[UnveilError] = []
    found = None
    for folder in reversed(checkpoints(run)):
        try:
            verify_checkpoint(folder)
        except UnveilError as error:
            damaged.append(error)
            continue
        found = folder
        break
    for error in damaged if warn else ():
        sys.stderr.write(f"unveil: {error}; {f'{found.name} serves instead' if found else 'no older one serves'}\n")
    return found


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


def read_tensors(file: Path, expected: Mapping[str, Tensor] | None = None, *, halves: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file, its header checked first: no name twice, and the names, shapes and dtypes that are expected.

    Args:
        halves: float32 may be stored as float16 or bfloat16, as packaged weights are.
    Raises:
        UnveilError: missing, damaged, or not the tensors that are expected.
    """
    with _reading(file):
        stored = _header(file)
        if expected is not None:
            wanted = {name: Stored(DTYPES.get(value.dtype, str(value.dtype)), tuple(value.shape)) for name, value in expected.items()}
            _expect(stored, wanted, halves)
        return load_file(file)


def read_optimizer(file: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put back what `pack_optimizer` made of an Adam with the same parameters.

    Raises:
        UnveilError: missing, damaged, empty, or not the moments of these parameters. A parameter that no step has moved has none.
    """
    parameters = [p for options in optimizer.param_groups for p in options["params"]]
    with _reading(file):
        stepped = {name.split(".")[0] for name in _header(file)}
        if not stepped:
            raise ValueError("it is empty")
    expected: dict[str, Tensor] = {}
    for index in (i for i in range(len(parameters)) if str(i) in stepped):
        expected |= {f"{index}.step": torch.tensor(0.0), f"{index}.exp_avg": parameters[index], f"{index}.exp_avg_sq": parameters[index]}
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in read_tensors(file, expected).items():
        index, slot = name.split(".")
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@contextmanager
def _reading(file: Path) -> Generator[None]:
    """Whatever is wrong with a file is one clear line."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnveilError(f"{file}: no such file") from error
    except Exception as error:
        raise UnveilError(f"{file}: not the weights that are needed ({(str(error).splitlines() or [type(error).__name__])[0]})") from error


def _header(file: Path) -> dict[str, Stored]:
    with open(file, "rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > LARGEST_HEADER:
            raise ValueError("its header is too long")
        header = json.loads(handle.read(length), object_pairs_hook=without_repeats)
    header.pop("__metadata__", None)
    return {name: Stored(str(entry["dtype"]), tuple(entry["shape"])) for name, entry in header.items()}


def _expect(stored: Mapping[str, Stored], wanted: Mapping[str, Stored], halves: bool) -> None:
    missing, foreign = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if missing or foreign:
        raise ValueError(f"{len(missing)} tensors are missing {missing[:2]}, {len(foreign)} are foreign {foreign[:2]}")
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


def _sync(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def _digest(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat tensors named `<parameter index>.<slot>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{slot}": torch.as_tensor(value) for index, slots in state.items() for slot, value in slots.items()}

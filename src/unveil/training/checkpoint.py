"""Checkpoints: a folder that is whole or absent, and verified before anything in it is believed.

    checkpoint-<step>/  network.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json

Written beside its final name, each file synced, the manifest (size and SHA-256 of each) last, then renamed. Nothing in it is code.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.atomic import sync_folder
from unveil.files.safetensors import digest, header, read_tensors, reading


def save_checkpoint(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write `<name>.safetensors` for each entry of `tensors`, `state.json` and the manifest, whole or not at all.

    Raises:
        UnveilError: the disk is full, or the folder cannot be written, or is there and no checkpoint of ours, such as another program's; no
            half of a checkpoint stays behind.
    """
    if folder.exists() and not any((folder / name).is_file() for name in ("manifest.json", "state.json")):
        raise UnveilError(
            f"{folder} exists and was not made by unveil, so it is not replaced; give another folder, or move it away"
        )
    partial = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        for name, weights in tensors.items():
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in weights.items()},
                partial / f"{name}.safetensors",
            )
        (partial / "state.json").write_text(json.dumps(state))
        files = sorted(partial.iterdir())
        for file in files:
            _sync(file)
        manifest = {file.name: {"bytes": file.stat().st_size, "sha256": digest(file)} for file in files}
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
            raise UnveilError(
                f"{folder}: cannot write the checkpoint ({getattr(error, 'strerror', None) or error})"
            ) from error
        raise


def read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """What a checkpoint's manifest says of each file: its bytes and its SHA-256.

    Raises:
        UnveilError: there is none, or it makes no sense.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UnveilError(f"{folder}: no checkpoint here (no readable manifest.json)") from error


def check_files(folder: Path) -> None:
    """Check that every file of a checkpoint is there and as long as its manifest says; nothing is read.

    Raises:
        UnveilError: a file is missing, or of another length.
    """
    for name, (size, _) in read_manifest(folder).items():
        file = folder / name
        if "/" in name or len(name) > 200 or not file.is_file() or file.stat().st_size != size:
            raise UnveilError(
                f"{folder}: {name} is missing or damaged (its length differs from the manifest's)"
            )


def verify_checkpoint(folder: Path) -> None:
    """Check every file of a checkpoint against its manifest, bit for bit.

    Raises:
        UnveilError: a file is missing or differs by a single bit.
    """
    check_files(folder)
    for name, (_, sha256) in read_manifest(folder).items():
        if digest(folder / name) != sha256:
            raise UnveilError(
                f"{folder}: {name} is missing or damaged (its checksum differs from the manifest)"
            )


def checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; unfinished ones (`.tmp-`) are none."""
    found = [
        (int(m[1]), p) for p in run.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))
    ]
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


def latest_checkpoint(
    run: Path, *, warn: bool = True, check: Callable[[Path], None] = verify_checkpoint
) -> Path | None:
    """The newest good checkpoint of a run; None if there is none.

    Args:
        warn: say on the standard error which damaged ones are passed over, and which one serves instead.
        check: raises UnveilError for one that is not good: `verify_checkpoint` reads it all, `check_files` nothing.
    """
    damaged: list[UnveilError] = []
    found = None
    for folder in reversed(checkpoints(run)):
        try:
            check(folder)
        except UnveilError as error:
            damaged.append(error)
            continue
        found = folder
        break
    for error in damaged if warn else ():
        sys.stderr.write(
            f"unveil: {error}; {f'{found.name} serves instead' if found else 'no older one serves'}\n"
        )
    return found


def read_optimizer(file: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put back what `pack_optimizer` made of an Adam with the same parameters.

    Raises:
        UnveilError: missing, damaged, empty, or not the moments of these parameters. A parameter that no step has moved has none.
    """
    parameters = [p for options in optimizer.param_groups for p in options["params"]]
    with reading(file):
        stepped = {name.split(".")[0] for name in header(file)}
        if not stepped:
            raise ValueError("it is empty")
    expected: dict[str, Tensor] = {}
    for index in (i for i in range(len(parameters)) if str(i) in stepped):
        expected |= {
            f"{index}.step": torch.tensor(0.0),
            f"{index}.exp_avg": parameters[index],
            f"{index}.exp_avg_sq": parameters[index],
        }
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in read_tensors(file, expected).items():
        index, slot = name.split(".")
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sync(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat tensors named `<parameter index>.<slot>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{slot}": torch.as_tensor(value)
        for index, slots in state.items()
        for slot, value in slots.items()
    }

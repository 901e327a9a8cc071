"""Checkpoints: folders that are written completely or not at all, and verified before they are used.

    checkpoint-<step>/  network.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json

A checkpoint is written under a temporary name: first the files, each synced to disk, then the manifest with
their sizes and SHA-256; then it is renamed. No file contains code.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.atomic import sync
from unveil.files.digest import digest
from unveil.files.reading import reading
from unveil.files.safetensors import NOT_NEEDED, header, read_tensors


def save_checkpoint(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, object]
) -> None:
    """Write a checkpoint completely or not at all.

    Args:
        tensors: file name without suffix -> the tensors of `<name>.safetensors`.
        state: the JSON object of `state.json`.
    Raises:
        UnveilError: the disk is full, the folder cannot be written, or it exists and was not made by unveil.
            No partial checkpoint is left behind.
    """
    if folder.exists() and not any((folder / name).is_file() for name in ("manifest.json", "state.json")):
        raise UnveilError(
            f"{folder} exists and was not made by unveil, so it is not replaced; "
            "give another folder, or move it away"
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
            sync(file)
        manifest = {file.name: {"bytes": file.stat().st_size, "sha256": digest(file)} for file in files}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        sync(partial / "manifest.json")
        sync(partial)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(partial, folder)
        sync(folder.parent)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) or "I/O error" in str(error):
            raise UnveilError(
                f"{folder}: cannot write the checkpoint ({getattr(error, 'strerror', None) or error})"
            ) from error
        raise


def read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """Read a checkpoint's manifest: file name -> (size in bytes, SHA-256).

    Raises:
        UnveilError: the manifest is missing or invalid.
    """
    with reading(folder, "no checkpoint here, no readable manifest.json"):
        manifest = json.loads((folder / "manifest.json").read_text())
        return {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}


def check_weights(folder: Path) -> dict[str, tuple[int, str]]:
    """`check_files` of a checkpoint that is not trained further: the optimizer's state may be absent, as in a
    download from the Hugging Face Hub."""
    return check_files(folder, optional=("optimizer.safetensors",))


def check_files(folder: Path, optional: Collection[str] = ()) -> dict[str, tuple[int, str]]:
    """Check that every file of a checkpoint exists and has the size in the manifest; no contents are read.

    Args:
        optional: files that may be absent, but if they are there, must be whole.
    Returns:
        The manifest, as `read_manifest`.
    Raises:
        UnveilError: a file is missing or has another size.
    """
    manifest = read_manifest(folder)
    for name, (size, _) in manifest.items():
        file = folder / name
        if name in optional and not file.exists():
            continue
        if "/" in name or len(name) > 200 or not file.is_file() or file.stat().st_size != size:
            raise UnveilError(
                f"{folder}: {name} is missing or damaged (its length differs from the manifest's)"
            )
    return manifest


def verify_checkpoint(folder: Path) -> None:
    """Check every file of a checkpoint against its manifest, bit for bit.

    Raises:
        UnveilError: a file is missing or has another checksum.
    """
    for name, (_, sha256) in check_files(folder).items():
        if digest(folder / name) != sha256:
            raise UnveilError(
                f"{folder}: {name} is missing or damaged (its checksum differs from the manifest)"
            )


def checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, without unfinished ones (`.tmp-`)."""
    found = [
        (int(m[1]), p) for p in run.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))
    ]
    return [folder for _, folder in sorted(found)]


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints if at least one verifies; 0 keeps all."""
    if keep and latest_checkpoint(run, warn=False) is not None:
        for folder in checkpoints(run)[:-keep]:
            shutil.rmtree(folder)


def remove_unfinished(run: Path) -> None:
    """Remove unfinished checkpoints of killed processes; the caller must hold the run's lock."""
    for folder in run.glob("checkpoint-*.tmp-*"):
        shutil.rmtree(folder)


def latest_checkpoint(
    run: Path, *, warn: bool = True, check: Callable[[Path], object] = verify_checkpoint
) -> Path | None:
    """The newest valid checkpoint of a run; None if there is none.

    Args:
        warn: write to standard error which damaged checkpoints are skipped, and which one is used instead.
        check: raises UnveilError for a damaged checkpoint: `verify_checkpoint` reads all its files,
            `check_files` only their sizes.
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
    """Load into an Adam optimizer the state that `pack_optimizer` made for the same parameters.

    A parameter without an update so far has no state.

    Raises:
        UnveilError: the file is missing, damaged or empty, or does not fit these parameters.
    """
    parameters = [p for options in optimizer.param_groups for p in options["params"]]
    with reading(file, NOT_NEEDED):
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


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as flat tensors named `<parameter index>.<slot>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{slot}": torch.as_tensor(value)
        for index, slots in state.items()
        for slot, value in slots.items()
    }

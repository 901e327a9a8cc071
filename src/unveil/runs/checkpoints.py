"""Find and read checkpoints: packaged ones by name, others by path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    import torch

ZOO = Path(__file__).resolve().parent.parent / "zoo"


def zoo_names() -> list[str]:
    """Names of the packaged weights."""
    return sorted(p.name for p in ZOO.iterdir() if (p / "config.json").is_file())


def local_name(path_or_name: str, *, only: Sequence[str] = ()) -> str:
    """A path or the name of a packaged model, unchanged; for a repository of the Hugging Face Hub its path in
    the cache, after the download.

    A path that exists is never a repository.

    Args:
        path_or_name: a path, or `org/name[@revision][/inside][:variant]` (see `hub_name`).
        only: layouts of `hub_layouts`; a repository in another one is refused before anything is downloaded.
    Raises:
        UnveilError: no such repository, no permission, no network, or no huggingface_hub.
    """
    from unveil.files.hub import download, hub_name
    from unveil.runs.progress import shown_progress

    if (name := hub_name(path_or_name)) is None:
        return path_or_name
    with shown_progress() as progress:
        return str(download(name, progress, only))


def lasting_name(path_or_name: str) -> str:
    """What a run records of the model that it began with: the name of a packaged model or of a repository, or
    an absolute path, since the run may be used from another folder."""
    from unveil.files.hub import hub_name

    named = path_or_name in zoo_names() or hub_name(path_or_name) is not None
    return path_or_name if named else str(Path(path_or_name).resolve())


def find_checkpoint(path_or_name: str) -> Path:
    """Find the folder of a packaged model, of a checkpoint, or of the newest undamaged checkpoint of a run,
    also in a repository of the Hugging Face Hub (`local_name`).

    Only the lengths of the files are checked here, and their digests when they are read (`read_weights`), so
    that large checkpoints, optimizer state included, begin to load at once.

    Raises:
        UnveilError: there is no such checkpoint.
    """
    from difflib import get_close_matches

    from unveil.files.hub import hidden
    from unveil.files.hub_layouts import OURS
    from unveil.training.checkpoint import check_weights, checkpoints, latest_checkpoint

    names = zoo_names()
    if path_or_name in names:
        if Path(path_or_name).exists():
            raise UnveilError(
                f"{path_or_name!r} is a packaged model and a folder; for the folder write ./{path_or_name}"
            )
        check_weights(ZOO / path_or_name)
        return ZOO / path_or_name
    path_or_name = local_name(path_or_name, only=(OURS,))
    folder = Path(path_or_name)
    # systems refuse names of 256 bytes with an error of their own
    if any(len(part) > 200 for part in folder.parts):
        raise UnveilError(
            f"checkpoint {path_or_name[:40]!r}...: no name of a file or folder, it has {len(path_or_name):,} "
            "characters"
        )
    if not folder.is_dir():
        close = get_close_matches(path_or_name, names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        what = (
            "is a file, but a checkpoint is a folder"
            if folder.exists()
            else f"is neither a folder nor a packaged model{hint}"
        )
        others = (
            f"; other programs' weights: unveil weights convert {path_or_name} OUT" if folder.exists() else ""
        )
        packaged = ", ".join(names) or "none"
        raise UnveilError(
            f"checkpoint {path_or_name!r} {what}; packaged models: {packaged}{others}{hidden(path_or_name)}"
        )
    if (folder / "manifest.json").is_file():
        check_weights(folder)
        return folder
    newest = latest_checkpoint(folder, warn=False, check=check_weights)
    if newest is not None:
        if newest == checkpoints(folder)[-1]:
            return newest
        # a second time, with warnings about the damaged ones
        return latest_checkpoint(folder, check=check_weights) or newest
    for damaged in checkpoints(folder)[-1:]:
        try:
            check_weights(damaged)
        except UnveilError as error:
            raise UnveilError(
                f"{error}, and no older one is undamaged: no good checkpoint; copy the run again, or train "
                "it again"
            ) from error
    raise UnveilError(
        f"{folder}: no good checkpoint here; expected checkpoint-<step>/ with a manifest.json; other "
        f"programs' weights become one by unveil weights convert {folder} OUT"
    )


def weights_file(folder: Path, raw: bool = False) -> Path:
    """The file of a checkpoint's averaged weights (EMA), or of packaged weights.

    Args:
        raw: the file of the weights without averaging.
    Raises:
        UnveilError: `raw` for a checkpoint without such weights, as packaged ones are.
    """
    if raw:
        if not (folder / "network.safetensors").is_file():
            raise UnveilError(f"{folder} holds only averaged weights, no raw ones")
        return folder / "network.safetensors"
    return next(
        (f for f in (folder / "ema.safetensors", folder / "weights.safetensors") if f.is_file()),
        folder / "ema.safetensors",
    )


def read_weights(
    folder: Path, expected: Mapping[str, torch.Tensor], raw: bool = False, name: str = ""
) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint of `find_checkpoint`, verified by the digest in its manifest.

    Args:
        raw: the weights without averaging (EMA).
        name: the file to read, instead of the one that `weights_file` chooses.
    Raises:
        UnveilError: missing, damaged, or not the expected tensors; the message names an older checkpoint of
            the run.
    """
    from unveil.files.safetensors import read_tensors
    from unveil.training.checkpoint import checkpoints, read_manifest

    file = folder / name if name else weights_file(folder, raw)
    try:
        return read_tensors(
            file, expected, halves=True, sha256=read_manifest(folder).get(file.name, (0, ""))[1]
        )
    except UnveilError as error:
        older = [it for it in checkpoints(folder.parent) if it != folder][-1:]
        raise UnveilError(f"{error}" + (f"; {older[0]} may serve instead" if older else "")) from error


def load_weights(
    model: torch.nn.Module,
    folder: Path,
    device: torch.device | str = "cpu",
    raw: bool = False,
    name: str = "",
) -> None:
    """Load the weights of a checkpoint into a model as float32, on a device, in evaluation mode.

    Raises:
        UnveilError: as `read_weights`.
    """
    from unveil.runs.device import find_device

    target = find_device(device) if isinstance(device, str) else device
    with_weights(model, read_weights(folder, model.state_dict(), raw, name), target)


def with_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Load weights of any precision into a model as float32, on a device, in evaluation mode."""
    import torch

    model.load_state_dict(
        {name: w.to(torch.float32) if w.is_floating_point() else w for name, w in weights.items()}
    )
    model.to(device).eval()


def check_free(out: Path, described: Mapping[str, object]) -> None:
    """Refuse a folder that holds anything but the run that `described` describes.

    Raises:
        UnveilError: it holds something else.
    """
    file = out / "config.json"
    try:
        same = not file.exists() or json.loads(file.read_text()) == described
    except (OSError, ValueError):
        same = False
    if not same or (out.exists() and not out.is_dir()):
        raise UnveilError(f"{out}: something else is there; give a new folder")


def write_converted(
    out: Path,
    name: str,
    described: Mapping[str, object],
    models: Mapping[str, torch.nn.Module],
    state: Mapping[str, object],
) -> None:
    """Write converted models as a run folder: a checkpoint, and config.json.

    Args:
        name: name of the checkpoint folder.
        described: contents of config.json.
        models: models by the name of their file.
        state: state of the training.
    Raises:
        UnveilError: the folder holds something else.
    """
    from unveil.files.atomic import replacing
    from unveil.training.checkpoint import save_checkpoint

    check_free(out, described)
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out / name, {part: model.state_dict() for part, model in models.items()}, state)
    with replacing(out / "config.json") as partial:
        partial.write_text(json.dumps(described, indent=1) + "\n")

"""Where checkpoints are: packaged ones by name, others by path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


ZOO = Path(__file__).resolve().parent.parent / "zoo"


def zoo_names() -> list[str]:
    """Names of the packaged weights."""
    return sorted(p.name for p in ZOO.iterdir() if (p / "config.json").is_file())


def find_checkpoint(path_or_name: str) -> Path:
    """The folder of a zoo name, of a checkpoint, or of a run's newest good checkpoint.

    Raises:
        UnveilError: there is none.
    """
    from difflib import get_close_matches

    from unveil.training.checkpoint import checkpoints, latest_checkpoint, verify_checkpoint

    names = zoo_names()
    if path_or_name in names:
        if Path(path_or_name).exists():
            raise UnveilError(
                f"{path_or_name!r} is a zoo name and a folder here; write ./{path_or_name} for the folder"
            )
        verify_checkpoint(ZOO / path_or_name)
        return ZOO / path_or_name
    folder = Path(path_or_name)
    if any(
        len(part) > 200 for part in folder.parts
    ):  # systems refuse 256 bytes, by an exception of their own
        raise UnveilError(
            f"checkpoint {path_or_name[:40]!r}...: no name of a file or folder, it has {len(path_or_name):,} characters"
        )
    if not folder.is_dir():
        close = get_close_matches(path_or_name, names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        what = (
            "is a file, but a checkpoint is a folder"
            if folder.exists()
            else f"is neither a folder nor a zoo name{hint}"
        )
        others = (
            f"; other programs' weights: unveil weights convert {path_or_name} OUT" if folder.exists() else ""
        )
        raise UnveilError(f"checkpoint {path_or_name!r} {what}; zoo: {', '.join(names) or 'empty'}{others}")
    if (folder / "manifest.json").is_file():
        verify_checkpoint(folder)
        return folder
    newest = latest_checkpoint(folder, warn=False)
    if newest is not None:
        return (
            newest if newest == checkpoints(folder)[-1] else latest_checkpoint(folder) or newest
        )  # tells of damaged ones passed over
    for damaged in checkpoints(folder)[-1:]:
        try:
            verify_checkpoint(damaged)
        except UnveilError as error:
            raise UnveilError(
                f"{error}, and no older one serves: no good checkpoint; copy the run again, or train it anew"
            ) from error
    raise UnveilError(
        f"{folder}: no good checkpoint here; expected checkpoint-<step>/ with a manifest.json; other programs' weights become one by "
        f"unveil weights convert {folder} OUT"
    )


def weights_file(folder: Path, raw: bool = False) -> Path:
    """The averaged weights of a checkpoint, or the packaged ones; or the weights themselves.

    Raises:
        UnveilError: raw ones of a checkpoint that holds none, as packaged ones do.
    """
    if raw:
        if not (folder / "network.safetensors").is_file():
            raise UnveilError(f"{folder} holds averaged weights alone, no raw ones")
        return folder / "network.safetensors"
    return next(
        (f for f in (folder / "ema.safetensors", folder / "weights.safetensors") if f.is_file()),
        folder / "ema.safetensors",
    )


def with_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put weights, which may be stored in half precision, into a model there."""
    import torch

    model.load_state_dict(
        {name: w.to(torch.float32) if w.is_floating_point() else w for name, w in weights.items()}
    )
    model.to(device).eval()


def check_free(out: Path, described: dict[str, Any]) -> None:
    """Refuse to write over anything but this very run.

    Raises:
        UnveilError: something else is there.
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
    described: dict[str, Any],
    models: Mapping[str, torch.nn.Module],
    state: dict[str, Any],
) -> None:
    """Write another program's models as a run of ours: a checkpoint of this name, and config.json.

    Raises:
        UnveilError: something else is there.
    """
    from unveil.files.atomic import replacing
    from unveil.training.checkpoint import save_checkpoint

    check_free(out, described)
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out / name, {part: model.state_dict() for part, model in models.items()}, state)
    with replacing(out / "config.json") as partial:
        partial.write_text(json.dumps(described, indent=1) + "\n")

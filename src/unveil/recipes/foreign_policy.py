"""What other people's diffusion policies are, for `unveil weights inspect`: real-stanford's checkpoints and LeRobot's folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.weights.policies import Described, PolicyWeights


def found(path: Path) -> list[Path]:
    """The policies at a path: a `.ckpt`, a folder of some, or of LeRobot a policy's folder, its `pretrained_model` or all of a training."""
    from unveil.weights.lerobot import is_lerobot

    if path.suffix == ".ckpt" and path.is_file():
        return [path]
    for folder in (path, path / "pretrained_model"):
        if is_lerobot(folder):
            return [folder]
    return sorted([*path.glob("*.ckpt"), *path.glob("checkpoints/*.ckpt"), *_trained(path)])


def is_foreign(path: Path) -> bool:
    """Whether a path is a `.ckpt` or a folder of LeRobot's, itself, its `pretrained_model` or those of a training; other folders are looked
    into for ours."""
    from unveil.weights.lerobot import is_lerobot

    if path.suffix == ".ckpt" and path.is_file():
        return True
    return any(is_lerobot(folder) for folder in (path, path / "pretrained_model")) or bool(_trained(path))


def _trained(path: Path) -> list[Path]:
    """The policies that a training of LeRobot left in `checkpoints/<step>/pretrained_model`; `last` is one of them again."""
    from unveil.weights.lerobot import is_lerobot

    folders = [place for place in path.glob("checkpoints/*/pretrained_model") if not place.parent.is_symlink()]
    return sorted(folder for folder in folders if is_lerobot(folder))


def read(path: Path) -> PolicyWeights:
    """One of them.

    Raises:
        UnveilError: it cannot be read, or cannot be used.
    """
    from unveil.weights.diffusion_policy import read_policy
    from unveil.weights.lerobot import read_policy_folder

    return read_policy_folder(path) if path.is_dir() else read_policy(path)


def inspect_policies(paths: list[Path]) -> str:
    """A description of each; where there are several, what cannot be used is told in its place.

    Raises:
        UnveilError: there is one, and it cannot be read or used.
    """
    lines: list[str] = []
    for path in paths:
        try:
            rows = _rows(read(path))
        except UnveilError as error:
            if len(paths) == 1:
                raise
            rows = [("usable", f"no: {str(error).removeprefix(f'{path}: ')}")]
        lines += [str(path), *(f"  {name:<13} {text}" for name, text in rows), ""]
    return "\n".join(lines).rstrip()


def _rows(read: PolicyWeights) -> list[tuple[str, str]]:
    from unveil.weights.policies import model_of

    it = read.described
    model = model_of(it)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.items()}
    schedule = f"{it.steps} steps, {it.schedule}, predicts {it.predicts}" + ("" if it.clip is None else f", clipped to {it.clip:g}")
    notes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in read.notes.items())
    rows = [
        ("policy", f"{it.policy} of {it.release}"),
        ("network", f"{type(model['network']).__name__}, {sizes['network']:,} parameters"),
        ("shape", _shape(it)),
        ("chunks", f"{it.observed} observations in, {it.horizon} actions out, {it.acted} carried out from number {it.first} on"),
        ("observations", ", ".join(f"{p.key} {'x'.join(map(str, p.shape))}{_seen(p.crop)}" for p in it.parts) + f", told by {it.told}"),
        ("diffusion", f"{schedule}; sampled there by {it.sampler}"),
        ("weights", ("raw" if read.averaged is None else "raw and averaged (EMA)") + (f"; {notes}" if notes else "")),
        ("normaliser", f"of {', '.join(read.normalization)}, in the file"),
        ("usable", "yes: every tensor has a place in our networks"),
        ("as a policy", _acts(it)),
        ("on PushT", _scored(it)),
    ]
    if sizes["observation"]:
        count = len({part.encoder for part in it.parts} - {None})
        rows.insert(2, ("images", f"{count} x ResNet-18, {sizes['observation']:,} parameters in all"))
    return rows


def _acts(it: Described) -> str:
    from unveil.recipes.foreign_convert import our_config

    try:
        our_config(it)
    except ValueError as error:
        return f"no: {error}"
    return "yes: unveil.load(PATH), unveil weights convert PATH OUT"


def _scored(it: Described) -> str:
    from unveil.recipes.foreign_convert import on_pusht

    seen = on_pusht(it.parts)
    return "no: PushT has no such observations" if seen == "other" else f"{seen}: unveil eval pusht --checkpoint PATH"


def _seen(crop: tuple[int, int] | None) -> str:
    return "" if crop is None else f" (cut to {crop[0]}x{crop[1]})"


def _shape(it: Described) -> str:
    from unveil.weights.policies import UNetShape

    n = it.network
    if isinstance(n, UNetShape):
        film = "gain and shift" if n.scale else "shift alone"
        return f"widths {', '.join(map(str, n.widths))}, kernel {n.kernel}, {n.groups} groups, step embedding {n.step}, FiLM with {film}"
    return f"{n.depth} layers, {n.heads} heads, width {n.width}, {'causal' if n.causal else 'not causal'}, dropout {n.dropout:g}"

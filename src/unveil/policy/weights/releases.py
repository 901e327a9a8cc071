"""Which release's policies lie at a path: real-stanford/diffusion_policy's or LeRobot's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unveil.policy.weights.description import PolicyWeights


def found(path: Path) -> list[Path]:
    """The policies at a path: a `.ckpt`, a folder of some, or of LeRobot a policy's folder, its `pretrained_model` or all of a training."""
    from unveil.policy.weights.lerobot import is_lerobot

    if path.suffix == ".ckpt" and path.is_file():
        return [path]
    for folder in (path, path / "pretrained_model"):
        if is_lerobot(folder):
            return [folder]
    return sorted([*path.glob("*.ckpt"), *path.glob("checkpoints/*.ckpt"), *_trained(path)])


def is_foreign(path: Path) -> bool:
    """Whether a path is a `.ckpt` or a folder of LeRobot's, itself, its `pretrained_model` or those of a training; other folders are looked
    into for ours."""
    from unveil.policy.weights.lerobot import is_lerobot

    if path.suffix == ".ckpt" and path.is_file():
        return True
    return any(is_lerobot(folder) for folder in (path, path / "pretrained_model")) or bool(_trained(path))


def _trained(path: Path) -> list[Path]:
    """The policies that a training of LeRobot left in `checkpoints/<step>/pretrained_model`; `last` is one of them again."""
    from unveil.policy.weights.lerobot import is_lerobot

    folders = [
        place for place in path.glob("checkpoints/*/pretrained_model") if not place.parent.is_symlink()
    ]
    return sorted(folder for folder in folders if is_lerobot(folder))


def read(path: Path) -> PolicyWeights:
    """One of them.

    Raises:
        UnveilError: it cannot be read, or cannot be used.
    """
    from unveil.policy.weights.diffusion_policy import read_policy
    from unveil.policy.weights.lerobot import read_policy_folder

    return read_policy_folder(path) if path.is_dir() else read_policy(path)

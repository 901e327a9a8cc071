"""`unveil weights`: what checkpoints are, and ours made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tyro.conf import Positional

from unveil.errors import UnveilError
from unveil.runs.recognised import Reading

KNOWN = (
    "experiments of jannerm/diffuser (folders with state_<epoch>.pt), a .ckpt of real-stanford/diffusion_policy, folders of LeRobot, LLaDA "
    "and diffusers, and a .pt of openai's or lucidrains' image models"
)


@dataclass(frozen=True)
class Inspect:
    """Say what checkpoints of jannerm/diffuser, real-stanford/diffusion_policy, LeRobot, LLaDA, diffusers, openai and lucidrains are.

    Nothing in them is run.

    Example: unveil weights inspect logs/pretrained/hopper-medium-expert-v2
    """

    folder: Positional[Path]
    """an experiment of Diffuser, or any folder above; a diffusion policy's .ckpt, or a folder of some; a folder of LeRobot's or LLaDA's; an
    image model's .pt of openai's or lucidrains', or a folder of diffusers"""
    epoch: str = "latest"
    """latest, or a number"""
    size: int = 0
    """of an image model that does not say it: its images' side"""
    flags: str = ""
    """of openai's image models but the released: how they were trained, such as "num_heads=4 diffusion_steps=4000" """
    seed: int = 0
    """unused here; every verb takes it"""
    device: str = "auto"
    """unused here; every verb takes it"""


@dataclass(frozen=True)
class Convert:
    """Write checkpoints of jannerm/diffuser, real-stanford/diffusion_policy, LeRobot, diffusers, openai or lucidrains in our format.

    Nothing in them is run.

    Example: unveil weights convert logs/hopper-medium-v2/diffusion/defaults_H32_T20 runs/hopper --dataset hopper-medium-v2
    """

    folder: Positional[Path]
    """an experiment, or any folder above experiments, which keep their places below the other; or a diffusion policy's or image
    model's file or folder"""
    out: Positional[Path]
    """folder of the run that is written"""
    epoch: str = "latest"
    """latest, or a number"""
    raw: bool = False
    """take the weights themselves, not their average (EMA)"""
    dataset: str | None = None
    """the data it was trained on, by name or file: the original keeps its normaliser's statistics there; without, plans stay normalised"""
    size: int = 0
    """of an image model that does not say it: its images' side"""
    flags: str = ""
    """of openai's image models but the released: how they were trained, such as "num_heads=4 diffusion_steps=4000" """
    seed: int = 0
    """unused here; every verb takes it"""
    device: str = "auto"
    """unused here; every verb takes it"""


def inspect(config: Inspect) -> str:
    """The description that is printed.

    Raises:
        UnveilError: nothing of a kind that is known, or it cannot be read.
    """
    from unveil.loading import recognised

    it = recognised(config.folder) or unknown(config.folder)
    return it.inspect(Reading(epoch=config.epoch, size=config.size, flags=config.flags))


def convert(config: Convert) -> str:
    """Write runs of ours; returns what is printed.

    Raises:
        UnveilError: nothing to read, weights that are not there, a foreign data set, or a folder that holds something else.
    """
    from unveil.loading import recognised

    it = recognised(config.folder) or unknown(config.folder)
    return it.convert(
        config.out, Reading(config.epoch, config.raw, config.dataset, config.size, config.flags)
    )


def listing() -> str:
    """The packaged weights, their sizes and what made them."""
    from unveil.runs.checkpoints import ZOO, zoo_names
    from unveil.runs.tables import text_table

    rows = []
    for name in zoo_names():
        described = json.loads((ZOO / name / "config.json").read_text())
        size = sum(f.stat().st_size for f in (ZOO / name).iterdir()) / 2**20
        world = described.get("maze") or described.get("dataset") or described.get("observation") or "-"
        rows.append([name, described["recipe"], str(world), f"{size:.2f} MB"])
    return text_table(["name", "recipe", "world", "size"], rows) if rows else "the zoo is empty"


def unknown(path: Path) -> NoReturn:
    """Refuse what is no checkpoint of a kind that is known.

    Raises:
        UnveilError: says what it is not, and what is known.
    """
    if not path.exists():
        raise UnveilError(f"{path}: no such folder or file; known are {KNOWN}")
    if not path.is_dir():
        raise UnveilError(f"{path}: {_kind_of_file(path)}; known are {KNOWN}")
    ours = (
        "a run or checkpoint of ours, which needs no converting"
        if (path / "config.json").is_file()
        else "a folder of no known kind"
    )
    raise UnveilError(f"{path}: {ours}: no state_<epoch>.pt here or below; known are {KNOWN}")


def _kind_of_file(file: Path) -> str:
    """What a file is not, for people, by its name and its first bytes."""
    if file.suffix in (".safetensors", ".json", ".bin") or file.name.endswith(".index.json"):
        return "a file of a checkpoint, whose folder says what it is; give the folder"
    if file.suffix == ".pkl" and file.name.endswith("_config.pkl"):
        return "a config of jannerm/diffuser; give the folder that holds it and its state_<epoch>.pt"
    return "a file of no known kind"

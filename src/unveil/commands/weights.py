"""`unveil weights`: what checkpoints are, and ours made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from unveil.errors import UnveilError

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
        UnveilError: no checkpoint of the original there, or one that cannot be read.
    """
    from unveil.image.recipes.convert import inspect_images
    from unveil.image.weights.releases import is_image
    from unveil.planning.recipes.convert import inspect_diffuser
    from unveil.policy.recipes.convert import inspect_policies
    from unveil.policy.weights.releases import found
    from unveil.text.recipes.convert import inspect_llada
    from unveil.text.weights.llada import is_llada

    if is_llada(config.folder):
        return inspect_llada(config.folder)
    if is_image(config.folder):
        return inspect_images(config.folder, config.size, config.flags)
    if policies := found(config.folder):
        return inspect_policies(policies)
    check_known(config.folder)
    return inspect_diffuser(config.folder, config.epoch)


def convert(config: Convert) -> str:
    """Write runs of ours; returns what is printed.

    Raises:
        UnveilError: nothing to read, weights that are not there, a foreign data set, or a folder that holds something else.
    """
    from unveil.image.recipes.convert import convert_images
    from unveil.image.weights.releases import is_image
    from unveil.planning.recipes.convert import convert_diffuser
    from unveil.policy.recipes.convert import convert_policies
    from unveil.policy.weights.releases import found
    from unveil.text.weights.llada import is_llada

    if is_llada(config.folder):
        raise UnveilError(
            f"{config.folder}: LLaDA's weights are read where they are, so nothing is converted; use the folder itself: "
            f"unveil sample text --checkpoint {config.folder}"
        )
    if is_image(config.folder):
        return convert_images(config.folder, config.out, config.raw, config.size, config.flags)
    if policies := found(config.folder):
        if config.dataset is not None:
            raise UnveilError(
                f"{config.folder}: a diffusion policy has its normaliser with it; leave --dataset away"
            )
        return convert_policies(policies, config.folder, config.out, config.raw)
    check_known(config.folder)
    return convert_diffuser(config.folder, config.out, config.epoch, config.raw, config.dataset)


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


def check_known(folder: Path) -> None:
    """Whether anything at a path is a checkpoint of a kind that is known.

    Raises:
        UnveilError: says what it is not, and what is known.
    """
    from unveil.planning.weights.diffuser_folder import is_original

    if folder.exists() and not folder.is_dir():
        raise UnveilError(f"{folder}: {_kind_of_file(folder)}; known are {KNOWN}")
    if not folder.is_dir():
        raise UnveilError(f"{folder}: no such folder or file; known are {KNOWN}")
    if not is_original(folder):
        ours = (
            "a run or checkpoint of ours, which needs no converting"
            if (folder / "config.json").is_file()
            else "a folder of no known kind"
        )
        raise UnveilError(f"{folder}: {ours}: no state_<epoch>.pt here or below; known are {KNOWN}")


def _kind_of_file(file: Path) -> str:
    """What a file is not, for people, by its name and its first bytes."""
    if file.suffix in (".safetensors", ".json", ".bin") or file.name.endswith(".index.json"):
        return "a file of a checkpoint, whose folder says what it is; give the folder"
    if file.suffix == ".pkl" and file.name.endswith("_config.pkl"):
        return "a config of jannerm/diffuser; give the folder that holds it and its state_<epoch>.pt"
    return "a file of no known kind"

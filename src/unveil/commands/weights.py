"""`unveil weights`: list packaged models; inspect and convert checkpoints of other programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from tyro.conf import OmitArgPrefixes, Positional, arg

from unveil.errors import UnveilError
from unveil.runs.recognised import AS_RECORDED, Reading

KNOWN = (
    "experiments of jannerm/diffuser (folders with state_<epoch>.pt), a .ckpt of "
    "real-stanford/diffusion_policy, folders of LeRobot, LLaDA and diffusers, Stable Diffusion in one "
    ".safetensors or .ckpt, a .pt of openai's or lucidrains' image models, and GLIDE's files"
)


@dataclass(frozen=True)
class Inspect:
    """Describe checkpoints of Diffuser, diffusion_policy, LeRobot, LLaDA, diffusers, Stable Diffusion, openai
    or lucidrains.

    No code in them is run.

    Example: unveil weights inspect logs/pretrained/hopper-medium-expert-v2
    """

    folder: Positional[Path]
    """experiment of Diffuser, or any folder above; .ckpt of diffusion_policy, or a folder of them;
    folder of LeRobot, LLaDA or diffusers; .safetensors or .ckpt of Stable Diffusion; .pt of an image model of
    openai or lucidrains, or of GLIDE; or a repository of the Hugging Face Hub with any of these, such as
    google/ddpm-cat-256"""
    epoch: str = "latest"
    """epoch (the number in state_<epoch>.pt) to read: latest, or a number"""
    size: int = 0
    """image size in pixels of an image model whose checkpoint does not record it; 0: as recorded"""
    flags: str = ""
    """training flags of an image model of openai, such as "num_heads=4 diffusion_steps=4000";
    by default those of the released models"""


@dataclass(frozen=True)
class Convert:
    """Convert checkpoints of Diffuser, diffusion_policy, LeRobot, diffusers, Stable Diffusion, openai or
    lucidrains.

    No code in them is run.

    Example: unveil weights convert logs/hopper-medium-v2/diffusion runs/hopper --dataset hopper-medium-v2
    """

    folder: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """experiment of Diffuser, or a folder above experiments, whose relative paths are kept;
    the file or folder of a policy or an image model; a repository of the Hugging Face Hub with any of
    these; or, with another layout than ours, a run that began with Stable Diffusion, with what it learned"""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """run folder to write"""
    reading: OmitArgPrefixes[Reading] = AS_RECORDED


def inspect(config: Inspect) -> str:
    """Describe a checkpoint.

    Raises:
        UnveilError: a checkpoint of no known kind, or one that cannot be read.
    """
    from unveil.loading import recognised
    from unveil.runs.checkpoints import local_name

    path = Path(local_name(str(config.folder)))
    it = recognised(path) or unknown(path)
    return it.inspect(Reading(epoch=config.epoch, size=config.size, flags=config.flags))


def convert(config: Convert) -> str:
    """Write a checkpoint as run folders of unveil; returns a summary.

    Raises:
        UnveilError: a checkpoint of no known kind, missing weights, data of another world, or an output
            folder that holds something else.
    """
    from unveil.loading import recognised
    from unveil.runs.checkpoints import local_name

    path, reading = Path(local_name(str(config.folder))), config.reading
    if (found := recognised(path)) is not None:
        return found.convert(config.out, reading)
    if reading.layout != "ours" and (path / "config.json").is_file():
        from unveil.image.recipes.stable_diffusion_runs import write_run

        if reading.raw:
            raise UnveilError(f"{path}: a run is written with its averaged weights (EMA); leave `raw` out")
        return write_run(str(path), config.out, reading.layout, reading.dtype)
    unknown(path)


def listing() -> str:
    """The table of packaged models: name, recipe, task or data, and size."""
    from unveil.runs.checkpoints import ZOO, zoo_names
    from unveil.runs.tables import text_table

    rows = []
    for name in zoo_names():
        described = json.loads((ZOO / name / "config.json").read_text())
        size = sum(f.stat().st_size for f in (ZOO / name).iterdir()) / 2**20
        task = described.get("maze") or described.get("dataset") or described.get("observation") or "-"
        rows.append([name, described["recipe"], str(task), f"{size:.2f} MiB"])
    return text_table(["name", "recipe", "task or data", "size"], rows) if rows else "no packaged models"


def unknown(path: Path) -> NoReturn:
    """Refuse a path that is no checkpoint of a known kind.

    Raises:
        UnveilError: always; the message describes the path and lists the known kinds.
    """
    if not path.exists():
        raise UnveilError(f"{path}: no such folder or file; known are {KNOWN}")
    if not path.is_dir():
        raise UnveilError(f"{path}: {_kind_of_file(path)}; known are {KNOWN}")
    what = (
        "a run or checkpoint of unveil, which needs no conversion"
        if (path / "config.json").is_file()
        else "a folder of no known kind"
    )
    raise UnveilError(f"{path}: {what}: no state_<epoch>.pt here or below; known are {KNOWN}")


def _kind_of_file(file: Path) -> str:
    """Describe a file of no known kind, by its name."""
    if file.suffix in (".safetensors", ".json", ".bin") or file.name.endswith(".index.json"):
        return "a file of a checkpoint, whose folder says what it is; give the folder"
    if file.suffix == ".pkl" and file.name.endswith("_config.pkl"):
        return "a config of jannerm/diffuser; give the folder that holds it and its state_<epoch>.pt"
    return "a file of no known kind"

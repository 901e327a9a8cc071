"""Checkpoints of jannerm/diffuser: what they are, converted to ours, or loaded as they are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from unveil.apps.trajectory_model import TrajectoryModel, ValueModel
    from unveil.weights.diffuser import Original
    from unveil.weights.diffuser_folder import Checkpoint

ORIGIN = "jannerm/diffuser"
KNOWN = (
    "experiments of jannerm/diffuser (folders with state_<epoch>.pt), a .ckpt of real-stanford/diffusion_policy, folders of LeRobot, LLaDA "
    "and diffusers, and a .pt of openai's or lucidrains' image models"
)
NORMALIZERS: dict[str | None, Literal["gaussian", "limits"]] = {
    "GaussianNormalizer": "gaussian",
    "LimitsNormalizer": "limits",
    "SafeLimitsNormalizer": "limits",
}


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
    from unveil.recipes.foreign_image import inspect_images, is_image
    from unveil.recipes.foreign_policy import found, inspect_policies
    from unveil.recipes.llada import inspect_llada
    from unveil.weights.diffuser import CLASSES, parameters
    from unveil.weights.diffuser_folder import epochs, read_checkpoint
    from unveil.weights.llada import is_llada

    if is_llada(config.folder):
        return inspect_llada(config.folder)
    if is_image(config.folder):
        return inspect_images(config.folder, config.size, config.flags)
    if policies := found(config.folder):
        return inspect_policies(policies)
    lines: list[str] = []
    for experiment in _found(config.folder):
        read = read_checkpoint(experiment, config.epoch)
        it = read.original
        goal = ", start and goal known" if it.loader == "GoalDataset" else ""
        target = f"; discount {it.discount}, termination penalty {it.termination_penalty}" if it.kind == "values" else ""
        rows = [
            ["network", f"{CLASSES[it.kind]}, {parameters(it):,} parameters"],
            ["trajectories", f"{it.actions} actions, {it.observations} observations, horizon {it.horizon}{goal}"],
            ["diffusion", f"{it.diffusion_steps} steps, cosine" + (f", predicts {it.predicts}" if it.kind == "diffusion" else target)],
            ["shape", f"width {it.width}, multiples {it.multiples}, attention {'yes' if it.attention else 'no'}"],
            ["epochs", ", ".join(map(str, epochs(experiment))) + f" (read: {read.epoch}, at step {read.step:,})"],
            ["weights", "raw" if read.averaged is None else "raw and averaged (EMA)"],
            ["data set", it.dataset or "not said"],
            ["normaliser", f"{it.normalizer or 'not said'}; its statistics are in the data set, not here: give --dataset to convert"],
        ]
        lines += [str(experiment), *(f"  {name:<13} {text}" for name, text in rows), ""]
    return "\n".join(lines).rstrip()


def convert(config: Convert) -> str:
    """Write runs of ours; returns what is printed.

    Raises:
        UnveilError: nothing to read, weights that are not there, a foreign data set, or a folder that holds something else.
    """
    from unveil.data.files import replacing
    from unveil.recipes.foreign_convert import convert_policies
    from unveil.recipes.foreign_image import convert_images, is_image
    from unveil.recipes.foreign_policy import found
    from unveil.training.checkpoint import save_checkpoint
    from unveil.weights.diffuser_folder import read_checkpoint
    from unveil.weights.llada import is_llada

    if is_llada(config.folder):
        raise UnveilError(
            f"{config.folder}: LLaDA's weights are read where they are, so nothing is converted; use the folder itself: "
            f"unveil sample text --checkpoint {config.folder}"
        )
    if is_image(config.folder):
        return convert_images(config.folder, config.out, config.raw, config.size, config.flags)
    if policies := found(config.folder):
        if config.dataset is not None:
            raise UnveilError(f"{config.folder}: a diffusion policy has its normaliser with it; leave --dataset away")
        return convert_policies(policies, config.folder, config.out, config.raw)
    lines: list[str] = []
    for experiment in _found(config.folder):
        read = read_checkpoint(experiment, config.epoch)
        chosen = _chosen(experiment, read, ema=not config.raw)
        out = config.out if experiment == config.folder else config.out / experiment.relative_to(config.folder)
        described = our_config(read.original, normalized=config.dataset is not None)
        check_free(out, described)
        models = {"network": model_of(read.original, read.raw), "ema": model_of(read.original, chosen)}
        if config.dataset is not None:
            _learn(models["network"], read.original, config.dataset)
            models["ema"].normalization.load_state_dict(models["network"].normalization.state_dict())
        state = {"step": read.step, "epoch": read.epoch, "weights": "raw" if config.raw else "ema", "origin": ORIGIN}
        out.mkdir(parents=True, exist_ok=True)
        save_checkpoint(out / f"checkpoint-{read.epoch}", {name: m.state_dict() for name, m in models.items()}, state)
        with replacing(out / "config.json") as partial:
            partial.write_text(json.dumps(described, indent=1) + "\n")
        units = "with the statistics of its data" if config.dataset else "without statistics: plans in normalised units only (--dataset)"
        lines.append(f"{out}: {described['recipe']}, epoch {read.epoch}, {'raw' if config.raw else 'averaged'} weights, {units}")
    return "\n".join(lines)


def load_original(folder: str | Path, epoch: str = "latest", ema: bool = True, dataset: str | None = None) -> TrajectoryModel | ValueModel:
    """As `read_original`, the model alone."""
    return read_original(folder, epoch, ema, dataset)[0]


def read_original(
    folder: str | Path, epoch: str = "latest", ema: bool = True, dataset: str | None = None
) -> tuple[TrajectoryModel | ValueModel, Original]:
    """A model straight from an experiment of the original, on the CPU, and what it is.

    Args:
        dataset: what it was trained on, for the normaliser; without, rows are in normalised units.
    Raises:
        UnveilError: not one experiment, one that cannot be read, weights that are not there, or a foreign data set.
    """
    from unveil.weights.diffuser_folder import read_checkpoint

    found = _found(Path(folder))
    if len(found) > 1:
        raise UnveilError(f"{folder} holds {len(found)} experiments; give one: {', '.join(str(e.relative_to(folder)) for e in found[:4])}")
    read = read_checkpoint(found[0], epoch)
    model = model_of(read.original, _chosen(found[0], read, ema))
    if dataset is not None:
        _learn(model, read.original, dataset)
    return model.eval(), read.original


def is_original(folder: Path) -> bool:
    """Whether a folder is an experiment of jannerm/diffuser, or is above one."""
    from unveil.weights.diffuser_folder import experiments

    return bool(experiments(folder))


def is_experiment(folder: Path) -> bool:
    """Whether a folder itself is an experiment of jannerm/diffuser."""
    from unveil.weights.diffuser_folder import epochs

    return bool(epochs(folder))


def our_config(original: Original, normalized: bool) -> dict[str, Any]:
    """What config.json of a converted run says."""
    from unveil.recipes.original_maze import LOADER, maze_config

    if original.loader == LOADER:
        return maze_config(original) | {"normalized": normalized, "origin": ORIGIN}
    described = asdict(original)
    described["recipe"] = "locomotion" if described.pop("kind") == "diffusion" else "value"
    described["normalizer"] = _kind(original)
    if described["recipe"] == "locomotion":
        for name in ("discount", "termination_penalty", "normed"):
            del described[name]
    return described | {"multiples": list(original.multiples), "normalized": normalized, "origin": ORIGIN}


def model_of(original: Original, tensors: Mapping[str, Tensor]) -> TrajectoryModel | ValueModel:
    """Our model with these weights, its normalisation the identity."""
    from unveil.apps.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel

    it = original
    shape = TrajectoryShape(it.horizon, it.diffusion_steps, it.actions, it.observations, it.width, it.multiples, it.attention, it.predicts)
    model = ValueModel(shape) if it.kind == "values" else TrajectoryModel(shape)
    own = {name: value for name, value in model.state_dict().items() if name.split(".")[0] in ("normalization", "offset", "scale")}
    model.load_state_dict({**own, **tensors})
    return model


def _found(folder: Path) -> list[Path]:
    from unveil.weights.diffuser_folder import experiments

    if folder.exists() and not folder.is_dir():
        raise UnveilError(f"{folder}: {_kind_of_file(folder)}; known are {KNOWN}")
    if not folder.is_dir():
        raise UnveilError(f"{folder}: no such folder or file; known are {KNOWN}")
    if not (found := experiments(folder)):
        ours = (
            "a run or checkpoint of ours, which needs no converting" if (folder / "config.json").is_file() else "a folder of no known kind"
        )
        raise UnveilError(f"{folder}: {ours}: no state_<epoch>.pt here or below; known are {KNOWN}")
    return [folder] if folder in found else found


def _kind_of_file(file: Path) -> str:
    """What a file is not, for people, by its name and its first bytes."""
    if file.suffix in (".safetensors", ".json", ".bin") or file.name.endswith(".index.json"):
        return "a file of a checkpoint, whose folder says what it is; give the folder"
    if file.suffix == ".pkl" and file.name.endswith("_config.pkl"):
        return "a config of jannerm/diffuser; give the folder that holds it and its state_<epoch>.pt"
    return "a file of no known kind"


def _chosen(experiment: Path, read: Checkpoint, ema: bool) -> Mapping[str, Tensor]:
    if not ema:
        return read.raw
    if read.averaged is None:
        raise UnveilError(f"{experiment}: epoch {read.epoch} holds no averaged weights (ema); take its raw ones with --raw (raw=True)")
    return read.averaged


def _kind(original: Original) -> Literal["gaussian", "limits"]:
    if original.normalizer not in NORMALIZERS:
        raise UnveilError(
            f"normaliser {original.normalizer or 'not said'} of the original is not supported; {', '.join(map(str, NORMALIZERS))} are"
        )
    return NORMALIZERS[original.normalizer]


def _learn(model: TrajectoryModel | ValueModel, original: Original, dataset: str) -> None:
    """Statistics as the original takes them: over all steps of episodes that have an end, without padding."""
    import numpy as np

    from unveil.data.sources import read_episodes
    from unveil.recipes.original_maze import LOADER, maze_rows

    if original.loader == LOADER:
        model.normalization.learn(maze_rows(original, dataset), _kind(original), published=True)
        return
    episodes = read_episodes(dataset)
    sizes = episodes.actions.shape[1], episodes.observations.shape[1]
    if sizes != (original.actions, original.observations):
        raise UnveilError(
            f"{dataset} has {sizes[0]} actions and {sizes[1]} observations, "
            f"the checkpoint {original.actions} and {original.observations}: another body, or another version of it"
        )
    marks = np.flatnonzero(episodes.terminals | episodes.timeouts)
    count = int(marks[-1]) + 1 if marks.size else len(episodes)
    rows = np.concatenate([episodes.actions[:count], episodes.observations[:count]], axis=1, dtype=np.float32)
    if original.normalizer == "SafeLimitsNormalizer" and bool((rows.min(0) == rows.max(0)).any()):
        raise UnveilError(f"{dataset}: a number that never changes, which the original's SafeLimitsNormalizer maps in a way not read here")
    model.normalization.learn(rows, _kind(original), published=True)


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

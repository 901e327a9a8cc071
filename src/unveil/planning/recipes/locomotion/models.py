"""Build locomotion models from a config.json, and load them from run folders, packaged models, or folders of
jannerm/diffuser."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unveil.files.json_objects import JsonObject
from unveil.planning.recipes.config_checks import check_trajectories
from unveil.runs.config import read_config

if TYPE_CHECKING:
    import torch

    from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel

Recipe = Literal["locomotion", "value"]


def shape_of(config: JsonObject) -> TrajectoryShape:
    """The model sizes of a config.json."""
    from unveil.planning.data.interface import interface_of
    from unveil.planning.trajectory_model import TrajectoryShape

    names = ("horizon", "diffusion_steps", "actions", "observations", "width", "attention", "predicts")
    sizes = {name: config[name] for name in names} | {"multiples": tuple(config["multiples"])}
    sizes["goal"] = interface_of(config).goal
    return TrajectoryShape(**sizes, **{name: config.get(name, False) for name in ("inverse", "returns")})


def trajectory_model(config: JsonObject) -> TrajectoryModel:
    """The untrained model of a config.json: the transformer, or the published U-Net."""
    from unveil.planning.networks.trajectory_transformer import SequenceTransformer
    from unveil.planning.trajectory_model import TrajectoryModel

    shape = shape_of(config)
    if config.get("model", "unet") == "unet":
        return TrajectoryModel(shape)
    sizes = (shape.features, shape.width, *(config[name] for name in ("depth", "heads", "patch")))
    return TrajectoryModel(shape, SequenceTransformer(*sizes, condition=2 if shape.returns else 0))


def value_model(config: JsonObject) -> ValueModel:
    """The untrained value of a config.json."""
    from unveil.planning.networks.trajectory_transformer import SequenceValue
    from unveil.planning.trajectory_model import ValueModel

    shape = shape_of(config)
    if config.get("model", "unet") == "unet":
        return ValueModel(shape)
    sizes = (shape.features, shape.width, *(config[name] for name in ("depth", "heads", "patch")))
    return ValueModel(shape, SequenceValue(*sizes))


def load_model(
    place: Path, recipe: Recipe, epoch: str, device: torch.device, raw: bool, dataset: str | None
) -> tuple[TrajectoryModel | ValueModel, JsonObject]:
    """Load a diffusion or a value of unveil or of jannerm/diffuser, and its config.json, or that of its
    conversion.

    Args:
        place: a run, a checkpoint, packaged weights (of a diffusion, perhaps with its value), or a folder
            with one experiment of jannerm/diffuser, which is a diffusion or a value whatever the recipe.
        epoch: step of the checkpoint, or latest.
        raw: whether to use the weights without averaging.
        dataset: the data from which the normaliser of an experiment takes its statistics.
    Raises:
        UnveilError: no such run or step, weights that cannot be read, or a maze planner.
    """
    from unveil.errors import UnveilError
    from unveil.planning.recipes.locomotion.diffuser import locomotion_config, locomotion_rows
    from unveil.planning.weights.diffuser_folder import is_maze, is_original
    from unveil.planning.weights.diffuser_models import read_original
    from unveil.runs.checkpoints import load_weights

    if is_original(place):
        if is_maze(place):
            raise UnveilError(f"{place}: a maze planner; use it with `unveil eval maze`")
        rows = None if dataset is None else partial(locomotion_rows, dataset=dataset)
        model, original = read_original(place, epoch, not raw, rows)
        return model.to(device), locomotion_config(original, dataset is not None)
    checkpoint = at_epoch(place, epoch, recipe)
    packaged = recipe == "value" and (checkpoint / "value.safetensors").is_file()
    described = read_locomotion_config(checkpoint, "locomotion" if packaged else recipe)
    described = described["value"] if packaged else described
    model = trajectory_model(described) if recipe == "locomotion" else value_model(described)
    load_weights(model, checkpoint, device, raw, name="value.safetensors" if packaged else "")
    return model, described


def at_epoch(folder: Path, epoch: str, recipe: Recipe = "locomotion") -> Path:
    """The checkpoint of a run: the newest good one, or that of a step.

    Raises:
        UnveilError: no such run or no such step; the message lists those that there are.
    """
    from unveil.errors import UnveilError
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.config import read_recipe
    from unveil.training.checkpoint import checkpoints

    if not folder.is_dir():
        places = (file.parent for file in folder.parent.parent.glob("*/*/config.json"))
        runs = sorted(str(place) for place in places if read_recipe(place) == recipe)
        hint = (
            f"there: {', '.join(runs[:4])}"
            if runs
            else f"train one: unveil train {recipe} --dataset D --logbase {folder.parent.parent.parent}"
        )
        raise UnveilError(f"{folder}: no such run; {hint}")
    if epoch == "latest":
        return find_checkpoint(str(folder))
    if (folder / "manifest.json").is_file():
        raise UnveilError(
            f"{folder} is one checkpoint, so it has no epoch {epoch!r}; leave the epoch out, or give the "
            "folder of the run"
        )
    if not epoch.isdigit():
        raise UnveilError(f"an epoch is a step number or latest, got {epoch!r}")
    chosen = folder / f"checkpoint-{int(epoch)}"
    if not chosen.is_dir():
        there = ", ".join(place.name.removeprefix("checkpoint-") for place in checkpoints(folder)) or "none"
        raise UnveilError(f"{folder}: no checkpoint of step {int(epoch)}; there: {there}")
    return find_checkpoint(str(chosen))


def read_locomotion_config(folder: Path, recipe: Recipe = "locomotion") -> JsonObject:
    """The config.json of a diffusion or a value for locomotion; raises as `read_config`."""
    return read_config(folder, recipe, check_trajectories)

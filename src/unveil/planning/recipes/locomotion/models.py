"""Build locomotion models from a config.json, and load them from run folders, the zoo, or folders of
jannerm/diffuser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unveil.planning.recipes.config_checks import check_trajectories
from unveil.planning.recipes.locomotion.config import folder_name
from unveil.runs.config import read_config
from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch

    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel


def shape_of(config: Mapping[str, Any]) -> TrajectoryShape:
    """The model sizes of a config.json."""
    from unveil.planning.trajectory_model import TrajectoryShape

    return TrajectoryShape(
        config["horizon"],
        config["diffusion_steps"],
        config["actions"],
        config["observations"],
        config["width"],
        tuple(config["multiples"]),
        config["attention"],
        config["predicts"],
        config.get("inverse", False),
        config.get("returns", False),
    )


def trajectory_model(config: Mapping[str, Any]) -> TrajectoryModel:
    """The untrained model of a config.json: the transformer, or the published U-Net."""
    from unveil.planning.networks.trajectory_transformer import SequenceTransformer
    from unveil.planning.trajectory_model import TrajectoryModel

    shape = shape_of(config)
    if config.get("model", "unet") == "unet":
        return TrajectoryModel(shape)
    network = SequenceTransformer(
        shape.features,
        shape.width,
        config["depth"],
        config["heads"],
        config["patch"],
        2 if shape.returns else 0,
    )
    return TrajectoryModel(shape, network)


def value_model(config: Mapping[str, Any]) -> ValueModel:
    """The untrained value of a config.json."""
    from unveil.planning.networks.trajectory_transformer import SequenceValue
    from unveil.planning.trajectory_model import ValueModel

    shape = shape_of(config)
    if config.get("model", "unet") == "unet":
        return ValueModel(shape)
    return ValueModel(
        shape, SequenceValue(shape.features, shape.width, config["depth"], config["heads"], config["patch"])
    )


def folder_of(config: EvalLocomotion, path: str) -> Path:
    """<logbase>/<dataset>/<path>; after f: names in braces are replaced by fields of the config."""
    from unveil.planning.recipes.locomotion.path_template import resolve

    return config.logbase / folder_name(config.dataset) / resolve(path, flat(config))


def trajectories_of(config: EvalLocomotion, device: torch.device) -> TrajectoryModel:
    """The diffusion at the config's load path, of unveil or of jannerm/diffuser."""
    from unveil.errors import UnveilError
    from unveil.planning.trajectory_model import TrajectoryModel

    folder = folder_of(config, config.loadpaths.diffusion_loadpath)
    model = _original(config, folder, config.loadpaths.diffusion_epoch) or load_trajectories(
        at_epoch(folder, config.loadpaths.diffusion_epoch), device, config.raw
    )
    if not isinstance(model, TrajectoryModel):
        raise UnveilError(f"{folder} holds a value, but a diffusion is needed; see `diffusion_loadpath`")
    return model.to(device)


def value_of(config: EvalLocomotion, device: torch.device) -> ValueModel:
    """The value at the config's load path, of unveil or of jannerm/diffuser."""
    from unveil.errors import UnveilError
    from unveil.planning.trajectory_model import ValueModel

    folder = folder_of(config, config.loadpaths.value_loadpath)
    model = _original(config, folder, config.loadpaths.value_epoch) or load_value(
        at_epoch(folder, config.loadpaths.value_epoch, "value"), device, config.raw
    )
    if not isinstance(model, ValueModel):
        raise UnveilError(f"{folder} holds a diffusion, but a value is needed; see `value_loadpath`")
    return model.to(device)


def _original(config: EvalLocomotion, folder: Path, epoch: str) -> TrajectoryModel | ValueModel | None:
    from unveil.planning.recipes.locomotion.diffuser import load_original
    from unveil.planning.weights.diffuser_folder import is_original

    return (
        load_original(folder, epoch, ema=not config.raw, dataset=config.dataset)
        if is_original(folder)
        else None
    )


def load_trajectories(checkpoint: Path, device: torch.device, raw: bool = False) -> TrajectoryModel:
    """Load a diffusion: the averaged weights of a checkpoint or the packaged weights, or with `raw` the
    weights without averaging."""
    from unveil.runs.checkpoints import load_weights

    model = trajectory_model(read_locomotion_config(checkpoint))
    load_weights(model, checkpoint, device, raw)
    return model


def load_value(checkpoint: Path, device: torch.device, raw: bool = False) -> ValueModel:
    """Load a value: the averaged weights of a checkpoint or the weights packaged with a diffusion, or with
    `raw` those without averaging."""
    from unveil.runs.checkpoints import load_weights

    packaged = checkpoint / "value.safetensors"
    config = (
        read_locomotion_config(checkpoint)["value"]
        if packaged.is_file()
        else read_locomotion_config(checkpoint, "value")
    )
    model = value_model(config)
    load_weights(model, checkpoint, device, raw, name=packaged.name if packaged.is_file() else "")
    return model


def at_epoch(folder: Path, epoch: str, recipe: Literal["locomotion", "value"] = "locomotion") -> Path:
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
    if not epoch.isdigit():
        raise UnveilError(f"an epoch is a step number or latest, got {epoch!r}")
    chosen = folder / f"checkpoint-{int(epoch)}"
    if not chosen.is_dir():
        there = (
            ", ".join(str(place.name.removeprefix("checkpoint-")) for place in checkpoints(folder)) or "none"
        )
        raise UnveilError(f"{folder}: no checkpoint of step {int(epoch)}; there: {there}")
    return find_checkpoint(str(chosen))


def check_pair(model: TrajectoryModel, value: ValueModel) -> None:
    """Refuse a value that cannot guide this diffusion.

    Raises:
        UnveilError: the two differ in rows, schedule or normalisation.
    """
    import torch

    from unveil.errors import UnveilError

    for name in ("actions", "observations", "inverse", "diffusion_steps", "horizon"):
        needed, got = getattr(model.shape, name), getattr(value.shape, name)
        if got != needed:
            raise UnveilError(
                f"this value was trained with {name} {got}, the diffusion with {needed}; train both alike"
            )
    for name in ("low", "high"):
        if not torch.allclose(
            getattr(model.normalization, name), getattr(value.normalization, name), rtol=1e-3, atol=1e-3
        ):
            raise UnveilError(
                "this value was trained on differently normalised data than the diffusion; use one data set "
                "and one `normalizer`"
            )


def read_locomotion_config(
    folder: Path, recipe: Literal["locomotion", "value"] = "locomotion"
) -> dict[str, Any]:
    """The config.json of a diffusion or a value for locomotion; raises as `read_config`."""
    return read_config(folder, recipe, check_trajectories)

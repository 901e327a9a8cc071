"""A diffusion and the value that guides it, from a zoo name, a folder that holds them, of either program, or an evaluation's load paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unveil.recipes.locomotion_load import at_epoch, check_pair, folder_of, load_trajectories, load_value, trajectories_of, value_of

if TYPE_CHECKING:
    import torch

    from unveil.apps.guided import GuidedPlanner
    from unveil.apps.trajectory_model import TrajectoryModel, ValueModel
    from unveil.recipes.locomotion import EvalLocomotion

RECIPES = ("locomotion", "value")


class Pair(NamedTuple):
    """What a folder holds.

    Args:
        described: the diffusion's config.json; of an experiment of the original what it would be converted.
    """

    model: TrajectoryModel
    value: ValueModel | None
    described: Mapping[str, Any]


def places_below(folder: Path) -> list[Path]:
    """The diffusions and values at or below a folder: runs of ours, checkpoints, packaged weights, and experiments of the original."""
    from unveil.recipes.run_config import read_recipe
    from unveil.weights.diffuser_folder import experiments

    if read_recipe(folder) in RECIPES:
        return [folder]
    files = [file for pattern in ("*/", "*/*/", "*/*/*/") for file in folder.glob(f"{pattern}config.json")]
    return sorted({*experiments(folder), *(file.parent for file in files if read_recipe(file.parent) in RECIPES)})


def pair_at(
    path_or_name: str,
    device: torch.device,
    *,
    dataset: str | None = None,
    epoch: str = "latest",
    value_epoch: str = "latest",
    raw: bool = False,
    guided: bool = True,
) -> Pair:
    """The one diffusion, and the value if there is one, of a zoo name, a run, or a folder above both, such as <logbase>/<dataset>.

    Args:
        dataset: where the statistics of the original's normaliser are.
        guided: whether the value is wanted at all.
    Raises:
        UnveilError: no diffusion or several, several values, or a value that does not belong to the diffusion.
    """
    from unveil.apps.trajectory_model import TrajectoryModel
    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_checkpoint, zoo_names
    from unveil.recipes.original import is_experiment, our_config, read_original
    from unveil.recipes.original_maze import is_maze
    from unveil.recipes.run_config import read_config, read_recipe

    named = path_or_name in zoo_names()
    folder = find_checkpoint(path_or_name) if named or not Path(path_or_name).is_dir() else Path(path_or_name)
    diffusions: list[tuple[TrajectoryModel, Mapping[str, Any]]] = []
    values: list[ValueModel] = []
    for place in places_below(folder):
        if is_experiment(place):
            if is_maze(place):
                raise UnveilError(f"{place}: a planner of mazes, to goals; `unveil eval maze` drives it")
            wanted = value_epoch if place.parent.name == "values" else epoch
            model, original = read_original(place, wanted, not raw, dataset)
            model.to(device)
            if isinstance(model, TrajectoryModel):
                diffusions.append((model, our_config(original, dataset is not None)))
            else:
                values.append(model)
            continue
        recipe = read_recipe(place)
        checkpoint = _checkpoint(place, epoch if recipe == "locomotion" else value_epoch, path_or_name)
        if recipe == "value":
            values.append(load_value(checkpoint, device, raw))
            continue
        diffusions.append((load_trajectories(checkpoint, device, raw), read_config(checkpoint, "locomotion")))
        if guided and (checkpoint / "value.safetensors").is_file():
            values.append(load_value(checkpoint, device, raw))
    if values and not diffusions:
        raise UnveilError(f"{folder} holds a value and no diffusion to guide; give the folder above both, <logbase>/<dataset>")
    if len(diffusions) != 1 or len(values) > 1:
        raise UnveilError(f"{folder} holds {len(diffusions)} diffusions and {len(values)} values; give a folder with one of each")
    (model, described), value = diffusions[0], values[0] if values else None
    if value is not None and guided:
        check_pair(model, value)
    return Pair(model, value if guided else None, described)


def diffusion_place(config: EvalLocomotion) -> Path:
    """Where an evaluation's diffusion is: a checkpoint, packaged weights, or a folder of the original."""
    from unveil.recipes.locate import find_checkpoint, zoo_names
    from unveil.recipes.original import is_original
    from unveil.recipes.run_config import read_recipe

    folder = folder_of(config, config.diffusion_loadpath) if config.checkpoint is None else Path(config.checkpoint)
    if config.checkpoint in zoo_names():
        return find_checkpoint(str(config.checkpoint))
    if is_original(folder):
        return folder
    place = next((place for place in places_below(folder) if read_recipe(place) == "locomotion"), folder)
    return _checkpoint(place, config.diffusion_epoch, str(folder))


def _checkpoint(place: Path, epoch: str, name: str) -> Path:
    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_checkpoint

    if epoch != "latest" and (place / "manifest.json").is_file():
        raise UnveilError(f"{name} is one checkpoint, so it has no epoch {epoch!r}; leave it away, or give the run's folder")
    return find_checkpoint(str(place)) if epoch == "latest" else at_epoch(place, epoch)


def models_of(config: EvalLocomotion) -> tuple[TrajectoryModel, ValueModel | None]:
    """The diffusion and, if anything needs it, the value, checked to belong together.

    With a checkpoint the value is the one in its folder, or that of the value's load path if one is named there or the folder has none.
    """
    from unveil.recipes.device import find_device

    device = find_device(config.device)
    wanted = config.select != "none" or config.guidance != "none"
    if config.checkpoint is not None:
        named = config.value_loadpath != type(config)().value_loadpath
        model, value, _ = pair_at(
            config.checkpoint,
            device,
            dataset=config.dataset,
            epoch=config.diffusion_epoch,
            value_epoch=config.value_epoch,
            raw=config.raw,
            guided=wanted and not named,
        )
        if wanted and value is None and (named or folder_of(config, config.value_loadpath).is_dir()):
            value = value_of(config, device)
    else:
        model = trajectories_of(config, device)
        value = value_of(config, device) if wanted else None
    if value is not None:
        check_pair(model, value)
    return _fast(config, model, value)


def _fast(config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None) -> tuple[TrajectoryModel, ValueModel | None]:
    import torch

    from unveil.apps.fast_models import fast_trajectories, fast_value
    from unveil.network.compiled import Measured

    if config.fast == "off":
        return model, value
    dtype = torch.float32 if config.fast == "float32" else torch.bfloat16
    quicker = Measured if config.compile == "auto" else None
    return fast_trajectories(model, dtype, quicker), None if value is None else fast_value(value, dtype, quicker)


def load_pair(
    path_or_name: str,
    device: str,
    seed: int,
    *,
    dataset: str | None = None,
    epoch: str | int | None = None,
    diffusion_epoch: str | int = "latest",
    value_epoch: str | int = "latest",
    raw: bool = False,
    preset: str | None = None,
    **settings: Any,
) -> GuidedPlanner:
    """A planner of what a folder holds.

    Args:
        epoch: another name of `diffusion_epoch`.
        preset: by default what suits the run: one that is told returns asks for the best, whether or not a value lies beside it; the
            published network, the original's or ours, plans as published; others choose by the value, if there is one.
        settings: fields of `EvalLocomotion`; guidance or selection of a run that is told returns begin from the preset `default`.
    Raises:
        UnveilError: as `pair_at`.
        TypeError: a setting that there is not.
    """
    from dataclasses import replace

    from unveil.recipes.device import find_device
    from unveil.recipes.locomotion import EVAL_PRESETS, for_dataset
    from unveil.recipes.locomotion_checks import as_argument, check_planning
    from unveil.recipes.locomotion_eval import planner_with, with_scale
    from unveil.recipes.locomotion_preset import suited

    chosen = str(diffusion_epoch if epoch is None else epoch)
    pair = pair_at(path_or_name, find_device(device), dataset=dataset, epoch=chosen, value_epoch=str(value_epoch), raw=raw)
    model, value, described = pair
    valued = any(settings.get(name, "none") != "none" for name in ("guidance", "select", "value_loadpath"))
    name = suited(described) if preset is None else preset
    name = "default" if preset is None and valued and name == "ask" else name
    if name not in EVAL_PRESETS:
        raise ValueError(f"load: preset is one of {', '.join(EVAL_PRESETS)}, got {preset!r}")
    trained_on = dataset or described.get("dataset") or Path(path_or_name).name
    config = for_dataset(EVAL_PRESETS[name], trained_on)
    if name == "paper":
        config = replace(config, sampling_steps=model.shape.diffusion_steps)
    if "value_loadpath" in settings:
        value = value_of(replace(config, device=device, raw=raw, **settings), find_device(device))
        check_pair(model, value)
    if value is None and preset is None and name != "ask":
        config = replace(config, guidance="none", select="none", batch_size=1)
    about: dict[str, Any] = {"checkpoint": path_or_name, "seed": seed, "device": device, "raw": raw, "diffusion_epoch": chosen}
    about["dataset"] = dataset or described.get("dataset") or config.dataset
    config = replace(config, **(about | settings))
    check_planning(config, as_argument)
    model, value = _fast(config, model, value)
    return planner_with(with_scale(config, model, value)[0], model, value)

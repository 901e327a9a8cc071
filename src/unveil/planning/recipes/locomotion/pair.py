"""Load a diffusion and its value: from a zoo name, from a folder of unveil or jannerm/diffuser, or from the
load paths of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unveil.planning.recipes.locomotion.models import (
    at_epoch,
    check_pair,
    folder_of,
    load_trajectories,
    load_value,
    trajectories_of,
    value_of,
)

if TYPE_CHECKING:
    import torch

    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.planning.trajectory_model import TrajectoryModel, ValueModel

RECIPES = ("locomotion", "value")


class Pair(NamedTuple):
    """A diffusion and its value, if there is one.

    Args:
        described: the config.json of the diffusion; for an experiment of jannerm/diffuser that of its
            conversion.
    """

    model: TrajectoryModel
    value: ValueModel | None
    described: Mapping[str, Any]


def places_below(folder: Path) -> list[Path]:
    """The folders of diffusions and values at or below a folder: runs, checkpoints, packaged weights, and
    experiments of jannerm/diffuser."""
    from unveil.planning.weights.diffuser_folder import experiments
    from unveil.runs.config import read_recipe

    if read_recipe(folder) in RECIPES:
        return [folder]
    files = [file for pattern in ("*/", "*/*/", "*/*/*/") for file in folder.glob(f"{pattern}config.json")]
    return sorted(
        {*experiments(folder), *(file.parent for file in files if read_recipe(file.parent) in RECIPES)}
    )


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
    """Load the diffusion, and the value if there is one, of a zoo name, a run, or a folder above both, such
    as <logbase>/<dataset>.

    Args:
        dataset: the data from which the normaliser of an experiment of jannerm/diffuser takes its statistics.
        epoch, value_epoch: step of the checkpoint, or latest.
        raw: whether to use the weights without averaging.
        guided: whether to load the value.
    Raises:
        UnveilError: no diffusion or several, several values, or a value that does not belong to the
            diffusion.
    """
    from functools import partial

    from unveil.errors import UnveilError
    from unveil.planning.recipes.locomotion.diffuser import locomotion_config, locomotion_rows
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.weights.diffuser_folder import is_experiment, is_maze
    from unveil.planning.weights.diffuser_models import read_original
    from unveil.runs.checkpoints import find_checkpoint, zoo_names
    from unveil.runs.config import read_recipe

    named = path_or_name in zoo_names()
    folder = find_checkpoint(path_or_name) if named or not Path(path_or_name).is_dir() else Path(path_or_name)
    diffusions: list[tuple[TrajectoryModel, Mapping[str, Any]]] = []
    values: list[ValueModel] = []
    rows = None if dataset is None else partial(locomotion_rows, dataset=dataset)
    for place in places_below(folder):
        if is_experiment(place):
            if is_maze(place):
                raise UnveilError(f"{place}: a maze planner; use it with `unveil eval maze`")
            wanted = value_epoch if place.parent.name == "values" else epoch
            model, original = read_original(place, wanted, not raw, rows)
            model.to(device)
            if isinstance(model, TrajectoryModel):
                diffusions.append((model, locomotion_config(original, dataset is not None)))
            else:
                values.append(model)
            continue
        recipe = read_recipe(place)
        checkpoint = _checkpoint(place, epoch if recipe == "locomotion" else value_epoch, path_or_name)
        if recipe == "value":
            values.append(load_value(checkpoint, device, raw))
            continue
        diffusions.append((load_trajectories(checkpoint, device, raw), read_locomotion_config(checkpoint)))
        if guided and (checkpoint / "value.safetensors").is_file():
            values.append(load_value(checkpoint, device, raw))
    if values and not diffusions:
        raise UnveilError(
            f"{folder} holds a value and no diffusion to guide; give the folder above both, "
            "<logbase>/<dataset>"
        )
    if len(diffusions) != 1 or len(values) > 1:
        raise UnveilError(
            f"{folder} holds {len(diffusions)} diffusions and {len(values)} values; give a folder with one "
            "of each"
        )
    (model, described), value = diffusions[0], values[0] if values else None
    if value is not None and guided:
        check_pair(model, value)
    return Pair(model, value if guided else None, described)


def diffusion_place(config: EvalLocomotion) -> Path:
    """The folder of an evaluation's diffusion: a checkpoint, packaged weights, or a folder of
    jannerm/diffuser."""
    from unveil.planning.weights.diffuser_folder import is_original
    from unveil.runs.checkpoints import find_checkpoint, zoo_names
    from unveil.runs.config import read_recipe

    folder = (
        folder_of(config, config.loadpaths.diffusion_loadpath)
        if config.checkpoint is None
        else Path(config.checkpoint)
    )
    if config.checkpoint in zoo_names():
        return find_checkpoint(str(config.checkpoint))
    if is_original(folder):
        return folder
    place = next((place for place in places_below(folder) if read_recipe(place) == "locomotion"), folder)
    return _checkpoint(place, config.loadpaths.diffusion_epoch, str(folder))


def _checkpoint(place: Path, epoch: str, name: str) -> Path:
    from unveil.errors import UnveilError
    from unveil.runs.checkpoints import find_checkpoint

    if epoch != "latest" and (place / "manifest.json").is_file():
        raise UnveilError(
            f"{name} is one checkpoint, so it has no epoch {epoch!r}; leave the epoch out, or give the "
            "folder of the run"
        )
    return find_checkpoint(str(place)) if epoch == "latest" else at_epoch(place, epoch)


def models_of(config: EvalLocomotion) -> tuple[TrajectoryModel, ValueModel | None]:
    """Load the diffusion of an evaluation, and the value if guidance or selection needs it; the two must fit
    each other.

    With `checkpoint` the value is the one in its folder; if `value_loadpath` is set, or the folder has no
    value, that of `value_loadpath`.
    """
    from unveil.runs.device import find_device

    device = find_device(config.device)
    wanted = config.settings.select != "none" or config.settings.guidance != "none"
    paths = config.loadpaths
    if config.checkpoint is not None:
        named = paths.value_loadpath != type(paths)().value_loadpath
        model, value, _ = pair_at(
            config.checkpoint,
            device,
            dataset=config.dataset,
            epoch=paths.diffusion_epoch,
            value_epoch=paths.value_epoch,
            raw=config.raw,
            guided=wanted and not named,
        )
        if wanted and value is None and (named or folder_of(config, paths.value_loadpath).is_dir()):
            value = value_of(config, device)
    else:
        model = trajectories_of(config, device)
        value = value_of(config, device) if wanted else None
    if value is not None:
        check_pair(model, value)
    return laid_out(config, model, value)


def laid_out(
    config: EvalLocomotion, model: TrajectoryModel, value: ValueModel | None
) -> tuple[TrajectoryModel, ValueModel | None]:
    """The models, with the faster layout of the published networks if `fast` is set."""
    import torch

    from unveil.network.compiled import Measured
    from unveil.planning.trajectory_model import fast_trajectories, fast_value

    if config.fast == "off":
        return model, value
    dtype = torch.float32 if config.fast == "float32" else torch.bfloat16
    quicker = Measured if config.compile == "auto" else None
    return fast_trajectories(model, dtype, quicker), None if value is None else fast_value(
        value, dtype, quicker
    )

"""Load a diffusion and its value: a packaged model, a folder of unveil or jannerm/diffuser, or what the load
paths of an evaluation name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from unveil.files.json_objects import JsonObject
from unveil.planning.recipes.locomotion.config import folder_name
from unveil.planning.recipes.locomotion.models import Recipe, load_model
from unveil.runs.flags import flat

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
    described: JsonObject


def paired(model: TrajectoryModel, value: ValueModel | None, described: JsonObject) -> Pair:
    """The pair of a diffusion and a value that can guide it.

    Raises:
        UnveilError: the two differ in rows, schedule or normalisation.
    """
    import torch

    from unveil.errors import UnveilError

    if value is None:
        return Pair(model, None, described)
    for name in ("actions", "observations", "inverse", "diffusion_steps", "horizon"):
        needed, got = getattr(model.shape, name), getattr(value.shape, name)
        if got != needed:
            raise UnveilError(
                f"this value was trained with {name} {got}, the diffusion with {needed}; train both alike"
            )
    ours, theirs = model.normalization, value.normalization
    for a, b in ((ours.low, theirs.low), (ours.high, theirs.high)):
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-3):
            raise UnveilError(
                "this value was trained on differently normalised data than the diffusion; use one data set "
                "and one `normalizer`"
            )
    return Pair(model, value, described)


def folder_at(path_or_name: str) -> Path:
    """A folder, that of a packaged model's name, or of a repository of the Hugging Face Hub.

    Raises:
        UnveilError: neither.
    """
    from unveil.runs.checkpoints import find_checkpoint, local_name, zoo_names

    name = local_name(path_or_name)
    return Path(name) if Path(name).is_dir() and name not in zoo_names() else find_checkpoint(name)


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
    """Load the diffusion, and the value if any, of a packaged model, a run, or a folder above both, such
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
    from unveil.errors import UnveilError
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.runs.config import read_recipe

    folder = folder_at(path_or_name)
    diffusions: list[tuple[TrajectoryModel, JsonObject]] = []
    values: list[ValueModel] = []
    for place in places_below(folder):
        recipe = read_recipe(place) or ("value" if place.parent.name == "values" else "locomotion")
        parts = [(recipe, value_epoch if recipe == "value" else epoch)]
        if guided and (place / "value.safetensors").is_file():
            parts.append(("value", "latest"))
        for part, step in parts:
            model, described = load_model(place, cast(Recipe, part), step, device, raw, dataset)
            if isinstance(model, TrajectoryModel):
                diffusions.append((model, described))
            else:
                values.append(model)
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
    (model, described), value = diffusions[0], values[0] if values and guided else None
    return paired(model, value, described)


def folder_of(config: EvalLocomotion, path: str) -> Path:
    """<logbase>/<dataset>/<path>; after f: names in braces are replaced by fields of the config."""
    from unveil.planning.recipes.locomotion.path_template import resolve

    return config.logbase / folder_name(config.dataset) / resolve(path, flat(config))


def diffusion_of(config: EvalLocomotion, device: torch.device) -> tuple[TrajectoryModel, JsonObject]:
    """The diffusion at the config's load path, and its config.json."""
    from unveil.errors import UnveilError
    from unveil.planning.trajectory_model import TrajectoryModel

    folder, epoch = folder_of(config, config.loadpaths.diffusion_loadpath), config.loadpaths.diffusion_epoch
    model, described = load_model(folder, "locomotion", epoch, device, config.raw, config.dataset)
    if not isinstance(model, TrajectoryModel):
        raise UnveilError(f"{folder} holds a value, but a diffusion is needed; see `diffusion_loadpath`")
    return model, described


def value_of(config: EvalLocomotion, device: torch.device) -> ValueModel:
    """The value at the config's load path."""
    from unveil.errors import UnveilError
    from unveil.planning.trajectory_model import ValueModel

    folder, epoch = folder_of(config, config.loadpaths.value_loadpath), config.loadpaths.value_epoch
    model, _ = load_model(folder, "value", epoch, device, config.raw, config.dataset)
    if not isinstance(model, ValueModel):
        raise UnveilError(f"{folder} holds a diffusion, but a value is needed; see `value_loadpath`")
    return model


def models_of(config: EvalLocomotion) -> Pair:
    """Load the diffusion of an evaluation, and the value if guidance or selection needs it; the two must fit
    each other.

    With `checkpoint` the value is the one in its folder; if `value_loadpath` is set, or the folder has no
    value, that of `value_loadpath`.
    """
    from unveil.runs.device import find_device

    device = find_device(config.job.device)
    wanted = config.settings.select != "none" or config.settings.guidance != "none"
    paths = config.loadpaths
    if config.checkpoint is None:
        model, described = diffusion_of(config, device)
        return laid_out(config, paired(model, value_of(config, device) if wanted else None, described))
    named = paths.value_loadpath != type(paths)().value_loadpath
    pair = pair_at(
        config.checkpoint,
        device,
        dataset=config.dataset,
        epoch=paths.diffusion_epoch,
        value_epoch=paths.value_epoch,
        raw=config.raw,
        guided=wanted and not named,
    )
    if wanted and pair.value is None and (named or folder_of(config, paths.value_loadpath).is_dir()):
        pair = paired(pair.model, value_of(config, device), pair.described)
    return laid_out(config, pair)


def laid_out(config: EvalLocomotion, pair: Pair) -> Pair:
    """The models, with the faster layout of the published networks if `fast` is set."""
    import torch

    from unveil.network.compiled import Measured
    from unveil.planning.trajectory_model import fast_trajectories, fast_value

    if config.fast == "off":
        return pair
    dtype = torch.float32 if config.fast == "float32" else torch.bfloat16
    quicker = Measured if config.compile == "auto" else None
    value = None if pair.value is None else fast_value(pair.value, dtype, quicker)
    return Pair(fast_trajectories(pair.model, dtype, quicker), value, pair.described)

"""Choose the preset of planning that suits a run, where the user names none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, for_dataset
from unveil.runs.flags import changed

if TYPE_CHECKING:
    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.runs.verb import Given

VALUED = ("guidance", "select", "value_loadpath", "value_epoch")
"""Settings that need a value, which of a run conditional on returns only the preset `default` uses."""


def suited(described: JsonObject) -> str:
    """The preset for the config.json of a diffusion: `ask` if the model is conditional on returns, whether or
    not there is a value; `paper` for the published network, of unveil or jannerm/diffuser; otherwise
    `default`, which selects by a value."""
    if described.get("returns"):
        return "ask"
    return "paper" if described.get("model", "unet") == "unet" else "default"


def preset_of(described: JsonObject | None, dataset: str, named: str | None, valued: bool) -> EvalLocomotion:
    """The settings of a preset, with what suits the data set.

    Args:
        described: the config.json of the diffusion, if there is one.
        named: the preset that the user names; by default the preset that suits the run.
        valued: whether the user's settings need a value.
    Raises:
        ValueError: a preset that there is not.
    """
    suits = "default" if described is None else suited(described)
    preset = named or ("default" if valued and suits == "ask" else suits)
    if preset not in EVAL_PRESETS:
        raise ValueError(f"load: preset is one of {', '.join(EVAL_PRESETS)}, got {preset!r}")
    config = changed(for_dataset(EVAL_PRESETS[preset], dataset), dataset=dataset)
    if preset == "paper" and described is not None:
        return changed(config, steps=int(described["diffusion_steps"]))
    return config


def with_preset(config: EvalLocomotion, given: Given) -> EvalLocomotion:
    """The preset and the data set that the flags of an evaluation change: without --dataset the data set that
    the checkpoint was trained on.

    Args:
        config: the flags applied to the named preset, or to `default`.
        given: flag -> its value on the command line.
    """
    named, described = given("preset"), _described(config)
    if described is None and not named:
        # the published settings may have another load path, since HalfCheetah has another horizon
        horizon = for_dataset(EVAL_PRESETS["paper"], config.dataset).loadpaths.horizon
        described = _described(changed(config, horizon=horizon))
    trained = described.get("dataset") if described is not None and config.checkpoint is not None else None
    dataset = given("dataset") or trained or config.dataset
    return preset_of(described, dataset, named, any((given(name) or "none") != "none" for name in VALUED))


def _described(config: EvalLocomotion) -> JsonObject | None:
    """The config.json of the diffusion, or that of its conversion; None if there is none, which the
    evaluation reports."""
    from unveil.errors import UnveilError
    from unveil.planning.recipes.locomotion.diffuser import locomotion_config
    from unveil.planning.recipes.locomotion.models import at_epoch, read_locomotion_config
    from unveil.planning.recipes.locomotion.pair import folder_at, folder_of, places_below
    from unveil.planning.weights.diffuser_folder import read_checkpoint
    from unveil.runs.config import read_recipe

    paths, named = config.loadpaths, config.checkpoint
    try:
        folder = folder_of(config, paths.diffusion_loadpath) if named is None else folder_at(named)
        for place in places_below(folder):
            if (recipe := read_recipe(place)) == "locomotion":
                return read_locomotion_config(at_epoch(place, paths.diffusion_epoch))
            if not recipe and place.parent.name != "values":
                original = read_checkpoint(place, paths.diffusion_epoch).original
                if original.kind == "diffusion":
                    return locomotion_config(original, normalized=True)
    except (UnveilError, ValueError, OSError):
        pass
    return None

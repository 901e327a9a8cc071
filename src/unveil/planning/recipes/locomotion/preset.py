"""Choose the preset of planning that suits a run, where the user names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, for_dataset
from unveil.runs.flags import changed

if TYPE_CHECKING:
    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.runs.verb import Given


def suited(described: Mapping[str, Any]) -> str:
    """The preset for the config.json of a diffusion: `ask` if the model is conditional on returns, whether or
    not there is a value; `paper` for the published network, of unveil or jannerm/diffuser; otherwise
    `default`, which selects by a value."""
    if described.get("returns"):
        return "ask"
    return "paper" if described.get("model", "unet") == "unet" else "default"


def with_preset(config: EvalLocomotion, given: Given) -> EvalLocomotion:
    """The preset that the flags of an evaluation change.

    Args:
        config: the flags applied to the named preset, or to `default`.
        given: flag -> its value on the command line.
    """
    named = given("preset") or ""
    wanted = (
        "guidance",
        "select",
        "value_loadpath",
        "value_epoch",
    )  # of a run conditional on returns only `default` uses a value
    valued = any((given(name) or "none") != "none" for name in wanted)
    described = _described(config)
    if (
        described is None and not named
    ):  # the published settings may have another load path, since HalfCheetah has another horizon
        described = _described(
            changed(config, horizon=for_dataset(EVAL_PRESETS["paper"], config.dataset).loadpaths.horizon)
        )
    preset = named or ("default" if described is None else suited(described))
    if not named and valued and preset == "ask":
        preset = "default"
    chosen = for_dataset(EVAL_PRESETS[preset], config.dataset)
    if preset == "paper" and described is not None:
        chosen = changed(chosen, steps=int(described["diffusion_steps"]))
    return chosen


def _described(config: EvalLocomotion) -> Mapping[str, Any] | None:
    """The config.json of the diffusion, or what replaces it; None if there is none, which the evaluation
    reports."""
    from unveil.errors import UnveilError
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.planning.recipes.locomotion.pair import diffusion_place
    from unveil.planning.weights.diffuser_folder import experiments, read_checkpoint

    try:
        place = diffusion_place(config)
        for experiment in experiments(place):
            original = (
                read_checkpoint(experiment, config.loadpaths.diffusion_epoch).original
                if experiment.parent.name != "values"
                else None
            )
            if original is not None and original.kind == "diffusion":
                return {"model": "unet", "diffusion_steps": original.diffusion_steps}
        return read_locomotion_config(place)
    except (UnveilError, ValueError, OSError):
        return None

"""Which preset of planning suits a run, where none is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, for_dataset
from unveil.runs.flags import changed

if TYPE_CHECKING:
    from unveil.planning.recipes.locomotion.config import EvalLocomotion
    from unveil.runs.verb import Given


def suited(described: Mapping[str, Any]) -> str:
    """The preset for a diffusion's config.json: `ask` if it is told returns, whether or not a value lies beside it; `paper` if its network
    is the published one, the original's or ours; else `default`, which chooses by a value."""
    if described.get("returns"):
        return "ask"
    return "paper" if described.get("model", "unet") == "unet" else "default"


def with_preset(config: EvalLocomotion, given: Given) -> EvalLocomotion:
    """The settings that an evaluation's other flags change.

    Args:
        config: the flags over the preset that is named, or over `default` if none is.
        given: what the command line says for single flags.
    """
    named = given("preset") or ""  # is taken then
    wanted = (
        "guidance",
        "select",
        "value_loadpath",
        "value_epoch",
    )  # of a run conditional on returns, only `default` has them
    valued = any((given(name) or "none") != "none" for name in wanted)
    described = _described(config)
    if (
        described is None and not named
    ):  # the published settings may have another load path, as HalfCheetah's horizon has
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
    """What is known of the diffusion before its weights are built; None where nothing is, which the evaluation will say better."""
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

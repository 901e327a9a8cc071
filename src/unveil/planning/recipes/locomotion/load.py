"""From a folder to a locomotion planner: what `unveil.load` does for a diffusion and its value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.planning.recipes.locomotion.models import check_pair, value_of
from unveil.planning.recipes.locomotion.pair import laid_out, pair_at

if TYPE_CHECKING:
    from unveil.planning.guided_planner import GuidedPlanner


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

    from unveil.planning.recipes.locomotion.checks import as_argument, check_planning
    from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, for_dataset
    from unveil.planning.recipes.locomotion.planner import planner_with, with_scale
    from unveil.planning.recipes.locomotion.preset import suited
    from unveil.runs.device import find_device

    chosen = str(diffusion_epoch if epoch is None else epoch)
    pair = pair_at(
        path_or_name,
        find_device(device),
        dataset=dataset,
        epoch=chosen,
        value_epoch=str(value_epoch),
        raw=raw,
    )
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
    about: dict[str, Any] = {
        "checkpoint": path_or_name,
        "seed": seed,
        "device": device,
        "raw": raw,
        "diffusion_epoch": chosen,
    }
    about["dataset"] = dataset or described.get("dataset") or config.dataset
    config = replace(config, **(about | settings))
    check_planning(config, as_argument)
    model, value = laid_out(config, model, value)
    return planner_with(with_scale(config, model, value)[0], model, value)

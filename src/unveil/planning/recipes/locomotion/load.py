"""Load a locomotion planner from a folder: what `unveil.load` does for a diffusion and its value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.planning.recipes.locomotion.models import check_pair, value_of
from unveil.planning.recipes.locomotion.pair import laid_out, pair_at

if TYPE_CHECKING:
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.guided_planner_settings import GuidedSettings


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
    settings: GuidedSettings | None = None,
    **fields: Any,
) -> GuidedPlanner:
    """A planner from the diffusion, and the value if there is one, in a folder.

    Args:
        epoch: another name of `diffusion_epoch`.
        preset: by default the preset that suits the run: `ask` for a model conditional on returns, whether or
            not there is a value; `paper` for the published network, of Diffuser or of unveil; otherwise
            `default`, which selects by the value if there is one.
        settings: how to plan, in place of the preset's settings.
        fields: fields of `GuidedSettings` or `EvalLocomotion` that change single settings. With guidance or
            selection a model conditional on returns has the preset `default`.
    Raises:
        UnveilError: as `pair_at`.
        TypeError: a field that there is not.
        ValueError: a preset that there is not, or a value that does not fit its field.
    """
    from dataclasses import replace

    from unveil.planning.recipes.locomotion.config import EVAL_PRESETS, PLANNING, for_dataset
    from unveil.planning.recipes.locomotion.planner import planner_with, with_scale
    from unveil.planning.recipes.locomotion.preset import suited
    from unveil.runs.device import find_device
    from unveil.runs.flags import changed

    names = {old[2:].replace("-", "_"): new[2:].replace("-", "_") for old, new in PLANNING.items()}
    fields = {names.get(name, name): value for name, value in fields.items()}
    chosen = str(diffusion_epoch if epoch is None else epoch)
    model, value, described = pair_at(
        path_or_name,
        find_device(device),
        dataset=dataset,
        epoch=chosen,
        value_epoch=str(value_epoch),
        raw=raw,
    )
    asks_value = any(fields.get(name, "none") != "none" for name in ("guidance", "select", "value_loadpath"))
    name = suited(described) if preset is None else preset
    name = "default" if preset is None and asks_value and name == "ask" else name
    if name not in EVAL_PRESETS:
        raise ValueError(f"load: preset is one of {', '.join(EVAL_PRESETS)}, got {preset!r}")
    trained_on = dataset or described.get("dataset") or Path(path_or_name).name
    config = for_dataset(EVAL_PRESETS[name], trained_on)
    if name == "paper":
        config = changed(config, steps=model.shape.diffusion_steps)
    if "value_loadpath" in fields:
        value = value_of(changed(config, device=device, raw=raw, **fields), find_device(device))
        check_pair(model, value)
    if value is None and preset is None and name != "ask":
        config = changed(config, guidance="none", select="none", candidates=1)
    config = config if settings is None else replace(config, settings=settings)
    place = {
        "checkpoint": path_or_name,
        "seed": seed,
        "device": device,
        "raw": raw,
        "diffusion_epoch": chosen,
    }
    place["dataset"] = dataset or described.get("dataset") or config.dataset
    config = changed(config, **(place | fields))
    model, value = laid_out(config, model, value)
    return planner_with(with_scale(config, model, value)[0], model, value)

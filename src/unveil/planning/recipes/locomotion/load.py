"""Load a locomotion planner from a folder: what `unveil.load` does for a diffusion and its value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.locomotion.pair import Pair, laid_out, pair_at, paired, value_of

if TYPE_CHECKING:
    from unveil.planning.goal_planner import GoalPlanner
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
    **fields: object,
) -> GuidedPlanner | GoalPlanner:
    """A planner from the diffusion, and the value if there is one, in a folder.

    Args:
        epoch: another name of `diffusion_epoch`.
        preset: by default the preset that suits the run: `ask` for a model conditional on returns, whether or
            not there is a value; `paper` for the published network, of Diffuser or of unveil; otherwise
            `default`, which selects by the value if there is one.
        settings: how to plan, in place of the preset's settings.
        fields: fields of `GuidedSettings` or `EvalLocomotion` that change single settings. With guidance or
            selection a model conditional on returns has the preset `default`. For a planner of goals, fields
            of `GoalSettings`.
    Raises:
        UnveilError: as `pair_at`.
        TypeError: a field that there is not.
        ValueError: a preset that there is not, or a value that does not fit its field.
    """
    from dataclasses import replace

    from unveil.planning.recipes.locomotion.config import PLANNING
    from unveil.planning.recipes.locomotion.planner import planner_with, with_scale
    from unveil.planning.recipes.locomotion.preset import VALUED, preset_of
    from unveil.runs.device import find_device
    from unveil.runs.flags import changed

    names = {old[2:].replace("-", "_"): new[2:].replace("-", "_") for old, new in PLANNING.items()}
    fields = {names.get(name, name): value for name, value in fields.items()}
    chosen, found = str(diffusion_epoch if epoch is None else epoch), find_device(device)
    pair = pair_at(path_or_name, found, dataset=dataset, epoch=chosen, value_epoch=str(value_epoch), raw=raw)
    if pair.model.shape.goal:
        return goal_planner(pair, seed, fields)
    valued = any(fields.get(name, "none") != "none" for name in VALUED)
    trained_on = dataset or pair.described.get("dataset") or Path(path_or_name).name
    config = preset_of(pair.described, trained_on, preset, valued)
    if pair.value is None and preset is None and config.preset != "ask" and "value_loadpath" not in fields:
        config = changed(config, guidance="none", select="none", candidates=1)
    config = config if settings is None else replace(config, settings=settings)
    place = {
        "checkpoint": path_or_name,
        "seed": seed,
        "device": device,
        "raw": raw,
        "diffusion_epoch": chosen,
    }
    config = changed(config, **(place | fields))
    if "value_loadpath" in fields:
        pair = paired(pair.model, value_of(config, found), pair.described)
    pair = laid_out(config, pair)
    return planner_with(with_scale(config, pair)[0], pair)


def goal_planner(pair: Pair, seed: int, fields: Mapping[str, object]) -> GoalPlanner:
    """The planner of a model of goals, whose plans have the lengths of its training windows.

    Raises:
        TypeError: a field that `GoalSettings` has not.
        ValueError: a value that does not fit its field.
    """
    from unveil.planning.data.interface import interface_of
    from unveil.planning.goal_planner import GoalPlanner
    from unveil.planning.goal_settings import GoalSettings

    unit = int(pair.described.get("shortest") or 0) or pair.model.shape.horizon
    settings = GoalSettings(**({"shortest": unit} | dict(fields)))  # pyright: ignore[reportArgumentType]
    return GoalPlanner(pair.model, settings, interface=interface_of(pair.described), seed=seed)

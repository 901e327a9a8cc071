"""Load planners of block stacking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.planning.stacking.settings import StackingSettings
from unveil.runs.config import read_config

if TYPE_CHECKING:
    from unveil.planning.stacking.model import StackingModel
    from unveil.planning.stacking.planner import StackingPlanner

SIZES = ("horizon", "stride", "width", "depth", "heads", "patch")


def stacking_model(config: JsonObject) -> StackingModel:
    """The untrained model of a run's config."""
    from unveil.planning.stacking.model import StackingModel, StackingShape

    return StackingModel(StackingShape(**{name: config[name] for name in SIZES}))


def load_stacking(
    folder: Path,
    device: str = "auto",
    seed: int = 0,
    settings: StackingSettings | None = None,
    **fields: object,
) -> StackingPlanner:
    """The planner of a checkpoint.

    Args:
        settings: how to plan; or `fields` of `StackingSettings`.
    Raises:
        UnveilError: the checkpoint is damaged or of another recipe.
        TypeError: a field that there is not.
    """
    from unveil.planning.stacking.planner import StackingPlanner
    from unveil.runs.checkpoints import load_weights

    model = stacking_model(read_stacking_config(folder))
    load_weights(model, folder, device)
    settings = replace(StackingSettings(), **fields) if settings is None else settings
    return StackingPlanner(model, settings, seed=seed)


def check_stacking(config: JsonObject) -> None:
    """Refuse fields of which no planner can be built.

    Raises:
        LookupError: a field is missing.
        ValueError: a field of another type or out of range.
    """
    for name in SIZES:
        value = config[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if config["width"] % (2 * config["heads"]):
        raise ValueError(f"width {config['width']} is no multiple of twice heads {config['heads']}")


def read_stacking_config(folder: Path) -> JsonObject:
    """The config.json of a planner of block stacking; raises as `read_config`."""
    return read_config(folder, "stacking", check_stacking)

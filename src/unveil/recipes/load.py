"""`unveil.load`: a trained model by name or path, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.apps.planner import Planner


def load(path_or_name: str | Path, device: str = "auto", *, seed: int = 0, **settings: Any) -> Planner:
    """Load a trained model: a zoo name such as "maze-large", a run folder or a checkpoint folder.

    Args:
        settings: fields of `PlannerSettings`, such as candidates=8 or steps=4.
    Raises:
        UnveilError: nothing there, or damaged, or made by another program.
    """
    from unveil.recipes.locate import find_checkpoint
    from unveil.recipes.maze import load_planner

    return load_planner(find_checkpoint(str(path_or_name)), device, seed, **settings)

"""`unveil.load`: a trained model by name or path, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.apps.guided import GuidedPlanner
    from unveil.apps.planner import Planner


def load(path_or_name: str | Path, device: str = "auto", *, seed: int = 0, **settings: Any) -> Planner | GuidedPlanner:
    """Load a trained model: a zoo name such as "maze-large" or "hopper-medium", a run folder or a checkpoint folder.

    Args:
        settings: for mazes fields of `PlannerSettings`, such as candidates=8 or steps=4; for bodies fields of `EvalLocomotion`, such as
            batch_size=8 or guidance="tilted".
    Raises:
        UnveilError: nothing there, or damaged, or made by another program.
        TypeError: a setting that there is not.
    """
    from unveil.recipes.locate import find_checkpoint, read_recipe

    folder = find_checkpoint(str(path_or_name))
    if read_recipe(folder) == "locomotion":
        from unveil.recipes.locomotion import EvalLocomotion
        from unveil.recipes.locomotion_eval import planner_of

        if not (folder / "value.safetensors").is_file():
            settings = {"guidance": "none", "select": "none", "batch_size": 1} | settings
        return planner_of(EvalLocomotion(checkpoint=str(folder), device=device, seed=seed, **settings))
    from unveil.recipes.maze import load_planner

    return load_planner(folder, device, seed, **settings)

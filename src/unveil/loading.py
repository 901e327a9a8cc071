"""`unveil.load`: a trained model by name or path, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.planner import Planner
    from unveil.policy.policy import Policy
    from unveil.text.model import TextModel


def load(
    path_or_name: str | Path, device: str = "auto", *, seed: int = 0, **settings: Any
) -> Planner | Diffuser | GuidedPlanner | Policy | TextModel | ImageModel | ImageClassifier:
    """Load a trained model: a zoo name such as "maze-large" or "hopper-medium", a run folder or a checkpoint folder, or for bodies a folder
    above a diffusion and its value; or a folder of jannerm/diffuser, a .ckpt of real-stanford/diffusion_policy, a folder of LeRobot, of
    LLaDA or of diffusers, or a .pt of openai's or lucidrains' image models, read without running anything in it.

    Args:
        settings: for mazes fields of `PlannerSettings`, such as candidates=8 or steps=4; for bodies fields of `EvalLocomotion`, such as
            preset="default", batch_size=8 or guidance="tilted", and a cost of one's own is set afterwards: see `costing`; for policies
            `solver`, `sampling_steps`, `n_action` and `temperature`, and `raw=True` for others' weights without their average, of
            image models too, which may want `size=` and `flags=` (see `load_images`). Diffuser's folders want `dataset=`, where their
            normaliser's statistics are; they and runs for bodies take `epoch=` (or `diffusion_epoch=`), `value_epoch=` and `raw=True`. For
            text `adapter=`, a folder of LoRA weights, and for LLaDA's folders `dtype="float32"` in place of bfloat16.
    Raises:
        UnveilError: nothing there, or damaged, or made by another program.
        TypeError: a setting that there is not.
    """
    from unveil.image.recipes.convert import load_images
    from unveil.image.weights.releases import is_image
    from unveil.planning.recipes.locomotion.load import load_pair
    from unveil.planning.recipes.locomotion.pair import RECIPES, places_below
    from unveil.planning.recipes.maze.diffuser import load_original_maze
    from unveil.planning.weights.diffuser_folder import is_maze
    from unveil.policy.weights.releases import is_foreign
    from unveil.runs.checkpoints import find_checkpoint, zoo_names
    from unveil.runs.config import read_recipe
    from unveil.text.recipes.load import load_text_model
    from unveil.text.weights.llada import is_llada

    if is_image(Path(path_or_name)):
        return load_images(Path(path_or_name), device, **settings)
    if is_foreign(Path(path_or_name)):
        from unveil.policy.recipes.convert import load_foreign

        return load_foreign(Path(path_or_name), device, seed, **settings)
    if is_llada(Path(path_or_name)):
        return load_text_model(str(path_or_name), device, **settings)
    if Path(path_or_name).is_dir() and is_maze(Path(path_or_name)):
        return load_original_maze(Path(path_or_name), device, seed, **settings)
    if (
        Path(path_or_name).is_dir()
        and str(path_or_name) not in zoo_names()
        and places_below(Path(path_or_name))
    ):
        return load_pair(str(path_or_name), device, seed, **settings)
    folder = find_checkpoint(str(path_or_name))
    recipe = read_recipe(folder)
    if recipe in RECIPES:
        return load_pair(str(path_or_name), device, seed, **settings)
    if recipe == "text":
        if set(settings) - {"adapter"}:
            raise TypeError(
                f"load: a text model takes no settings, got {', '.join(settings)}; give them to write, as TextSettings"
            )
        return load_text_model(str(path_or_name), device, **settings)
    if recipe == "image":
        from unveil.image.recipes.load import load_image

        if settings:
            raise TypeError(
                f"load: an image model takes no settings, got {', '.join(settings)}; give them to generate, as ImageSettings"
            )
        return load_image(folder, device)
    if recipe == "classifier":
        from unveil.image.recipes.load import load_classifier

        return load_classifier(folder, device)
    if recipe == "pusht":
        from unveil.policy.recipes.load import load_policy

        return load_policy(folder, device, seed, **settings)
    from unveil.planning.recipes.maze.load import load_driver

    return load_driver(folder, device, seed, **settings)

"""`unveil.load`: a trained model by name or path, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unveil.runs.recognised import Recognised
from unveil.runs.verb import wired

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.planner import Planner
    from unveil.policy.policy import Policy
    from unveil.text.model import TextModel


class Allowed(NamedTuple):
    """Settings that a model takes when it is loaded, and where others belong."""

    names: tuple[str, ...]
    what: str
    instead: str


LOADERS = {
    "maze": "planning.recipes.maze.load:load_driver",
    "pusht": "policy.recipes.load:load_policy",
    "text": "text.recipes.load:load_text_model",
    "image": "image.recipes.load:load_image",
    "classifier": "image.recipes.load:load_classifier",
}
ALLOWED = {
    "text": Allowed(("adapter",), "a text model", "give them to write, as TextSettings"),
    "image": Allowed((), "an image model", "give them to generate, as ImageSettings"),
    "classifier": Allowed((), "a classifier", "give them to generate, as ImageSettings"),
}


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
    from unveil.planning.recipes.locomotion.load import load_pair
    from unveil.planning.recipes.locomotion.pair import RECIPES, places_below
    from unveil.runs.checkpoints import find_checkpoint, zoo_names
    from unveil.runs.config import read_recipe

    path, name = Path(path_or_name), str(path_or_name)
    if name not in zoo_names():
        if not read_recipe(path) and (it := recognised(path)) is not None:
            return it.load(device, seed, **settings)
        if path.is_dir() and places_below(path):
            return load_pair(name, device, seed, **settings)
    folder = find_checkpoint(name)
    recipe = read_recipe(folder)
    if recipe in RECIPES:
        return load_pair(name, device, seed, **settings)
    if (allowed := ALLOWED.get(recipe)) is not None and (
        strange := ", ".join(set(settings) - {*allowed.names})
    ):
        raise TypeError(f"load: {allowed.what} takes no settings, got {strange}; {allowed.instead}")
    if recipe in ("text", "image", "classifier"):
        return wired(LOADERS[recipe])(name if recipe == "text" else folder, device, **settings)
    return wired(LOADERS.get(recipe, LOADERS["maze"]))(folder, device, seed, **settings)


def recognised(path: Path) -> Recognised | None:
    """What the applications recognise at a path that another program wrote, each asked once; None for nothing, or a run of ours."""
    for application in ("image", "policy", "text", "planning"):
        if (it := wired(f"{application}.recipes.recognise:recognise")(path)) is not None:
            return it
    return None

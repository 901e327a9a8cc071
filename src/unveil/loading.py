"""`unveil.load`: load a trained model of any kind by name or path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unveil.runs.recognised import Recognised
from unveil.runs.verb import wired

if TYPE_CHECKING:
    from unveil.image.classifier import ImageClassifier
    from unveil.image.clip_model import ClipModel
    from unveil.image.latents.latent import Latents
    from unveil.image.model import ImageModel
    from unveil.image.unclip.autoregressive_prior import AutoregressivePrior
    from unveil.image.unclip.prior_model import PriorModel
    from unveil.image.unclip.unclip import Unclip
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.goal_planner import GoalPlanner
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.planner import Planner
    from unveil.planning.stacking.planner import StackingPlanner
    from unveil.policy.policy import Policy
    from unveil.text.model import TextModel


class Allowed(NamedTuple):
    """Settings that loading a model accepts, the model in words, and where other settings belong."""

    names: tuple[str, ...]
    what: str
    instead: str


LOADERS = {
    "maze": "planning.recipes.maze.load:load_driver",
    "stacking": "planning.recipes.stacking.load:load_stacking",
    "pusht": "policy.recipes.load:load_policy",
    "policy": "policy.recipes.load:load_policy",
    "text": "text.recipes.load:load_text_model",
    "image": "image.recipes.load:load_image",
    "classifier": "image.recipes.load:load_classifier",
    "clip": "image.recipes.clip.load:load_clip",
    "autoencoder": "image.recipes.autoencoder.load:load_autoencoder",
    "lora": "image.recipes.load:load_tuned",
    "inversion": "image.recipes.load:load_tuned",
    "prior": "image.recipes.prior.load:load_prior",
}
ALLOWED = {
    "text": Allowed(("adapter",), "a text model", "pass them to write, as TextSettings"),
    "image": Allowed((), "an image model", "pass them to generate, as ImageSettings"),
    "classifier": Allowed((), "a classifier", "pass them to generate, as ImageSettings"),
    "clip": Allowed((), "a CLIP", "leave them out"),
    "autoencoder": Allowed((), "an autoencoder", "leave them out"),
    "lora": Allowed((), "an image model", "pass them to generate, as ImageSettings"),
    "inversion": Allowed((), "an image model", "pass them to generate, as ImageSettings"),
    "prior": Allowed((), "a prior", "pass them to its method sample, as PriorSettings"),
}


def load(
    path_or_name: str | Path, device: str = "auto", *, seed: int = 0, **settings: object
) -> (
    Planner
    | Diffuser
    | GuidedPlanner
    | GoalPlanner
    | StackingPlanner
    | Policy
    | TextModel
    | ImageModel
    | ImageClassifier
    | ClipModel
    | Latents
    | PriorModel
    | AutoregressivePrior
    | Unclip
):
    """Load a trained model.

    Checkpoints of other programs are read without running code from them: folders of jannerm/diffuser,
    LeRobot, LLaDA and diffusers, a .ckpt of real-stanford/diffusion_policy, and a .pt of the image models of
    openai and lucidrains; and the files of GLIDE (glide-text2im), also its CLIP.

    Args:
        path_or_name: name of packaged weights, such as "maze-large" or "hopper-medium"; a run folder or a
            checkpoint folder; for locomotion also a folder above a diffusion and its value function; a
            checkpoint of another program; or a repository of the Hugging Face Hub with any of these in it,
            `org/name`, with `@revision` for a branch, tag or commit, `/file` or `@revision/folder` for a part
            of it, and `:fp16` for weights of that variant. What is needed is downloaded into the cache of
            huggingface_hub (`pip install 'unveil[hub]'`), by whose environment variables (HF_HOME,
            HF_HUB_OFFLINE, HF_TOKEN) it goes. A local path of the same name comes first.
        device: "auto", "cpu", "cuda", "cuda:0" or "mps".
        seed: seed of the noise of planners and policies.
        settings: settings of the model.

            - Mazes: fields of `PlannerSettings`, such as candidates=8 or steps=4.
            - Locomotion: fields of `EvalLocomotion`, such as preset="default" or guidance="tilted",
              `epoch` (or `diffusion_epoch`), `value_epoch` and raw=True. Folders of Diffuser need `dataset`,
              for the statistics of the normaliser. A cost of your own is set afterwards: see `costing`.
            - Planners of goals: fields of `GoalSettings`, such as act_steps=4.
            - Policies: `solver`, `sampling_steps`, `n_action` and `temperature`.
            - Text: `adapter`, a folder of LoRA weights; for LLaDA dtype="float32" in place of bfloat16.
            - Runs of `unveil train lora` and `unveil train inversion`: none. Their base is read again.
            - Priors of unCLIP: none.
            - Autoencoders: none. "taef2" is TAEF2, whose two files are looked for below $UNVEIL_DATA.
            - GLIDE: `tokenizer`, the folder of GPT-2's vocabulary (of its CLIP, CLIP's), if it is not beside
              the file, and `size`.
            - Policies and images of other programs: raw=True for weights without averaging (EMA); images
              also `size` and `flags` (see `load_images`).
    Raises:
        UnveilError: no such checkpoint, a damaged one, one of an unknown program, or a repository that cannot
            be downloaded.
        TypeError: an unknown setting.
    """
    from unveil.planning.recipes.locomotion.load import load_pair
    from unveil.planning.recipes.locomotion.pair import RECIPES, places_below
    from unveil.runs.checkpoints import find_checkpoint, local_name, zoo_names
    from unveil.runs.config import read_recipe

    pair: Callable[..., GuidedPlanner | GoalPlanner] = load_pair
    name = str(path_or_name)
    if name == "taef2" and not settings and not Path(name).exists():
        return wired("image.recipes.autoencoder.load:load_latents")(name, device)
    name = local_name(name)
    path = Path(name)
    if name not in zoo_names():
        if not read_recipe(path) and (it := recognised(path)) is not None:
            return it.load(device, seed, **settings)
        if path.is_dir() and places_below(path):
            return pair(name, device, seed, **settings)
    folder = find_checkpoint(name)
    recipe = read_recipe(folder)
    if recipe in RECIPES:
        return pair(name, device, seed, **settings)
    if (allowed := ALLOWED.get(recipe)) is not None and (
        unknown := ", ".join(set(settings) - {*allowed.names})
    ):
        raise TypeError(f"load: {allowed.what} takes no settings, got {unknown}; {allowed.instead}")
    if recipe in ALLOWED:
        return wired(LOADERS[recipe])(name if recipe == "text" else folder, device, **settings)
    return wired(LOADERS.get(recipe, LOADERS["maze"]))(folder, device, seed, **settings)


def recognised(path: Path) -> Recognised | None:
    """What the first application that recognises another program's checkpoint returns; None if none does."""
    for application in ("image", "policy", "text", "planning"):
        if (it := wired(f"{application}.recipes.recognise:recognise")(path)) is not None:
            return it
    return None

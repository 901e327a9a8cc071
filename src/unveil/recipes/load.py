"""`unveil.load`: a trained model by name or path, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.apps.guided import GuidedPlanner
    from unveil.apps.image_classifier import ImageClassifier
    from unveil.apps.image_model import ImageModel
    from unveil.apps.planner import Planner
    from unveil.apps.policy import Policy
    from unveil.apps.text_model import TextModel


def load(
    path_or_name: str | Path, device: str = "auto", *, seed: int = 0, **settings: Any
) -> Planner | GuidedPlanner | Policy | TextModel | ImageModel | ImageClassifier:
    """Load a trained model: a zoo name such as "maze-large" or "hopper-medium", a run folder or a checkpoint folder; or a folder of
    jannerm/diffuser, a .ckpt of real-stanford/diffusion_policy, a folder of LeRobot, of LLaDA or of diffusers, or a .pt of openai's or
    lucidrains' image models, read without running anything in it.

    Args:
        settings: for mazes fields of `PlannerSettings`, such as candidates=8 or steps=4; for bodies fields of `EvalLocomotion`, such as
            batch_size=8 or guidance="tilted", and a cost of one's own is set afterwards: see `costing`; for policies `solver`,
            `sampling_steps`, `n_action` and `temperature`, and `raw=True` for others' weights without their average, of
            image models too, which may want `size=` and `flags=` (see `load_images`). Diffuser's folders want `dataset=`, where their
            normaliser's statistics are, and take `epoch=` (or `diffusion_epoch=`), `value_epoch=` and `raw=True`; for text `adapter=`, a folder of LoRA weights, and for LLaDA's folders `dtype="float32"` in place
            of bfloat16.
    Raises:
        UnveilError: nothing there, or damaged, or made by another program.
        TypeError: a setting that there is not.
    """
    from unveil.recipes.foreign_image import is_image, load_images
    from unveil.recipes.foreign_policy import is_foreign
    from unveil.recipes.locate import find_checkpoint, read_recipe
    from unveil.recipes.original import is_original
    from unveil.recipes.text_load import load_text_model
    from unveil.weights.llada import is_llada

    if is_image(Path(path_or_name)):
        return load_images(Path(path_or_name), device, **settings)
    if is_foreign(Path(path_or_name)):
        from unveil.recipes.foreign_convert import load_foreign

        return load_foreign(Path(path_or_name), device, seed, **settings)
    if is_llada(Path(path_or_name)):
        return load_text_model(str(path_or_name), device, **settings)
    if Path(path_or_name).is_dir() and is_original(Path(path_or_name)):
        return _original(Path(path_or_name), device, seed, **settings)
    folder = find_checkpoint(str(path_or_name))
    recipe = read_recipe(folder)
    if recipe == "locomotion":
        return _bodies(str(path_or_name), folder, device, seed, **settings)
    if recipe == "text":
        if set(settings) - {"adapter"}:
            raise TypeError(f"load: a text model takes no settings, got {', '.join(settings)}; give them to write, as TextSettings")
        return load_text_model(str(path_or_name), device, **settings)
    if recipe == "image":
        from unveil.recipes.image_train import load_image

        if settings:
            raise TypeError(f"load: an image model takes no settings, got {', '.join(settings)}; give them to generate, as ImageSettings")
        return load_image(folder, device)
    if recipe == "classifier":
        from unveil.recipes.classifier_train import load_classifier

        return load_classifier(folder, device)
    if recipe == "pusht":
        from unveil.recipes.pusht import load_policy

        return load_policy(folder, device, seed, **settings)
    from unveil.recipes.maze import load_planner

    return load_planner(folder, device, seed, **settings)


def _bodies(path_or_name: str, folder: Path, device: str, seed: int, epoch: str | int | None = None, **settings: Any) -> GuidedPlanner:
    """The planner of a run of ours, or of packaged weights."""
    from unveil.recipes.locomotion import EvalLocomotion
    from unveil.recipes.locomotion_eval import planner_of

    if epoch is not None:
        settings["diffusion_epoch"] = str(epoch)
    if not (folder / "value.safetensors").is_file():
        settings = {"guidance": "none", "select": "none", "batch_size": 1} | settings
    return planner_of(EvalLocomotion(checkpoint=path_or_name, device=device, seed=seed, **settings))


def _original(
    folder: Path,
    device: str,
    seed: int,
    dataset: str | None = None,
    *,
    epoch: str | int | None = None,
    diffusion_epoch: str | int = "latest",
    value_epoch: str | int = "latest",
    raw: bool = False,
    **settings: Any,
) -> GuidedPlanner:
    """The planner of an experiment of the original, or of a data set's folder with one diffusion and at most one value in it."""
    from dataclasses import replace

    from unveil.apps.trajectory_model import TrajectoryModel, ValueModel
    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_device
    from unveil.recipes.locomotion import EVAL_PRESETS, for_dataset
    from unveil.recipes.locomotion_eval import planner_with
    from unveil.recipes.locomotion_load import check_pair
    from unveil.recipes.original import load_original
    from unveil.weights.diffuser_folder import experiments

    wanted = {"diffusion": str(diffusion_epoch if epoch is None else epoch), "values": str(value_epoch)}
    places = experiments(folder)
    models = [load_original(p, wanted.get(p.parent.name, wanted["diffusion"]), not raw, dataset).to(find_device(device)) for p in places]
    diffusions = [model for model in models if isinstance(model, TrajectoryModel)]
    values = [model for model in models if isinstance(model, ValueModel)]
    if len(diffusions) != 1 or len(values) > 1:
        raise UnveilError(f"{folder} holds {len(diffusions)} diffusions and {len(values)} values; give a folder with one of each")
    value = values[0] if values else None
    chosen: dict[str, Any] = {"seed": seed, "sampling_steps": diffusions[0].shape.diffusion_steps}
    if value is None:
        chosen |= {"guidance": "none", "select": "none", "batch_size": 1}
    else:
        check_pair(diffusions[0], value)
    config = for_dataset(EVAL_PRESETS["paper"], dataset or folder.name)
    return planner_with(replace(config, **(chosen | settings)), diffusions[0], value)

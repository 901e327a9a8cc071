"""`unveil demo image`: a grid of images of every class, and an animation of their sampling."""

from __future__ import annotations

from collections.abc import Callable

from unveil.image.recipes.config import DemoImage

FIRST = "fashion-mnist"
MOST = 12  # columns


def packaged_models() -> list[str]:
    """Names of the packaged models of images that need no prompt."""
    from unveil.runs.checkpoints import ZOO, zoo_names
    from unveil.runs.config import read_recipe, stored_config

    names = [name for name in zoo_names() if read_recipe(ZOO / name) == "image"]
    return [name for name in names if not stored_config(ZOO / name).get("captions")]


def packaged() -> str:
    """The name of the packaged image model that is shown first.

    Raises:
        UnveilError: there is none; the message says how to train one.
    """
    from unveil.errors import UnveilError
    from unveil.runs.machine import command_name

    names = packaged_models()
    if not names:
        program = command_name()
        raise UnveilError(
            f"no image model is packaged in this version; train one and show it: {program} train image "
            f"--data fashion-mnist --classes --preset tiny --out runs/fashion, then {program} demo image "
            "--checkpoint runs/fashion"
        )
    return FIRST if FIRST in names else names[0]


def run_demo_image(config: DemoImage, progress: Callable[..., None]) -> str:
    """Write both files; returns what to print.

    Raises:
        UnveilError: no such model, or a file where the folder should be.
    """
    from shlex import quote
    from time import perf_counter

    import numpy as np
    import torch

    from unveil.errors import UnveilError
    from unveil.files.pictures import write_animation, write_picture
    from unveil.image.evaluation.pages import grid, titled
    from unveil.image.generation import generate
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.load import load_models, open_image
    from unveil.image.recipes.reproduce import check_folder, digests, parameters
    from unveil.image.recipes.sample import classes_of
    from unveil.image.settings import ImageSettings
    from unveil.runs.device import enough_memory
    from unveil.runs.flags import JobFlags
    from unveil.runs.machine import command_name

    picture, animation = config.out / "images.png", config.out / "images.gif"
    check_folder(config.out, (picture.name, animation.name))
    began = perf_counter()
    name = config.checkpoint or packaged()
    opened = open_image(name)
    names = opened.names
    model, _ = load_models(opened, None, config.device)
    if model.shape.upsample > 1:
        raise UnveilError(
            f"{name} enlarges images; show it with: {command_name()} sample image --checkpoint {name} --from "
            "IMAGES"
        )
    columns = min(len(names), MOST) or 8
    if model.shape.beside or model.shape.concat:
        raise UnveilError(
            f"{name} needs what it sees beside the image; see {command_name()} sample image --help"
        )
    label = tuple(range(columns)) if names else ()
    scale = config.scale if model.shape.null else 1.0
    count, program = config.rows * columns, command_name()
    settings = ImageSettings(steps=config.steps, scale=scale)
    sampled = SampleImage(
        name, count, label, settings=settings, batch_size=count, job=JobFlags(seed=config.seed)
    )
    frames: list[np.ndarray] = []

    def show(belief: torch.Tensor, _: torch.Tensor) -> None:
        frames.append(grid(model.pixels(belief).numpy(), columns, least=48))
        progress("images", len(frames), config.steps, {})

    with enough_memory():
        labels = classes_of(label, count, names)
        made = generate(model, labels, count, settings, config.seed, count, show)
    pixels = made.pixels.numpy()
    large = grid(pixels, columns, gap=4, least=84)
    text = parameters(sampled, model.device, digests(opened.folders, ()))
    write_picture(picture, titled(large, names[:columns], gap=4) if names else large, text)
    write_animation(animation, [*frames, grid(pixels, columns, least=48)])
    others = [other for other in packaged_models() if other != name]
    demos = "".join(f"\n  {program} demo image --checkpoint {other}" for other in others)
    demos += f"\n  {program} demo text-to-image"
    one = f"{columns // 2} --scale 3" if scale != 1.0 else f"{columns // 2}"
    further = f"--class {one} -n 64" if names else "-n 64"
    kinds = f", a column for each of {', '.join(names[:columns])}" if names else ""
    return f"""
{picture}: {count} images{kinds}
{animation}: the predicted clean images during sampling
({name}, {made.calls} steps of DPM-Solver++, guidance {scale:g}, {perf_counter() - began:.0f} s)

next:{demos}
  {program} sample image --checkpoint {quote(name)} {further} --watch --out samples
  {program} sample image --from-png {quote(str(picture))} --out again
  {program} train image --data FOLDER --size 32 --fit crop --classes --out runs/mine"""

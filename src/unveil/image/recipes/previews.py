"""Samples during training: images of the averaged weights at each checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    import torch

    from unveil.image.training import RandomData
    from unveil.runs.progress import Progress

COUNT, STEPS, GUIDED = 16, 20, 3.0


def sampler(
    config: JsonObject,
    pictures: RandomData,
    device: torch.device,
    run: Path,
    progress: Progress,
    embeddings: torch.Tensor | None = None,
) -> Callable[[int, dict[str, torch.Tensor]], None]:
    """A function (step, averaged weights) that writes `samples/step-<step>.png`: 16 images by DPM-Solver++ in
    20 steps from the same noise each time, of all classes in turn. It leaves the random state of the training
    alone, and its failures are warnings.

    Args:
        config: config.json of the run.
        pictures: training images, the first of which an upsampler enlarges.
        embeddings: of the training images, for a decoder of unCLIP, which draws the first of them.
    """
    import warnings

    from unveil.errors import UnveilError

    reported: list[Path] = []

    def draw(step: int, weights: dict[str, torch.Tensor]) -> None:
        try:
            file = _draw(config, pictures, device, run, step, weights, embeddings)
        except (UnveilError, ValueError, RuntimeError, OSError, ImportError) as error:
            warnings.warn(f"no picture of samples at step {step}: {error}", stacklevel=2)
            return
        if not reported:
            reported.append(file)
            progress(f"images so far: {file}, and the next ones beside it", 1, 1, {})

    return draw


def _draw(
    config: JsonObject,
    pictures: RandomData,
    device: torch.device,
    run: Path,
    step: int,
    weights: dict[str, torch.Tensor],
    embeddings: torch.Tensor | None,
) -> Path:
    import torch

    from unveil.files.pictures import write_picture
    from unveil.image.data.images import Drawn
    from unveil.image.evaluation.pages import grid
    from unveil.image.generation import Given, generate
    from unveil.image.recipes.load import model_of
    from unveil.image.recipes.sample import classes_of
    from unveil.image.settings import ImageSettings
    from unveil.image.training import seen_beside

    with torch.random.fork_rng(devices=[]):  # initial weights, which are replaced
        model = model_of(config, run)
    model.load_state_dict(weights)
    model.to(device).eval()
    rows = torch.arange(COUNT, device="cpu") % len(pictures.pixels)
    low = model.reduced(model.normalized(pictures.pixels[rows])) if model.shape.upsample > 1 else None
    prompts, beside = None, None
    if model.shape.beside and low is None:
        drawn = Drawn(pictures.pixels[rows], rows)
        seen = seen_beside(pictures, drawn, model.shape, torch.Generator().manual_seed(0))
        cond = model.seeing(None, seen)
        beside = None if cond is None else cond.concat
    if model.text is not None and pictures.captions is not None:
        prompts = pictures.captions(rows, torch.Generator().manual_seed(0))
    z = None if embeddings is None else embeddings[rows]
    given = Given(low=low, prompts=prompts, beside=beside, embeddings=z)
    scale = 1.0 if prompts is None and z is None else GUIDED
    labels = classes_of((), COUNT, tuple(config["names"]) if model.shape.classes else ())
    steps = min(STEPS, model.shape.diffusion_steps)
    made = generate(model, labels, COUNT, ImageSettings(steps=steps, scale=scale), 0, COUNT, given=given)
    (run / "samples").mkdir(exist_ok=True)
    file = run / "samples" / f"step-{step:06d}.png"
    write_picture(file, grid(made.pixels.numpy(), least=64))
    return file

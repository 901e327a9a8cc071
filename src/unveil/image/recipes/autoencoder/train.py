"""`unveil train autoencoder`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    import numpy as np
    import torch

    from unveil.image.data.images import ImageSet
    from unveil.image.latents.autoencoder_training import AutoencoderBatch, Perceptual
    from unveil.image.latents.latent import Latents
    from unveil.image.recipes.autoencoder.config import TrainAutoencoder
    from unveil.runs.progress import Progress

SHOWN = 8  # images of a picture of samples
LEAST = 8  # smallest side for a discriminator


def train_autoencoder(config: TrainAutoencoder, progress: Progress) -> Path:
    """Train an `Autoencoder`; returns the run folder."""
    import dataclasses
    from functools import partial

    import torch

    from unveil.image.data.images import RandomImages
    from unveil.image.latents.autoencoder_training import LossWeights, autoencoder_batches, autoencoder_loss
    from unveil.image.recipes.autoencoder.config import AutoencoderFlags, TrainAutoencoder
    from unveil.image.recipes.autoencoder.load import read_autoencoder_config, trained_model
    from unveil.image.recipes.images import images_of, report
    from unveil.runs.device import enough_memory
    from unveil.runs.finetuning import beginning, freeze, inherited, take_over
    from unveil.runs.flags import flat
    from unveil.runs.training import Task, as_json, begin, run_task

    run = config.run.folder
    begun = beginning(config.run, run)
    if begun is not None:
        names = tuple(field.name for field in dataclasses.fields(AutoencoderFlags))
        has = read_autoencoder_config(begun)
        config = inherited(config, has, (*names, "discriminator_width", "adversarial"))
    check_flags(config)
    device = begin(config.run, run)
    fields = flat(config) | {"asked_size": config.images.reading.size, "classes": False, "names": ()}
    with enough_memory("give --size, with --fit resize, or fewer images"):
        images, held = images_of(fields)
    report(images, progress)
    described = as_json(fields | of_images(config, images))
    torch.manual_seed(config.run.seed)  # initial weights
    model = trained_model(described)
    if begun is not None:
        take_over(model, begun, config.run)
        freeze(config.run, None, "an autoencoder that is trained")
    random, size, shape = RandomImages(images, config.images.flip), config.run.batch_size, model.network.shape

    def draws(count: int) -> Callable[[torch.Generator], AutoencoderBatch]:
        return autoencoder_batches(random, shape, count)

    begins = config.adversarial_from * config.run.accumulate
    weights = LossWeights(config.perceptual, config.kl, config.adversarial, begins)
    loss = partial(autoencoder_loss, weights=weights, perceptual=perceptual_of(config, images, progress))
    task = Task(model, draws(size), loss, {}, draws=draws, size=size, lower="--size or --width")
    shown = (held if len(held) else images).pixels[:SHOWN]
    on_sample = sampler(described, shown, device, run, progress)
    with enough_memory("lower --batch-size and raise --accumulate as much, or lower --width"):
        run_task(task, config.run, device, run, described, TrainAutoencoder(), progress, on_sample)
    return run


def check_flags(config: TrainAutoencoder) -> None:
    """Refuse flags that do not fit each other, before images are read.

    Raises:
        ValueError: the flag.
    """
    if not config.run.batch_size:
        raise ValueError("`batch_size` of an autoencoder must be at least 1, got 0")
    if config.run.compile and config.adversarial:
        raise ValueError(
            "`compile`: the adaptive weight of the discriminator needs two backward passes, which compiled "
            "networks do not allow; leave `compile` out, or give `adversarial=0`"
        )


def of_images(config: TrainAutoencoder, images: ImageSet) -> dict[str, object]:
    """The fields of config.json that follow from the images.

    Raises:
        UnveilError: sides that the factor of the autoencoder does not divide, or too small ones.
    """
    from unveil.errors import UnveilError
    from unveil.image.networks.autoencoder import AutoencoderShape

    _, channels, _, size = images.pixels.shape
    network = config.network
    factor = AutoencoderShape(multiples=network.multiples, groups=1, stem=network.stem).factor
    if size % factor:
        fits = max(1, round(size / factor)) * factor
        raise UnveilError(
            f"the images are {size} x {size}, but the autoencoder divides sides by {factor}; give "
            f"`size={fits}` and `fit=resize`, or fewer `multiples`"
        )
    if config.adversarial and size < LEAST:
        raise UnveilError(
            f"the images are {size} x {size}, too small for a discriminator; give `adversarial=0`"
        )
    return {
        "recipe": "autoencoder",
        "size": size,
        "channels": channels,
        "images": len(images),
        "skipped": images.skipped,
    }


def perceptual_of(config: TrainAutoencoder, images: ImageSet, progress: Progress) -> Perceptual | None:
    """The perceptual loss; None, with a line that says why, if there is none."""
    from unveil.image.evaluation.features import SQUEEZENET, squeezenet_weights
    from unveil.image.networks.perceptual import LEAST, PerceptualLoss

    if not config.perceptual:
        return None
    size = images.pixels.shape[-1]
    if size < LEAST:
        progress(f"no perceptual loss: images of {size} pixels are smaller than {LEAST}", 1, 1, {})
        return None
    try:
        return PerceptualLoss(squeezenet_weights())
    except (OSError, ValueError) as error:
        from unveil.errors import reason

        why = "not found" if isinstance(error, FileNotFoundError) else reason(error)[:80]
        progress(
            f"no perceptual loss: {SQUEEZENET} below $UNVEIL_DATA or in the cache: {why}; pixels alone are "
            "compared",
            1,
            1,
            {},
        )
        return None


def sampler(
    config: JsonObject, pixels: np.ndarray, device: torch.device, run: Path, progress: Progress
) -> Callable[[int, dict[str, torch.Tensor]], None]:
    """A function (step, averaged weights) that writes `samples/step-<step>.png`: images in the upper rows and
    their reconstructions below. Its failures are warnings.

    Args:
        config: config.json of the run.
        pixels: (N, C, S, S), 0 .. 255.
    """
    import warnings

    from unveil.errors import UnveilError
    from unveil.image.recipes.autoencoder.load import latents_of

    reported: list[Path] = []

    def draw(step: int, weights: dict[str, torch.Tensor]) -> None:
        file = run / "samples" / f"step-{step:06d}.png"
        try:
            (run / "samples").mkdir(exist_ok=True)
            latents = latents_of(config, weights).to(device)
            write_pairs(file, pixels, reconstructed(latents, pixels))
        except (UnveilError, ValueError, RuntimeError, OSError, ImportError) as error:
            warnings.warn(f"no picture of reconstructions at step {step}: {error}", stacklevel=2)
            return
        if not reported:
            reported.append(file)
            progress(f"images and their reconstructions: {file}, and the next ones beside it", 1, 1, {})

    return draw


def reconstructed(
    latents: Latents, pixels: np.ndarray, batch: int = 32, generator: torch.Generator | None = None
) -> np.ndarray:
    """Images (N, C, S, S) in 0 .. 255, encoded and decoded.

    Args:
        generator: draws the codes; None decodes their means.
    """
    import numpy as np
    import torch

    parts = []
    with torch.no_grad():
        for i in range(0, len(pixels), batch):
            x = torch.from_numpy(np.array(pixels[i : i + batch])).to(latents.device, torch.float32)
            y = latents.decode(latents.encode(x / 127.5 - 1.0, generator))
            parts.append(((y + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8).cpu().numpy())
    return np.concatenate(parts)


def write_pairs(file: Path, pixels: np.ndarray, made: np.ndarray) -> None:
    """Write a PNG with rows of at most `SHOWN` images, each above the row of their reconstructions."""
    import numpy as np

    from unveil.files.pictures import write_picture
    from unveil.image.evaluation.pages import grid

    rows = []
    for i in range(0, len(pixels), SHOWN):
        part, lacking = slice(i, i + SHOWN), max(0, SHOWN - len(pixels[i : i + SHOWN])) if i else 0
        blank = np.full((lacking, *pixels.shape[1:]), 255, np.uint8)
        rows += [pixels[part], blank, made[part], blank]
    write_picture(file, grid(np.concatenate(rows), min(SHOWN, len(pixels)), least=64))

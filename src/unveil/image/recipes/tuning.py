"""What the trainings of adapters and of learned words share: the base, the pictures, samples on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from unveil.image.data.images import ImageSet
    from unveil.image.model import ImageModel
    from unveil.image.recipes.tuning_flags import FewPictures, TunedBase
    from unveil.image.training import ImageBatch, RandomData
    from unveil.runs.progress import Progress
    from unveil.runs.training import Task

LOWER = "lower --batch-size and raise --accumulate as much, or lower --size"
ENCODED = 2**17  # pixels that an autoencoder encodes at a time
SHOWN, STEPS = 4, 20  # samples on the way, and the steps of each


class Base(NamedTuple):
    """The model that is tuned, and what config.json says of it.

    Args:
        model: on the device, in evaluation mode, with frozen weights.
        described: `base`, `base_digest`, and `min_snr` of the loss.
        scale: the usual scale of guidance towards its prompts.
        encoder: the kind of its text encoder, as `encoder` of `unveil train image`, or "clip".
    """

    model: ImageModel
    described: JsonObject
    scale: float
    encoder: str


def check_given(base: TunedBase, pictures: FewPictures) -> None:
    """Refuse a training without a base or without pictures, before anything is read.

    Raises:
        ValueError: the flag that is needed.
    """
    if not base.base:
        raise ValueError(
            "`base`: give the model to tune: a run of `unveil train image --captions`, or Stable Diffusion"
        )
    if not pictures.data:
        raise ValueError("`data`: give the folder of the pictures to learn from")


def open_base(flags: TunedBase, device: torch.device) -> Base:
    """Load the base of a training.

    Raises:
        UnveilError: none there, or damaged; it reads no prompts, or needs more than prompts.
    """
    from unveil.image.recipes.load import load_models, open_models
    from unveil.image.recipes.reproduce import weights_digest
    from unveil.image.recipes.sample import OWN_SCALE, STABLE_DIFFUSION_SCALE
    from unveil.runs.checkpoints import lasting_name

    name = flags.base
    opened, _ = open_models(name)
    if opened.tuned is not None:
        raise UnveilError(
            f"{name} is tuned already; give its base, {opened.tuned.config['base']}, and use both results "
            "together in `unveil sample image`"
        )
    if not opened.config.get("captions"):
        raise UnveilError(
            f"{name} was trained without captions and reads no prompts; give a model of text to image"
        )
    model, _ = load_models(opened, None, str(device), flags.dtype)
    shape = model.shape
    more = (
        "classes" * bool(shape.classes),
        "a small image" * (shape.upsample > 1),
        "a map" * bool(shape.concat),
    )
    if any(more):
        needs = " and ".join(it for it in more if it)
        raise UnveilError(f"{name} needs {needs} besides a prompt; give a model of prompts alone")
    clip = opened.config["captions"] == "clip"
    gamma = opened.config.get("min_snr", 0.0) if flags.min_snr is None else flags.min_snr
    described = {
        "base": lasting_name(name),
        "base_digest": weights_digest(opened.folder),
        "min_snr": float(gamma or 0.0),
    }
    encoder = "clip" if opened.foreign else str(opened.config.get("encoder", "words"))
    return Base(
        model.requires_grad_(False), described, STABLE_DIFFUSION_SCALE if clip else OWN_SCALE, encoder
    )


def read_pictures(flags: FewPictures, captions: str, model: ImageModel, progress: Progress) -> ImageSet:
    """The pictures of a training, of the size and the colours of a model's.

    Args:
        captions: as `read_captions`; "": none.
    Raises:
        ValueError: a size that the model cannot have.
        UnveilError: they cannot be read, or are in colour for a grey model.
    """
    from dataclasses import replace

    import numpy as np

    from unveil.image.recipes.images import images_of, report
    from unveil.runs.device import enough_memory

    colours, side, _ = model.picture
    size = flags.size or side
    model.sides_of((size, size))
    fields: JsonObject = {
        "data": flags.data,
        "asked_size": size,
        "fit": flags.fit,
        "background": flags.background,
        "skip_corrupt": flags.skip_corrupt,
        "styles": flags.styles,
        "captions": captions,
        "hold_out": 0.0,
    }
    with enough_memory("give --size, or fewer images"):
        images, _ = images_of(fields)
    report(images, progress)
    channels = images.pixels.shape[1]
    if channels > colours:
        raise UnveilError(
            f"{flags.data}: the pictures are in colour, but the base makes grey ones; convert them"
        )
    if channels < colours:
        images = replace(images, pixels=np.repeat(images.pixels, colours, axis=1))
    return images


def random_data(
    model: ImageModel, images: ImageSet, run: Path, mirrored: bool, progress: Progress
) -> RandomData:
    """Random batches of pictures, or of their codes in the model's latent space, which are kept in the run
    folder."""
    from unveil.image.data.images import RandomImages
    from unveil.image.latents.random_latents import RandomLatents
    from unveil.image.recipes.latents import codes_of

    random = RandomImages(images, mirrored)
    if model.latent is None:
        return random
    batch = max(1, min(32, ENCODED // images.pixels[0, 0].size))
    return RandomLatents(codes_of(model.latent, images, run, mirrored, progress, batch), random)


def learned_from(images: ImageSet, pictures: FewPictures) -> JsonObject:
    """What config.json says of the pictures."""
    assert images.captions is not None
    return {
        "asked_size": pictures.size,
        "size": images.pixels.shape[-1],
        "channels": images.pixels.shape[1],
        "images": len(images),
        "skipped": images.skipped,
        "example": images.captions[0],
    }


def tuned_task(
    model: ImageModel,
    trained: nn.Module,
    draws: Callable[[int], Callable[[torch.Generator], ImageBatch]],
    size: int,
    gamma: float,
) -> Task:
    """The training of a module inside a model, by the model's own loss.

    Args:
        trained: the module.
        draws: from the size of a batch to a function that draws it.
        gamma: of the min-SNR loss weights; 0: none.
    """
    from unveil.image.training import image_loss
    from unveil.runs.training import Task

    def counted(it: nn.Module, batch: ImageBatch) -> tuple[Tensor, Mapping[str, float]]:
        return image_loss(it, batch, gamma)

    def loss(_: nn.Module, batch: ImageBatch) -> tuple[Tensor, Mapping[str, float]]:
        return image_loss(model, batch, gamma)

    return Task(
        trained, draws(size), loss, {}, draws=draws, size=size, counted=(model, counted), lower="--size"
    )


def sampler(
    base: Base, trained: nn.Module, prompts: Sequence[str], size: int, run: Path, progress: Progress
) -> Callable[[int, dict[str, Tensor]], None]:
    """A function (step, averaged weights) that writes `samples/step-<step>.png`: an image of each of the
    first prompts, by DPM-Solver++ in 20 steps, from the same noise each time. The training continues exactly
    as without it, and its failures are warnings.

    Args:
        trained: the module inside the model whose weights are averaged.
        size: side in pixels.
    """
    import warnings

    from unveil.files.pictures import write_picture
    from unveil.image.evaluation.pages import grid
    from unveil.image.generation import Given, generate
    from unveil.image.settings import ImageSettings

    model, shown = base.model, list(prompts[:SHOWN])
    steps = min(STEPS, model.shape.diffusion_steps)
    settings = ImageSettings(steps=steps, scale=base.scale)

    def draw(step: int, weights: dict[str, Tensor]) -> None:
        file = run / "samples" / f"step-{step:06d}.png"
        before = {name: value.detach().clone() for name, value in trained.state_dict().items()}
        try:
            trained.load_state_dict(weights)
            given = Given(prompts=shown)
            made = generate(model, None, len(shown), settings, 0, 1, given=given, size=(size, size))
            file.parent.mkdir(exist_ok=True)
            write_picture(file, grid(made.pixels.numpy(), least=64))
        except (UnveilError, ValueError, RuntimeError, OSError, ImportError) as error:
            warnings.warn(f"no picture of samples at step {step}: {error}", stacklevel=2)
            return
        finally:
            trained.load_state_dict(before)
        progress(f"images so far: {file}", 1, 1, {})

    return draw

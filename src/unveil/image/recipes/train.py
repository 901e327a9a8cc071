"""`unveil train image`, and image models from checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.image.recipes.load import image_model, shape_of
from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch

    from unveil.image.data.images import Images
    from unveil.image.recipes.classifier_config import TrainClassifier
    from unveil.image.recipes.config import TrainImage
    from unveil.runs.progress import Progress


def images_of(config: Mapping[str, Any], source: str | None = None) -> tuple[Images, Images]:
    """The images to train on and the others, as a run's config says: the set's own test images, or a share held out. Classes that the run
    knows keep the run's numbers."""
    from dataclasses import replace

    from unveil.errors import UnveilError
    from unveil.image.data.images import Reading, alike, as_numbered, split
    from unveil.image.data.source import has_test, read_images

    data = config["data"] if source is None else source
    reading = Reading(config["asked_size"], config["fit"], config["background"], config["skip_corrupt"])
    images = as_numbered(read_images(data, reading, tuple(config["styles"])), config.get("names", ()))
    if not has_test(data):
        return split(images, config["hold_out"], in_place=True)
    test = read_images(data, reading, tuple(config["styles"]), test=True)
    try:
        return images, alike(test, images)
    except UnveilError:
        if config.get("classes", True):
            raise
        return images, alike(replace(test, labels=None, names=()), images)  # nobody asked for classes


def tell(images: Images, progress: Progress) -> None:
    """Say what was left out, and what else should be known of the reading."""
    if images.skipped:
        progress(
            f"left out {len(images.skipped)} files that cannot be read: {', '.join(images.skipped[:3])}",
            1,
            1,
            {},
        )
    for note in images.notes:
        progress(note, 1, 1, {})


def train_image(config: TrainImage, progress: Progress) -> Path:
    """Train an `ImageModel`; returns the run folder."""
    from functools import partial

    import torch

    from unveil.errors import UnveilError
    from unveil.image.data.images import Pictures
    from unveil.image.recipes.config import TRAIN_PRESETS, TrainImage, resolved
    from unveil.image.recipes.previews import sampler
    from unveil.image.recipes.start import as_begun, load_start, taken_over
    from unveil.image.training import image_batches, image_loss
    from unveil.process.importance import LossHistory
    from unveil.runs.device import enough_memory, find_device
    from unveil.runs.resuming import check_folder
    from unveil.runs.training import Task, as_json, run_task

    config, before = as_begun(config)
    check(resolved(config, 1, 0))
    check_folder(config.run.folder, config.run.resume)
    device = find_device(config.run.device)
    named = {"names": names_before(config.run.folder) if config.run.resume else ()}
    with enough_memory("give --size, with --fit resize, or fewer images"):
        images, _ = images_of(flat(config) | {"asked_size": config.size} | named)
    asked, config = config, resolved(config, *images.pixels.shape[1:3])
    given = flat(config) | {"asked_size": config.size} | named
    if config.classes and images.labels is None:
        raise UnveilError(f"{images.unlabelled or f'{config.data} has no classes'}; leave --classes out")
    places = config.stem**2 * images.pixels.shape[1]
    if places >= config.width and config.predicts != "x0" and not config.start_from:
        raise UnveilError(
            f"--stem {config.stem} makes places of {places} numbers, and --width {config.width} channels cannot pass on the noise that "
            f"{config.predicts} tells of: such models make noise; take --predicts x0 --min-snr 5, a smaller --stem or a larger --width"
        )
    tell(images, progress)
    learned = {
        "recipe": "image",
        "size": images.pixels.shape[-1],
        "channels": images.pixels.shape[1],
        "attention": attention_of(config, TRAIN_PRESETS[config.preset].attention, images.pixels.shape[-1]),
        "names": images.names if config.classes else (),
        "null": config.classes and config.label_drop > 0.0,
        "images": len(images),
        "skipped": images.skipped,
    }
    described = as_json(given | learned)
    if config.start_from:
        described = as_json(taken_over(asked, described, before))
    shape = shape_of(described)
    torch.manual_seed(config.run.seed)  # initial weights
    model = image_model(described)
    if config.start_from and before is None:
        load_start(model, config.start_from)
    bound = config.loss == "vlb"
    history = (
        LossHistory(shape.diffusion_steps)
        if (bound if config.importance is None else config.importance)
        else None
    )
    pictures, size = Pictures(images, config.flip), config.run.batch_size

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        return image_batches(pictures, shape, count, config.label_drop, history)

    loss = partial(image_loss, gamma=config.min_snr or 0.0, bound=bound, history=history)
    memory, lower = None if history is None else history.memory, "--size or --width"
    task = Task(model, draws(size), loss, {}, memory, draws=draws, size=size, lower=lower)
    on_sample = sampler(described, pictures, device, config.run.folder, progress)
    with enough_memory("lower --batch-size and raise --accumulate as much, or lower --width"):
        run_task(task, config.run, device, config.run.folder, described, TrainImage(), progress, on_sample)
    return config.run.folder


def names_before(run: Path) -> tuple[str, ...]:
    """The classes of a run that is resumed, in its order; none of a folder that is no run."""
    import json

    try:
        return tuple(map(str, json.loads((run / "config.json").read_text())["names"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def attention_of(
    config: TrainImage | TrainClassifier, default: tuple[int, ...], size: int
) -> tuple[int, ...]:
    """The sides with attention: those of the flags; those of the preset only if one fits images of this size, else none."""
    from unveil.image.networks.unet2d import sides_of

    fits = set(config.attention) & set(sides_of(size, config.stem, len(config.multiples)))
    return config.attention if fits or config.attention != default else ()


def check(config: TrainImage) -> None:
    """Refuse impossible numbers, and losses that do not fit.

    Raises:
        ValueError: the field, what was got and what is needed.
    """
    check_numbers(config)
    if (
        not 0.0 <= config.label_drop < 1.0
        or not (config.min_snr or 0.0) >= 0.0
        or not config.sigma_data > 0.0
    ):
        raise ValueError(
            "--label-drop must lie in 0 .. 1, --min-snr must be at least 0 and --sigma-data above 0, "
            f"got {config.label_drop}, {config.min_snr}, {config.sigma_data}"
        )
    if config.loss in ("simple", "hybrid") and (config.loss == "hybrid") != config.learned_variance:
        fits = "hybrid or vlb" if config.learned_variance else "simple or vlb"
        raise ValueError(
            f"--loss {config.loss}: with --learned-variance {config.learned_variance} take {fits}"
        )
    if (config.loss == "vlb" or config.importance) and config.schedule not in ("linear", "cosine"):
        raise ValueError(
            f"--loss vlb and --importance need a table of steps (methods ddpm, iddpm and v), not --schedule {config.schedule}"
        )
    if config.loss == "vlb" and config.min_snr:
        raise ValueError("--min-snr weighs the squared error, which --loss vlb does not have")


def check_numbers(config: TrainImage | TrainClassifier) -> None:
    """Refuse impossible numbers of data, network and training.

    Raises:
        ValueError: the field, what was got and what is needed.
    """

    for name in ("width", "blocks", "groups", "stem", "diffusion_steps"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    for name in ("size", "head_width"):
        if getattr(config, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 0, got {getattr(config, name)}")
    for name in ("hold_out", "dropout"):
        if not 0.0 <= getattr(config, name) < 1.0:
            raise ValueError(f"--{name.replace('_', '-')} must lie in 0 .. 1, got {getattr(config, name)}")
    if not config.multiples or min(config.multiples) < 1:
        raise ValueError(f"--multiples must be numbers of at least 1, got {config.multiples}")

"""The images of a training or an evaluation, as config.json of a run says, and what it learns from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.runs.config import stored_config
from unveil.runs.flags import flat

if TYPE_CHECKING:
    from unveil.image.data.images import ImageSet
    from unveil.image.recipes.training_flags import UNetFlags
    from unveil.runs.flags import RunFlags
    from unveil.runs.progress import Progress

LOWER = "lower --batch-size and raise --accumulate as much, or lower --width"


def images_of(config: JsonObject, source: str | None = None) -> tuple[ImageSet, ImageSet]:
    """The images to train on and the held-out ones, as a run's config says: the data's own test images, or a
    fraction held out.

    Args:
        config: config.json of a run, whose classes keep their numbers.
        source: other data than those of the config.
    """
    from contextlib import suppress
    from dataclasses import replace

    from unveil.errors import UnveilError
    from unveil.image.data.captions import read_captions
    from unveil.image.data.images import alike, as_numbered, split
    from unveil.image.data.label_maps import read_maps
    from unveil.image.data.reading import Reading
    from unveil.image.data.source import has_test, read_images

    data = config["data"] if source is None else source
    reading = Reading(config["asked_size"], config["fit"], config["background"], config["skip_corrupt"])
    images = as_numbered(read_images(data, reading, tuple(config["styles"])), config.get("names", ()))
    if config.get("captions"):
        images = read_captions(images, str(config["captions"]))
    if config.get("beside") == "map":
        images = read_maps(images, str(config["maps"]), data, reading)
    if not has_test(data):
        return split(images, config["hold_out"], in_place=True)
    test = read_images(data, reading, tuple(config["styles"]), test=True)
    if config.get("beside") == "map":
        with suppress(UnveilError):  # they are needed by an evaluation only
            test = read_maps(test, str(config["maps"]), data, reading)
    try:
        return images, alike(test, images)
    except UnveilError:
        if config.get("classes", True):
            raise
        return images, alike(replace(test, labels=None, names=()), images)  # the model is unconditional


def report(images: ImageSet, progress: Progress) -> None:
    """Report the files that were left out, and other notes about the images."""
    few = ", ".join(images.skipped[:3])
    left = [f"left out {len(images.skipped)} files that cannot be read: {few}"] if images.skipped else []
    for note in (*left, *images.notes):
        progress(note, 1, 1, {})


def read_for(config: object, size: int, run: RunFlags, progress: Progress) -> tuple[ImageSet, JsonObject]:
    """The images to train on, and the fields of config.json that the flags give.

    Args:
        config: of the training.
        size: side of the images that the flags ask for; 0: as they are.
    """
    from unveil.runs.device import enough_memory

    names = stored_config(run.folder).get("names") if run.resume else ()
    fields: dict[str, object] = {**flat(config), "asked_size": size}
    fields["names"] = tuple(map(str, names)) if isinstance(names, list) else ()
    with enough_memory("give --size, with --fit resize, or fewer images"):
        images, _ = images_of(fields)
    report(images, progress)
    return images, fields


def of_images(
    network: UNetFlags, usual: UNetFlags, images: ImageSet, sample: tuple[int, ...], trunk: str = "unet"
) -> dict[str, object]:
    """The fields of config.json that both trainings learn from their images.

    Args:
        usual: the network of the preset.
        sample: the shape (C, H, W) of what the network sees: of an image, or of its code.
        trunk: the kind of network; only a U-Net has levels with attention.
    """
    channels, _, size = sample
    return {
        "size": size,
        "channels": channels,
        "attention": attention_of(network, usual.attention, size) if trunk == "unet" else (),
        "images": len(images),
        "skipped": images.skipped,
    }


def attention_of(network: UNetFlags, default: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Sides with attention: those of the flags, but no sides of the preset if none fits the images."""
    from unveil.image.networks.unet2d import level_sides

    fits = set(network.attention) & set(
        level_sides(size, network.stem, len(network.multiples), network.efficient)
    )
    return network.attention if fits or network.attention != default else ()

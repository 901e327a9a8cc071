"""What image models see beside the noisy image: its channels in a training, and its files in a sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.data.images import ImageSet
    from unveil.image.data.reading import Reading
    from unveil.image.latents.latent import Latents
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.train_config import TrainImage
    from unveil.image.shape import ImageShape


def concat_fields(
    config: TrainImage, images: ImageSet, sample: tuple[int, ...], latents: Latents | None
) -> dict[str, int]:
    """The field `concat` of config.json, the number of channels; nothing for a model that sees none.

    Args:
        sample: the shape (C, h, w) of what the network makes.
    Raises:
        ValueError: a factor that does not divide the images, or `concat=lowres` without a factor.
    """
    from unveil.image.concat import low_channels
    from unveil.image.data.label_maps import labels_in

    kind, factor = config.concat.beside, config.upsample
    if not kind:
        return {}
    if kind != "lowres" and factor > 1:
        raise ValueError(f"`upsample` is for `concat=lowres`, not for `concat={kind}`; leave one of them out")
    if kind == "inpaint":
        return {"concat": 1 + sample[0]}
    if kind == "map":
        assert images.maps is not None
        return {"concat": labels_in(images.maps)}
    side = images.pixels.shape[-1]
    if factor == 1:
        raise ValueError("`concat=lowres` needs `upsample`, the factor by which images are enlarged, as 4")
    if side % factor:
        raise ValueError(f"`upsample` {factor} does not divide images of {side} pixels; give another `size`")
    return {"concat": low_channels(images.pixels.shape[1], factor, 1 if latents is None else latents.factor)}


def check_beside(config: SampleImage, shape: ImageShape) -> None:
    """Refuse a model of semantic maps without one, and maps for another model.

    Raises:
        ValueError: what is missing, or has no effect.
    """
    if config.map and shape.beside != "map":
        raise ValueError("`map` is for models that were trained with `concat=map`; leave it out")
    if shape.beside == "map" and not config.map:
        raise ValueError("this model draws semantic maps: give `map` FILE, a picture of labels")
    if shape.beside == "map" and (config.task or config.restore or config.given):
        raise ValueError("this model draws semantic maps, which excludes `given`; give `map` alone")


def maps_of(paths: Sequence[str], model: ImageModel, reading: Reading, count: int) -> Tensor:
    """The channels (n, K, h, w) of the semantic maps in files, used in turn.

    Raises:
        UnveilError: a file that cannot be read, of another size, or with labels that the model does not know.
    """
    import numpy as np
    import torch

    from unveil.image.concat import check_map
    from unveil.image.data.folder_listing import listed
    from unveil.image.data.label_maps import read_map_file

    each: list[np.ndarray] = []
    for path in map(Path, paths):
        files = listed(path).files if path.is_dir() else (path,)
        if not files:
            raise UnveilError(f"{path}: no pictures of labels in this folder")
        for file in files:
            each.append(read_map_file(file, reading))
            try:
                check_map(torch.from_numpy(each[-1].copy()), model.shape.concat, str(file))
            except ValueError as error:
                raise UnveilError(str(error)) from None
    labels = torch.from_numpy(np.stack(each))
    return model.mapped(labels[torch.arange(count, device="cpu") % len(labels)])


def channels_of(model: ImageModel, images: ImageSet, seed: int, batch: int) -> Tensor:
    """The channels (N, K, h, w) that a model of inpainting or of semantic maps sees beside images.

    Args:
        seed: of the masks.
        batch: images that are encoded at a time.
    Raises:
        UnveilError: images without semantic maps, or whose labels the model does not know.
    """
    import torch

    from unveil.image.concat import check_map
    from unveil.image.data.images import Drawn, RandomImages
    from unveil.image.training import seen_beside

    source, generator = RandomImages(images), torch.Generator(device="cpu").manual_seed(seed)
    if model.shape.beside == "map":
        if source.maps is None:
            raise UnveilError("the held-out images have no semantic maps, which the model needs")
        try:
            check_map(source.maps, model.shape.concat, "the maps")
        except ValueError as error:
            raise UnveilError(str(error)) from None
    parts: list[Tensor] = []
    for i in range(0, len(images), batch):
        rows = torch.arange(i, min(i + batch, len(images)), device="cpu")
        seen = seen_beside(source, Drawn(source.pixels[rows], rows), model.shape, generator)
        cond = model.seeing(None, seen)
        assert cond is not None and cond.concat is not None
        parts.append(cond.concat)
    return torch.cat(parts)


def with_noise(low: Tensor, config: SampleImage, model: ImageModel) -> tuple[Tensor, Tensor | None]:
    """The low-resolution images of an upsampler with the noise of the settings, each with random numbers of
    its own, and their levels; unchanged, and None, for a model that knows no noise levels.

    Raises:
        ValueError: a level that the model does not know.
    """
    from unveil.image.cascade import with_level

    shape = model.shape
    known, level = shape.noise_levels if shape.beside == "lowres" else 0, config.noise_level
    if level > known and level != type(config).noise_level:
        raise ValueError(f"`noise_level` {level}: this model knows 0 .. {known}")
    return with_level(low, level, model, config.job.seed)

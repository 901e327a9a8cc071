"""Pictures of `--from` and `--mask`: read, at the size that a model needs or at their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.generation import Given
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage

Sides = tuple[int, int]  # height and width in pixels


class Kept(NamedTuple):
    """Pixels that images must have in the end.

    Args:
        pixels: (n, C, H, W) uint8.
        known: (1, 1, H, W) bool, where they are kept.
    """

    pixels: Tensor
    known: Tensor

    def pasted(self, made: np.ndarray) -> np.ndarray:
        """Images (n, C, H, W) uint8 with these pixels in them."""
        import numpy as np

        return np.where(self.known.numpy(), self.pixels.numpy(), made)


class Prepared(NamedTuple):
    """Inputs of `generate`, and what to compare its results with.

    Args:
        noise: (n, C, S, S) initial noise, or None.
        truth: (n, C, S, S) uint8 original images, or None if they are unknown.
        others: (n, C, S, S) uint8 results of each method without learning.
        inputs: number of images of --from, which are used in turn.
        calls: network calls per image for the inversion.
        size: height and width of the results, where they follow from the images of --from.
        kept: what of these images is in the results.
        note: a remark for people.
    """

    given: Given
    noise: Tensor | None = None
    truth: np.ndarray | None = None
    others: Mapping[str, np.ndarray] = MappingProxyType({})
    inputs: int = 1
    calls: int = 0
    size: Sides | None = None
    kept: Kept | None = None
    note: str = ""


def read_given(
    config: SampleImage, paths: Sequence[str], side: int, channels: int, small: bool = False
) -> np.ndarray:
    """The images of files and folders, (N, C, H, W) uint8, of `size` if it is given, else (N, C, S, S).

    Args:
        side: S.
        small: the images will be enlarged; whole ones may have been given.
    """
    from unveil.errors import UnveilError
    from unveil.image.data.folders import read_image_files
    from unveil.image.data.reading import Reading

    if config.size and not small and config.size != (side, side):
        found = read_own(config, paths, channels)
        if found.shape[:1:-1] != config.size:
            width, height = config.size
            raise UnveilError(
                f"{paths[0]}: is {found.shape[3]} x {found.shape[2]}, but `size` {width} {height} is needed; "
                "give images of this size"
            )
        return found
    try:
        reading = Reading(side, config.fit, config.background)
        return read_image_files([Path(path) for path in paths], reading, channels)
    except UnveilError as error:
        if not small or "is needed; give" not in str(error):
            raise
        raise UnveilError(
            f"{str(error).split(';')[0]}: small images are enlarged; give `fit`, or `degrade` to shrink "
            "whole ones"
        ) from error


def read_own(config: SampleImage, paths: Sequence[str], channels: int) -> np.ndarray:
    """The images of files and folders at their own size, all the same, (N, C, H, W) uint8."""
    from unveil.image.data.folders import read_image_files
    from unveil.image.data.reading import Reading

    if config.fit != "exact":
        raise ValueError("`fit` makes squares; images keep their size here: leave `fit` out")
    return read_image_files([Path(path) for path in paths], Reading(0, "exact", config.background), channels)


def known_of(config: SampleImage, side: int) -> Tensor:
    """(1, 1, H, W) bool: where the mask is dark."""
    import torch

    return torch.from_numpy(read_given(config, (config.mask,), side, 1)) < 128


def filled_in(model: ImageModel, pixels: Tensor, known: Tensor) -> Given:
    """Inputs of `generate` that let a model fill in images where they are not known.

    Args:
        pixels: (n, C, H, W) in 0 .. 255.
        known: (1, 1, H, W) bool.
    """
    from torch.nn import functional as F

    from unveil.image.concat import known_part, masked
    from unveil.image.generation import Given
    from unveil.image.recipes.stable_diffusion_maps import map_of

    if model.shape.beside == "known":
        x = model.normalized(pixels)
        seen = known.to(x.device)
        return Given(beside=known_part(x, seen), known=seen.expand(len(x), -1, -1, -1), value=x, exact=True)
    if map_of(model) == "inpainting":
        return Given(beside=masked(model.normalized(pixels), ~known, model.latent))
    x_0 = model.clean(pixels)
    if (factor := pixels.shape[-1] // x_0.shape[-1]) > 1:  # a code is known if all its pixels are
        known = -F.max_pool2d(-known.float(), factor) > 0.5
    return Given(known=known.expand(len(x_0), 1, *x_0.shape[2:]), value=x_0)

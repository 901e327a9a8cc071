"""Sets of images in memory: classes, held-out parts, random batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from unveil.errors import UnveilError
from unveil.image.data.caption_sampler import CaptionSampler, Drawing

Captions = Callable[[Tensor, torch.Generator], Sequence[str]]
"""(rows, generator) -> a caption for each row."""
BLOCK = 2**18  # bytes that are moved or converted at a time


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A set of images of one size.

    Args:
        pixels: (N, C, H, W) in 0 .. 255, with H = W after reading; C is 1 (grey) or 3 (red, green, blue).
        labels: (N,) classes from 0, or None.
        names: names of the classes.
        groups: (N,) numbers of groups that are held out together, such as drawings of one concept; None: each
            image by itself.
        skipped: files that could not be read.
        notes: other remarks of the reader, one line each.
        unlabelled: the reason why there are no labels.
        captions: a text for each image, as `read_captions` chose them; None: captions are not used.
        stored_captions: texts that came with an array, from which `read_captions` may choose, or None.
        drawings: descriptions from which a `CaptionSampler` draws captions, or None.
        files: the file of each image, or None.
        maps: (N, H, W) labels of a semantic map of each image, as `read_maps` found them, or None.
    """

    pixels: UInt8[np.ndarray, "N C H W"]
    labels: Int[np.ndarray, " N"] | None = None
    names: tuple[str, ...] = ()
    groups: Int[np.ndarray, " N"] | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unlabelled: str = ""
    captions: tuple[str, ...] | None = None
    stored_captions: tuple[str, ...] | None = None
    drawings: tuple[Drawing, ...] | None = None
    files: tuple[Path, ...] | None = None
    maps: UInt8[np.ndarray, "N H W"] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def chosen(self, rows: np.ndarray) -> ImageSet:
        """The images of some rows, by index or by mask."""
        return self.with_pixels(self.pixels[rows], rows)

    def with_pixels(self, pixels: UInt8[np.ndarray, "M C H W"], rows: np.ndarray) -> ImageSet:
        """Other pixels, with all else that belongs to some rows, by index or by mask."""
        indices = np.arange(len(self))[rows].tolist()
        picked: dict[str, object] = {}
        for name in ("labels", "groups", "maps"):
            part = getattr(self, name)
            picked[name] = None if part is None else part[rows]
        for name in ("captions", "stored_captions", "drawings", "files"):
            part = getattr(self, name)
            picked[name] = None if part is None else tuple(part[i] for i in indices)
        return replace(self, pixels=pixels, **picked)  # pyright: ignore[reportArgumentType]


def split(
    images: ImageSet, share: float, seed: int = 0, *, in_place: bool = False
) -> tuple[ImageSet, ImageSet]:
    """Split off a random part: (the rest, the held-out part). Images of one group stay together.

    Args:
        share: fraction to hold out, in [0, 1).
        in_place: move the pixels of the rest inside their array instead of copying them; `images` is invalid
            afterwards.
    Raises:
        ValueError: share outside [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"the held-out share must lie in [0, 1), got {share}")
    groups = np.arange(len(images)) if images.groups is None else images.groups
    kinds = np.unique(groups)
    order = np.random.default_rng(seed).permutation(kinds)
    held = np.isin(groups, order[: round(share * len(kinds))])
    apart = images.chosen(held)
    if not in_place:
        return images.chosen(~held), apart
    return images.with_pixels(kept(images.pixels, ~held), ~held), apart


def kept(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of a mask, moved to the front of the array itself if it is writeable."""
    if rows.all():
        return pixels
    if not pixels.flags.writeable:
        return pixels[rows]
    chosen, count = np.flatnonzero(rows), block(pixels)
    for i in range(0, len(chosen), count):
        some = chosen[i : i + count]
        pixels[i : i + len(some)] = pixels[some]
    return pixels[: len(chosen)]


def check_square(pixels: np.ndarray, what: str) -> None:
    """Refuse images (N, C, H, W) that are not square.

    Raises:
        UnveilError: H is not W.
    """
    height, width = pixels.shape[-2:]
    if height != width:
        raise UnveilError(
            f"{what}: images are {width} x {height}, but squares are needed; give `size` and `fit=crop`, or "
            "`fit=resize`"
        )


def block(pixels: np.ndarray) -> int:
    """The number of images that are moved or converted at a time."""
    return max(1, BLOCK // max(1, pixels[:1].nbytes))


def as_numbered(images: ImageSet, names: Sequence[str]) -> ImageSet:
    """Renumber the classes as in `names`, if these are the same classes in another order."""
    if (
        images.labels is None
        or tuple(names) == images.names
        or set(names) != set(images.names)
        or len(names) != len(images.names)
    ):
        return images
    numbers = np.array([list(names).index(name) for name in images.names])
    return replace(images, labels=numbers[images.labels], names=tuple(names))


def alike(images: ImageSet, train: ImageSet) -> ImageSet:
    """Test images with the numbers of classes and the channels of the training images.

    Raises:
        UnveilError: a class that was not trained on, another size, or colour images where training images are
            grey.
    """
    colours, side = train.pixels.shape[1:3]
    if images.pixels.shape[1:] not in ((colours, side, side), (1, side, side)):
        raise UnveilError(
            f"test images are {images.pixels.shape[1:]} (colours, height, width), training images "
            f"{train.pixels.shape[1:]}"
        )
    images = replace(images, pixels=np.broadcast_to(images.pixels, (len(images), *train.pixels.shape[1:])))
    if images.labels is None or train.labels is None:
        return replace(images, labels=None, names=())
    unknown = sorted(set(images.names) - set(train.names))
    if unknown:
        raise UnveilError(
            f"test images have the class {unknown[0]!r}, which no training image has; there are "
            f"{', '.join(train.names)}"
        )
    numbers = np.array([train.names.index(name) for name in images.names])
    return replace(images, labels=numbers[images.labels], names=train.names)


class Drawn(NamedTuple):
    """A random batch.

    Args:
        x: (B, C, S, S) uint8 pixels, or (B, Z, h, w) codes of a latent space.
        rows: (B,) numbers of the images.
        mirrored: (B,) bool, images that are mirrored from left to right; None: none.
    """

    x: Tensor
    rows: Tensor
    mirrored: Tensor | None = None

    def of(self, parts: Tensor) -> Tensor:
        """What belongs to these images, of (N, ..., W) for all images, mirrored as they are."""
        chosen = parts[self.rows.to(parts.device)]
        if self.mirrored is None:
            return chosen
        return torch.where(self.mirrored.reshape(-1, *[1] * (chosen.ndim - 1)), chosen.flip(-1), chosen)


class RandomImages:
    """Random batches of images, uint8 on the CPU.

    `captions(rows, generator)`, if the images have captions, gives those of the rows of a batch.

    Args:
        flip: mirror each with probability 1/2, left to right; not those whose captions say left or right.
    Raises:
        UnveilError: no image.
    """

    def __init__(self, images: ImageSet, flip: bool = False) -> None:
        if not len(images):
            raise UnveilError("there are no images to train on")
        flags = images.pixels.flags
        whole = flags.c_contiguous and flags.writeable  # else torch would need a copy
        self.pixels = torch.from_numpy(images.pixels if whole else np.array(images.pixels, order="C"))
        self.labels = None if images.labels is None else torch.from_numpy(images.labels.astype(np.int64))
        self.flip = flip
        self.maps = None if images.maps is None else torch.from_numpy(np.array(images.maps, order="C"))
        self.captions: Captions | None = None
        self.sided = None
        if images.captions is not None:
            sampled = CaptionSampler(images.captions, images.drawings)
            self.captions, self.sided = sampled, torch.tensor(sampled.sided())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw pixels (count, C, S, S), and classes (count,) if there are any."""
        pixels, rows = self.draw_rows(count, generator)
        return pixels, None if self.labels is None else self.labels[rows]

    def draw_rows(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw pixels (count, C, S, S), and the rows (count,) that they are."""
        return self.drawn(count, generator)[:2]

    def drawn(self, count: int, generator: torch.Generator) -> Drawn:
        """Draw a batch."""
        rows = torch.randint(len(self.pixels), (count,), generator=generator, device="cpu")
        pixels, mirrored = self.pixels[rows], None
        if self.flip:
            mirrored = torch.rand(count, generator=generator, device="cpu") < 0.5
            if self.sided is not None:
                mirrored &= ~self.sided[rows]
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
        return Drawn(pixels, rows, mirrored)

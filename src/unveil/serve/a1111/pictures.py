"""Images and masks of img2img in A1111's API: resized, filled, cut out, and put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unveil.serve.images import Input
from unveil.serve.refusal import Refused
from unveil.serve.uploads import Upload, opaque, pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from unveil.serve.a1111.request import Img2Img

FILL, ORIGINAL, NOISE = 0, 1, 2  # `inpainting_fill`
RADII = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # of the blurs that fill holes
Box = tuple[int, int, int, int]  # left, top, right, bottom


def input_of(
    asked: Img2Img, uploads: Sequence[Upload], mask: Upload | None, sides: tuple[int, int], channels: int
) -> Input:
    """The images at the size of the result.

    Args:
        mask: white is painted anew.
        sides: width and height.
    Raises:
        Refused: images of different sizes, or a mask that is black.
    """
    images = [opaque(it.image).convert("RGB") for it in uploads]
    if len({it.size for it in images}) > 1:
        raise Refused(400, "`init_images` must all be of one size")
    digests = tuple(it.digest for it in uploads)
    if mask is None:
        pixels = np.stack([pixels_of(resized(it, sides, asked.resize_mode), channels) for it in images])
        return Input(pixels, None, True, digests)
    soft = soft_mask(mask, images[0].size, asked.mask_blur, bool(asked.inpainting_mask_invert))
    if soft.getbbox() is None:
        raise Refused(400, "`mask` is black everywhere; what is white is painted anew")
    if asked.inpaint_full_res:
        box = around(soft, asked.inpaint_full_res_padding, sides)
        small, area = [it.crop(box) for it in images], soft.crop(box)
        parts = [resized(it, sides, 0) for it in small]
        masked, whole = resized(area, sides, 0), images
    else:
        box, area = None, None
        parts = [resized(it, sides, asked.resize_mode) for it in images]
        masked, whole = resized(soft, sides, asked.resize_mode), parts
        soft = masked
    holes = np.asarray(masked) >= 128
    if not holes.any():  # a thin line, blurred
        holes = np.asarray(masked) == np.asarray(masked).max()
    if asked.inpainting_fill == FILL:
        parts = [filled(it, holes) for it in parts]
    pixels = np.stack([pixels_of(it, channels) for it in parts])
    back = _pasting([pixels_of(it, channels) for it in whole], np.asarray(soft, np.float32) / 255, box)
    return Input(pixels, holes, asked.inpainting_fill != NOISE, (*digests, mask.digest), back, False)


def soft_mask(mask: Upload, size: tuple[int, int], blur: float, invert: bool) -> Image:
    """The mask, grey, blurred; of one with transparent parts its alpha."""
    from PIL import ImageFilter, ImageOps

    image = mask.image
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] != 255:
        grey = image.getchannel("A")
    else:
        grey = opaque(image).convert("L")
    if grey.size != size:
        grey = grey.resize(size)
    if invert:
        grey = ImageOps.invert(grey)
    return grey.filter(ImageFilter.GaussianBlur(blur)) if blur else grey


def resized(image: Image, sides: tuple[int, int], mode: int) -> Image:
    """An image of other sides.

    Args:
        mode: 0: stretched; 1: scaled and cropped in the middle; 2: scaled to fit, its borders repeated.
    """
    from PIL.Image import Resampling, fromarray

    if image.size == sides:
        return image
    if mode == 0:
        return image.resize(sides, Resampling.LANCZOS)
    ratios = (sides[0] / image.width, sides[1] / image.height)
    ratio = max(ratios) if mode == 1 else min(ratios)
    width, height = (max(1, round(ratio * side)) for side in image.size)
    scaled = image.resize((width, height), Resampling.LANCZOS)
    left, top = (width - sides[0]) // 2, (height - sides[1]) // 2
    if mode == 1:
        return scaled.crop((left, top, left + sides[0], top + sides[1]))
    array = np.asarray(scaled)
    rows = np.clip(np.arange(sides[1]) + top, 0, height - 1)
    columns = np.clip(np.arange(sides[0]) + left, 0, width - 1)
    return fromarray(np.ascontiguousarray(array[rows][:, columns]))


def around(mask: Image, padding: int, sides: tuple[int, int]) -> Box:
    """The part of an image around a mask, with padding, grown to the aspect of `sides` as far as the image
    allows."""
    box = mask.getbbox()
    assert box is not None
    (width, height), aspect = mask.size, sides[0] / sides[1]
    left, right = max(0, box[0] - padding), min(width, box[2] + padding)
    top, bottom = max(0, box[1] - padding), min(height, box[3] + padding)
    if (right - left) / (bottom - top) < aspect:
        left, right = _grown(left, right, round((bottom - top) * aspect), width)
    else:
        top, bottom = _grown(top, bottom, round((right - left) / aspect), height)
    return left, top, right, bottom


def _grown(low: int, high: int, wanted: int, end: int) -> tuple[int, int]:
    """An interval of the length `wanted` about the same middle within 0 .. end; all of it if that is less."""
    length = min(max(wanted, high - low), end)
    start = min(max(0, (low + high - length) // 2), end - length)
    return start, start + length


def filled(image: Image, holes: np.ndarray) -> Image:
    """The image with its holes filled by averages of what surrounds them, from the nearest surroundings that
    reach a pixel: a normalized convolution at growing radii."""
    from PIL.Image import fromarray

    values = np.asarray(image, np.float32)
    known = (~holes).astype(np.float32)
    if not known.any():
        return image
    out, left = values.copy(), holes.copy()
    for radius in RADII:
        weight = _blurred(known, radius)
        reached = left & (weight > 1e-9)
        for channel in range(values.shape[2]):
            mean = _blurred(values[..., channel] * known, radius) / np.maximum(weight, 1e-12)
            out[..., channel][reached] = mean[reached]
        left &= ~reached
    out[left] = values[~holes].mean(0)
    return fromarray(np.clip(np.rint(out), 0, 255).astype(np.uint8))


def _blurred(plane: np.ndarray, radius: int) -> np.ndarray:
    """Means over squares of side 2 radius + 1; beyond the borders lie zeros."""
    for _ in range(2):
        padded = np.pad(plane, ((radius + 1, radius), (0, 0))).cumsum(0, dtype=np.float64)
        plane = ((padded[2 * radius + 1 :] - padded[: -2 * radius - 1]) / (2 * radius + 1)).T
    return plane


def _pasting(
    originals: Sequence[np.ndarray], soft: np.ndarray, box: Box | None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that puts results into the originals, (C, H, W), where the mask is white."""

    def paste(made: np.ndarray) -> np.ndarray:
        done: list[np.ndarray] = []
        for k, image in enumerate(made):
            before = originals[k % len(originals)].astype(np.float32)
            new = before.copy()
            if box is None:
                new[:] = image
            else:
                left, top, right, bottom = box
                new[:, top:bottom, left:right] = _scaled(image, (right - left, bottom - top))
            done.append(np.rint(soft * new + (1 - soft) * before).astype(np.uint8))
        return np.stack(done)

    return paste


def _scaled(image: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    from PIL.Image import Resampling, fromarray

    return np.stack([np.asarray(fromarray(plane).resize(sides, Resampling.LANCZOS)) for plane in image])

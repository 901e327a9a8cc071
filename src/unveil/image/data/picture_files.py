"""Open image files: upright, grey or RGB, 8 bits per channel; PIL is imported when it is needed."""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from unveil.errors import UnveilError
from unveil.image.data.reading import Reading

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff")
FOREIGN = {  # image formats that cannot be read, and what to do with them
    **dict.fromkeys(
        (".heic", ".heif", ".hif"),
        "a phone's HEIC: convert them to JPEG first, such as by `heif-convert a.heic a.jpg`",
    ),
    **dict.fromkeys(
        (".avif", ".jxl", ".jp2", ".tga", ".ppm", ".pgm", ".svg", ".psd", ".ico"), "convert them to PNG first"
    ),
    **dict.fromkeys((".exr", ".hdr"), "of more than 8 bits: map their tones to PNG first"),
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"),
        "a camera's raw data: develop them to PNG first",
    ),
}


# a raw mode of 10 to 16 bits per channel; BMP's BGR;16 has 16 bits per pixel
DEEP = re.compile(r"(?<!BGR);1[0-6]")


class Unreadable(Exception):
    """A file that is not a whole image, or of a kind that cannot be used; the message says which."""


class Opened(NamedTuple):
    """An image, uint8 (C, H, W), and the number of further images in its file (frames or pages)."""

    pixels: UInt8[np.ndarray, "C H W"]
    further: int = 0


def read_image_file(file: Path, reading: Reading) -> Opened:
    """Read one image, turned upright by its Exif orientation and fitted; an alpha of 255 everywhere is
    dropped.

    Raises:
        Unreadable: damaged, more than 8 bits per channel, or of other colours than grey and RGB.
        UnveilError: transparent without a background, or of another size.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if file.suffix.lower() in FOREIGN:
        raise Unreadable(FOREIGN[file.suffix.lower()])
    try:
        if not file.stat().st_size:
            raise Unreadable("it is empty")
        with warnings.catch_warnings(action="ignore", category=UserWarning), Image.open(file) as opened:
            # loading would cut these to 8 bits
            deep = any(DEEP.search(str(tile)) for tile in getattr(opened, "tile", ()))
            further = int(getattr(opened, "n_frames", 1)) - 1
            opened.seek(0)
            opened.load()
            image: Any = opened
    except Image.DecompressionBombError as error:
        raise UnveilError(f"{file}: {error}") from error
    except UnidentifiedImageError:
        raise Unreadable("no picture, or one of an unknown format") from None
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # PIL's readers fail in many ways on damaged files
        why = " ".join(str(error).split()).replace(str(file), "it")[:120]
        raise Unreadable(why or type(error).__name__) from None
    if deep or image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise Unreadable(f"more than 8 bits per channel (mode {image.mode}); convert it to 8 bits first")
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):  # damaged Exif is ignored
        image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = _opaque(image, reading, file)
    if image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode not in ("L", "RGB"):
        raise Unreadable(f"its colours are {image.mode}, but grey or RGB is needed; convert it first")
    pixels = channels_first(fitted(image, reading, str(file)))
    return Opened(np.ascontiguousarray(pixels), further)


def channels_first(image: Image) -> UInt8[np.ndarray, "C H W"]:
    """The pixels of a grey or an RGB image."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def resized(
    pixels: UInt8[np.ndarray, "N C H W"], sides: tuple[int, int], way: str
) -> UInt8[np.ndarray, "N C h w"]:
    """Images at another height and width, by a filter of PIL: bicubic, lanczos or nearest."""
    from PIL import Image as Images

    size, kind = (sides[1], sides[0]), Images.Resampling[way.upper()]
    planes = [np.asarray(Images.fromarray(plane).resize(size, kind)) for image in pixels for plane in image]
    return np.stack(planes).reshape(*pixels.shape[:2], *sides)


def _opaque(image: Image, reading: Reading, file: Path) -> Image:
    """The image without its alpha, which must be 255 everywhere, or over the background."""
    from PIL import Image as Images

    clear = image.convert("RGBA")
    if int(np.asarray(clear.getchannel("A")).min()) == 255:
        return clear.convert("L" if image.mode in ("L", "LA", "La", "1") else "RGB")
    if not reading.background:
        share = float((np.asarray(clear)[..., 3] < 255).mean())
        raise UnveilError(
            f"{file}: has transparent pixels (mode {image.mode}, {share:.1%} of its pixels); give "
            "`background` white or black"
        )
    return Images.alpha_composite(Images.new("RGBA", clear.size, reading.background), clear).convert("RGB")


def fitted(image: Image, reading: Reading, what: str) -> Image:
    """The image cropped or resized to the side of the settings.

    Raises:
        UnveilError: another size, with `fit="exact"`.
    """
    from PIL.Image import Resampling

    side, (width, height) = reading.size, image.size
    if side == 0 or (width, height) == (side, side):
        return image
    if reading.fit == "exact":
        raise UnveilError(
            f"{what}: is {width} x {height}, but {side} x {side} is needed; give `fit=crop` or `fit=resize`"
        )
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    box = (0, 0, width, height) if reading.fit == "resize" else (left, top, left + short, top + short)
    whole = (box[2] - box[0]) % side == 0 == (box[3] - box[1]) % side
    return image.resize((side, side), Resampling.BOX if whole else Resampling.BICUBIC, box=box)

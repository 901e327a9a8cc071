"""Uploaded images, decoded by Pillow within limits; nothing that a request names is opened or fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from unveil.serve.refusal import Refused

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
DATA_URL = re.compile(r"data:[\w.+/-]{0,80}(?:;[\w=.-]{1,40}){0,3},")


class Upload(NamedTuple):
    """An uploaded image.

    Args:
        image: upright; grey, RGB, or with alpha.
        digest: SHA-256 of the file.
        texts: of a PNG, by name.
    """

    image: Image
    digest: str
    texts: dict[str, str]


def decoded(text: str) -> bytes:
    """The bytes of base64, with or without the beginning of a data URL.

    Raises:
        Refused: an address, which is not fetched, or no base64.
    """
    head = DATA_URL.match(text[:240])
    if head is None and re.match(r"\s*[a-zA-Z][\w+.-]*:", text[:40]):
        raise Refused(400, "images are sent as base64 or as a data URL; addresses are not fetched")
    try:
        return base64.b64decode(text[head.end() :] if head else text, validate=False)
    except (binascii.Error, ValueError):
        raise Refused(400, "Invalid encoded image: no base64") from None


def picture(data: bytes, megapixels: float) -> Upload:
    """Read an image.

    Args:
        megapixels: largest size.
    Raises:
        Refused: no whole image of a known format, or too large.
    """
    from PIL import Image as Images
    from PIL import ImageOps

    if not data:
        raise Refused(400, "Invalid encoded image: it is empty")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Images.open(io.BytesIO(data), formats=FORMATS) as opened,
        ):
            width, height = opened.size
            if width * height > megapixels * 1e6:
                raise Refused(413, f"the image of {width} x {height} pixels is larger than {megapixels:g} MP")
            opened.load()
            texts = getattr(opened, "text", {})
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
                image = image.convert("RGBA")
            if image.mode not in ("L", "RGB", "RGBA"):
                image = image.convert("L" if image.mode == "1" else "RGB")
    except Refused:
        raise
    except Exception:  # Pillow's readers fail in many ways on damaged files
        raise Refused(
            400, f"Invalid encoded image: no whole image of a known format ({', '.join(FORMATS)})"
        ) from None
    return Upload(image, hashlib.sha256(data).hexdigest(), {k: str(v) for k, v in texts.items()})


def opaque(image: Image) -> Image:
    """The image over white."""
    from PIL import Image as Images

    if image.mode != "RGBA":
        return image
    return Images.alpha_composite(Images.new("RGBA", image.size, "white"), image).convert("RGB")


def pixels_of(image: Image, channels: int) -> np.ndarray:
    """uint8 (C, H, W) of an image, grey or RGB, over white."""
    array = np.asarray(opaque(image).convert("L" if channels == 1 else "RGB"))
    return np.ascontiguousarray(array[None] if channels == 1 else array.transpose(2, 0, 1))

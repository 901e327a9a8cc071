"""Grids of images, with titles. Needs only pillow."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def grid(
    pixels: UInt8[np.ndarray, "N C H W"], columns: int = 0, gap: int = 2, least: int = 0
) -> UInt8[np.ndarray, "Y X C"]:
    """Images in rows from the top left, with white gaps.

    Args:
        columns: images per row; 0 makes the grid about square.
        gap: white pixels between images.
        least: smallest height in pixels; smaller images are enlarged by a whole factor.
    """
    count, channels, height, width = pixels.shape
    columns = min(columns or int(np.ceil(count**0.5)), count)
    factor = max(1, -(-least // height))
    pixels = pixels.repeat(factor, axis=2).repeat(factor, axis=3)
    height, width = height * factor, width * factor
    rows = -(-count // columns)
    page = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for k in range(count):
        y, x = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        page[y : y + height, x : x + width] = pixels[k].transpose(1, 2, 0)
    return page


def titled(
    page: UInt8[np.ndarray, "Y X C"], names: Sequence[str], gap: int = 2
) -> UInt8[np.ndarray, "_ X C"]:
    """A page of `grid` with a name above each column; long names are cut to fit."""
    from PIL import ImageDraw, ImageFont

    font, height = ImageFont.load_default(), 16
    strip = Image.new("L", (page.shape[1], height), 255)
    draw, width = ImageDraw.Draw(strip), (page.shape[1] - gap) / len(names)
    for k, name in enumerate(names):
        shown = next(
            (name[:n] for n in range(len(name), 0, -1) if draw.textlength(name[:n], font) <= width - gap), ""
        )
        draw.text(
            (gap / 2 + (k + 0.5) * width - draw.textlength(shown, font) / 2, 2), shown, fill=0, font=font
        )
    return np.concatenate(
        [np.broadcast_to(np.asarray(strip)[..., None], (*strip.size[::-1], page.shape[2])), page]
    )


def captioned(
    pixels: UInt8[np.ndarray, "N C H W"], captions: Sequence[str], columns: int = 0, least: int = 0
) -> UInt8[np.ndarray, "Y X C"]:
    """Images in rows from the top left, each above its caption, which is broken into lines.

    Args:
        captions: a text for each image.
        columns, least: as of `grid`.
    """
    from PIL import ImageDraw, ImageFont

    if len(captions) != len(pixels):
        raise ValueError(f"there are {len(captions)} captions for {len(pixels)} images")
    gap, line = 8, 14
    font = ImageFont.load_default()
    single = [grid(one[None], gap=gap, least=least) for one in pixels]
    height, width, channels = single[0].shape
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    texts = [_lines(text, width - gap, lambda part: measure.textlength(part, font)) for text in captions]
    strip = line * max(map(len, texts)) + gap
    columns = min(columns or int(np.ceil(len(pixels) ** 0.5)), len(pixels))
    rows = -(-len(pixels) // columns)
    page = np.full((rows * (height + strip), columns * width, channels), 255, np.uint8)
    for k, (image, lines) in enumerate(zip(single, texts, strict=True)):
        y, x = k // columns * (height + strip), k % columns * width
        page[y : y + height, x : x + width] = image
        below = Image.new("L", (width, strip), 255)
        draw = ImageDraw.Draw(below)
        for row, text in enumerate(lines):
            draw.text(((width - measure.textlength(text, font)) / 2, row * line), text, fill=0, font=font)
        page[y + height : y + height + strip, x : x + width] = np.asarray(below)[..., None]
    return page


def _lines(text: str, width: int, length: Callable[[str], float]) -> list[str]:
    """Break a text at spaces into lines that fit; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and length(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]

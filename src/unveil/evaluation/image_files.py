"""Images as files: grids, PNG with the parameters that made it, animations. Needs pillow alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from unveil.data.files import MADE, output
from unveil.errors import UnveilError

CHUNK = "unveil"  # the PNG text chunk


def grid(pixels: UInt8[np.ndarray, "N C H W"], columns: int = 0, gap: int = 2, least: int = 0) -> UInt8[np.ndarray, "Y X C"]:
    """Pictures in rows from the top left, white between them.

    Args:
        columns: 0 makes it about square.
        least: pictures smaller than this are enlarged by a whole factor, for the eye.
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


def titled(page: UInt8[np.ndarray, "Y X C"], names: Sequence[str], gap: int = 2) -> UInt8[np.ndarray, "_ X C"]:
    """A page of `grid` with a name over the middle of each column; long names are cut to fit."""
    from PIL import ImageDraw, ImageFont

    font, height = ImageFont.load_default(), 16
    strip = Image.new("L", (page.shape[1], height), 255)
    draw, width = ImageDraw.Draw(strip), (page.shape[1] - gap) / len(names)
    for k, name in enumerate(names):
        shown = next((name[:n] for n in range(len(name), 0, -1) if draw.textlength(name[:n], font) <= width - gap), "")
        draw.text((gap / 2 + (k + 0.5) * width - draw.textlength(shown, font) / 2, 2), shown, fill=0, font=font)
    return np.concatenate([np.broadcast_to(np.asarray(strip)[..., None], (*strip.size[::-1], page.shape[2])), page])


def write_picture(path: Path, frame: UInt8[np.ndarray, "Y X C"], parameters: str = "") -> None:
    """A PNG, grey or RGB, with a text that says how it was made; the same bytes for the same picture and text."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MADE)
    if parameters:
        info.add_text(CHUNK, parameters)
    with output(path) as partial:
        _image(frame).save(partial, format="png", pnginfo=info)


def read_parameters(path: Path) -> str:
    """The text that `write_picture` put into a PNG.

    Raises:
        UnveilError: not a PNG, or there is none in it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            text = getattr(image, "text", {}).get(CHUNK)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UnveilError(f"{path}: not a PNG that can be read ({error})") from error
    if not isinstance(text, str):
        raise UnveilError(f"{path}: no parameters of unveil in it; programs that edit or shrink pictures drop them")
    return text


def write_animation(path: Path, frames: Sequence[UInt8[np.ndarray, "Y X C"]], milliseconds: int = 80) -> None:
    """A GIF that repeats and rests on its last frame."""
    first, *rest = (_image(frame) for frame in frames)
    durations = [milliseconds] * len(rest) + [12 * milliseconds]
    with output(path) as partial:
        first.save(partial, format="gif", save_all=True, append_images=rest, duration=durations, loop=0, comment=MADE)


def _image(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)

"""Write pictures and animations: PNG with the parameters that made it, GIF, MP4."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from unveil.errors import UnveilError
from unveil.files.atomic import MADE, output, replacing
from unveil.files.reading import reading


def write_gif(path: Path, frames: Sequence[np.ndarray], milliseconds: int = 60) -> None:
    """Write an endless GIF.

    All frames share one palette, made of a sample of their pixels: one palette per frame takes five times as
    long and makes the file half as large again.
    """
    some = np.concatenate([frame[::3, ::3] for frame in frames[:: max(1, len(frames) // 8)]])
    palette = Image.fromarray(some).quantize(255, Image.Quantize.MEDIANCUT)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    _save_gif(path, images, milliseconds)


def write_animation(path: Path, frames: Sequence[UInt8[np.ndarray, "Y X C"]], milliseconds: int = 80) -> None:
    """Write an endless GIF that shows its last frame twelve times as long."""
    durations = [milliseconds] * (len(frames) - 1) + [12 * milliseconds]
    _save_gif(path, [_image(frame) for frame in frames], durations)


def _save_gif(path: Path, images: list[Image.Image], duration: int | list[int]) -> None:
    first, *rest = images
    with output(path) as partial:
        first.save(
            partial,
            "gif",
            save_all=True,
            append_images=rest,
            duration=duration,
            loop=0,
            optimize=True,
            comment=MADE,
        )


def video_suffixes() -> tuple[str, ...]:
    """The suffixes of videos: .gif, and .mp4 if imageio's ffmpeg plugin is installed."""
    return (".gif", ".mp4") if find_spec("imageio_ffmpeg") is not None else (".gif",)


def write_video(path: Path, frames: Sequence[np.ndarray], milliseconds: int = 60) -> None:
    """Write a .gif, or an .mp4 (H.264; odd heights and widths are rescaled to even ones).

    Raises:
        ValueError: another suffix, or .mp4 without ffmpeg.
    """
    import imageio.v3 as iio

    if path.suffix not in video_suffixes():
        raise ValueError(f"{path} must end in {' or '.join(video_suffixes())}")
    if path.suffix == ".gif":
        return write_gif(path, frames, milliseconds)
    encoded = iio.imwrite(
        "<bytes>",
        np.stack(frames),
        extension=".mp4",
        plugin="FFMPEG",
        fps=1000 / milliseconds,
        macro_block_size=2,
        output_params=["-metadata", f"comment={MADE}"],
    )
    assert isinstance(encoded, bytes)
    with output(path) as partial:
        partial.write_bytes(encoded)


def write_png(
    path: Path, frame: np.ndarray, parameters: dict[str, str] | None = None, own_folder: bool = False
) -> None:
    """Write a PNG with parameters in its text chunks.

    Args:
        own_folder: in the folder of a run, a file of this name is replaced even if unveil did not make it.
    """
    with (replacing if own_folder else output)(path) as partial:
        _image(frame).save(partial, format="png", pnginfo=_chunks(parameters or {}))


def _chunks(parameters: dict[str, str]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MADE)
    for name, value in parameters.items():
        info.add_text(name, value)
    return info


CHUNK, INFOTEXT = "unveil", "parameters"  # names of the PNG text chunks


def write_picture(
    path: Path, frame: UInt8[np.ndarray, "Y X C"], parameters: str = "", infotext: str = ""
) -> None:
    """Write a grey or RGB PNG with the parameters that made it, as text; equal input gives equal bytes.

    Args:
        infotext: the settings as other programs of images read them.
    """
    write_png(path, frame, _texts(parameters, infotext))


def png_bytes(frame: UInt8[np.ndarray, "Y X C"], parameters: str = "", infotext: str = "") -> bytes:
    """The bytes of the file that `write_picture` writes."""
    file = BytesIO()
    _image(frame).save(file, format="png", pnginfo=_chunks(_texts(parameters, infotext)))
    return file.getvalue()


def _texts(parameters: str, infotext: str) -> dict[str, str]:
    return {name: text for name, text in {CHUNK: parameters, INFOTEXT: infotext}.items() if text}


def read_parameters(path: Path) -> str:
    """Read the parameters that `write_picture` wrote into a PNG.

    Raises:
        UnveilError: not a PNG, or one without parameters.
    """
    with reading(path, "not a PNG that can be read"), Image.open(path) as image:
        image.load()
        text = getattr(image, "text", {}).get(CHUNK)
    if not isinstance(text, str):
        raise UnveilError(
            f"{path}: no parameters of unveil in it; programs that edit or shrink pictures drop them"
        )
    return text


def _image(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[..., 0] if frame.shape[2:] == (1,) else frame)

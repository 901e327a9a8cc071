"""What LeRobot's datasets saw: pictures in parquet's cells, and videos, which need a decoder that is not among our dependencies."""

import io
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from unveil.errors import UnveilError
from unveil.files.hdf5 import LARGEST

DECODERS = {
    "av": "av",
    "torchcodec": "torchcodec",
    "imageio_ffmpeg": "imageio[ffmpeg]",
}  # in this order, by how to install them

DEEP = r"gray(9|1\d|f)"  # pixel formats that lose their numbers as 8 bits


def decoded_pictures(column: Any) -> np.ndarray:
    """The pictures of a column of {bytes, path}: PNG or JPEG files in its cells, turned as their Exif orientation says.

    Returns:
        (N, h, w, 3) uint8, or (N, h, w, 1) float32 of pictures of one channel of more than 8 bits, such as depth in millimetres.
    Raises:
        ValueError: a cell without bytes, no such picture, pictures of different sizes or kinds, colours of more than 8 bits a channel or of
            another kind than grey or RGB, or a pixel that is not opaque.
    """
    image: Any = import_module("PIL.Image")
    made: list[np.ndarray] = []
    for i, cell in enumerate(column.to_pylist()):
        stored = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(stored, bytes):
            raise ValueError(f"row {i} of a picture column holds no picture, at most the name of one")
        try:
            with image.open(io.BytesIO(stored), formats=("PNG", "JPEG")) as opened:
                picture = _decoded(opened)
            if made and picture.shape[:2] != made[0].shape[:2]:
                raise ValueError(f"its size is {picture.shape[1::-1]}, that of row 0 {made[0].shape[1::-1]}")
            if made and picture.dtype != made[0].dtype:
                raise ValueError(
                    f"it has {'more than ' if picture.dtype != np.uint8 else ''}8 bits a channel, unlike row 0"
                )
            made.append(picture)
        except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
            raise ValueError(
                f"row {i} of a picture column is no whole PNG or JPEG ({' '.join(str(error).split())})"
            ) from error
    if not made:
        raise ValueError("a picture column without rows")
    return np.stack(made)


def _decoded(opened: Any) -> np.ndarray:
    """One picture, (h, w, 3) uint8 or (h, w, 1) float32."""
    turned: Any = import_module("PIL.ImageOps").exif_transpose
    deep = any(
        ";16" in str(tile) for tile in opened.tile
    )  # which loading cuts to 8 bits where there are colours
    picture = turned(opened)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return np.asarray(picture, np.float32)[..., None]
    if deep:
        raise ValueError("its colours have more than 8 bits a channel; convert it to 8 bits first")
    if picture.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if np.asarray(picture)[..., 3].min() < 255:
            raise ValueError("it has transparent places; lay it over a background first")
    elif picture.mode not in ("1", "L", "P", "RGB"):
        raise ValueError(f"its colours are {picture.mode}, but grey or RGB is needed; convert it first")
    return np.asarray(picture.convert("RGB"))


def decoded_videos(path: Path, feature: str, count: int, deep: bool = False) -> UInt8[np.ndarray, "N h w 3"]:
    """All frames of a feature's videos, in the order of its files below `videos`, which is the order of the dataset's rows: one file an
    episode in v2, several episodes a file in v3.

    Args:
        count: rows of the dataset, each of which has a frame.
        deep: the dataset says that they hold depth, which these decoders would cut to 8 bits.
    Raises:
        UnveilError: no video, no decoder, a video that is damaged, or another number of frames.
    """
    if deep:
        raise UnveilError(
            f"{path}: {feature!r} is a video of depth or of more than 8 bits a channel, which is not read; store images instead"
        )
    files = sorted(
        file for file in (path / "videos").rglob("*.mp4") if feature in file.relative_to(path).parts
    )
    if not files:
        raise UnveilError(f"{path}: no videos/**/{feature}/**/*.mp4 here; is the download complete?")
    decoder = next((name for name in DECODERS if find_spec(name) is not None), None)
    if decoder is None:
        raise UnveilError(
            f"{path}: {feature!r} is video, for which a decoder is needed: pip install {' or '.join(DECODERS.values())}"
        )
    made, done = np.zeros((0, 0, 0, 3), np.uint8), 0
    for file in files:
        try:
            for frame in _frames(file, decoder):
                if not done:
                    if count * frame.size > LARGEST:
                        raise UnveilError(
                            f"{path}: {feature!r} has {count:,} frames of {frame.shape}, more than {LARGEST >> 30} GiB"
                        )
                    made = np.zeros((count, *frame.shape), np.uint8)
                if done < count:
                    made[done] = frame
                done += 1
        except UnveilError:
            raise
        except Exception as error:  # whatever decoders raise
            raise UnveilError(
                f"{file}: not a whole video that {decoder} reads ({(str(error).splitlines() or [''])[0]})"
            ) from error
    if done != count:
        raise UnveilError(
            f"{path}: {done:,} frames of {feature!r}, but {count:,} steps; is the download complete?"
        )
    return made


def _frames(file: Path, decoder: str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    if decoder == "av":
        av: Any = import_module("av")
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                if re.match(DEEP, frame.format.name):
                    raise ValueError(
                        f"its pixels are {frame.format.name}, more than 8 bits, which are not read; store images instead"
                    )
                yield frame.to_ndarray(format="rgb24")
    elif decoder == "torchcodec":
        decoders: Any = import_module("torchcodec.decoders")
        for frame in decoders.VideoDecoder(str(file)):  # (3, h, w)
            yield frame.permute(1, 2, 0).numpy()
    else:
        ffmpeg: Any = import_module("imageio_ffmpeg")
        yield from _piped(
            [
                ffmpeg.get_ffmpeg_exe(),
                "-v",
                "error",
                "-i",
                f"file:{file}",
                "-f",
                "image2pipe",
                "-c:v",
                "ppm",
                "-",
            ]
        )


def _piped(command: list[str]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames that a program writes as PPM: "P6", width and height, 255, each on a line, and then the bytes."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            while process.stdout.readline() == b"P6\n":
                width, height = map(int, process.stdout.readline().split())
                if int(process.stdout.readline()) != 255:
                    raise ValueError(
                        "its pixels have more than 8 bits a channel, which are not read; store images instead"
                    )
                yield np.frombuffer(process.stdout.read(3 * width * height), np.uint8).reshape(
                    height, width, 3
                )
            if told := process.stderr.read().decode(errors="replace").strip():
                raise ValueError(told.rpartition("\n")[2])
        finally:
            process.kill()

"""Images of LeRobot's datasets: pictures in parquet cells, and videos, which need an optional decoder."""

import io
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from unveil.errors import UnveilError
from unveil.files.hdf5 import LARGEST, room
from unveil.files.reading import reading

if TYPE_CHECKING:
    import PIL.ImageFile

# Module -> what to install, in the order of preference.
DECODERS = {"av": "av", "torchcodec": "torchcodec", "imageio_ffmpeg": "imageio[ffmpeg]"}

DEEP = r"gray(9|1\d|f)"  # pixel formats with more than 8 bits


def decoded_pictures(column: Any) -> np.ndarray:  # pyarrow has no stubs
    """Decode a column of {bytes, path}: PNG or JPEG files in its cells, rotated by their Exif orientation.

    Returns:
        (N, h, w, 3) uint8, or (N, h, w, 1) float32 for one channel of more than 8 bits, such as depth in
        millimetres.
    Raises:
        ValueError: a cell without bytes, another format, pictures of different sizes or kinds, colours of
            more than 8 bits per channel or other than grey or RGB, or a pixel that is not opaque.
    """
    image = import_module("PIL.Image")
    made: list[np.ndarray] = []
    for i, cell in enumerate(column.to_pylist()):
        stored = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(stored, bytes):
            raise ValueError(f"row {i} of a picture column holds no picture, at most a file name")
        try:
            with image.open(io.BytesIO(stored), formats=("PNG", "JPEG")) as opened:
                picture = _decoded(opened)
            if made and picture.shape[:2] != made[0].shape[:2]:
                raise ValueError(f"its size is {picture.shape[1::-1]}, that of row 0 {made[0].shape[1::-1]}")
            if made and picture.dtype != made[0].dtype:
                more = "more than " if picture.dtype != np.uint8 else ""
                raise ValueError(f"it has {more}8 bits per channel, unlike row 0")
            made.append(picture)
        except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
            why = " ".join(str(error).split())
            raise ValueError(f"row {i} of a picture column is not a complete PNG or JPEG ({why})") from error
    if not made:
        raise ValueError("a picture column without rows")
    return np.stack(made)


def picture_cells(files: list[Path], column: str, root: Path) -> Iterator[bytes]:
    """The encoded pictures of a column of parquet files, one after another.

    A cell holds the bytes, or the path of a file below the data set's folder, as LeRobot wrote before videos.

    Raises:
        UnveilError: a cell without a picture, or a damaged file.
    """
    parquet = import_module("pyarrow.parquet")
    row = 0
    for file in files:
        most, taken = room(file.stat().st_size), 0
        with reading(file, "not a complete parquet file, damaged or cut short"):
            for batch in parquet.ParquetFile(file).iter_batches(64, columns=[column]):
                for cell in batch.column(0).to_pylist():
                    stored = cell.get("bytes") if isinstance(cell, dict) else cell
                    if not isinstance(stored, bytes):
                        stored = _beside(root, cell.get("path") if isinstance(cell, dict) else None)
                    if not stored:
                        raise UnveilError(
                            f"{file}: row {row} of {column!r} holds no picture, nor a file of one"
                        )
                    if (taken := taken + len(stored)) > most:
                        raise UnveilError(f"{file}: {column!r} unpacks to more than {most:,} bytes")
                    yield stored
                    row += 1


def decoded_cell(stored: bytes, row: int) -> np.ndarray:
    """One encoded picture, (h, w, 3) uint8 or (h, w, 1) float32.

    Raises:
        UnveilError: it is damaged, or of an unsupported kind.
    """
    image = import_module("PIL.Image")
    try:
        with image.open(io.BytesIO(stored), formats=("PNG", "JPEG")) as opened:
            return _decoded(opened)
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        why = " ".join(str(error).split())
        raise UnveilError(f"the picture of row {row} is not a complete PNG or JPEG ({why})") from error


def _beside(root: Path, name: object) -> bytes | None:
    """The bytes of a picture's file below a folder; None where there is none, or it leads elsewhere."""
    file = root / name if isinstance(name, str) and name else None
    inside = file is not None and file.resolve().is_relative_to(root.resolve())
    return file.read_bytes() if file is not None and inside and file.is_file() else None


def _decoded(opened: "PIL.ImageFile.ImageFile") -> np.ndarray:
    """One picture, (h, w, 3) uint8 or (h, w, 1) float32."""
    turned = import_module("PIL.ImageOps").exif_transpose
    deep = any(";16" in str(tile) for tile in opened.tile)  # loading cuts colours to 8 bits
    picture = turned(opened)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return np.asarray(picture, np.float32)[..., None]
    if deep:
        raise ValueError("its colours have more than 8 bits per channel; convert it to 8 bits first")
    if picture.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if np.asarray(picture)[..., 3].min() < 255:
            raise ValueError("it has transparent pixels; blend it with a background first")
    elif picture.mode not in ("1", "L", "P", "RGB"):
        raise ValueError(f"its colours are {picture.mode}, but grey or RGB is needed; convert it first")
    return np.asarray(picture.convert("RGB"))


def decoded_videos(path: Path, feature: str, count: int, deep: bool = False) -> UInt8[np.ndarray, "N h w 3"]:
    """Decode all frames of a feature's videos, in the order of the dataset's rows.

    That is the order of the files below `videos`. Version 2 has one file per episode, version 3 several
    episodes per file.

    Args:
        count: rows of the dataset, one per frame.
        deep: the videos hold depth, which these decoders would cut to 8 bits.
    Raises:
        UnveilError: no video, no decoder, a video that is damaged, or another number of frames.
    """
    check_depth(path, feature, deep)
    files, decoder = video_files(path, feature), decoder_of(path, feature)
    made, done = np.zeros((0, 0, 0, 3), np.uint8), 0
    for file in files:
        try:
            for frame in _frames(file, decoder):
                if not done:
                    if count * frame.size > LARGEST:
                        size = f"{count:,} frames of {frame.shape}, more than {LARGEST >> 30} GiB"
                        raise UnveilError(f"{path}: {feature!r} has {size}")
                    made = np.zeros((count, *frame.shape), np.uint8)
                if done < count:
                    made[done] = frame
                done += 1
        except UnveilError:
            raise
        except Exception as error:  # decoders raise anything
            why = (str(error).splitlines() or [""])[0]
            raise UnveilError(f"{file}: not a complete video for {decoder} ({why})") from error
    if done != count:
        raise UnveilError(
            f"{path}: {done:,} frames of {feature!r}, but {count:,} steps; is the download complete?"
        )
    return made


def check_depth(path: Path, feature: str, deep: bool) -> None:
    """Refuse videos of depth.

    Raises:
        UnveilError: it is one.
    """
    if deep:
        raise UnveilError(
            f"{path}: {feature!r} is a video of depth or of more than 8 bits per channel, which is not "
            "supported; store images instead"
        )


def video_files(path: Path, feature: str) -> list[Path]:
    """The videos of a feature, in their order.

    Raises:
        UnveilError: there is none.
    """
    files = sorted(
        file for file in (path / "videos").rglob("*.mp4") if feature in file.relative_to(path).parts
    )
    if not files:
        raise UnveilError(f"{path}: no videos/**/{feature}/**/*.mp4 here; is the download complete?")
    return files


def decoder_of(path: Path, feature: str) -> str:
    """The installed module that decodes videos.

    Raises:
        UnveilError: there is none.
    """
    decoder = next((name for name in DECODERS if find_spec(name) is not None), None)
    if decoder is None:
        packages = " or ".join(DECODERS.values())
        raise UnveilError(f"{path}: {feature!r} is video, which needs a decoder: pip install {packages}")
    return decoder


def frame_of_av(frame: Any) -> UInt8[np.ndarray, "h w 3"]:  # av may be absent
    """A frame of PyAV as colours.

    Raises:
        ValueError: it has more than 8 bits per channel.
    """
    if re.match(DEEP, frame.format.name):
        kind = f"{frame.format.name}, more than 8 bits"
        raise ValueError(f"its pixels are {kind}, which are not supported; store images instead")
    return frame.to_ndarray(format="rgb24")


def _frames(file: Path, decoder: str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    if decoder == "av":
        av = import_module("av")
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                yield frame_of_av(frame)
    elif decoder == "torchcodec":
        decoders = import_module("torchcodec.decoders")
        for frame in decoders.VideoDecoder(str(file)):  # (3, h, w)
            yield frame.permute(1, 2, 0).numpy()
    else:
        ffmpeg = import_module("imageio_ffmpeg")
        flags = ["-v", "error", "-f", "image2pipe", "-c:v", "ppm", "-"]
        yield from piped([ffmpeg.get_ffmpeg_exe(), *flags[:2], "-i", f"file:{file}", *flags[2:]])


def piped(command: list[str]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames that a program writes as PPM: lines "P6", width and height, 255; then the bytes."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            while process.stdout.readline() == b"P6\n":
                width, height = map(int, process.stdout.readline().split())
                if int(process.stdout.readline()) != 255:
                    raise ValueError(
                        "its pixels have more than 8 bits per channel, which are not supported; store images "
                        "instead"
                    )
                yield np.frombuffer(process.stdout.read(3 * width * height), np.uint8).reshape(
                    height, width, 3
                )
            if message := process.stderr.read().decode(errors="replace").strip():
                raise ValueError(message.rpartition("\n")[2])
        finally:
            process.kill()

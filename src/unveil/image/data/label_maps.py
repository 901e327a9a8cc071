"""Semantic maps of images: the label of each pixel, as pictures in a folder or as an array."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unveil.errors import UnveilError
from unveil.files.npz import npy_array, npz_arrays, npz_names
from unveil.files.places import found
from unveil.image.data.images import ImageSet
from unveil.image.data.picture_files import fitted
from unveil.image.data.reading import Reading

FIELD = "maps"
MOST = 254  # labels; 255 is a pixel without one
SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # formats without loss

Maps = UInt8[np.ndarray, "N H W"]


def read_maps(images: ImageSet, source: str, data: str, reading: Reading) -> ImageSet:
    """The images with their semantic maps: whole numbers from 0, and 255 for pixels without label.

    Args:
        images: from `read_images`; those of a folder know their files.
        source: a folder of pictures whose levels, or numbers of colours in a palette, are labels, each with
            the name of its image, in the same subfolder or in none; a .npy file, or a .npz file
            with the array `maps` (N, H, W), in the order of the images; or "auto", the array `maps` of the
            data.
        data: file of the images, for "auto".
        reading: how the images became squares; the maps become the same, by nearest neighbour.
    Raises:
        UnveilError: no such file, an image without map, maps of another number or size, or no labels.
    """
    place = found(Path(data if source == "auto" else source))
    if place.is_dir():
        if source == "auto":
            raise UnveilError(
                f"{place}: a folder of images has no maps inside; give `maps` FOLDER, with a picture of "
                "labels for each image"
            )
        if images.files is None:
            raise UnveilError(f"{place}: a folder of maps needs a folder of images, and these are an array")
        maps = _of_folder(place, images.files, reading, images.pixels.shape[-1])
    else:
        maps = _of_array(place, images, reading)
    if bool((maps == 255).all()):
        raise UnveilError(f"{place}: no pixel has a label; labels are whole numbers 0 .. {MOST}")
    return replace(images, maps=maps)


def labels_in(maps: Maps) -> int:
    """The number of labels: the largest one, plus 1."""
    return int(np.where(maps == 255, 0, maps).max()) + 1


def read_map_file(file: Path, reading: Reading) -> UInt8[np.ndarray, "H W"]:
    """The labels in a picture: grey levels, or numbers of colours in a palette.

    Raises:
        UnveilError: it cannot be read, is of another kind or size.
    """
    from PIL import Image

    if not file.is_file():
        raise UnveilError(f"{file}: no such file")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as opened:
            opened.load()
            image = opened
    except MemoryError:
        raise
    except Exception as error:  # PIL's readers fail in many ways on damaged files
        raise UnveilError(f"{file}: cannot be read as a picture of labels ({type(error).__name__})") from None
    if image.mode not in ("1", "L", "P"):
        raise UnveilError(
            f"{file}: its colours are {image.mode}, but a map has a label for each pixel: grey levels or a "
            "palette of 8 bits"
        )
    plain = Image.fromarray(np.asarray(image).astype(np.uint8))  # numbers of the palette, or 0 and 1
    return np.asarray(fitted(plain, reading, str(file), labels=True))


def _of_folder(folder: Path, files: Sequence[Path], reading: Reading, side: int) -> Maps:
    """The map of each image file, by its name below the folder."""
    root = os.path.commonpath([os.path.abspath(file.parent) for file in files])
    names = [Path(os.path.relpath(os.path.abspath(file), root)) for file in files]
    maps = np.empty((len(files), side, side), np.uint8)
    for k, name in enumerate(names):
        near = [folder / name, folder / os.path.basename(root) / name, folder / name.name]
        places = [path.with_suffix(suffix) for path in near for suffix in SUFFIXES]
        place = next((path for path in places if path.is_file()), None)
        if place is None:
            raise UnveilError(
                f"{folder}: no map for {files[k]}; looked for {name.with_suffix('.png')} and other "
                f"{', '.join(SUFFIXES)}"
            )
        read = read_map_file(place, reading)
        if read.shape != (side, side):
            raise UnveilError(
                f"{place}: is {read.shape[1]} x {read.shape[0]}, but the image {files[k]} is {side} x {side}"
            )
        maps[k] = read
    return maps


def _of_array(file: Path, images: ImageSet, reading: Reading) -> Maps:
    """The maps of a .npy or a .npz file, in the order of the images."""
    from PIL import Image

    if not file.is_file():
        raise UnveilError(f"{file}: no such file or folder of maps")
    if file.suffix not in (".npz", ".npy"):
        raise UnveilError(f"{file}: maps are a folder of pictures, a .npz or a .npy file")
    if file.suffix == ".npy":
        maps = npy_array(file)
    elif FIELD not in (names := npz_names(file)):
        raise UnveilError(f"{file}: no array {FIELD} in it; there are {', '.join(names[:8])}")
    else:
        maps = npz_arrays(file, (FIELD,), ())[FIELD]
    if maps.ndim == 4 and 1 in (maps.shape[1], maps.shape[3]):
        maps = maps.squeeze(1 if maps.shape[1] == 1 else 3)
    if maps.ndim != 3 or len(maps) != len(images) or maps.dtype.kind not in "ui":
        raise UnveilError(
            f"{file}: maps must be ({len(images)}, H, W) of whole numbers, one for each image, got "
            f"{maps.shape} of {maps.dtype}"
        )
    if int(maps.min()) < 0 or int(maps.max()) > 255:
        raise UnveilError(f"{file}: labels {maps.min()} .. {maps.max()}, but 0 .. {MOST} and 255 are known")
    side = images.pixels.shape[-1]
    small = maps.astype(np.uint8)
    if reading.size:
        each = [fitted(Image.fromarray(one), reading, str(file), labels=True) for one in small]
        small = np.stack([np.asarray(one) for one in each])
    if small.shape[1:] != (side, side):
        raise UnveilError(
            f"{file}: maps are {small.shape[2]} x {small.shape[1]}, but the images are {side} x {side}"
        )
    return small

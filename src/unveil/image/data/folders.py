"""Folders of image files as an `ImageSet`, and single files as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unveil.errors import UnveilError
from unveil.files.notes import note
from unveil.image.data.folder_listing import kinds, left_out, listed, natural
from unveil.image.data.images import ImageSet, check_square
from unveil.image.data.picture_files import SUFFIXES, Unreadable, read_image_file
from unveil.image.data.reading import Reading


def read_folder(folder: Path, reading: Reading, names: Sequence[str] | None = None) -> ImageSet:
    """Read all images below a folder, ordered by name. Classes are subfolders; without any, the prefix of
    each name before its first "_".

    The images are written into one array as they are read, so that there is never a second copy.

    Args:
        names: names of the classes in order, such as those of the training images; by default those found, 2
            before 10.
    Raises:
        UnveilError: no image, one that cannot be read or would be changed silently, or mixed sizes.
    """
    found = listed(folder)
    if not found.files:
        arrays = sorted([*folder.glob("*.npz"), *folder.glob("*.npy")])
        raise _empty(folder, (f"for the array in it give {arrays[0]}",) if arrays else left_out(found))
    pixels: np.ndarray = np.empty((0, 0, 0, 0), np.uint8)
    used, skipped, several = list[Path](), list[str](), list[str]()
    for file in found.files:
        try:
            picture, further = read_image_file(file, reading)
        except Unreadable as error:
            if not reading.skip_corrupt:
                raise UnveilError(
                    f"{file}: cannot be read ({error}); repair it, or leave such files out with "
                    "`skip_corrupt`"
                ) from None
            skipped.append(str(file.relative_to(folder)))
            continue
        if not used:
            pixels = np.empty((len(found.files), *picture.shape), np.uint8)
        if picture.shape[1:] != pixels.shape[2:]:
            (h, w), (a, b) = picture.shape[1:], pixels.shape[2:]
            raise UnveilError(
                f"mixed sizes: {file} is {w} x {h}, {used[0]} {b} x {a}; give `size` and `fit=crop`, or "
                "`fit=resize`"
            )
        if len(picture) > pixels.shape[1]:  # the first colour image among grey ones
            grey, pixels = pixels, np.empty((len(pixels), len(picture), *pixels.shape[2:]), np.uint8)
            pixels[: len(used)] = grey[: len(used)]
            del grey
        pixels[len(used)] = picture
        used.append(file)
        if further > 0:
            several.append(file.name)
    if not used:
        raise UnveilError(f"{folder}: none of its {len(found.files)} images can be read")
    pixels = pixels[: len(used)]
    check_square(pixels, str(folder))
    holds = "files hold" if len(several) > 1 else "file holds"
    moving = f"{len(several)} {holds} several images, of which the first is read"
    notes = (*left_out(found), *([f"{moving} ({', '.join(several[:3])})"] if several else []))
    each, why = kinds(folder, used)
    images = ImageSet(pixels, skipped=tuple(skipped), notes=notes, unlabelled=why, files=tuple(used))
    if why:
        return images
    there = sorted(set(each), key=natural)
    names = there if names is None else names
    if foreign := [name for name in there if name not in names]:
        classes = f"the class {foreign[0]!r}, which no training image has; there are {', '.join(names)}"
        return replace(images, unlabelled=f"{folder}: images have {classes}")
    number = {name: k for k, name in enumerate(names)}
    return replace(images, labels=np.array([number[kind] for kind in each]), names=tuple(names))


def _empty(folder: Path, hints: Sequence[str]) -> UnveilError:
    text = f"{folder}: no images in this folder; looked for {', '.join(SUFFIXES)}"
    return UnveilError("; ".join([text, *hints]))


def class_names(folder: Path) -> list[str] | None:
    """The names of a folder's classes in order, from file names alone; None if it has none."""
    each, why = kinds(folder, listed(folder).files)
    return None if why else sorted(set(each), key=natural)


def read_image_files(paths: Sequence[Path], reading: Reading, channels: int) -> UInt8[np.ndarray, "N C H W"]:
    """Read image files, and those of folders, in this order, as grey (channels 1) or RGB (3, where grey
    images get three equal channels). Grids that unveil wrote beside the images of a folder are left out.

    Raises:
        UnveilError: no image, one that cannot be read or is coloured where grey is needed, or mixed sizes.
    """
    found: list[np.ndarray] = []
    for path in paths:
        if not path.exists():
            raise UnveilError(f"{path}: no such file or folder")
        files = (path,) if not path.is_dir() else _without_grids(listed(path).files)
        if not files:
            raise _empty(path, left_out(listed(path)))
        for file in files:
            try:
                picture, _ = read_image_file(file, reading)
            except Unreadable as error:
                raise UnveilError(f"{file}: cannot be read ({error})") from None
            if channels == 1 and len(picture) == 3:
                if (picture != picture[:1]).any():
                    raise UnveilError(f"{file}: is coloured, but grey is needed; convert it first")
                picture = picture[:1]
            if found and picture.shape[1:] != found[0].shape[1:]:
                (h, w), (a, b) = picture.shape[1:], found[0].shape[1:]
                raise UnveilError(f"mixed sizes: {file} is {w} x {h}, {paths[0]} {b} x {a}")
            found.append(np.broadcast_to(picture, (channels, *picture.shape[1:])))
    return np.stack(found)


def _without_grids(files: Sequence[Path]) -> Sequence[Path]:
    """Leave out the grid.png of `unveil sample image`, with a note, if there are other files."""
    from unveil.files.pictures import read_parameters

    grids: list[Path] = []
    for file in files:
        with suppress(UnveilError):
            if file.name == "grid.png" and read_parameters(file):
                grids.append(file)
    if not grids or len(grids) == len(files):
        return files
    note(
        f"left out {', '.join(map(str, grids))}: a grid that unveil wrote, of images that are read one by one"
    )
    return [file for file in files if file not in grids]

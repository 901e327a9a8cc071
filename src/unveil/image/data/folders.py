"""Folders of pictures as `ImageSet`, and single files as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unveil.errors import UnveilError
from unveil.image.data.folder_listing import kinds, left_out, listed, natural
from unveil.image.data.images import ImageSet, check_square
from unveil.image.data.picture_files import SUFFIXES, Unreadable, read_image_file
from unveil.image.data.reading import Reading


def read_folder(folder: Path, reading: Reading, names: Sequence[str] | None = None) -> ImageSet:
    """Every picture below a folder, by name. Classes are subfolders; without any, what stands before the first "_" of each name.

    The pictures are written into one array as they are read: there is never a second copy of all.

    Args:
        names: of the classes, in their order, such as those of the training images; by default those that are there, 2 before 10.
    Raises:
        UnveilError: no picture there, one that cannot be read, of a kind that would be changed silently, or of another size.
    """
    found = listed(folder)
    if not found.files:
        arrays = sorted([*folder.glob("*.npz"), *folder.glob("*.npy")])
        hint = (
            f"; for the array in it give {arrays[0]}"
            if arrays
            else "".join(f"; {line}" for line in left_out(found))
        )
        raise UnveilError(f"{folder}: no images in this folder; looked for {', '.join(SUFFIXES)}{hint}")
    pixels: np.ndarray = np.empty((0, 0, 0, 0), np.uint8)
    used, skipped, several = list[Path](), list[str](), list[str]()
    for file in found.files:
        try:
            picture, further = read_image_file(file, reading)
        except Unreadable as error:
            if not reading.skip_corrupt:
                raise UnveilError(
                    f"{file}: cannot be read ({error}); repair it, or leave such files out with `skip_corrupt`"
                ) from None
            skipped.append(str(file.relative_to(folder)))
            continue
        if not used:
            pixels = np.empty((len(found.files), *picture.shape), np.uint8)
        if picture.shape[1:] != pixels.shape[2:]:
            (h, w), (a, b) = picture.shape[1:], pixels.shape[2:]
            raise UnveilError(
                f"mixed sizes: {file} is {w} x {h}, {used[0]} {b} x {a}; give `size` and `fit=crop`, or `fit=resize`"
            )
        if len(picture) > pixels.shape[1]:  # the first colours among grey ones
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
    moving = f"{len(several)} {holds} several pictures, of which the first is read"
    notes = (*left_out(found), *([f"{moving} ({', '.join(several[:3])})"] if several else []))
    each, why = kinds(folder, used)
    if why:
        return ImageSet(pixels, skipped=tuple(skipped), notes=notes, unlabelled=why)
    there = sorted(set(each), key=natural)
    names = there if names is None else names
    if foreign := [name for name in there if name not in names]:
        why = f"{folder}: images are of the class {foreign[0]!r}, which no training image is of; there are {', '.join(names)}"
        return ImageSet(pixels, skipped=tuple(skipped), notes=notes, unlabelled=why)
    number = {name: k for k, name in enumerate(names)}
    return ImageSet(
        pixels, np.array([number[kind] for kind in each]), tuple(names), skipped=tuple(skipped), notes=notes
    )


def class_names(folder: Path) -> list[str] | None:
    """The classes of a folder in their order, by names alone; None where it has none."""
    each, why = kinds(folder, listed(folder).files)
    return None if why else sorted(set(each), key=natural)


def read_image_files(paths: Sequence[Path], reading: Reading, channels: int) -> UInt8[np.ndarray, "N C H W"]:
    """Picture files, and those of folders, in the order given, as grey (channels 1) or RGB (3); grey ones count as three equal colours.

    Raises:
        UnveilError: nothing there, one that cannot be read or is coloured where grey is needed, or mixed sizes.
    """
    found: list[np.ndarray] = []
    for path in paths:
        if not path.exists():
            raise UnveilError(f"{path}: no such file or folder")
        files = (path,) if not path.is_dir() else listed(path).files
        if not files:
            hints = "".join(f"; {line}" for line in left_out(listed(path)))
            raise UnveilError(f"{path}: no images in this folder; looked for {', '.join(SUFFIXES)}{hints}")
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

"""Folders and arrays of pictures as `Images`. PIL is imported where a file is opened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from unveil.data.images import Images, Reading
from unveil.data.npz import npy_array, npz_arrays, unpacked
from unveil.errors import UnveilError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")


def read_folder(folder: Path, reading: Reading) -> Images:
    """Every picture below a folder, by name. Classes are subfolders; without any, what stands before the first "_" of each name.

    Raises:
        UnveilError: no picture there, one that cannot be read, of a kind that would be changed silently, or of another size.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not files:
        arrays = sorted([*folder.glob("*.npz"), *folder.glob("*.npy")])
        hint = f"; for the array in it give {arrays[0]}" if arrays else ""
        raise UnveilError(f"{folder}: no images in this folder; looked for {', '.join(SUFFIXES)}{hint}")
    pictures: list[np.ndarray] = []
    kinds: list[str] = []
    skipped: list[str] = []
    first = ""
    for file in files:
        try:
            picture = read_file(file, reading)
        except _Corrupt as error:
            if not reading.skip_corrupt:
                raise UnveilError(f"{file}: cannot be read ({error}); mend it, or leave such files out with --skip-corrupt") from None
            skipped.append(str(file.relative_to(folder)))
            continue
        if pictures and picture.shape[1:] != pictures[0].shape[1:]:
            (h, w), (a, b) = picture.shape[1:], pictures[0].shape[1:]
            raise UnveilError(f"mixed sizes: {file} is {w} x {h}, {first} {b} x {a}; give --size S --fit crop, or --fit resize")
        first = first or str(file)
        pictures.append(picture)
        inner = file.relative_to(folder).parts
        kinds.append(inner[0] if len(inner) > 1 else file.stem.split("_")[0] if "_" in file.stem else "")
    if not pictures:
        raise UnveilError(f"{folder}: none of its {len(files)} images can be read")
    colour = max(len(p) for p in pictures)
    pixels = np.stack([np.broadcast_to(p, (colour, *p.shape[1:])) for p in pictures])
    _square(pixels, folder)
    names = tuple(sorted(set(kinds)))
    if names == ("",):
        return Images(pixels, skipped=tuple(skipped))
    if "" in names:
        file = files[kinds.index("")]
        raise UnveilError(f"{file} has no class: it is in no subfolder and its name has no prefix before '_', as the others have")
    labels = np.array([names.index(kind) for kind in kinds])
    return Images(pixels, labels, names, skipped=tuple(skipped))


def read_pictures(paths: Sequence[Path], reading: Reading, channels: int) -> UInt8[np.ndarray, "N C H W"]:
    """Picture files, and those of folders, in the order given, as grey (channels 1) or RGB (3); grey ones count as three equal colours.

    Raises:
        UnveilError: nothing there, one that cannot be read or is coloured where grey is needed, or mixed sizes.
    """
    found: list[np.ndarray] = []
    for path in paths:
        if not path.exists():
            raise UnveilError(f"{path}: no such file or folder")
        files = [path] if not path.is_dir() else sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise UnveilError(f"{path}: no images in this folder; looked for {', '.join(SUFFIXES)}")
        for file in files:
            try:
                picture = read_file(file, reading)
            except _Corrupt as error:
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


class _Corrupt(Exception):
    """A file that is not a whole picture."""


def read_file(file: Path, reading: Reading) -> UInt8[np.ndarray, "C H W"]:
    """One picture, fitted.

    Raises:
        UnveilError: 16 bits, CMYK, transparent without a background, or another size than asked.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            deep = any(";16" in str(tile) for tile in getattr(opened, "tile", ()))  # which loading would cut to 8 bits
            opened.load()
            image = opened
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise _Corrupt(" ".join(str(error).split()).replace(str(file), "it")) from None
    except Image.DecompressionBombError as error:
        raise UnveilError(f"{file}: {error}") from error
    if deep or image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise UnveilError(f"{file}: more than 8 bits a channel (mode {image.mode}); convert it to 8 bits first")
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        if not reading.background:
            raise UnveilError(f"{file}: has transparent places (mode {image.mode}); give --background white or black")
        clear = image.convert("RGBA")
        under = Image.new("RGBA", clear.size, reading.background)
        image = Image.alpha_composite(under, clear).convert("RGB")
    if image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode not in ("L", "RGB"):
        raise UnveilError(f"{file}: its colours are {image.mode}, but grey or RGB is needed; convert it first")
    array = np.asarray(_fitted(image, reading, str(file)))
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _fitted(image: Image, reading: Reading, what: str) -> Image:
    from PIL.Image import Resampling

    side, (width, height) = reading.size, image.size
    if side == 0 or (width, height) == (side, side):
        return image
    if reading.fit == "exact":
        raise UnveilError(f"{what}: is {width} x {height}, but {side} x {side} is asked; give --fit crop or --fit resize")
    if reading.fit == "resize":
        return image.resize((side, side), Resampling.BOX if width % side == 0 == height % side else Resampling.BICUBIC)
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Resampling.BOX if short % side == 0 else Resampling.BICUBIC, box=box)


def read_array(file: Path, reading: Reading, styles: Sequence[str] = ()) -> Images:
    """A .npy of images, or a .npz: `images` and `labels`, or `arr_0` and `arr_1` as guided-diffusion writes them.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W), uint8. Beside NAME.npz a NAME.json.gz with a record an image may say its `group`,
    which becomes the class, its `code`, which is never split, and its `style`.

    Args:
        styles: records of these only; () takes all but "openmoji", whose licence would bind the weights that learn from it.
    Raises:
        UnveilError: not such an array, or classes that do not fit.
    """
    try:
        names = ("images", "labels", "arr_0", "arr_1")
        found = {"images": npy_array(file)} if file.suffix == ".npy" else npz_arrays(file, wanted=names)
    except UnveilError as error:
        raise UnveilError(f"{file}: not an array of images ({str(error).removeprefix(f'{file}: ')})") from error
    images = found.get("images", found.get("arr_0"))
    if images is None:
        raise UnveilError(f"{file}: no array named images (or arr_0) in it")
    if images.dtype != np.uint8:
        raise UnveilError(f"{file}: images are {images.dtype}, but uint8, 0 .. 255, is needed; convert them first")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise UnveilError(f"{file}: images are {images.shape}, but (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3 is needed")
    labels = found.get("labels", found.get("arr_1"))
    read = Images(images) if labels is None else _labelled(images, labels, file)
    records = file.with_suffix(".json.gz")
    if records.is_file():
        read = _recorded(read, records, styles)
    elif styles:
        raise UnveilError(f"{file}: no {records.name} beside it, which would say the style of each image; leave --styles out")
    pixels = np.stack([_resized(p, reading, str(file)) for p in read.pixels]) if reading.size else np.ascontiguousarray(read.pixels)
    _square(pixels, file)
    return replace(read, pixels=pixels)


def _resized(picture: np.ndarray, reading: Reading, what: str) -> np.ndarray:
    from PIL.Image import fromarray

    array = np.asarray(_fitted(fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)), reading, what))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _labelled(pixels: np.ndarray, labels: np.ndarray, file: Path) -> Images:
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu" or int(labels.min()) < 0 or int(labels.max()) >= 100_000:
        raise UnveilError(f"{file}: labels must be {len(pixels)} whole numbers from 0, got {labels.dtype} {labels.shape}")
    return Images(pixels, labels.astype(np.int64), tuple(str(k) for k in range(int(labels.max()) + 1)))


def _recorded(images: Images, file: Path, styles: Sequence[str]) -> Images:
    try:
        records = json.loads(unpacked(file))
        kinds, codes, drawn = ([str(r[name]) for r in records] for name in ("group", "code", "style"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnveilError(f"{file}: not a list of records with group, code and style ({error})") from error
    if len(kinds) != len(images):
        raise UnveilError(f"{file}: {len(kinds)} records for {len(images)} images")
    unknown = set(styles) - set(drawn)
    if unknown:
        raise UnveilError(f"{file}: no style {sorted(unknown)[0]!r}; there are {', '.join(sorted(set(drawn)))}")
    wanted = np.array([style in styles if styles else style != "openmoji" for style in drawn])
    names = tuple(sorted(set(kinds)))
    labels = np.array([names.index(kind) for kind in kinds])
    groups = np.unique(np.array(codes), return_inverse=True)[1]
    return replace(images, labels=labels, names=names, groups=groups).chosen(wanted)


def _square(pixels: np.ndarray, what: Path) -> None:
    if pixels.shape[-1] != pixels.shape[-2]:
        raise UnveilError(
            f"{what}: images are {pixels.shape[-1]} x {pixels.shape[-2]}, but squares are needed; give --size S --fit crop, or --fit resize"
        )

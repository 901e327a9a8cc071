"""Read arrays of images, .npy and .npz; numbers of an ambiguous range are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from unveil.errors import UnveilError
from unveil.files.npz import DAMAGE, npy_array, npz_arrays, npz_names, npz_words, unpacked
from unveil.image.data.caption_sampler import Drawing, caption_of
from unveil.image.data.folder_listing import natural
from unveil.image.data.images import ImageSet, block, check_square, kept
from unveil.image.data.picture_files import channels_first, fitted
from unveil.image.data.reading import Reading


class Described(NamedTuple):
    """Fields of an `ImageSet` besides the pixels."""

    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    why: str = ""
    captions: tuple[str, ...] | None = None
    drawings: tuple[Drawing, ...] | None = None


def read_array(file: Path, reading: Reading, styles: Sequence[str] = ()) -> ImageSet:
    """A .npy of images, or a .npz: `images` and `labels`, or `arr_0` and `arr_1` as guided-diffusion writes
    them.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1, 3 or 4 (alpha): uint8; other whole numbers
    within 0 .. 255; or fractions within 0 .. 1 or -1 .. 1, which are rounded to the nearest of 0 .. 255, as a
    note says. Labels are whole numbers from 0, or words. A file NAME.json.gz beside NAME.npz may hold a
    record per image: its `group`, which becomes the class, its `code`, which is never split, its `style`, and
    its `caption`, or the `name` and `keywords` from which captions are made. Without records, the array
    `captions` of the .npz may hold a text per image.

    Args:
        styles: styles to keep; () keeps all but "openmoji", whose licence would bind the weights.
    Raises:
        UnveilError: no such array, or numbers of an ambiguous range.
    """
    images, labels, texts, others = _loaded(file)
    if images is None:
        inside = f"; there are {', '.join(others[:8])}" if others else ""
        raise UnveilError(f"{file}: no array named images (or arr_0) in it{inside}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4:
        last = images.shape[-1]
        if last in (1, 3) or (last == 4 and images.shape[1] not in (1, 3)):
            images = images.transpose(0, 3, 1, 2)
    colours = images.shape[1] if images.ndim == 4 else 0
    square = colours != 4 or images.shape[2] == images.shape[3]
    if colours not in (1, 3, 4) or not all(images.shape) or not square:
        raise UnveilError(
            f"{file}: images are {images.shape}, but (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3 "
            "is needed"
        )
    records, rows, known = file.with_suffix(".json.gz"), None, Described()
    if records.is_file():
        known, rows = _recorded(len(images), records, styles)
    elif styles:
        raise UnveilError(
            f"{file}: no {records.name} beside it, which would say the style of each image; leave `styles` "
            "out"
        )
    elif labels is not None:
        known = _labelled(len(images), labels, file)
    lost: tuple[str, ...] = ()
    if texts is not None and not records.is_file():
        if texts.shape == (len(images),):
            known = known._replace(captions=tuple(map(str, texts.tolist())))
        else:
            lost = (f"{file}: its array captions is not read: it holds no text for each image",)
    if rows is not None:
        images = kept(images, rows)
    pixels, notes = _bytes(images, reading, file)
    check_square(pixels, str(file))
    return ImageSet(
        pixels,
        known.labels,
        known.names,
        known.groups,
        notes=(*notes, *lost),
        unlabelled=known.why,
        stored_captions=known.captions,
        drawings=known.drawings,
    )


def _loaded(file: Path) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, list[str]]:
    """The images, the labels, the captions, and the names of all arrays there."""
    try:
        with open(file, "rb") as handle:
            if handle.read(2) != b"PK":
                return npy_array(file), None, None, []
        names = npz_names(file)
        pairs = (("images", "arr_0"), ("labels", "arr_1"))
        image, label = (next((name for name in pair if name in names), None) for pair in pairs)
        left: dict[str, str] = {}
        found = npz_arrays(file, (image,) if image else (), (label,) if label else (), left=left)
        labels = None if label is None else found.get(label)
        if label in left:  # words, or objects, which are not unpickled
            labels = npz_words(file, label)
            labels = np.zeros(0) if labels is None else labels
        texts = None
        if "captions" in names:
            texts = npz_words(file, "captions")
            texts = np.zeros(0) if texts is None else texts
        return None if image is None else found[image], labels, texts, names
    except MemoryError:
        raise
    except (OSError, UnveilError) as error:
        why = str(error).removeprefix(f"{file}: ")
        raise UnveilError(f"{file}: not an array of images ({why})") from error


def _bytes(images: np.ndarray, reading: Reading, file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 (N, 1 or 3, S, S), converted by blocks, and notes about the conversion."""
    from PIL import Image

    scale, shift, note = _meaning(images, file)
    alpha = images.shape[1] == 4
    if alpha and not reading.background:
        covers = (_levels(images[some, 3:], scale, shift) for some in _blocks(images))
        if any(bool((cover < 255).any()) for cover in covers):
            raise UnveilError(f"{file}: has transparent pixels; give `background` white or black")
    whole = images.dtype == np.uint8 and not alpha and not reading.size
    if whole and images.flags.c_contiguous:
        return images, note
    last = images.transpose(0, 2, 3, 1)  # as it was stored, if its colours came last
    if whole and last.flags.c_contiguous and last.flags.writeable:
        rows = last.reshape(len(last), -1)
        for some in _blocks(images):
            rows[some] = images[some].reshape(-1, rows.shape[1])  # the right side is a copy
        return rows.reshape(images.shape), note
    side = (reading.size,) * 2 if reading.size else images.shape[2:]
    pixels = np.empty((len(images), min(images.shape[1], 3), *side), np.uint8)
    ground = 0.0 if reading.background == "black" else 255.0
    for some in _blocks(images):
        levels = _levels(images[some], scale, shift)
        if alpha:
            cover = levels[:, 3:] / 255.0
            levels = (levels[:, :3] * cover + ground * (1.0 - cover)).round().astype(np.uint8)
        if reading.size:
            for k, image in enumerate(levels):
                last = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
                one = fitted(Image.fromarray(np.ascontiguousarray(last)), reading, str(file))
                pixels[some.start + k] = channels_first(one)
        else:
            pixels[some] = levels
    return pixels, note


def _blocks(images: np.ndarray) -> list[slice]:
    return [slice(i, i + block(images)) for i in range(0, len(images), block(images))]


def _levels(x: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """Levels 0 .. 255 of numbers x: round(scale (x + shift))."""
    return x if x.dtype == np.uint8 else ((x.astype(np.float64) + shift) * scale).round().astype(np.uint8)


def _meaning(images: np.ndarray, file: Path) -> tuple[float, float, tuple[str, ...]]:
    """(scale, shift, note) of the conversion to 0 .. 255, by the type and the range of the numbers.

    Raises:
        UnveilError: the range is ambiguous.
    """
    kind, needed = images.dtype.kind, "but uint8, 0 .. 255, is needed"
    if kind not in "uif":
        raise UnveilError(f"{file}: images are {images.dtype}, {needed}; convert them first")
    blocks = [images[some] for some in _blocks(images)]
    low, high = (float(reduce([reduce(part) for part in blocks])) for reduce in (np.min, np.max))
    values = f"{file}: images are {images.dtype} in {low:g} .. {high:g}"
    if images.dtype == np.uint8:
        dark = f"{values}, nearly black; if 1 is white, multiply them by 255"
        return 1.0, 0.0, (dark,) if high == 1.0 else ()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnveilError(f"{values}, but finite numbers are needed")
    if kind in "ui" and (high <= 1.0 or low < 0.0 or high > 255.0):
        raise UnveilError(f"{values}, {needed}; convert them first")
    if kind in "ui":
        return 1.0, 0.0, ()
    if low >= 0.0 and high <= 1.0:
        return 255.0, 0.0, (f"{values}, read as 0 black and 1 white",)
    if -1.0 <= low < 0.0 and high <= 1.0:
        return 127.5, 1.0, (f"{values}, read as -1 black and 1 white",)
    if low >= 0.0 and high <= 255.0 and all(bool((part == np.round(part)).all()) for part in blocks):
        return 1.0, 0.0, ()
    raise UnveilError(f"{values}, {needed}, or fractions within 0 .. 1 or -1 .. 1; convert them first")


def _labelled(count: int, labels: np.ndarray, file: Path) -> Described:
    """The classes of an array of labels; `why` says what is wrong with invalid ones."""
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape == (count,) and labels.dtype.kind in "US":
        stored = labels.tolist()
        words = [str(word, errors="replace") if isinstance(word, bytes) else str(word) for word in stored]
        names = tuple(sorted(set(words), key=natural))
        return Described(np.array([names.index(word) for word in words]), names)
    whole = labels.shape == (count,) and labels.dtype.kind in "iu"
    if not whole or int(labels.min()) < 0 or int(labels.max()) >= 100_000:
        got = f"{labels.dtype} {labels.shape}"
        return Described(why=f"{file}: labels must be {count} whole numbers from 0, or words, got {got}")
    return Described(labels.astype(np.int64), tuple(str(k) for k in range(int(labels.max()) + 1)))


def _recorded(count: int, file: Path, styles: Sequence[str]) -> tuple[Described, np.ndarray]:
    """The classes and the captions, and the mask of the rows to keep."""
    try:
        records = json.loads(unpacked(file))
        kinds, codes, drawn = ([str(r[name]) for r in records] for name in ("group", "code", "style"))
    except (*DAMAGE, RecursionError) as error:
        raise UnveilError(f"{file}: not a list of records with group, code and style ({error})") from error
    if len(kinds) != count:
        raise UnveilError(f"{file}: {len(kinds)} records for {count} images")
    unknown = set(styles) - set(drawn)
    if unknown:
        raise UnveilError(
            f"{file}: no style {sorted(unknown)[0]!r}; there are {', '.join(sorted(set(drawn)))}"
        )
    wanted = np.array([style in styles if styles else style != "openmoji" for style in drawn])
    names = tuple(sorted(set(kinds)))
    labels = np.array([names.index(kind) for kind in kinds])
    groups = np.unique(np.array(codes), return_inverse=True)[1]
    chosen = [record for record, keep in zip(records, wanted.tolist(), strict=True) if keep]
    captions, drawings = _captioned(chosen)
    return Described(labels[wanted], names, groups[wanted], captions=captions, drawings=drawings), wanted


def _captioned(
    records: Sequence[Mapping[str, object]],
) -> tuple[tuple[str, ...] | None, tuple[Drawing, ...] | None]:
    """The captions of records, and the drawings from which they are made; None if some record has none."""
    texts = [record.get("caption") for record in records]
    written = tuple(text for text in texts if isinstance(text, str))
    if len(written) == len(records):
        return written, None
    names = [record.get("name") for record in records]
    if not all(isinstance(name, str) and name for name in names):
        return None, None
    drawings = tuple(_drawing(record) for record in records)
    return tuple(caption_of(drawing) for drawing in drawings), drawings


def _drawing(record: Mapping[str, object]) -> Drawing:
    """The description of a record, without keywords that repeat the name or begin with a sign, as ":D"."""
    listed = record.get("keywords")
    listed = cast("list[object]", listed) if isinstance(listed, list) else []
    words = [word for word in listed if isinstance(word, str) and word[:1].isalnum()]
    words = [word for word in words if word != record["name"]]
    style, name, code, group = (str(record[field]) for field in ("style", "name", "code", "group"))
    return Drawing(style, name, tuple(words), code, group)

"""Fields of replay buffers: pictures, their conversion to bytes, and notes about fields that are not read.

Colours (3 or 4 channels) become bytes: whole numbers in 0 .. 255 unchanged, floats in [0, 1] as round(255 x),
other floats in [0, 255] as round(x). All else with the axes of a picture, such as depth in metres or
millimetres, keeps its numbers as float32.
"""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

import numpy as np

PICTURE_AXES = 4  # (N, H, W, C) or more
COLOURS = (3, 4)
HALF_LEVEL = 0.5 / 255.0  # tolerance of floats in [0, 1]: half a grey level, which rounding removes

Pictures = bool | Collection[str]
"""Which pictures to read: all, none, or those with these names."""


class Unread(Exception):
    """A field that is not read; the text is the reason, the end of a sentence that begins with its name."""


def picture_wanted(name: str, axes: int, pictures: Pictures) -> bool:
    """Whether to read a field with this number of axes; fields that are not pictures are always read."""
    return axes < PICTURE_AXES or (pictures if isinstance(pictures, bool) else name in pictures)


def check_kind(kind: str, dtype: object) -> None:
    """Refuse dtypes that are not numbers, such as text or objects.

    Raises:
        Unread: another kind.
    """
    if kind not in "fiub":
        raise Unread(f"has dtype {dtype}, but numbers are needed")


def as_pictures(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Join the pieces of one field, with channels last: colours as uint8, all else as float32.

    Each piece becomes bytes at once, so that only one is held as floats. While no float is above 2, the scale
    is assumed to be [0, 1]; if a later piece shows that it is [0, 255], the earlier bytes are converted back
    to 0 and 1.

    Raises:
        Unread: colours beyond 0 .. 255 or between both scales, or not finite, or pieces of different shapes.
    """
    made = list[np.ndarray]()
    units = list[int]()  # indices of pieces read as floats in [0, 1]
    of_255 = False  # floats above 1, but none above 2, fit neither scale
    low, high = 0.0, 0.0
    for piece in pieces:
        if made and piece.shape[1:] != made[0].shape[1:]:
            raise Unread(f"has pictures of several shapes, {made[0].shape[1:]} and {piece.shape[1:]}")
        if not piece.size or not _coloured(piece.shape) or piece.dtype == np.uint8:
            dtype = np.uint8 if _coloured(piece.shape) or piece.dtype == np.uint8 else np.float32
            made.append(piece.astype(dtype, copy=False))
            continue
        if piece.dtype.kind == "b":
            made.append(piece.astype(np.uint8) * np.uint8(255))
            continue
        bottom, top = float(piece.min()), float(piece.max())
        if not np.isfinite(bottom + top):
            raise Unread("holds numbers that are not finite")
        low, high = min(low, bottom), max(high, top)
        of_255 = of_255 or piece.dtype.kind in "iu" or top > 2.0
        if of_255 or top > 1.0 + HALF_LEVEL:
            made.append(piece.round().clip(0, 255).astype(np.uint8))
        else:
            units.append(len(made))
            made.append((255.0 * piece.clip(0.0, 1.0)).round().astype(np.uint8))
    if low < (-0.5 if of_255 else -HALF_LEVEL) or high >= 255.5 or (high > 1.0 + HALF_LEVEL and not of_255):
        raise Unread(f"has colours from {low:g} to {high:g}, but 0 .. 255, or floats in 0 .. 1, are needed")
    if of_255:
        for i in units:
            made[i] = (made[i] >= 128).astype(np.uint8)
    joined = made[0] if len(made) == 1 else np.concatenate(made)
    return np.ascontiguousarray(np.moveaxis(joined, 1, -1)) if _first(joined.shape) else joined


class Scale(NamedTuple):
    """How stored numbers become pictures, without reading all of them at once.

    Args:
        kind: byte: unchanged or rounded; unit: 255 times; bit: 0 or 255; number: as float32, such as depth.
        first: channels are stored before rows and columns.
    """

    kind: Literal["byte", "unit", "bit", "number"]
    first: bool


def scale_of(pieces: Iterable[np.ndarray]) -> Scale:
    """The scale of one field, by the rule of `as_pictures`, from its pieces one after another.

    Raises:
        Unread: as `as_pictures`.
    """
    low, high, of_255 = 0.0, 0.0, False
    kind: Literal["byte", "unit", "bit", "number"] = "byte"
    shape: tuple[int, ...] = ()
    for piece in pieces:
        shape = piece.shape
        if piece.dtype == np.uint8:
            continue
        if not _coloured(shape):
            return Scale("number", _first(shape))
        if piece.dtype.kind == "b":
            return Scale("bit", _first(shape))
        bottom, top = float(piece.min()), float(piece.max())
        if not np.isfinite(bottom + top):
            raise Unread("holds numbers that are not finite")
        low, high = min(low, bottom), max(high, top)
        of_255 = of_255 or piece.dtype.kind in "iu" or top > 2.0
        kind = "byte" if of_255 else "unit"
    if low < (-0.5 if of_255 else -HALF_LEVEL) or high >= 255.5 or (high > 1.0 + HALF_LEVEL and not of_255):
        raise Unread(f"has colours from {low:g} to {high:g}, but 0 .. 255, or floats in 0 .. 1, are needed")
    return Scale(kind, _first(shape))


def scaled(stored: np.ndarray, scale: Scale) -> np.ndarray:
    """Pictures (n, h, w, C) of stored numbers: uint8, or float32 of a scale without colours."""
    if scale.kind == "number":
        values = stored.astype(np.float32)
    elif scale.kind == "unit":
        values = (255.0 * stored.clip(0.0, 1.0)).round().astype(np.uint8)
    elif scale.kind == "bit":
        values = stored.astype(np.uint8) * np.uint8(255)
    else:
        values = stored if stored.dtype == np.uint8 else stored.round().clip(0, 255).astype(np.uint8)
    return np.moveaxis(values, 1, -1) if scale.first else values


def _first(shape: tuple[int, ...]) -> bool:
    """Whether channels are stored before rows and columns."""
    return len(shape) == PICTURE_AXES and shape[1] in (1, 3) and shape[-1] not in (1, *COLOURS)


def _coloured(shape: tuple[int, ...]) -> bool:
    """Whether an array has three or four channels, last or, as (N, 3, H, W), first."""
    return len(shape) >= PICTURE_AXES and (
        shape[-1] in COLOURS or (len(shape) == PICTURE_AXES and shape[1] == 3)
    )

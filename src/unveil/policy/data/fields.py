"""Fields of replay buffers: which are pictures, how pictures become bytes, and what is said of fields that are not read.

Colours (3 or 4 channels) become bytes: whole numbers in 0 .. 255 as they are, floats in [0, 1] as round(255 x), other floats in
[0, 255] as round(x). Everything else with the axes of a picture, such as depth in metres or millimetres, keeps its numbers as float32.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from unveil.files.notes import note

PICTURE_AXES = 4  # (N, H, W, C) or more
COLOURS = (3, 4)
HALF_LEVEL = (
    0.5 / 255.0
)  # of a grey level, by which a float in [0, 1] may miss its limits without being changed

Pictures = bool | Collection[str]
"""Which pictures are asked for: all, none, or those of these names."""


class Unread(Exception):
    """A field of a kind that is not read; the text says why, as the end of a sentence that begins with its name."""


def asked(name: str, axes: int, pictures: Pictures) -> bool:
    """Whether a field of so many axes is asked for; what is no picture always is."""
    return axes < PICTURE_AXES or (pictures if isinstance(pictures, bool) else name in pictures)


def say_left_out(path: Path | str, left: Mapping[str, str]) -> None:
    """Say which fields were left out, and why, in a line."""
    if left:
        note(f"{path}: left out {', '.join(f'{name!r}, which {why}' for name, why in left.items())}")


def check_kind(kind: str, dtype: object) -> None:
    """Refuse what is no number, such as text or objects.

    Raises:
        Unread: it is not.
    """
    if kind not in "fiub":
        raise Unread(f"has dtype {dtype}, but numbers are needed")


def as_pictures(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """The pieces of one field, one after another, with channels last: colours as uint8, anything else as float32.

    Every piece becomes bytes at once, so that no more than one is held as floats. As long as no float is above 2 its scale is taken to be
    [0, 1]; if a later piece shows that it is [0, 255], those bytes become 0 and 1 again.

    Raises:
        Unread: colours beyond 0 .. 255 or between both scales, or not finite, or pieces of different shapes.
    """
    made = list[np.ndarray]()
    units = list[int]()  # pieces that were taken for floats in [0, 1]
    of_255 = False  # floats above 1, but none above 2, are neither
    low, high = 0.0, 0.0
    for piece in pieces:
        if made and piece.shape[1:] != made[0].shape[1:]:
            raise Unread(f"has pictures of several shapes, {made[0].shape[1:]} and {piece.shape[1:]}")
        if not piece.size or not _coloured(piece.shape) or piece.dtype == np.uint8:
            made.append(
                piece
                if piece.dtype == np.uint8
                else piece.astype(np.uint8 if _coloured(piece.shape) else np.float32)
            )
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
    first = (
        joined.ndim == PICTURE_AXES and joined.shape[1] in (1, 3) and joined.shape[-1] not in (1, *COLOURS)
    )
    return np.ascontiguousarray(np.moveaxis(joined, 1, -1)) if first else joined


def _coloured(shape: tuple[int, ...]) -> bool:
    """Whether an array has three or four channels, last or, of a (N, 3, H, W), first."""
    return len(shape) >= PICTURE_AXES and (
        shape[-1] in COLOURS or (len(shape) == PICTURE_AXES and shape[1] == 3)
    )

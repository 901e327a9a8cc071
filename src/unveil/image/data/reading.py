"""How image files become arrays of one size: the settings. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields

Fit = Literal["exact", "crop", "resize"]
Background = Literal["", "white", "black"]


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Raises:
        ValueError: a value of another type or out of range, or another fit than exact without a size.
    """

    size: Annotated[int, Bounds(0)] = 0
    """side of the images in pixels; 0: the side of the files, which must all be square and of one size"""
    fit: Fit = "exact"
    """how images of other sizes become `size`: exact refuses them; crop scales the shorter side and takes the
    middle square; resize ignores the aspect ratio"""
    background: Background = ""
    """colour behind transparent pixels; default: files with transparent pixels are refused"""
    skip_corrupt: bool = False
    """leave out files that cannot be read, and list them"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.fit != "exact" and self.size == 0:
            raise ValueError(f"`fit={self.fit}` needs `size`, the side in pixels, of at least 1; got 0")

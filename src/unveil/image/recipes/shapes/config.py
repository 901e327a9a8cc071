"""Configs of image data that are generated; the wiring is in `data.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unveil.checks import Bounds, check_fields
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class DataShapes:
    """Generate pictures of coloured shapes with captions, to train and to test text-to-image models.

    A caption states colour, shape, size, place or relation of one to three objects. A quarter of the pairs of
    colour and shape never occurs in the pictures; captions with these pairs alone are written to a second
    file, to test what a model composes.

    Example: unveil data shapes --n 20000 --size 32 --out shapes.npz
    """

    n: Annotated[int, Bounds(1)] = 20_000
    """number of pictures"""
    size: Annotated[int, Bounds(24)] = 32
    """side of the pictures in pixels"""
    objects: tuple[Annotated[int, Bounds(1, 3)], ...] = (1, 2, 3)
    """numbers of objects in a picture, each equally likely"""
    varied: bool = False
    """a quarter of the captions of one object leave out the size, and a quarter the place; those of two
    objects name each size half of the time"""
    captions: Annotated[int, Bounds(1)] = 600
    """number of captions of held-out pairs"""
    out: Path = Path("shapes.npz")
    """.npz file for the pictures. The captions and attributes are written beside it: those of the pictures to
    <name>.json.gz, those with held-out pairs to <name>-held-out.jsonl"""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """seed of all random numbers; picture k is the same for every `n`"""
    json: str | None = None
    """file for the numbers, as JSON; - is standard output"""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.objects:
            raise ValueError("`objects` must have at least one number")
        if self.out.suffix != ".npz":
            raise ValueError(f"`out` must be the name of an .npz file, got {self.out}")


SHAPES = Verb(
    {"default": DataShapes()},
    "image.recipes.shapes.data:make_shapes",
    "pictures of coloured shapes with captions",
    "n size objects varied out seed",
)

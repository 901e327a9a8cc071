"""Config of the split of emoji; the wiring is in `data.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unveil.checks import Bounds, check_fields
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class DataEmoji:
    """Split captioned drawings into those to train on and those that a text-to-image model never sees.

    Held out are pairs of concept and style (the concept is known in other styles) and whole concepts (each
    of their words is known from others). Flags are left out. Three .npz files are written, each with records.

    Example: unveil data emoji --data emoji64/emoji64.npz --out emoji-train.npz
    """

    data: str = "emoji64/emoji64.npz"
    """.npz file of drawings with records of style, code, name, group and keywords; looked for in the current
    folder, then in $UNVEIL_DATA"""
    styles: tuple[str, ...] = ()
    """styles to keep; default: all but openmoji, whose licence (CC BY-SA) would extend to the weights"""
    groups: tuple[str, ...] = ()
    """groups to keep, such as "Animals & Nature" "Food & Drink"; default: all but flags. What is held out
    stays the same, so that words of unseen concepts may then be missing"""
    pairs: Annotated[int, Bounds(0)] = 300
    """number of held-out pairs of concept and style"""
    concepts: Annotated[int, Bounds(0)] = 60
    """number of held-out concepts"""
    out: Path = Path("emoji-train.npz")
    """.npz file for the drawings to train on. Those with held-out pairs are written to <name>-pairs.npz,
    those of held-out concepts to <name>-concepts.npz, without "-train" in <name>"""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """seed of the split"""
    json: str | None = None
    """file for the numbers, as JSON; - is standard output"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.out.suffix != ".npz":
            raise ValueError(f"`out` must be the name of an .npz file, got {self.out}")


EMOJI = Verb(
    {"default": DataEmoji()},
    "image.recipes.emoji.data:split_drawings",
    "captioned emoji, without pairs and concepts to test with",
    "data out pairs concepts",
)

"""The sentences of `unveil demo text-to-image --model shapes`, and how many of their pictures are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from unveil.image.data.shapes import Scene

EACH = 6  # sentences of pairs of colour and shape that training pictures show, and of those that they do not
FIRST = 4_000_000  # seed of the scenes: no training has them


def sentences() -> list[Scene]:
    """Twelve scenes of two objects, some with sizes: six of seen colours and shapes, then six others."""
    from unveil.image.data.shapes import random_scenes

    parts = (random_scenes(EACH, FIRST, (2,), held=held, varied=True) for held in (False, True))
    return [scene for part in parts for scene in part]


def verdicts(pixels: np.ndarray, scenes: Sequence[Scene]) -> tuple[list[bool], str]:
    """Which pictures (12, 3, S, S) show all that their sentences say, and a line about them.

    Raises:
        UnveilError: grey pictures, in which no colours can be read.
    """
    from unveil.errors import UnveilError
    from unveil.image.evaluation.shapes import scores

    if pixels.shape[1] != 3:
        raise UnveilError(
            "these pictures are grey, and `model=shapes` asks for colours; give another `checkpoint`"
        )
    right = [one.all for one in scores(pixels, scenes)]
    seen, held = sum(right[:EACH]), sum(right[EACH:])
    return right, (
        f"{seen + held} of {len(right)} are right: {seen} of {EACH} of pairs of colour and shape that the "
        f"training pictures show, and {held} of {EACH} of others (*)"
    )

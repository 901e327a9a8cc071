"""Captions that are drawn anew for each image of a training batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Drawing(NamedTuple):
    """Description of a drawn image, such as an emoji, from which its captions are made.

    Args:
        style: name of the drawing style, such as "noto-v1".
        name: what is drawn, such as "grinning face".
        keywords: further words for it.
        code: the concept, shared by all drawings of it.
        group: the class.
    """

    style: str
    name: str
    keywords: tuple[str, ...] = ()
    code: str = ""
    group: str = ""


def style_words(style: str) -> str:
    """A style as words of a caption: "fluent-emoji-flat" is "fluent flat", since "emoji" follows."""
    words = style.replace("-", " ").split()
    return " ".join(word for word in words if word != "emoji")


def caption_of(drawing: Drawing, *, style: bool = True, keywords: tuple[str, ...] = ()) -> str:
    """A caption: "<style> emoji of <name>, <keyword>, <keyword>", without the style if `style` is False."""
    kind = f"{style_words(drawing.style)} emoji" if style else "emoji"
    return ", ".join([f"{kind} of {drawing.name}", *keywords])


def sided(text: str) -> bool:
    """Whether a caption says left or right, so that it does not describe the mirrored image."""
    return re.search(r"\b(left|right)", text, re.IGNORECASE) is not None


@dataclass(frozen=True, eq=False)
class CaptionSampler:
    """Captions of rows of an `ImageSet`, with random variations if the images are drawings.

    A drawing is named without its style with probability `style_drop`, and with 0 to `most_keywords` of its
    keywords, each number equally likely. Other images have their one caption, and no number is drawn.

    Args:
        captions: the caption of each image.
        drawings: descriptions of the images, or None.
    """

    captions: tuple[str, ...]
    drawings: tuple[Drawing, ...] | None = None
    style_drop: float = 0.5
    most_keywords: int = 2

    def __call__(self, rows: Int[Tensor, " B"], generator: torch.Generator) -> list[str]:
        """Captions of some rows. The count of random numbers depends on the count of rows alone."""
        indices = rows.tolist()
        if self.drawings is None:
            return [self.captions[row] for row in indices]
        shape = (len(indices), 2 + self.most_keywords)
        numbers = torch.rand(shape, generator=generator, device="cpu", dtype=torch.float64).tolist()
        return [self._drawn(self.drawings[row], *some) for row, some in zip(indices, numbers, strict=True)]

    def _drawn(self, drawing: Drawing, style: float, count: float, *which: float) -> str:
        left, chosen = list(drawing.keywords), list[str]()
        for number in which[: int(count * (self.most_keywords + 1))]:
            if left:
                chosen.append(left.pop(int(number * len(left))))
        return caption_of(drawing, style=style >= self.style_drop, keywords=tuple(chosen))

    def sided(self) -> list[bool]:
        """For each image, whether one of its captions may say left or right."""
        if self.drawings is None:
            return [sided(text) for text in self.captions]
        return [sided(" ".join([drawing.name, *drawing.keywords])) for drawing in self.drawings]

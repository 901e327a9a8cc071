"""Config of the contact sheet of prompts; the wiring is in `demo.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.runs.verb import Verb

EMOJI_TEXT = "emoji-text"  # name of the packaged model
PACKAGED = {"emoji": EMOJI_TEXT, "shapes": "shapes-text"}

SEEN = (  # of the packaged model's training data
    "noto emoji of pizza",
    "twemoji emoji of red apple",
    "noto emoji of tiger face",
    "fluent flat emoji of grinning face",
    "twemoji emoji of spider",
    "fluent emoji of koala",
)
UNSEEN = (  # the concept in this style occurs in no training picture
    "noto emoji of sunflower",
    "twemoji emoji of winking face",
    "noto v1 emoji of red heart",
    "fluent flat emoji of ghost",
    "fluent flat emoji of whale",
    "noto emoji of lady beetle",
)


@dataclass(frozen=True)
class DemoTextToImage:
    """Make pictures of twelve prompts, half of which ask for what no training picture shows.

    Example: unveil demo text-to-image --out demo
    """

    model: Literal["emoji", "shapes"] = "emoji"
    """emoji: drawings; shapes: two objects of `unveil data shapes`, where the program reads colours, shapes
    and places off the pictures and says how many are right"""
    checkpoint: str | None = None
    """run folder, checkpoint folder, or name of a packaged model (see `unveil weights`) that was trained with
    captions; default: the packaged one of `model`"""
    prompts: tuple[str, ...] = ()
    """what to draw, one text per picture, with `model=emoji`; default: twelve that suit the packaged model"""
    scale: Annotated[float, Bounds(0, below=True)] = 3.0
    """scale of classifier-free guidance; 1 disables it"""
    steps: Annotated[int, Bounds(1)] = 25
    """number of steps of DPM-Solver++"""
    out: Path = Path("demo")
    """output folder for text-to-image.png"""
    seed: int = 0
    """seed of the noise"""
    device: str = "auto"
    """device: auto, cpu, cuda, cuda:0 or mps; auto takes the fastest that is available"""

    def __post_init__(self) -> None:
        check_fields(self)
        if any(not prompt.strip() for prompt in self.prompts):
            raise ValueError("`prompts` must not be empty texts")
        if self.prompts and self.model == "shapes":
            raise ValueError(
                "`model=shapes` has sentences of its own, which it can judge; leave `prompts` out"
            )


DEMO = Verb(
    {"default": DemoTextToImage()},
    "image.recipes.contact_sheet.demo:run_contact_sheet",
    "pictures of twelve prompts, half of them unseen combinations",
    "model checkpoint prompts scale out seed",
)

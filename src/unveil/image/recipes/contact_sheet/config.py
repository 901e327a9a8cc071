"""Config of the contact sheet of prompts; the wiring is in `demo.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unveil.checks import Bounds, check_fields
from unveil.runs.verb import Verb

EMOJI_TEXT = "emoji-text"  # name of the packaged model

SEEN = (  # of the packaged model's training data
    "noto emoji of pizza",
    "fluent emoji of rocket",
    "twemoji emoji of red apple",
    "noto emoji of tiger face",
    "fluent flat emoji of grinning face",
    "twemoji emoji of woman firefighter",
)
UNSEEN = (  # the concept in this style, or (the last two) in any style, occurs in no training picture
    "noto emoji of sunflower",
    "twemoji emoji of winking face",
    "noto v1 emoji of red heart",
    "fluent flat emoji of ghost",
    "fluent emoji of green heart",
    "noto emoji of man firefighter",
)


@dataclass(frozen=True)
class DemoTextToImage:
    """Make pictures of twelve prompts, half of which ask for what no training picture shows.

    Example: unveil demo text-to-image --out demo
    """

    checkpoint: str = EMOJI_TEXT
    """run folder, checkpoint folder, or name of a packaged model (see `unveil weights`) that was trained with
    captions"""
    prompts: tuple[str, ...] = ()
    """what to draw, one text per picture; default: twelve that suit the packaged model"""
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


DEMO = Verb(
    {"default": DemoTextToImage()},
    "image.recipes.contact_sheet.demo:run_contact_sheet",
    "pictures of twelve prompts, half of them unseen combinations",
    "checkpoint prompts scale out seed",
)

"""Config of the tokenizer of captions; the wiring is in `data.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.training_flags import IMAGES, Data
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class DataCaptions:
    """Make a tokenizer of the words of captions, for `unveil train image --tokenizer`: so that several
    trainings, or one on more data later, share a vocabulary.

    Example: unveil data captions --data emoji64.npz --vocabulary 4096 --out words.json
    """

    images: Data = IMAGES
    captions: str = "auto"
    """captions, as `unveil train image` takes them"""
    vocabulary: Annotated[int, Bounds(8, 100_000)] = 4096
    """largest number of words, the most frequent ones"""
    text_length: Annotated[int, Bounds(4, 512)] = 16
    """number of tokens per caption, with the start token; longer captions are cut"""
    out: Path = Path("words.json")
    """file to write"""
    json: str | None = None
    """file for the numbers, as JSON; - is standard output"""

    def __post_init__(self) -> None:
        check_fields(self)


DATA = Verb(
    {"default": DataCaptions()},
    "image.recipes.captions.data:make_words",
    "a tokenizer of the words of captions",
    "data captions vocabulary text_length out",
)

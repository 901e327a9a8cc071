"""Config of `unveil train inversion`; the wiring is in `train.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.tuning_flags import PICTURES, TUNED, Pictures, Tuned
from unveil.runs.flags import Run, RunFlags
from unveil.runs.verb import Verb

LANGUAGE = frozenset("()[]{}|:\\")
"""Characters that the language of prompts reads as its own."""


@dataclass(frozen=True)
class TrainInversion:
    """Train a new word for what a few pictures show (textual inversion): the vectors of the word are all that
    is learned. The run folder gets learned_embeds.safetensors of diffusers, and the word's .pt file of
    AUTOMATIC1111's program.

    Example: unveil train inversion --base runs/image --data cat/ --token "<cat>" --init cat
    """

    model: Tuned = TUNED
    token: str = "<new>"
    """the new word, as prompts will say it; the tokenizer must not know it yet"""
    init: str = ""
    """word whose embedding initialises the new one, such as what the pictures show; one token of the base's
    vocabulary; default: the mean embedding"""
    vectors: Annotated[int, Bounds(1, 75)] = 1
    """number of vectors of the word, which then takes the place of as many tokens of a prompt"""
    templates: tuple[str, ...] = ()
    """prompts of the pictures with {} in place of the word, of which each picture gets a random one; default:
    "{}" alone for models that learned their own words, else "a photo of {}", "a rendering of {}" and so
    on"""
    captions: str = ""
    """captions that contain the word, in place of `templates`: auto, txt, or a .jsonl or .csv file of file
    names and texts; default: templates"""
    pictures: Pictures = PICTURES
    run: Run = RunFlags(
        steps=1_000,
        batch_size=4,
        learning_rate=5e-3,
        warmup=0,
        final_fraction=1.0,
        adam_betas=(0.9, 0.999),
        ema_decay=0.99,
        save_every=200,
        out=Path("runs/inversion"),
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.run.batch_size:
            raise ValueError("`batch_size` of this training must be at least 1, got 0")
        strange = sorted(LANGUAGE & set(self.token))
        if not self.token or any(it.isspace() for it in self.token) or "/" in self.token or strange:
            raise ValueError(
                f"`token` {self.token!r}: take one word without spaces, slashes, brackets, colons and bars, "
                'such as "<cat>"'
            )
        if self.templates and self.captions:
            raise ValueError("`templates` and `captions` are both prompts of the pictures; leave one out")
        for template in self.templates:
            if "{}" not in template:
                raise ValueError(f"`templates`: {template!r} has no {{}} for the word")


TRAIN = Verb(
    {"default": TrainInversion()},
    "image.recipes.inversion.train:train_inversion",
    "a new word of a model of text to image from a few pictures (textual inversion)",
    "base data token init vectors templates captions size steps batch_size learning_rate out resume",
    after="image.recipes.inversion.train:after_training",
    aliases={"--samples": "--sample-every 0", "--no-samples": "--sample-every -1"},
)

"""Table (d): a style that the base has never seen, learned from twenty pictures.

Prompts are "openmoji emoji of <concept>", of concepts that are not among the twenty. A method is good if the
style is hit and the concept is kept, and if other styles stay what they were.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from latent.data import NEW_STYLE, STYLES, emoji, new_style
from latent.emoji import STEPS, model_of, pictures, sheet_of
from latent.judges import judges, understood
from latent.rows import (
    REPORTED_ON,
    Bench,
    NotRunError,
    row_of,
    seed_of,
    trained_with,
    with_seed,
    without_seed,
)
from unveil.cli import main
from unveil.files.safetensors import header
from unveil.image.data.caption_sampler import Drawing
from unveil.image.model import ImageModel
from unveil.image.recipes.load import load_models, open_image
from unveil.training.checkpoint import latest_checkpoint

BASE = "emoji-words"
RANKS = (1, 4, 16)
NAMES = (*(f"lora-{rank}" for rank in RANKS), "lora-full", "lora-inversion")
TRAINING_STEPS = 3_000
FULL_RATE = 1e-4


def command(name: str, bench: Bench) -> list[str]:
    """The words of the command that trains a method, after `unveil`.

    Raises:
        NotRunError: the base is missing.
    """
    kind, seed = without_seed(name), seed_of(name)
    base = bench.finished(with_seed(BASE, seed))
    data = ["--data", str(new_style())]
    run = ["--steps", TRAINING_STEPS, "--batch-size", 4, "--save-every", 500, "--sample-every", -1]
    run += ["--seed", seed, "--threads", bench.threads, "--bfloat16", False, "--out", bench.folder(name)]
    if kind == "lora-full":
        words = ["train", "image", "--start-from", base, *data, "--captions", "txt", "--label-drop", 0.0]
        words += ["--learning-rate", FULL_RATE, "--warmup", 0, "--final-fraction", 1.0, "--ema-decay", 0.99]
        words += ["--hold-out", 0.0]
    elif kind == "lora-inversion":
        words = ["train", "inversion", "--base", base, *data, "--token", NEW_STYLE, "--captions", "txt"]
    else:
        words = ["train", "lora", "--base", base, *data, "--rank", kind.removeprefix("lora-")]
    return [*map(str, words), *map(str, run)]


def train_one(name: str, bench: Bench) -> str:
    """Train a method by its command, or go on; returns a line that says what was done.

    Raises:
        NotRunError: the base is missing, or the command failed.
    """
    run = bench.folder(name)
    newest = latest_checkpoint(run, warn=False) if run.is_dir() else None
    if name not in bench.pointed and (newest is None or newest.name != f"checkpoint-{TRAINING_STEPS}"):
        words = [*command(name, bench), *(["--resume"] if newest else [])]
        if main(words):
            raise NotRunError(f"unveil {' '.join(words)} failed")
    return f"{name}: {trained_with(bench, name)['training_core_minutes'] or 0.0:.1f} minutes of one core"


def drawings(style: str = NEW_STYLE) -> list[Drawing]:
    """The concepts to draw, in the new style, or each in an old one that `style` "" deals out in turn."""
    found = emoji().drawings(emoji().style_rows)
    return [it._replace(style=style or STYLES[k % len(STYLES)]) for k, it in enumerate(found)]


def scored(model: ImageModel, bench: Bench, seed: int, name: str) -> dict[str, Any]:
    """Style and concept of prompts with the new style, and of prompts with old ones."""
    by, found = judges(bench), dict[str, Any]()
    scale = float(
        row_of(with_seed(f"emoji-choice-{BASE.removeprefix('emoji-')}", seed), bench)["chosen_scale"]
    )
    for prefix, style in (("new", NEW_STYLE), ("old", "")):
        asked = drawings(style)
        pixels = pictures(model, asked, scale, REPORTED_ON)
        found |= {f"{prefix}_{key}": value for key, value in understood(pixels, asked, by).items()}
        if style:
            sheet_of(name, pixels, emoji().images.pixels[emoji().style_rows])
    return found | {"scale": scale, "steps": STEPS, "n": len(emoji().style_rows)}


def tuned(name: str, bench: Bench) -> dict[str, Any]:
    """A method's numbers."""
    bench.finished(name)
    model = load_models(open_image(str(bench.folder(name))), None, "cpu")[0]
    said = trained_with(bench, name) | {"shots": len(emoji().shots)}
    return (
        scored(model, bench, seed_of(name), name)
        | said
        | {"trained_parameters": trained_parameters(name, bench)}
    )


def trained_parameters(name: str, bench: Bench) -> int:
    """How many numbers a method changes: those of its checkpoint's averaged weights."""
    entries = header(bench.finished(name) / "ema.safetensors")
    return sum(prod(shape) for _, shape in entries.values())


def untuned(bench: Bench, seed: int) -> dict[str, Any]:
    """The base with the same prompts."""
    return scored(model_of(with_seed(BASE, seed), bench), bench, seed, with_seed("lora-base", seed))


def true_pictures(bench: Bench) -> dict[str, Any]:
    """What the judges say of the real pictures of the new style, of which they have learned none."""
    pixels = emoji().images.pixels[emoji().style_rows]
    found = understood(pixels, drawings(), judges(bench))
    return {f"new_{key}": value for key, value in found.items()}


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows of this table by name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {"lora-real": partial(true_pictures, bench)}
    for seed in seeds:
        made[with_seed("lora-base", seed)] = partial(untuned, bench, seed)
        for name in (with_seed(name, seed) for name in NAMES):
            made[name] = partial(tuned, name, bench)
    return made

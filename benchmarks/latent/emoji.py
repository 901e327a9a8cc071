"""Table (c), second half: emoji of pairs of concept and style, and of concepts, that were held out."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from latent.data import emoji, emoji_train
from latent.judges import Judges, compared, copied, judges, small, understood
from latent.rows import (
    CHOSEN_ON,
    REPORTED_ON,
    RUNS,
    SCALES,
    Bench,
    NotRunError,
    row_of,
    seed_of,
    trained_with,
    with_seed,
    without_seed,
)
from latent.shapes import best
from latent.trainings import EMOJI
from unveil.files.pictures import write_picture
from unveil.image.data.caption_sampler import Drawing, caption_of
from unveil.image.evaluation.pages import grid
from unveil.image.generation import Given, generate
from unveil.image.model import ImageModel
from unveil.image.recipes.load import load_image, read_image_config
from unveil.image.settings import ImageSettings

COUNT, CHOICE_COUNT = 300, 100
STEPS = 20
KINDS = ("seen", "pairs", "unseen")
REAL = 1_000  # training pictures that distances are measured to


def rows_of(kind: str) -> np.ndarray:
    """The rows of emoji64 whose captions are given: of training pictures, held-out pairs, or unseen concepts.

    `choice` are further training pictures, on which a scale is chosen.
    """
    data = emoji()
    train = np.random.default_rng(3).permutation(np.flatnonzero(data.train))
    if kind == "choice":
        return train[COUNT : COUNT + CHOICE_COUNT]
    mask = {"pairs": data.pairs, "unseen": data.unseen}
    return train[:COUNT] if kind == "seen" else np.flatnonzero(mask[kind])[:COUNT]


def pictures(model: ImageModel, drawings: Sequence[Drawing], scale: float, seed: int) -> np.ndarray:
    """A picture of each caption "<style> emoji of <name>"."""
    given = Given(prompts=[caption_of(drawing) for drawing in drawings])
    settings = ImageSettings(steps=STEPS, scale=scale)
    return generate(model, None, len(drawings), settings, seed, 50, given=given).pixels.numpy()


def model_of(name: str, bench: Bench) -> ImageModel:
    """The model of a training, which must not have seen the held-out pairs.

    Raises:
        NotRunError: it was trained on other pictures.
    """
    checkpoint = bench.finished(name)
    data = str(read_image_config(checkpoint).get("data", ""))
    if data and Path(data).name != emoji_train().name:
        raise NotRunError(
            f"{checkpoint} was trained on {data}, with the held-out pairs; train it on {emoji_train()}"
        )
    return load_image(checkpoint, "cpu")


@cache
def real_features(by: Judges) -> np.ndarray:
    """Features of training pictures other than those whose captions are given."""
    train = np.random.default_rng(3).permutation(np.flatnonzero(emoji().train))
    return by.features(emoji().images.pixels[train[COUNT + CHOICE_COUNT :][:REAL]])


def scored(pixels: np.ndarray, kind: str, by: Judges) -> dict[str, float]:
    """All numbers of pictures of a kind of captions, by name with the kind before it."""
    data = emoji()
    found = understood(pixels, data.drawings(rows_of(kind)), by)
    found |= copied(pixels, data.images.pixels[data.train])
    found |= compared(pixels, real_features(by), by)
    return {f"{kind}_{name}": value for name, value in found.items()}


def choice(name: str, bench: Bench) -> dict[str, Any]:
    """Choose a scale: by the concept and the style of captions of training pictures that are not reported."""
    model, by, found = model_of(name, bench), judges(bench), dict[str, float]()
    drawings = emoji().drawings(rows_of("choice"))
    for scale in SCALES:
        pixels = pictures(model, drawings, float(scale), CHOSEN_ON)
        it = understood(pixels, drawings, by)
        found[scale] = 0.5 * (it["recall_at_1"] + it["style_hit_rate"])
    said = {f"mean_of_concept_and_style_at_{scale}": share for scale, share in found.items()}
    return said | {"chosen_scale": float(best(found)), "n": CHOICE_COUNT, "steps": STEPS}


def reported(name: str, bench: Bench, scale: float = 0.0, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """The numbers of a model for some kinds of captions.

    Args:
        scale: 0: the one that was chosen.
    """
    chosen = not scale
    scale = scale or float(row_of(f"emoji-choice-{name.removeprefix('emoji-')}", bench)["chosen_scale"])
    model, by, found = model_of(name, bench), judges(bench), dict[str, Any]()
    spent, count = 0.0, 0
    for kind in kinds:
        began = process_time()
        pixels = pictures(model, emoji().drawings(rows_of(kind)), scale, REPORTED_ON)
        spent, count = spent + process_time() - began, count + len(pixels)
        found |= scored(pixels, kind, by)
        if chosen:
            sheet_of(f"{name}-{kind}", pixels, emoji().images.pixels[rows_of(kind)])
    found |= {"images_per_core_second": count / spent, "scale": scale, "steps": STEPS}
    found |= {"parameters": sum(weight.numel() for weight in model.parameters())}
    return found | trained_with(bench, name)


def true_pictures(bench: Bench) -> dict[str, Any]:
    """What the judges say of the real pictures of the captions, which no judge has learned but the seen ones.

    The nearest training picture of a seen one is itself, so that its distance is left out.
    """
    by, found = judges(bench), dict[str, Any]()
    for kind in KINDS:
        found |= scored(emoji().images.pixels[rows_of(kind)], kind, by)
    return {name: value for name, value in found.items() if not name.startswith("seen_nearest")}


def sheet_of(name: str, pixels: np.ndarray, real: np.ndarray, shown: int = 16) -> None:
    """Write a picture of three rows: real pictures, generated ones of the same captions, and the pictures of the
    training that are nearest to these."""
    data = emoji()
    train = data.images.pixels[data.train]
    tiny = small(train)
    rows = [int(((tiny - row) ** 2).sum(1).argmin()) for row in small(pixels[:shown])]
    page = grid(np.concatenate([real[:shown], pixels[:shown], train[rows]]), len(rows))
    write_picture(RUNS / f"latent-{name}.png", page)


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows of this table by name: first the choices of scales."""
    made: dict[str, Callable[[], dict[str, Any]]] = {"emoji-real": partial(true_pictures, bench)}
    each = [with_seed(name, seed) for seed in seeds for name in EMOJI]
    for name in each:
        made[f"emoji-choice-{name.removeprefix('emoji-')}"] = partial(choice, name, bench)
    for name in each:
        made[name] = partial(reported, name, bench)
        if without_seed(name) == "emoji-words":
            for scale in SCALES:
                row = with_seed(f"emoji-words-scale-{scale}", seed_of(name))
                made[row] = partial(reported, name, bench, float(scale), ("pairs",))
    return made

"""Table (c), first half: captioned shapes, scored by parsing the pictures; binding two objects is the headline."""

from collections.abc import Callable, Sequence
from functools import partial
from time import process_time
from typing import Any, NamedTuple

import numpy as np

from latent.rows import (
    CHOSEN_ON,
    REPORTED_ON,
    SCALES,
    Bench,
    row_of,
    seed_of,
    trained_with,
    with_seed,
    without_seed,
)
from latent.trainings import SHAPES
from unveil.image.data.shapes import Scene, caption_of_scene, drawn, random_scenes
from unveil.image.evaluation.shapes import ShapeScore, rates, scores
from unveil.image.generation import Given, generate
from unveil.image.model import ImageModel
from unveil.image.recipes.contact_sheet.config import PACKAGED
from unveil.image.recipes.load import load_image
from unveil.image.settings import ImageSettings
from unveil.runs.checkpoints import find_checkpoint

COUNT, CHOICE_COUNT = 200, 100  # captions of each kind, and of those that a scale is chosen on
STEPS = 12
USUAL = ("2", "3")  # scales of the packaged model: that of its card, and the default of the commands
SIZE = 32


class Kind(NamedTuple):
    """A kind of captions: its number of objects, and whether their pairs of colour and shape were held out."""

    name: str
    objects: int
    held: bool


KINDS = (
    Kind("one_seen", 1, False),
    Kind("one_held", 1, True),
    Kind("two_seen", 2, False),
    Kind("two_held", 2, True),
)


def scenes_of(kind: Kind, count: int, seed: int, varied: bool = False) -> list[Scene]:
    """The scenes of a kind's captions; different seeds give different ones."""
    return random_scenes(count, seed, (kind.objects,), held=kind.held, varied=varied)


def pictures(model: ImageModel, scenes: Sequence[Scene], scale: float, seed: int) -> np.ndarray:
    """A picture of each scene's caption."""
    given = Given(prompts=[caption_of_scene(scene) for scene in scenes])
    settings = ImageSettings(steps=STEPS, scale=scale)
    return generate(model, None, len(scenes), settings, seed, 50, given=given).pixels.numpy()


def cells(name: str, some: Sequence[ShapeScore]) -> dict[str, float]:
    """The fraction with each attribute of the captions, with Wilson's 95 % interval."""
    found: dict[str, float] = {}
    for attribute, it in rates(some).items():
        stem = f"{name}_{attribute}"
        found |= {stem: it.mean, f"{stem}_low": it.low, f"{stem}_high": it.high, f"{stem}_n": it.n}
    return found


def best(found: dict[str, float]) -> str:
    """The scale at which most is right, of equal ones the smallest."""
    return max(found, key=lambda scale: (found[scale], -float(scale)))


class Judged(NamedTuple):
    """Pictures of captions of all kinds.

    Args:
        cells: the fraction with each attribute, by kind, with intervals.
        pixels: the pictures of each kind, (N, 3, S, S) uint8.
        per_second: pictures per second of one core.
    """

    cells: dict[str, float]
    pixels: dict[str, np.ndarray]
    per_second: float


def judged(
    make: Callable[[list[Scene]], np.ndarray], count: int, kinds: Sequence[Kind] = KINDS, varied: bool = False
) -> Judged:
    """Score the pictures that `make` makes of the scenes of each kind."""
    found, pixels, spent = dict[str, float](), dict[str, np.ndarray](), 0.0
    for kind in kinds:
        scenes = scenes_of(kind, count, REPORTED_ON, varied)
        began = process_time()
        pixels[kind.name] = make(scenes)
        spent += process_time() - began
        found |= cells(kind.name, scores(pixels[kind.name], scenes))
    return Judged(found, pixels, sum(map(len, pixels.values())) / spent)


def right_share(make: Callable[[list[Scene]], np.ndarray], count: int) -> float:
    """The share of pictures in which everything is right, of captions of seen pairs that are not reported."""
    right: list[bool] = []
    for kind in KINDS:
        if not kind.held:
            scenes = scenes_of(kind, count, CHOSEN_ON)
            right += [it.all for it in scores(make(scenes), scenes)]
    return float(np.mean(right))


def chosen(
    make: Callable[[list[Scene], float], np.ndarray], count: int, scales: Sequence[str] = SCALES
) -> dict[str, Any]:
    """Choose a scale: by captions of seen pairs alone, with other captions and noise than those reported.

    Args:
        make: pictures of scenes at a scale, with noise of the seed `CHOSEN_ON`.
    """
    found = {scale: right_share(partial(make, scale=float(scale)), count) for scale in scales}
    said = {f"all_at_{scale}": share for scale, share in found.items()}
    return said | {"chosen_scale": float(best(found)), "n": 2 * count}


def choice(name: str, bench: Bench) -> dict[str, Any]:
    """The scale of a model, see `chosen`."""
    model = load_image(bench.finished(name), "cpu")

    def make(scenes: list[Scene], scale: float) -> np.ndarray:
        return pictures(model, scenes, scale, CHOSEN_ON)

    return chosen(make, bench.few(CHOICE_COUNT)) | {"steps": STEPS}


def reported(name: str, bench: Bench, scale: float = 0.0) -> dict[str, Any]:
    """All cells of a model.

    Args:
        scale: 0: the one that was chosen.
    """
    scale = scale or float(row_of(f"shapes-choice-{name.removeprefix('shapes-')}", bench)["chosen_scale"])
    model = load_image(bench.finished(name), "cpu")
    found = judged(lambda scenes: pictures(model, scenes, scale, REPORTED_ON), bench.few(COUNT))
    said = {"images_per_core_second": found.per_second, "scale": scale, "steps": STEPS}
    said |= {"parameters": sum(weight.numel() for weight in model.parameters())}
    return found.cells | said | trained_with(bench, name)


def packaged(scale: float, bench: Bench) -> dict[str, Any]:
    """The packaged model, on captions that name sizes of two objects and leave out others (`--varied`)."""
    model = load_image(find_checkpoint(PACKAGED["shapes"]), "cpu")
    found = judged(lambda scenes: pictures(model, scenes, scale, REPORTED_ON), bench.few(COUNT), varied=True)
    return found.cells | {"scale": scale, "steps": STEPS}


def true_pictures() -> dict[str, Any]:
    """The scorer on the pictures that the captions were made for."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        scenes = scenes_of(kind, COUNT, REPORTED_ON)
        found |= cells(kind.name, scores(np.stack([drawn(scene, SIZE) for scene in scenes]), scenes))
    return found


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows of this table by name: first the choices of scales."""
    made: dict[str, Callable[[], dict[str, Any]]] = {"shapes-real": true_pictures}
    made |= {f"shapes-packaged-{scale}": partial(packaged, float(scale), bench) for scale in USUAL}
    each = [with_seed(name, seed) for seed in seeds for name in SHAPES]
    for name in each:
        made[f"shapes-choice-{name.removeprefix('shapes-')}"] = partial(choice, name, bench)
    for name in each:
        made[name] = partial(reported, name, bench)
        if without_seed(name) == "shapes-words":
            for scale in SCALES:
                row = with_seed(f"shapes-words-scale-{scale}", seed_of(name))
                made[row] = partial(reported, name, bench, float(scale))
    return made

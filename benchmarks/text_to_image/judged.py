"""How pictures of shapes are scored in all tables: attributes by the parser, and a distance to true pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latent.diffusion import describe
from latent.rows import Bench, kernel, trained_with, with_seed
from latent.shapes import COUNT, KINDS, STEPS, Kind, judged
from text_to_image.data import real_features
from unveil.image.data.shapes import Scene, caption_of_scene
from unveil.image.generation import Given, generate
from unveil.image.model import ImageModel
from unveil.image.settings import ImageSettings

BATCH = 50
CHOICES = ("1", "2", "3", "6")
"""Scales of guidance that are tried on captions that are not reported."""


def captions(scenes: Sequence[Scene]) -> list[str]:
    """The captions of scenes."""
    return [caption_of_scene(scene) for scene in scenes]


def sampled(
    model: ImageModel,
    count: int,
    given: Given,
    settings: ImageSettings | float,
    seed: int,
    noise: object = None,
) -> np.ndarray:
    """Pictures (N, 3, S, S) uint8.

    Args:
        settings: or a scale of guidance, for the usual ones.
    """
    if isinstance(settings, float):
        settings = ImageSettings(steps=STEPS, scale=settings)
    return generate(model, None, count, settings, seed, BATCH, noise=noise, given=given).pixels.numpy()


def attributes(
    make: Callable[[list[Scene]], np.ndarray], bench: Bench, kinds: Sequence[Kind] = KINDS
) -> dict[str, Any]:
    """The cells of all kinds, and the distance of the pictures of seen pairs to true ones."""
    found = judged(make, bench.few(COUNT), kinds)
    seen = [found.pixels[kind.name] for kind in kinds if not kind.held]
    return found.cells | distance(np.concatenate(seen)) | {"images_per_core_second": found.per_second}


def distance(pixels: np.ndarray) -> dict[str, float]:
    """Kernel distance to true pictures of seen pairs, as many with one object as with two."""
    found = kernel(real_features(pixels.shape[-1]), describe()(pixels))
    return found | {"kernel_distance_n": len(pixels), "side": pixels.shape[-1]}


def spent(bench: Bench, seed: int, *names: str) -> dict[str, Any]:
    """What a row says of its trainings: minutes of the first, and of all, with those of encoding the images."""
    said = [trained_with(bench, with_seed(name, seed)) for name in names]
    minutes = [it["training_core_minutes"] for it in said]
    known = [it for it in minutes if it is not None]
    return {
        "runs": [it["run"] for it in said],
        "checkpoints": [it["checkpoint"] for it in said],
        "training_core_minutes": minutes[0],
        "all_core_minutes": sum(known) if len(known) == len(minutes) else None,
    }

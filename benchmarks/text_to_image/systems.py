"""What the table across all systems needs besides the rows of each: latent diffusion, and its bounds.

GLIDE at its chosen scale, unCLIP with its prior, and the cascade at its chosen level are rows of their own
tables; all have the same captions, and models that draw from noise have the same minutes.
"""

from functools import partial
from typing import Any

import numpy as np

from latent.program import Rows
from latent.rows import REPORTED_ON, Bench, row_of, with_seed
from latent.shapes import SIZE, STEPS
from text_to_image.data import LARGE, true_pictures
from text_to_image.imagen import choice
from text_to_image.judged import attributes, captions, sampled, spent
from unveil.image.data.shapes import Scene
from unveil.image.generation import Given
from unveil.image.recipes.autoencoder.load import load_latents
from unveil.image.recipes.autoencoder.train import reconstructed
from unveil.image.recipes.load import load_image


def latent(bench: Bench, seed: int) -> dict[str, Any]:
    """Latent diffusion at its chosen scale."""
    scale = float(row_of(with_seed("choice-latent", seed), bench)["chosen_scale"])
    model = load_image(bench.finished(with_seed("latent", seed)), "cpu")

    def make(scenes: list[Scene]) -> np.ndarray:
        return sampled(model, len(scenes), Given(prompts=captions(scenes)), scale, REPORTED_ON)

    return (
        attributes(make, bench) | {"scale": scale, "steps": STEPS} | spent(bench, seed, "latent", "ae-shapes")
    )


def reconstructions(bench: Bench, seed: int) -> dict[str, Any]:
    """True pictures through the autoencoder, which bounds latent diffusion."""
    latents = load_latents(str(bench.finished(with_seed("ae-shapes", seed))), "cpu")

    def make(scenes: list[Scene]) -> np.ndarray:
        return reconstructed(latents, true_pictures(scenes, LARGE))

    return attributes(make, bench) | spent(bench, seed, "ae-shapes")


def real(bench: Bench, size: int) -> dict[str, Any]:
    """The judges on true pictures."""
    return attributes(partial(true_pictures, size=size), bench)


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> Rows:
    """All rows of this table by name."""
    made: Rows = {f"real-{size}": partial(real, bench, size) for size in (SIZE, LARGE)}
    for seed in seeds:
        made[with_seed("reconstructed", seed)] = partial(reconstructions, bench, seed)
        made[with_seed("choice-latent", seed)] = partial(choice, "latent", bench, seed)
        made[with_seed("latent", seed)] = partial(latent, bench, seed)
    return made

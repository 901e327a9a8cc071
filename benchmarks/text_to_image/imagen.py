"""Imagen: dynamic thresholding, noise-conditioning augmentation in a cascade, the efficient U-Net."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from latent.program import Rows
from latent.rows import CHOSEN_ON, REPORTED_ON, Bench, rate, row_of, with_seed
from latent.shapes import CHOICE_COUNT, COUNT, KINDS, STEPS, best, chosen, judged, right_share
from text_to_image.data import shrunk, true_pictures
from text_to_image.judged import CHOICES, attributes, captions, distance, sampled, spent
from unveil.image.cascade import AGAIN, LOW_NOISE
from unveil.image.concat import noised
from unveil.image.data.shapes import Scene
from unveil.image.generation import Given, noise_by_sample
from unveil.image.model import ImageModel
from unveil.image.recipes.load import load_image
from unveil.image.settings import ImageSettings
from unveil.sampling.noise import normal_like

GUIDED = ("1", "3", "7.5", "15")
QUANTILE = 0.995
INK = 0.3  # darkness of the darkest channel, from which a pixel belongs to an object, as for the parser
LEVELS = ("0", "100", "200", "300", "400", "500")
UPSAMPLERS = {"augmented": "imagen-upsampler", "plain": "imagen-upsampler-plain"}
UNETS = ("plain", "efficient")


def saturated(pixels: np.ndarray) -> np.ndarray:
    """Whether each pixel of the objects has a channel at an end of its range, one row of bools for all pictures.

    The ground, white in true pictures, does not count; no colour of true objects has such a channel.
    """
    objects = (1.0 - pixels / 255.0).max(1) > INK
    ends = ((pixels == 0) | (pixels == 255)).any(1)
    return ends[objects]


def thresholded(bench: Bench, seed: int, scale: float, quantile: float) -> dict[str, Any]:
    """Pictures at a large scale of guidance; a quantile of 0 clips predictions to -1 .. 1."""
    model = load_image(bench.finished(with_seed("plain", seed)), "cpu")
    settings = ImageSettings(steps=STEPS, scale=scale, threshold=quantile)

    def make(scenes: list[Scene]) -> np.ndarray:
        return sampled(model, len(scenes), Given(prompts=captions(scenes)), settings, REPORTED_ON)

    kinds = [kind for kind in KINDS if not kind.held]
    found = judged(make, bench.few(COUNT), kinds)
    pixels = np.concatenate([found.pixels[kind.name] for kind in kinds])
    said = {"scale": scale, "threshold": quantile, "steps": STEPS} | spent(bench, seed, "plain")
    return found.cells | distance(pixels) | rate("saturated", saturated(pixels)) | said


def unet(name: str, bench: Bench, seed: int) -> dict[str, Any]:
    """A U-Net after its minutes, at its own chosen scale."""
    scale = float(row_of(with_seed(f"choice-{name}", seed), bench)["chosen_scale"])
    model = load_image(bench.finished(with_seed(name, seed)), "cpu")

    def make(scenes: list[Scene]) -> np.ndarray:
        return sampled(model, len(scenes), Given(prompts=captions(scenes)), scale, REPORTED_ON)

    said = {"scale": scale, "steps": STEPS, "parameters": sum(w.numel() for w in model.parameters())}
    said |= {"training_steps": int(bench.finished(with_seed(name, seed)).name.split("-")[1])}
    return attributes(make, bench) | said | spent(bench, seed, name)


def choice(name: str, bench: Bench, seed: int) -> dict[str, Any]:
    """The scale of a model of whole pictures."""
    model = load_image(bench.finished(with_seed(name, seed)), "cpu")

    def make(scenes: list[Scene], scale: float) -> np.ndarray:
        return sampled(model, len(scenes), Given(prompts=captions(scenes)), scale, CHOSEN_ON)

    return chosen(make, bench.few(CHOICE_COUNT), CHOICES) | {"steps": STEPS}


def cascade(
    bench: Bench, seed: int, upsampler: str, noise: int
) -> Callable[[list[Scene], float, int], np.ndarray]:
    """A function from scenes, a scale of the first model and a noise level to pictures of 64 pixels.

    Args:
        upsampler: a key of `UPSAMPLERS`.
        noise: seed.
    """
    small = load_image(bench.finished(with_seed("imagen-small", seed)), "cpu")
    larger = load_image(bench.finished(with_seed(UPSAMPLERS[upsampler], seed)), "cpu")

    def make(scenes: list[Scene], scale: float, level: int) -> np.ndarray:
        pixels = sampled(small, len(scenes), Given(prompts=captions(scenes)), scale, noise)
        return enlarged(larger, pixels, scenes, level, noise)

    return make


def enlarged(model: ImageModel, pixels: np.ndarray, scenes: list[Scene], level: int, seed: int) -> np.ndarray:
    """Small pictures, enlarged; without guidance, from the noise of `unveil.image.cascade.enlarge`.

    They get noise of `level` also for a model that has learned from clean ones alone and is not told.
    """
    low = model.normalized(torch.from_numpy(pixels))
    levels = torch.full((len(low),), level)
    own = noise_by_sample(seed + LOW_NOISE, len(low))(slice(0, len(low)))
    low = noised(low, levels, normal_like(low, own))
    told = levels if model.shape.noise_levels else None
    given = Given(low=low, level=told, prompts=captions(scenes))
    return sampled(model, len(scenes), given, 1.0, seed + AGAIN)


def choice_of_cascade(bench: Bench, seed: int) -> dict[str, Any]:
    """The scale of the first model, at a noise level of 100 of the augmented upsampler; then the level."""
    make = cascade(bench, seed, "augmented", CHOSEN_ON)
    count = bench.few(CHOICE_COUNT)
    found = chosen(partial(make, level=100), count, CHOICES)
    scale = found["chosen_scale"]
    at = {level: right_share(partial(make, scale=scale, level=int(level)), count) for level in LEVELS}
    found |= {f"all_at_level_{level}": share for level, share in at.items()}
    return found | {"chosen_level": int(best(at)), "steps": STEPS}


def cascaded(bench: Bench, seed: int, upsampler: str, level: int) -> dict[str, Any]:
    """The cascade with one upsampler at one noise level."""
    scale = float(row_of(with_seed("choice-cascade", seed), bench)["chosen_scale"])
    make = partial(cascade(bench, seed, upsampler, REPORTED_ON), scale=scale, level=level)
    said = {"scale": scale, "level": level, "steps": STEPS}
    return attributes(make, bench) | said | spent(bench, seed, "imagen-small", UPSAMPLERS[upsampler])


def enlarged_truth(bench: Bench, seed: int, upsampler: str) -> dict[str, Any]:
    """True small pictures enlarged without noise, which bounds the cascade: both upsamplers know such ones."""
    model = load_image(bench.finished(with_seed(UPSAMPLERS[upsampler], seed)), "cpu")

    def make(scenes: list[Scene]) -> np.ndarray:
        return enlarged(model, shrunk(true_pictures(scenes, model.picture[2])), scenes, 0, REPORTED_ON)

    return attributes(make, bench) | {"steps": STEPS} | spent(bench, seed, UPSAMPLERS[upsampler])


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> Rows:
    """All rows of these tables by name."""
    made: Rows = {}
    for seed in seeds:
        for name, quantile in (("static", 0.0), ("dynamic", QUANTILE)):
            for scale in GUIDED:
                row = with_seed(f"threshold-{name}-{scale}", seed)
                made[row] = partial(thresholded, bench, seed, float(scale), quantile)
        for name in UNETS:
            made[with_seed(f"choice-{name}", seed)] = partial(choice, name, bench, seed)
            made[with_seed(name, seed)] = partial(unet, name, bench, seed)
        made[with_seed("choice-cascade", seed)] = partial(choice_of_cascade, bench, seed)
        for upsampler in UPSAMPLERS:
            made[with_seed(f"enlarged-{upsampler}", seed)] = partial(enlarged_truth, bench, seed, upsampler)
            for level in LEVELS:
                row = with_seed(f"cascade-{upsampler}-{level}", seed)
                made[row] = partial(cascaded, bench, seed, upsampler, int(level))
    return made

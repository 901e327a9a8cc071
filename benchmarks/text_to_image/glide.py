"""GLIDE: guidance with and without a classifier, filling in, and enlarging."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from latent.program import Rows
from latent.rows import CHOSEN_ON, REPORTED_ON, Bench, mean, rate, row_of, with_seed
from latent.shapes import CHOICE_COUNT, COUNT, KINDS, SIZE, STEPS, cells, chosen, scenes_of
from text_to_image.data import FACTOR, LARGE, shrunk, true_pictures
from text_to_image.judged import CHOICES, attributes, captions, distance, sampled, spent
from unveil.image.data.shapes import Scene, coverage
from unveil.image.evaluation.restoration import bicubic, psnr
from unveil.image.evaluation.shapes import scores
from unveil.image.generation import Given
from unveil.image.recipes.clip.load import load_clip
from unveil.image.recipes.given_pictures import filled_in
from unveil.image.recipes.load import load_image
from unveil.image.settings import ImageSettings

CLIP_SCALES = ("1", "3", "10", "30")
HOLE = 0.9  # half the side of a hole, as a fraction of the side of the square of the object's area
TWO = tuple(kind for kind in KINDS if kind.objects == 2)
ENLARGED = 100  # true pictures of each kind of seen captions that are shrunk and enlarged


def choice(bench: Bench, seed: int) -> dict[str, Any]:
    """The scale of classifier-free guidance."""
    model = load_image(bench.finished(with_seed("glide", seed)), "cpu")

    def make(scenes: list[Scene], scale: float) -> np.ndarray:
        return sampled(model, len(scenes), Given(prompts=captions(scenes)), scale, CHOSEN_ON)

    return chosen(make, bench.few(CHOICE_COUNT), CHOICES) | {"steps": STEPS}


def guided(bench: Bench, seed: int, scale: float) -> dict[str, Any]:
    """Classifier-free guidance at a scale; 1: none."""
    model = load_image(bench.finished(with_seed("glide", seed)), "cpu")

    def make(scenes: list[Scene]) -> np.ndarray:
        return sampled(model, len(scenes), Given(prompts=captions(scenes)), scale, REPORTED_ON)

    return attributes(make, bench) | {"scale": scale, "steps": STEPS} | spent(bench, seed, "glide")


def guided_by_clip(bench: Bench, seed: int, scale: float) -> dict[str, Any]:
    """Guidance by the CLIP of noisy pictures, of the same model, which reads the captions too."""
    clip = load_clip(bench.finished(with_seed("clip-noised", seed)), "cpu")
    model = load_image(bench.finished(with_seed("glide", seed)), "cpu")
    settings = ImageSettings(steps=STEPS, clip_scale=scale)

    def make(scenes: list[Scene]) -> np.ndarray:
        texts = captions(scenes)
        given = Given(prompts=texts, texts=texts, clip=clip)
        return sampled(model, len(scenes), given, settings, REPORTED_ON)

    said = {"scale": scale, "steps": STEPS} | spent(bench, seed, "glide", "clip-noised")
    return attributes(make, bench) | said


def hole_of(scene: Scene, which: int, size: int = SIZE) -> np.ndarray:
    """Where an object is to be filled in, (S, S) bool: a square around its centre, without what the other
    object covers; its size tells no shape."""
    one = scene.objects[which]
    at = (np.arange(size) + 0.5) / size
    half = HOLE * one.side
    hole = (np.abs(at - one.y) <= half)[:, None] & (np.abs(at - one.x) <= half)[None, :]
    for other in scene.objects[:which] + scene.objects[which + 1 :]:
        hole = hole & (coverage(other.shape, other.x, other.y, other.side, size) == 0.0)
    return hole


def inside(pixels: np.ndarray, holes: np.ndarray, scenes: Sequence[Scene]) -> dict[str, float]:
    """The cells of what stands in the holes alone, by the one object of each scene."""
    alone = np.where(holes, pixels, 255).astype(np.uint8)
    return cells("inside", scores(alone, scenes))


def filled(bench: Bench, seed: int) -> dict[str, Any]:
    """True pictures of two objects, of which one is cut out."""
    model = load_image(bench.finished(with_seed("glide-inpaint", seed)), "cpu")
    scale = float(row_of(with_seed("choice-glide", seed), bench)["chosen_scale"])
    found, changed = dict[str, Any](), list[np.ndarray]()
    for kind in TWO:
        scenes = scenes_of(kind, bench.few(COUNT), REPORTED_ON)
        which = [row % 2 for row in range(len(scenes))]
        holes = np.stack([hole_of(scene, k) for scene, k in zip(scenes, which, strict=True)])[:, None]
        real = true_pictures(scenes, SIZE)
        given = filled_in(model, torch.from_numpy(real), torch.from_numpy(~holes))
        given = replace(given, prompts=captions(scenes))
        pixels = sampled(model, len(scenes), given, scale, REPORTED_ON)
        cut = [
            Scene((scene.objects[k]._replace(size="", place=""),))
            for scene, k in zip(scenes, which, strict=True)
        ]
        whole = cells("whole", scores(pixels, scenes))
        found |= {f"{kind.name}_{name}": value for name, value in inside(pixels, holes, cut).items()}
        found |= {f"{kind.name}_{name}": value for name, value in whole.items()}
        changed.append((pixels != real).any(1)[~holes[:, 0]])
    found |= rate("known_changed", np.concatenate(changed))
    said = {"scale": scale, "steps": STEPS}
    return found | said | spent(bench, seed, "glide-inpaint", "glide")


def enlarged(bench: Bench, seed: int | None) -> dict[str, Any]:
    """True pictures of 64 pixels, shrunk to 16 and enlarged.

    Args:
        seed: of the upsampler; None: bicubic interpolation.
    """
    kinds = [kind for kind in KINDS if not kind.held]
    scenes = [scene for kind in kinds for scene in scenes_of(kind, bench.few(ENLARGED), REPORTED_ON)]
    real = true_pictures(scenes, LARGE)
    small, said = shrunk(real), dict[str, Any]()
    if seed is None:
        pixels = bicubic(small, FACTOR)
    else:
        model = load_image(bench.finished(with_seed("glide-upsampler", seed)), "cpu")
        low = model.normalized(torch.from_numpy(small))
        given = Given(low=low, prompts=captions(scenes))
        pixels = sampled(model, len(scenes), given, 1.0, REPORTED_ON)
        said = {"scale": 1.0, "steps": STEPS} | spent(bench, seed, "glide-upsampler")
    found = mean("psnr", psnr(real, pixels)) | distance(pixels) | cells("seen", scores(pixels, scenes))
    return found | said


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> Rows:
    """All rows of these tables by name."""
    made: Rows = {"glide-bicubic": partial(enlarged, bench, None)}
    for seed in seeds:
        made[with_seed("choice-glide", seed)] = partial(choice, bench, seed)
        for scale in CHOICES:
            made[with_seed(f"glide-scale-{scale}", seed)] = partial(guided, bench, seed, float(scale))
        for scale in CLIP_SCALES:
            row = with_seed(f"glide-clip-{scale}", seed)
            made[row] = partial(guided_by_clip, bench, seed, float(scale))
        made[with_seed("glide-inpaint", seed)] = partial(filled, bench, seed)
        made[with_seed("glide-upsampler", seed)] = partial(enlarged, bench, seed)
    return made

"""Table (b): reconstructions by factor and channels of the code, with and without perceptual and adversarial loss."""

from collections.abc import Callable
from functools import cache, partial
from time import process_time
from typing import Any

import numpy as np

from images import frechet_ci95
from latent.diffusion import describe, real
from latent.rows import Bench, mean, trained_with, with_seed
from latent.trainings import AUTOENCODERS
from unveil.image.evaluation.distances import kernel_distance
from unveil.image.evaluation.restoration import bicubic, psnr
from unveil.image.recipes.autoencoder.evaluate import scores
from unveil.image.recipes.autoencoder.load import load_latents
from unveil.image.recipes.autoencoder.train import reconstructed
from unveil.runs.statistics import mean_ci95

PREFIX = "autoencoder"
FACTORS = (4, 8)


@cache
def truth() -> np.ndarray:
    """The held-out pictures, of concepts of which no autoencoder has seen a picture."""
    return real().held.pixels


def scored(made: np.ndarray) -> dict[str, Any]:
    """`unveil eval autoencoder`'s scores of reconstructions of `truth`, with intervals."""
    pixels = truth()
    found: dict[str, Any] = scores(pixels, made, describe())
    features = [describe()(part) for part in (pixels, made)]
    apart = np.linalg.norm(features[0] - np.roll(features[0], 1, axis=0), axis=1).mean()
    each = np.linalg.norm(features[0] - features[1], axis=1) / apart
    found |= mean("psnr", psnr(pixels, made)) | {"feature_distance_ci95": mean_ci95(each)[1]}
    found["frechet_distance_ci95"] = frechet_ci95(*features, 100)
    parts = [kernel_distance(features[0], part) for part in np.array_split(features[1], 4)]
    return found | {"kernel_distance_ci95": mean_ci95(np.array(parts))[1], "n": len(pixels)}


def coded(name: str, bench: Bench) -> dict[str, Any]:
    """Reconstructions by an autoencoder, from the means of the codes."""
    latents = load_latents("taef2" if name == "taef2" else str(bench.finished(name)), "cpu")
    spent = process_time()
    made = reconstructed(latents, truth())
    said: dict[str, Any] = {"images_per_core_second": len(made) / (process_time() - spent)}
    said |= {"factor": latents.factor, "latent": latents.channels}
    said |= {"parameters": sum(weight.numel() for weight in latents.parameters())}
    return scored(made) | said | (trained_with(bench, name) if name != "taef2" else {})


def shrunk(factor: int) -> dict[str, Any]:
    """Pictures that are shrunk by means and enlarged by bicubic interpolation."""
    pixels = truth()
    n, colours, side, _ = pixels.shape
    means = pixels.reshape(n, colours, side // factor, factor, side // factor, factor)
    small = means.mean((3, 5), dtype=np.float64).round().astype(np.uint8)
    return scored(bicubic(small, factor)) | {"factor": factor, "latent": colours}


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows of this table by name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {f"{PREFIX}-taef2": partial(coded, "taef2", bench)}
    made |= {f"{PREFIX}-shrunk-{factor}": partial(shrunk, factor) for factor in FACTORS}
    for seed in seeds:
        for name in (with_seed(name, seed) for name in AUTOENCODERS):
            made[f"{PREFIX}-{name.removeprefix('ae-')}"] = partial(coded, name, bench)
    return made

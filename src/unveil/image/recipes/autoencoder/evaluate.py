"""`unveil eval autoencoder`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject

if TYPE_CHECKING:
    import numpy as np

    from unveil.image.evaluation.metrics import Extractor
    from unveil.image.recipes.autoencoder.config import EvalAutoencoder
    from unveil.runs.progress import Progress


def evaluate_autoencoder(config: EvalAutoencoder, progress: Progress) -> dict[str, object]:
    """Score reconstructions; returns metrics and, as a reference, those of shrunk and enlarged images."""
    import time

    import numpy as np
    import torch

    from unveil.files.atomic import check_output
    from unveil.image.evaluation.features import extractor
    from unveil.image.evaluation.restoration import bicubic
    from unveil.image.recipes.autoencoder.load import load_latents
    from unveil.image.recipes.autoencoder.train import SHOWN, reconstructed, write_pairs
    from unveil.runs.device import enough_memory

    job = config.job
    if config.out is not None:
        check_output(config.out)
    if job.threads:
        torch.set_num_threads(job.threads)
    latents = load_latents(config.checkpoint, job.device)
    pixels, which = _images(config, progress)
    shape = latents.shape_of(*pixels.shape[1:])
    features = extractor(config.extractor, latents.device)
    generator = torch.Generator(device="cpu").manual_seed(job.seed) if config.sampled else None
    with enough_memory():
        began = time.perf_counter()
        made = reconstructed(latents, pixels, config.batch_size, generator)
        seconds = time.perf_counter() - began
        progress("comparing", 1, 2, {})
        metrics = scores(pixels, made, features)
        f = latents.factor
        means = pixels.reshape(*pixels.shape[:2], shape[1], f, shape[2], f).mean((3, 5), dtype=np.float64)
        reference = scores(pixels, bicubic(means.round().astype(np.uint8), f), features)
        progress("comparing", 2, 2, {})
    metrics |= {"images_per_second": len(pixels) / seconds, "n": len(pixels)}
    if config.out is not None:
        write_pairs(config.out, pixels[: 2 * SHOWN], made[: 2 * SHOWN])
    size = " x ".join(map(str, (*pixels.shape[2:], pixels.shape[1])))
    code = " x ".join(map(str, (*shape[1:], shape[0])))
    how = (
        f"{which}; {size} numbers as {code}; {'random codes' if config.sampled else 'means of the codes'}; "
        f"features: {features.name}"
    )
    return {"metrics": metrics, "reference": {"shrunk and enlarged": reference}, "protocol": how}


def scores(pixels: np.ndarray, made: np.ndarray, features: Extractor) -> dict[str, float]:
    """PSNR in decibels, mean and smallest; distances of features.

    feature_distance is the mean distance of the features of an image and its reconstruction, divided by that
    of two different images: 0 for equal ones. The others are those of the two sets.

    Args:
        features: from images (N, C, S, S) in 0 .. 255 to vectors (N, D).
    """
    import numpy as np

    from unveil.image.evaluation.distances import frechet_distance, kernel_distance
    from unveil.image.evaluation.restoration import psnr

    decibels = psnr(pixels, made)
    a, b = features(pixels).astype(np.float64), features(made).astype(np.float64)
    apart = np.linalg.norm(a - np.roll(a, 1, axis=0), axis=1).mean()
    return {
        "psnr_mean": float(decibels.mean()),
        "psnr_min": float(decibels.min()),
        "l1": float(np.abs(pixels.astype(np.float64) - made).mean() / 127.5),
        "feature_distance": float(np.linalg.norm(a - b, axis=1).mean() / max(apart, 1e-12)),
        "frechet_distance": frechet_distance(a, b),
        "kernel_distance": kernel_distance(a, b),
    }


def _images(config: EvalAutoencoder, progress: Progress) -> tuple[np.ndarray, str]:
    """The images to reconstruct, and which these are.

    Raises:
        UnveilError: they are not found, or the autoencoder does not say what it was trained on.
    """
    import numpy as np

    from unveil.errors import UnveilError
    from unveil.image.recipes.autoencoder.load import TAEF2, read_autoencoder_config
    from unveil.image.recipes.images import images_of, report
    from unveil.image.recipes.training_flags import TrainingImages
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.config import read_recipe
    from unveil.runs.device import enough_memory
    from unveil.runs.flags import flat

    known: JsonObject = {"hold_out": 0.0}  # all images of `data`
    if config.checkpoint != TAEF2 and read_recipe(folder := find_checkpoint(config.checkpoint)) != "image":
        known = read_autoencoder_config(folder)
    if config.data is None and "data" not in known:
        raise UnveilError(f"{config.checkpoint} does not hold the path of its data; give `data`")
    usual = flat(TrainingImages()) | {"asked_size": 0, "classes": False}
    with enough_memory("read fewer or smaller images"):
        train, held = images_of(usual | known | {"names": ()}, config.data)
    report(train, progress)
    others = "training images" if config.data is None else f"images of {Path(config.data).name}"
    chosen, which = (held, "held-out images") if len(held) > 1 else (train, others)
    if len(chosen) < 2:
        raise UnveilError(f"there are {len(chosen)} images to reconstruct, and at least 2 are needed")
    rows = np.random.default_rng(config.job.seed).permutation(len(chosen))[: config.n]
    return chosen.pixels[rows], which

"""How good generated images are, beside what bounds the numbers from below and above."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from unveil.evaluation.image_distances import frechet_distance, kernel_distance, memorised_share, precision_recall

Pixels4 = UInt8[np.ndarray, "_ C H W"]
Extractor = Callable[[Pixels4], Float[np.ndarray, "_ D"]]


def distances(real: Float[np.ndarray, "_ D"], made: Float[np.ndarray, "_ D"]) -> dict[str, Any]:
    """Frechet and kernel distance, precision and recall of features."""
    precision, recall = precision_recall(real, made)
    return {
        "frechet_distance": frechet_distance(real, made),
        "kernel_distance": kernel_distance(real, made),
        "precision": precision,
        "recall": recall,
        "n": len(made),
    }


def gaussian_images(train: Pixels4, count: int, rng: np.random.Generator) -> Pixels4:
    """Samples of the normal distribution with the mean and the full covariance of training pixels: what any model should beat.

    x = m + X' z / sqrt(N), z ~ N(0, I), for centred images X (N, D): the covariance is never made.
    """
    flat = train.reshape(len(train), -1).astype(np.float32)
    mean = flat.mean(0)
    drawn = mean + rng.standard_normal((count, len(flat)), dtype=np.float32) @ (flat - mean) / np.float32(np.sqrt(len(flat)))
    return drawn.round().clip(0, 255).astype(np.uint8).reshape(count, *train.shape[1:])


def image_metrics(
    made: Pixels4, train: Pixels4, held: Pixels4, features: Extractor, rng: np.random.Generator, progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Metrics of generated images against as many training images, and of three references against these same.

    floor: as many other training images; held_out: images that were not trained on; gaussian: `gaussian_images` of 10,000. Memorisation is
    judged in pixels, against all training images.

    Raises:
        ValueError: fewer training images than twice the generated ones.
    """
    count = len(made)
    if len(train) < 2 * count:
        raise ValueError(f"{count} images need {2 * count} of the data, for a floor; there are {len(train)}: give --n {len(train) // 2}")
    order = rng.permutation(len(train))
    real = features(train[order[:count]])
    sets = {"floor": train[order[count : 2 * count]], "gaussian": gaussian_images(train[order[:10_000]], count, rng)}
    if len(held) > 3:
        sets["held_out"] = held[rng.permutation(len(held))[:count]]
    progress(1, len(sets) + 2)
    metrics = distances(real, features(made))
    references: dict[str, dict[str, Any]] = {}
    for k, (name, pixels) in enumerate(sets.items()):
        progress(2 + k, len(sets) + 2)
        references[name] = distances(real, features(pixels))
    if "held_out" in sets:
        a, b, c = (x.reshape(len(x), -1).astype(np.float32) / 255.0 for x in (made, train, sets["held_out"]))
        metrics["memorised_share"] = memorised_share(a, b, c)
    progress(len(sets) + 2, len(sets) + 2)
    return metrics, references

"""Scores of generated images, beside references that bound them from below and above."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, UInt8

from unveil.image.data.images import ImageSet
from unveil.image.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    memorised_share,
    precision_recall,
)
from unveil.image.evaluation.linear_probe import ridge_classifier

Pixels4 = UInt8[np.ndarray, "_ C H W"]
Classes = Int[np.ndarray, " _"]
Extractor = Callable[[Pixels4], Float[np.ndarray, "_ D"]]


def distances(real: Float[np.ndarray, "_ D"], made: Float[np.ndarray, "_ D"]) -> dict[str, float]:
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
    """Samples of the normal distribution with the mean and the full covariance of training pixels: a baseline
    for any model.

    x = m + X' z / sqrt(N), z ~ N(0, I), for centred images X (N, D): the covariance is never computed.
    """
    flat = train.reshape(len(train), -1).astype(np.float32)
    mean = flat.mean(0)
    drawn = mean + rng.standard_normal((count, len(flat)), dtype=np.float32) @ (flat - mean) / np.float32(
        np.sqrt(len(flat))
    )
    return drawn.round().clip(0, 255).astype(np.uint8).reshape(count, *train.shape[1:])


def image_metrics(
    made: Pixels4,
    train: ImageSet,
    held: ImageSet,
    features: Extractor,
    rng: np.random.Generator,
    progress: Callable[[int, int], None],
    requested: Classes | None = None,
    judge: Callable[[Pixels4], Classes] | None = None,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Metrics of generated images against as many training images, and of three references against the same
    training images.

    floor: as many other training images; held_out: images that were not trained on; gaussian:
    `gaussian_images` of 10,000. Memorisation is measured in pixels, against all training images. The hit rate
    is the share of images that the judge assigns to their class.

    Args:
        requested: classes of the generated images; None: no hit rate.
        judge: from images to classes; None: `ridge_classifier` of the features of those training images.
    Raises:
        ValueError: fewer training images than twice the generated ones.
    """
    count = len(made)
    if len(train) < 2 * count:
        raise ValueError(
            f"{count} images need {2 * count} of the data, for a floor; there are {len(train)}: give `n` "
            f"{len(train) // 2}"
        )
    order = rng.permutation(len(train))
    real, labels = features(train.pixels[order[:count]]), train.labels
    others = train.chosen(order[count : 2 * count])
    sets = {"floor": others, "gaussian": ImageSet(gaussian_images(train.pixels[order[:10_000]], count, rng))}
    if len(held) > 3:
        sets["held_out"] = held.chosen(rng.permutation(len(held))[:count])
    linear = (
        ridge_classifier(real, labels[order[:count]])
        if requested is not None and judge is None and labels is not None
        else None
    )

    def scored(pixels: Pixels4, classes: Classes | None) -> dict[str, float]:
        found = features(pixels)
        score = distances(real, found)
        if requested is not None and classes is not None and (judge or linear):
            right = judge(pixels) if judge else linear(found) if linear else classes
            score["class_hit_rate"] = float((right == classes).mean())
        return score

    progress(1, len(sets) + 2)
    metrics = scored(made, requested)
    references: dict[str, dict[str, float]] = {}
    for k, (name, images) in enumerate(sets.items()):
        progress(2 + k, len(sets) + 2)
        references[name] = scored(images.pixels, images.labels)
    if "held_out" in sets:
        a, b, c = (
            x.reshape(len(x), -1).astype(np.float32) / 255.0
            for x in (made, train.pixels, sets["held_out"].pixels)
        )
        metrics["memorised_share"] = memorised_share(a, b, c)
    progress(len(sets) + 2, len(sets) + 2)
    return metrics, references

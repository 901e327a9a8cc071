"""Table (a): diffusion on pixels and on latents, trained for equal minutes on emoji of 64 x 64 pixels."""

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import torch

from latent.data import emoji_file
from latent.rows import Bench, core_minutes, distances, seed_of, trained_with, with_seed
from latent.trainings import DIFFUSION, OWN
from unveil.image.data.images import ImageSet
from unveil.image.evaluation.distances import memorised_share, precision_recall
from unveil.image.evaluation.features import extractor
from unveil.image.evaluation.metrics import gaussian_images
from unveil.image.generation import Given, generate
from unveil.image.recipes.autoencoder.load import load_latents
from unveil.image.recipes.autoencoder.train import reconstructed
from unveil.image.recipes.images import images_of
from unveil.image.recipes.load import load_image, read_image_config
from unveil.image.recipes.training_flags import TrainingImages
from unveil.image.settings import ImageSettings
from unveil.runs.flags import flat

COUNT = 1_000
SETTINGS = ImageSettings(steps=20)
PREFIX = "diffusion"


class Real(NamedTuple):
    """Real pictures that all rows are compared with: the same for every row.

    Args:
        features: of `COUNT` training pictures.
        others: as many other training pictures, or what is left.
    """

    train: ImageSet
    held: ImageSet
    features: np.ndarray
    others: ImageSet


@cache
def describe() -> Callable[[np.ndarray], np.ndarray]:
    """The features of all distances."""
    return extractor("squeezenet")


@cache
def real(count: int = COUNT) -> Real:
    """Training and held-out pictures, as `unveil train image --data emoji64.npz` divides them."""
    fields = flat(TrainingImages()) | {"asked_size": 0, "classes": True, "names": ()}
    train, held = images_of(fields | {"data": str(emoji_file())})
    order = np.random.default_rng(0).permutation(len(train))
    others = train.chosen(order[count : 2 * count])
    return Real(train, held, describe()(train.pixels[order[:count]]), others)


def scored(pixels: np.ndarray, count: int = COUNT) -> dict[str, Any]:
    """Distances to training pictures, precision and recall."""
    made = describe()(pixels)
    precision, recall = precision_recall(real(count).features, made)
    return distances(real(count).features, made) | {"precision": precision, "recall": recall}


def sampled(name: str, bench: Bench, count: int = COUNT) -> dict[str, Any]:
    """Pictures of a model, of classes as frequent as in the data (or with captions of training pictures)."""
    checkpoint = bench.finished(name)
    model, train = load_image(checkpoint, "cpu"), real(count).train
    order = np.random.default_rng(1).permutation(len(train))[:count]
    labels, given = None, Given()
    if model.shape.classes:
        assert train.labels is not None
        labels = torch.from_numpy(train.labels[order].astype(np.int64))
    if model.text is not None:
        assert train.stored_captions is not None
        given = Given(prompts=[train.stored_captions[row] for row in order.tolist()])
    began, spent = perf_counter(), process_time()
    made = generate(model, labels, count, SETTINGS, 1_000 * seed_of(name), 50, given=given)
    seconds, core = perf_counter() - began, process_time() - spent
    pixels = made.pixels.numpy()
    flats = (_flat(part) for part in (pixels, train.pixels, real(count).held.pixels))
    config = read_image_config(checkpoint)
    said = {"parameters": sum(weight.numel() for weight in model.parameters()), "nfe": made.calls}
    said |= {"training_images": int(checkpoint.name.split("-")[1]) * config["batch_size"]}
    said |= {"images_per_second": count / seconds, "images_per_core_second": count / core}
    if name.startswith("own"):
        autoencoder = bench.finished(with_seed(OWN, seed_of(name)))
        said |= {"autoencoder_core_minutes": core_minutes(autoencoder)}
    return (
        scored(pixels, count)
        | {"memorised_share": memorised_share(*flats)}
        | said
        | trained_with(bench, name)
    )


def _flat(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1).astype(np.float32) / 255.0


def reference(kind: str, bench: Bench, count: int = COUNT) -> dict[str, Any]:
    """What bounds the distances: other training pictures, held-out ones, Gaussian pixels, and other training
    pictures after an autoencoder."""
    here = real(count)
    if kind == "train":
        return scored(here.others.pixels, count)
    if kind == "held-out":
        return scored(here.held.pixels[:count], count)
    if kind == "gaussian":
        rng = np.random.default_rng(0)
        return scored(gaussian_images(here.train.pixels, count, rng), count)
    name = "taef2" if kind == "through-taef2" else str(bench.finished(OWN))
    return scored(reconstructed(load_latents(name, "cpu"), here.others.pixels), count)


REFERENCES = ("train", "held-out", "gaussian", "through-taef2", "through-own")


def rows(bench: Bench, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows of this table by name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {
        f"{PREFIX}-real-{kind}": partial(reference, kind, bench) for kind in REFERENCES
    }
    for seed in seeds:
        for name in (with_seed(name, seed) for name in DIFFUSION):
            made[f"{PREFIX}-{name}"] = partial(sampled, name, bench)
    return made

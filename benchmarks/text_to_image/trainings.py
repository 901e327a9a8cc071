"""All trainings of the tables, by name; each is limited by minutes of one core.

The models of 32 pixels have one network, `NETWORK`, and read captions by learned words as wide as in table (c) of
latent diffusion; GLIDE's differ by its text transformer alone. Those of 16 pixels and of codes have the same
sides without patches, and those of 64 pixels the same sides by patches of 4 x 4, for which they predict x_0.
"""

from pathlib import Path
from typing import Any

from latent.data import shapes_file
from latent.rows import Bench, seed_of, with_seed, without_seed
from latent.trainings import Recipe, trained
from text_to_image.data import FACTOR, coded_file, shapes16_file, shapes64_file
from unveil.image.recipes.autoencoder.config import TrainAutoencoder
from unveil.image.recipes.autoencoder.train import train_autoencoder
from unveil.image.recipes.clip.config import TrainClip
from unveil.image.recipes.clip.train import train_clip
from unveil.image.recipes.config import TrainImage, for_embedding, for_encoder, for_method
from unveil.image.recipes.prior.config import TrainPrior
from unveil.image.recipes.prior.train import train_prior
from unveil.image.recipes.train import train_image
from unveil.runs.flags import changed

MINUTES = {
    "glide": 25.0,
    "clip": 10.0,
    "clip-noised": 15.0,
    "glide-inpaint": 5.0,
    "glide-upsampler": 15.0,
    "prior-diffusion": 5.0,
    "prior-autoregressive": 5.0,
    "decoder": 25.0,
    "plain": 25.0,
    "efficient": 25.0,
    "imagen-small": 25.0,
    "imagen-upsampler": 15.0,
    "imagen-upsampler-plain": 15.0,
    "ae-shapes": 10.0,
    "latent": 25.0,
}
NAMES = tuple(MINUTES)
NEEDS = {
    "glide-inpaint": "glide",
    "prior-diffusion": "clip",
    "prior-autoregressive": "clip",
    "decoder": "clip",
    "latent": "ae-shapes",
}
"""What a training begins with."""
NETWORK = {
    "width": 48,
    "multiples": (1, 2, 2),
    "attention": (8, 4),
    "head_width": 24,
    "groups": 16,
    "stem": 2,
}
TEXT = {"captions": "auto", "text_width": 128}
LARGER = {"predicts": "x0", "min_snr": 5.0, "stem": 4, "upsample": FACTOR}
AUGMENTED = {"imagen-upsampler": 1000, "imagen-upsampler-plain": 0}
"""Largest noise level of the small pictures in training."""


def recipe_of(name: str, bench: Bench) -> Recipe:
    """The training of a name.

    Raises:
        NotRunError: another training is needed first.
    """
    kind, seed = without_seed(name), seed_of(name)
    run: dict[str, Any] = {"out": bench.folder(name), "seed": seed, "threads": bench.threads}
    run |= {"sample_every": -1, "save_every": 250, "hold_out": 0.0}
    minutes = bench.minutes or MINUTES[kind]
    before = str(bench.finished(with_seed(NEEDS[kind], seed))) if kind in NEEDS else ""
    if kind in ("clip", "clip-noised"):
        config = changed(TrainClip(), data=str(shapes_file()), noised=kind == "clip-noised", **run)
        return Recipe(train_clip, changed(config, bfloat16=False), minutes)
    if kind.startswith("prior"):
        config = changed(TrainPrior(), data=str(shapes_file()), kind=kind.removeprefix("prior-"), **run)
        config = changed(config, image_embedding=before, bfloat16=False)
        return Recipe(train_prior, config, minutes, preparing=False)  # the same for both priors
    if kind == "ae-shapes":
        config = changed(TrainAutoencoder(), data=str(coded_file()), adversarial=0.0, **run)
        return Recipe(train_autoencoder, changed(config, bfloat16=False), minutes)
    config = changed(_image(kind, before), **run, batch_size=32, learning_rate=1e-3)
    return Recipe(train_image, config, minutes)


def _image(kind: str, before: str) -> TrainImage:
    """A diffusion model, without the settings of its run.

    Args:
        before: the checkpoint that it begins with, or the one of its CLIP or its autoencoder.
    """
    config = changed(for_method(TrainImage(), "v"), data=str(_data(kind)), **TEXT, **NETWORK, min_snr=0.0)
    if kind.startswith("glide"):
        config = changed(for_encoder(config, "glide"), encoder="glide")
    if kind.startswith("imagen-upsampler"):
        config = changed(config, beside="lowres", noise_levels=AUGMENTED[kind])
    if "upsampler" in kind:
        return changed(config, method="", **LARGER)
    if kind == "glide-inpaint":
        return changed(config, start_from=before, beside="inpaint")
    if kind == "decoder":
        return changed(for_embedding(config, before), image_embedding=before)
    if kind == "efficient":
        return changed(config, efficient=True)
    if kind == "imagen-small":
        return changed(config, stem=1)
    return changed(config, latent=before, stem=1) if kind == "latent" else config


def _data(kind: str) -> Path:
    if "upsampler" in kind:
        return shapes64_file()
    return {"imagen-small": shapes16_file, "latent": coded_file}.get(kind, shapes_file)()


def train_one(name: str, bench: Bench) -> str:
    """Train, or go on; as `trained`."""
    return trained(name, bench, recipe_of)

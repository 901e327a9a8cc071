"""Configs of autoencoders; the wiring is in `autoencoder_train.py` and `autoencoder_evaluate.py`. Free of
torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.training_flags import IMAGES, Data, Positive
from unveil.runs.flags import Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb

Weight = Annotated[float, Bounds(0, inf, below=True)]


@dataclass(frozen=True)
class AutoencoderFlags:
    """Shape of the autoencoder.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    latent: Positive = 4
    """number of channels of the code"""
    width: Positive = 48
    """number of channels of the first level"""
    multiples: tuple[Positive, ...] = (1, 2)
    """channels of each level as multiples of `width`; each level has half the side of the one before. The
    downsampling factor is that of `stem`, doubled by each further level: 4 by default, 8 with 1 2 2"""
    blocks: Positive = 1
    """number of residual blocks per level of the encoder; the decoder has one more"""
    groups: Positive = 16
    """number of groups of GroupNorm"""
    attention: bool = True
    """attention over all positions, at the side of the code"""
    stem: Positive = 2
    """patch size: `stem` x `stem` pixels are folded into channels before the first convolution, which is
    faster; 1, as in Stable Diffusion, disables it"""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.multiples:
            raise ValueError("`multiples` must have at least one number")
        for multiple in self.multiples:
            if self.width * multiple % self.groups:
                raise ValueError(
                    f"`groups` {self.groups} must divide the channels of every level, and `width` "
                    f"{self.width} times {multiple} is {self.width * multiple}"
                )


Shape, SHAPE = OmitArgPrefixes[AutoencoderFlags], AutoencoderFlags()


@dataclass(frozen=True)
class TrainAutoencoder:
    """Train an autoencoder, whose small codes a diffusion model can be trained on instead of pixels.

    Example: unveil train autoencoder --data emoji64.npz --out runs/autoencoder
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """set of defaults, which other flags change: tiny learns in minutes on a CPU, without a discriminator;
    default is for 64 x 64 pixels on a CPU; paper is Stable Diffusion's autoencoder of 256 x 256 pixels, with
    83.7 M parameters, for a GPU"""
    perceptual: Weight = 1.0
    """weight of the perceptual loss, which compares features of SqueezeNet (whose weights are not part of
    unveil; they are read from $UNVEIL_DATA/models/squeezenet1_0_imagenet.npz); without this file, and with 0,
    pixels alone are compared"""
    kl: Weight = 1e-6
    """weight of the KL divergence that keeps codes near the standard normal distribution; 1e-6 as in Stable
    Diffusion"""
    adversarial: Weight = 0.5
    """weight of the discriminator's verdict, which makes reconstructions sharp; 0: no discriminator"""
    adversarial_from: Annotated[int, Bounds(0)] = 2_000
    """step from which the discriminator takes part; the autoencoder should have converged by then"""
    discriminator_width: Positive = 32
    """number of channels of the discriminator's first layer, 64 in the paper"""
    images: Data = IMAGES
    network: Shape = SHAPE
    run: Run = RunFlags(
        steps=6_000,
        batch_size=16,
        warmup=100,
        adam_betas=(0.5, 0.9),
        save_every=500,
        out=Path("runs/autoencoder"),
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvalAutoencoder:
    """Score the reconstructions of an autoencoder: PSNR, and distances of named features, beside images that
    are merely shrunk as much and enlarged.

    Example: unveil eval autoencoder --checkpoint runs/autoencoder --n 200 --json autoencoder.json
    """

    checkpoint: str = "runs/autoencoder"
    """run folder or checkpoint folder of `unveil train autoencoder` or of a model in a latent space, a
    packaged model such as emoji-text, or taef2"""
    data: str | None = None
    """images to reconstruct, as `unveil train autoencoder --data` takes them; default: the held-out images of
    the run, or if none were held out, its training images"""
    n: Annotated[int, Bounds(2)] = 200
    """number of images, drawn at random; all, if there are fewer"""
    extractor: Literal["auto", "squeezenet", "pixels"] = "auto"
    """features to compare: those of SqueezeNet, or pixels; auto takes SqueezeNet if its weights are there"""
    sampled: bool = False
    """decode random codes, as in training, instead of their means"""
    batch_size: Annotated[int, Bounds(1)] = 32
    """images per batch; lower it if memory runs out"""
    out: Path | None = None
    """PNG file of originals above their reconstructions, of the first 16 images; default: none"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN_PRESETS = {
    "default": TrainAutoencoder(),
    "tiny": changed(
        TrainAutoencoder(),
        preset="tiny",
        width=32,
        groups=8,
        adversarial=0.0,
        steps=1_500,
        learning_rate=2e-3,
    ),
    "paper": changed(
        TrainAutoencoder(),
        preset="paper",
        size=256,
        fit="crop",
        adversarial_from=50_000,
        discriminator_width=64,
        width=128,
        multiples=(1, 2, 4, 4),
        blocks=2,
        groups=32,
        stem=1,
        steps=400_000,
        batch_size=12,
        accumulate=2,
        learning_rate=1.08e-4,  # 4.5e-6 times the number of images in a step
        warmup=0,
        final_fraction=1.0,
        clip=inf,
        save_every=5_000,
    ),
}
TRAIN = Verb(
    TRAIN_PRESETS,
    "image.recipes.autoencoder.train:train_autoencoder",
    "an autoencoder, whose codes latent diffusion is trained on",
    "preset data size fit width multiples latent steps batch_size learning_rate out resume",
    after="eval autoencoder --checkpoint {run}",
    aliases={"--no-samples": "--sample-every -1"},
)
EVAL = Verb(
    {"default": EvalAutoencoder()},
    "image.recipes.autoencoder.evaluate:evaluate_autoencoder",
    "PSNR and feature distances of an autoencoder's reconstructions",
    "checkpoint data n extractor out json",
)

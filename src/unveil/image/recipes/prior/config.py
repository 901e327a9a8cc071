"""Configs of priors; the wiring is in `train.py` and `evaluate.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.training_flags import IMAGES, Data, Positive
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.runs.flags import Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb

Settings, SETTINGS = OmitArgPrefixes[PriorSettings], PriorSettings()


@dataclass(frozen=True)
class TransformerFlags:
    """Shape of the prior's transformer.

    Raises:
        ValueError: a value of another type or out of range, by name.
    """

    width: Positive = 256
    """width of the transformer"""
    layers: Positive = 4
    """number of transformer blocks"""
    heads: Positive = 4
    """number of attention heads; they divide `width`"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"`heads` {self.heads} and 2 must divide `width` {self.width}")


Transformer, TRANSFORMER = OmitArgPrefixes[TransformerFlags], TransformerFlags()


@dataclass(frozen=True)
class TrainPrior:
    """Train a prior of unCLIP, which draws the CLIP embedding of an image for a text; a decoder then makes an
    image of it.

    Example: unveil train prior --image-embedding runs/clip --data shapes.npz --out runs/prior
    """

    preset: Literal["tiny", "default", "paper"] = "default"
    """set of defaults, which other flags change: tiny learns in minutes on a CPU; paper has the 1 B
    parameters of unCLIP's prior, for many GPUs"""
    image_embedding: str = "runs/clip"
    """CLIP whose embeddings are drawn: a run of `unveil train clip`, or of a decoder or a prior, which keep
    theirs"""
    kind: Literal["diffusion", "autoregressive"] = "diffusion"
    """diffusion: denoises the embedding; autoregressive: draws its principal components one after another,
    each as one of `bins` values"""
    captions: str = "auto"
    """captions of the images: auto (those of a .npz file, else metadata.jsonl or metadata.csv in the folder,
    else the .txt file beside each image), txt, or a .jsonl or .csv file with the fields file_name and text"""
    caption_drop: Annotated[float, Bounds(0, 1, below=True)] = 0.1
    """probability of an empty caption during training, for classifier-free guidance"""
    diffusion_steps: Annotated[int, Bounds(1)] = 1000
    """number of steps T in the cosine table of betas, with `kind=diffusion`"""
    clamp: Annotated[float, Bounds(0, above=True)] = 5.0
    """largest number of a predicted embedding, in standard deviations, with `kind=diffusion`"""
    dimensions: Annotated[int, Bounds(1, 4096)] = 32
    """number of principal components of the embeddings that are drawn, with `kind=autoregressive`; 319 of
    1,024 in the paper"""
    bins: Annotated[int, Bounds(2, 65_536)] = 256
    """number of values of a component, with `kind=autoregressive`; 1,024 in the paper"""
    network: Transformer = TRANSFORMER
    images: Data = IMAGES
    run: Run = RunFlags(
        steps=5_000, batch_size=128, warmup=200, weight_decay=0.01, save_every=500, out=Path("runs/prior")
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.captions:
            raise ValueError("a prior is trained on captions; give `captions`, or leave it out for auto")
        if not self.run.batch_size:
            raise ValueError("`batch_size` of a prior must be at least 1, got 0")


@dataclass(frozen=True)
class EvalPrior:
    """Score a prior: the cosine of its embeddings with those of the images that the captions belong to,
    beside the cosine of the texts' own embeddings.

    Example: unveil eval prior --checkpoint runs/prior --n 200 --json prior.json
    """

    checkpoint: str = "runs/prior"
    """run folder or checkpoint folder of `unveil train prior`"""
    data: str | None = None
    """images with captions, as `unveil train prior --data` takes them; default: the held-out images of the
    run, or if none were held out, its training images"""
    n: Annotated[int, Bounds(2)] = 200
    """number of pairs, drawn at random; all, if there are fewer"""
    settings: Settings = SETTINGS
    batch_size: Annotated[int, Bounds(1)] = 128
    """images or texts per batch; lower it if memory runs out"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN_PRESETS = {
    "default": TrainPrior(),
    "tiny": changed(
        TrainPrior(), preset="tiny", width=128, layers=2, steps=1_500, batch_size=64, learning_rate=2e-3
    ),
    "paper": changed(
        TrainPrior(),
        preset="paper",
        dimensions=319,
        bins=1024,
        width=2048,
        layers=24,
        heads=32,
        steps=600_000,
        batch_size=4096,
        learning_rate=1.1e-4,
        weight_decay=6e-2,
        adam_betas=(0.9, 0.96),
        warmup=1_000,
        final_fraction=1.0,
        ema_decay=0.9999,
        save_every=10_000,
    ),
}
TRAIN = Verb(
    TRAIN_PRESETS,
    "image.recipes.prior.train:train_prior",
    "a prior of unCLIP: image embeddings for texts",
    "preset image_embedding kind data captions size fit width layers steps batch_size learning_rate out "
    "resume",
    after="eval prior --checkpoint {run}",
)
EVAL = Verb(
    {"default": EvalPrior()},
    "image.recipes.prior.evaluate:evaluate_prior",
    "cosines of a prior's embeddings with the images', beside the texts'",
    "checkpoint data n prior_steps prior_scale candidates json",
)

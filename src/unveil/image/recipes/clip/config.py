"""Configs of CLIP: two towers trained here; the wiring is in `train.py` and `evaluate.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.training_flags import CAPTIONS, IMAGES, Captions, Data, Network, UNetFlags
from unveil.runs.flags import Job, JobFlags, Run, RunFlags, changed
from unveil.runs.verb import Verb

HALF = UNetFlags(width=32, stem=2)  # the first half of a U-Net
WORDS = replace(CAPTIONS, captions="auto")


@dataclass(frozen=True)
class TrainClip:
    """Train a CLIP on images and their captions: of clean images, for retrieval and unCLIP, or with --noised
    of noisy ones, whose gradient guides a diffusion model towards a text (GLIDE).

    Example: unveil train clip --data shapes.npz --captions auto --noised --schedule cosine --out runs/clip
    """

    preset: Literal["tiny", "default"] = "default"
    """set of defaults, which other flags change: tiny learns in minutes on a CPU"""
    noised: bool = False
    """train on noisy images, at random times of `schedule`, to guide a diffusion model"""
    schedule: Literal["linear", "cosine", "flow", "karras"] = "cosine"
    """noise schedule of the model to guide, with `noised`; cosine is that of colour images without `--method`
    and of the methods iddpm and v, linear that of ddpm, karras of edm, flow of flow"""
    diffusion_steps: Annotated[int, Bounds(1)] = 1000
    """number of steps T in the table of betas; it must be that of the model to guide"""
    embedding_width: Annotated[int, Bounds(1, 99_999)] = 128
    """width of the joint embedding of images and texts"""
    text: Captions = WORDS
    images: Data = IMAGES
    network: Network = HALF
    run: Run = RunFlags(steps=3_000, batch_size=128, warmup=100, weight_decay=0.05, out=Path("runs/clip"))

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.network.stem:
            raise ValueError("`stem` of an image tower must be at least 1, got 0")
        if not self.text.captions:
            raise ValueError("CLIP is trained on captions; give `captions`, or leave it out for auto")
        if self.run.batch_size < 2:
            raise ValueError(
                f"`batch_size` must be at least 2, as each image is told apart from others, got "
                f"{self.run.batch_size}"
            )


@dataclass(frozen=True)
class EvalClip:
    """Score a CLIP by retrieval: the share of captions whose image is among the 1 or 5 nearest of N held-out
    images (R@1, R@5), and of images whose caption is, beside chance.

    Example: unveil eval clip --checkpoint runs/clip --n 200 --json clip.json
    """

    checkpoint: str = "runs/clip"
    """run folder or checkpoint folder of `unveil train clip`"""
    data: str | None = None
    """images with captions, as `unveil train clip --data` takes them; default: the held-out images of the
    run, or if none were held out, its training images"""
    n: Annotated[int, Bounds(2)] = 200
    """number of pairs, drawn at random; all, if there are fewer"""
    time: Annotated[float, Bounds(0, 1)] = 0.0
    """time t, from 0 (clean) to 1 (noise), to which the images are noised first, for a CLIP that was trained
    with `noised`"""
    batch_size: Annotated[int, Bounds(1)] = 128
    """images per batch; lower it if memory runs out"""
    job: Job = JobFlags()

    def __post_init__(self) -> None:
        check_fields(self)


TRAIN_PRESETS = {
    "default": TrainClip(),
    "tiny": changed(
        TrainClip(),
        preset="tiny",
        width=16,
        multiples=(1, 2),
        groups=8,
        embedding_width=64,
        steps=800,
        batch_size=64,
        save_every=400,
    ),
}
TRAIN = Verb(
    TRAIN_PRESETS,
    "image.recipes.clip.train:train_clip",
    "a CLIP of images and captions, for guidance (--noised), retrieval and unCLIP",
    "preset data captions noised schedule embedding_width size fit width steps batch_size learning_rate out "
    "resume",
    after="eval clip --checkpoint {run}",
)
EVAL = Verb(
    {"default": EvalClip()},
    "image.recipes.clip.evaluate:evaluate_clip",
    "retrieval of held-out images by their captions, beside chance",
    "checkpoint data n time json",
)

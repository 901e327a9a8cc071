"""Config of classifiers of noisy images; the wiring is in `train.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.training_flags import IMAGES, Data, Network, UNetFlags
from unveil.runs.flags import Run, RunFlags, changed
from unveil.runs.verb import Verb

HALF = UNetFlags(width=32, dropout=0.1, stem=2)  # the first half of a U-Net


@dataclass(frozen=True)
class TrainClassifier:
    """Train a classifier: of noisy images, to guide a model with the same schedule; or of clean images, to
    score samples.

    Example: unveil train classifier --data fashion-mnist --schedule linear --out runs/classifier
    """

    preset: Literal["tiny", "default"] = "default"
    """set of defaults, which other flags change: tiny learns in minutes on a CPU"""
    schedule: Literal["linear", "cosine", "flow", "karras"] = "linear"
    """noise schedule of the model to guide. By the `--method` of that model: linear for ddpm, cosine for
    iddpm and v, karras for edm, flow for flow; without one, linear for grey and cosine for colour images"""
    diffusion_steps: Annotated[int, Bounds(1)] = 1000
    """number of steps T in the table of betas; it must be that of the model to guide"""
    clean: bool = False
    """train on images without noise, for `unveil eval image --judge`"""
    images: Data = IMAGES
    network: Network = HALF
    run: Run = RunFlags(
        steps=3_000, batch_size=128, warmup=100, weight_decay=0.05, out=Path("runs/classifier")
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.network.stem:
            raise ValueError("`stem` of a classifier must be at least 1, got 0")
        if self.network.efficient:
            raise ValueError("`efficient` is for diffusion models; leave it out")


TRAIN_PRESETS = {
    "default": TrainClassifier(),
    "tiny": changed(
        TrainClassifier(),
        preset="tiny",
        width=16,
        multiples=(1, 2),
        groups=8,
        steps=800,
        batch_size=64,
        save_every=400,
    ),
}
TRAIN = Verb(
    TRAIN_PRESETS,
    "image.recipes.classifier.train:train_classifier",
    "a classifier of noisy images for guidance, or of clean images for scores",
    "preset data schedule clean size fit width steps batch_size learning_rate out resume",
    after="image.recipes.next_step:after_training",
)

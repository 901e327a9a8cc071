"""Classifiers of noisy images: the config; the wiring is in `classifier_train.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unveil.runs.flags import Run, RunFlags, changed
from unveil.runs.verb import Verb


@dataclass(frozen=True)
class TrainClassifier:
    """Train a classifier: of noisy images, to guide a model of the same schedule; or of clean ones, to judge images.

    Example: unveil train classifier --data fashion-mnist --schedule linear --out runs/classifier
    """

    preset: Literal["tiny", "default"] = "default"
    """tiny proves learning in minutes"""
    schedule: Literal["linear", "cosine", "flow", "karras"] = "linear"
    """of the noise, and that of the model to be guided: linear for method ddpm, cosine for iddpm, v and colour pictures by
    default, karras for edm"""
    diffusion_steps: int = 1000
    """of the table, as the model's"""
    clean: bool = False
    """never see noise: a judge, as of unveil eval image --judge"""
    data: str = "fashion-mnist"
    """a folder of images, a .npz or .npy, fashion-mnist, or cifar-10-binary.tar.gz; also below $UNVEIL_DATA"""
    size: int = 0
    """side in pixels; 0: that of the files"""
    fit: Literal["exact", "crop", "resize"] = "exact"
    """how other sizes become --size: refuse, the middle square, or squeeze"""
    background: Literal["", "white", "black"] = ""
    """colour under transparent places; by default such files are refused"""
    skip_corrupt: bool = False
    """leave out files that cannot be read"""
    styles: tuple[str, ...] = ()
    """of a .npz with records: only these; by default all but openmoji"""
    hold_out: float = 0.05
    """share that is not trained on, where the data have no test images of their own"""
    flip: bool = False
    """mirror half of the images"""
    width: int = 32
    """channels of the first level"""
    multiples: tuple[int, ...] = (1, 2, 2)
    """channels of each level, in widths"""
    blocks: int = 1
    """residual blocks of a level"""
    attention: tuple[int, ...] = (7, 8)
    """sides, in places, of the levels with attention; the middle always has it"""
    head_width: int = 0
    """channels of an attention head; 0: one head"""
    groups: int = 16
    """of GroupNorm"""
    scale_shift: bool = True
    """the time scales and shifts (AdaGN) instead of being added"""
    big_gan: bool = False
    """halve sides inside residual blocks (BigGAN)"""
    dropout: float = 0.1
    """in residual blocks"""
    stem: int = 2
    """work on squares of so many pixels as one place: faster; 1: on pixels"""
    run: Run = RunFlags(
        steps=3_000, batch_size=128, warmup=100, weight_decay=0.05, out=Path("runs/classifier")
    )


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
    "image.recipes.classifier_train:train_classifier",
    "a classifier of noisy images that guides, or of clean ones that judges",
    (
        "preset",
        "data",
        "schedule",
        "clean",
        "size",
        "fit",
        "width",
        "steps",
        "batch_size",
        "learning_rate",
        "out",
        "resume",
    ),
    after="image.recipes.next_step:after_training",
)

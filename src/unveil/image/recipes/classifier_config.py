"""Classifiers of noisy images: the config; the wiring is in `classifier_train.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal


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
    out: Path = Path("runs/classifier")
    """run folder"""
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
    steps: int = 3_000
    """optimizer steps"""
    batch_size: int = 128
    """images a step"""
    accumulate: int = 1
    """batches whose gradients make one step"""
    learning_rate: float = 1e-3
    """peak; warm-up, then cosine"""
    warmup: int = 100
    """steps of rising rate"""
    final_fraction: float = 0.02
    """of the rate, in the end"""
    weight_decay: float = 0.05
    """AdamW's, as Dhariwal & Nichol's"""
    clip: float = 1.0
    """largest norm of the gradient"""
    ema_decay: float = 0.999
    """largest decay of the average of weights"""
    save_every: int = 1000
    """steps between checkpoints"""
    keep: int = 1
    """newest checkpoints that are kept; 0 keeps all"""
    bfloat16: bool | None = None
    """train under bfloat16 autocast; by default where the processor computes in it"""
    log: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """where metrics go besides metrics.jsonl"""
    resume: bool = False
    """go on from the newest good checkpoint of the run folder"""
    new_data: bool = False
    """with --resume: go on although there are more or fewer data than before; averages and statistics stay those of the checkpoint"""
    seed: int = 0
    """of weights, batches, times and noise"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps"""
    threads: int = 0
    """CPU threads; 0 lets torch decide"""


TRAIN_PRESETS = {
    "default": TrainClassifier(),
    "tiny": replace(TrainClassifier(), preset="tiny", width=16, multiples=(1, 2), groups=8, steps=800, batch_size=64, save_every=400),
}

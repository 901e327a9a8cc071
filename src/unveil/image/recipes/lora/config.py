"""Config of `unveil train lora`; the wiring is in `train.py`. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields
from unveil.image.recipes.tuning_flags import PICTURES, TUNED, Pictures, Tuned
from unveil.runs.flags import Run, RunFlags
from unveil.runs.verb import Verb

PRIOR_IMAGES, PRIOR_WEIGHT = 100, 1.0


@dataclass(frozen=True)
class TrainLora:
    """Train low-rank adapters (LoRA) of a model of text to image on a few pictures: a style or a subject from
    captioned pictures, or with --dreambooth a subject that gets a word of its own. The run folder gets
    lora-kohya.safetensors and pytorch_lora_weights.safetensors, which other programs read too.

    Example: unveil train lora --base runs/image --data cat/ --dreambooth "a sks cat" --prior "a cat"
    """

    model: Tuned = TUNED
    captions: str = ""
    """captions of the pictures: auto (those of a .npz file, else metadata.jsonl or metadata.csv in the
    folder, else the .txt file beside each image), txt, or a .jsonl or .csv file of file names and texts;
    default: auto, or the prompt of `dreambooth`"""
    dreambooth: str = ""
    """prompt of all pictures, with a rare word for their subject, such as "a sks cat"; default: captions"""
    prior: str = ""
    """class prompt for prior preservation, such as "a cat", with `dreambooth`: pictures of it are sampled
    from the base and trained on, too; default: no prior preservation"""
    prior_images: Annotated[int, Bounds(1, 9_999)] = PRIOR_IMAGES
    """number of pictures to sample for `prior`; they are kept in prior/ of the run folder"""
    prior_weight: Annotated[float, Bounds(0, inf, above=True, below=True)] = PRIOR_WEIGHT
    """weight of the loss of the pictures of `prior`"""
    rank: Annotated[int, Bounds(1)] = 4
    """rank of the adapters; larger ones learn more, and forget more of the base"""
    alpha: Annotated[float, Bounds(0, below=True)] = 0.0
    """scale of the adapters: the update of a layer is alpha / rank times B A; 0: alpha is the rank"""
    layers: Literal["attention", "transformer"] = "attention"
    """layers of the U-Net to adapt: the linear layers of its attention, as diffusers' scripts do, or all
    linear layers and 1 x 1 convolutions of its transformers, as kohya's do"""
    conv_rank: Annotated[int, Bounds(0)] = 0
    """rank of the adapters of 3 x 3 convolutions (LoCon); the 1 x 1 convolutions and linear layers of the
    residual blocks then have `rank`; 0: none of these"""
    text_encoder: bool = False
    """adapt the text encoder, too"""
    pictures: Pictures = PICTURES
    run: Run = RunFlags(
        steps=500,
        batch_size=4,
        learning_rate=5e-4,
        warmup=0,
        final_fraction=1.0,
        weight_decay=1e-2,
        adam_betas=(0.9, 0.999),
        ema_decay=0.99,
        save_every=100,
        out=Path("runs/lora"),
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.run.batch_size:
            raise ValueError("`batch_size` of this training must be at least 1, got 0")
        changed = (self.prior_images, self.prior_weight) != (PRIOR_IMAGES, PRIOR_WEIGHT)
        if self.prior and not self.dreambooth:
            raise ValueError(
                "`prior` is the class of the subject of `dreambooth`; give `dreambooth`, the prompt of the "
                "pictures, or leave `prior` out"
            )
        if changed and not self.prior:
            raise ValueError(
                "`prior_images` and `prior_weight` are about `prior`; give it, or leave them out"
            )
        if self.dreambooth and self.captions:
            raise ValueError("`dreambooth` is the prompt of all pictures; leave it or `captions` out")


TRAIN = Verb(
    {"default": TrainLora()},
    "image.recipes.lora.train:train_lora",
    "LoRA adapters of a model of text to image, or DreamBooth, on a few pictures",
    "base data captions dreambooth prior rank alpha layers conv_rank text_encoder size steps batch_size "
    "learning_rate out resume",
    after="image.recipes.lora.train:after_training",
    aliases={"--samples": "--sample-every 0", "--no-samples": "--sample-every -1"},
)

"""Settings of a policy's network, windows and diffusion, which all its trainings share. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes

from unveil.checks import Bounds, check_fields

Count = Annotated[int, Bounds(1)]
Share = Annotated[float, Bounds(0, 1, below=True)]


@dataclass(frozen=True)
class ModelFlags:
    """Settings of the network, of the windows of demonstrations, of the diffusion and of distillation."""

    network: Literal["cnn", "transformer"] = "cnn"
    """architecture: the conditional U-Net (cnn) or the encoder-decoder transformer (transformer)"""
    condition: Literal["auto", "film", "tokens", "inpainting"] = "auto"
    """conditioning on observations: by FiLM (film, cnn), as tokens (tokens, transformer), or as known rows
    of the denoised chunk (inpainting, cnn); auto: film for the cnn, tokens for the transformer"""
    n_obs: Count = 2
    """number of latest observations that a decision is conditioned on"""
    horizon: Count = 16
    """number of actions in a predicted chunk; the cnn needs a multiple of 2^(levels - 1)"""
    n_action: Count = 8
    """number of actions of each chunk that are executed; with fewer the policy reacts sooner, but decides
    more often"""
    prefix: Annotated[int, Bounds(0)] = 0
    """largest number of first actions of a chunk that are known in training, for
    `--asynchronous prefix` of `unveil eval`; 0: none, as published"""
    diffusion_steps: Count = 100
    """number of steps of the squared-cosine noise schedule"""
    predicts: Literal["eps", "x0", "v", "flow"] = "v"
    """output of the network: noise (eps, as published), clean actions (x0), v (good with few steps), or the
    velocity of flow matching (flow)"""
    widths: tuple[Count, ...] = (64, 128, 224)
    """channels of the cnn's levels, multiples of 8"""
    kernel: Count = 5
    """kernel size of the cnn's convolutions, an odd number"""
    step_width: Count = 128
    """width of the cnn's time embedding, an even number"""
    width: Count = 192
    """width of the transformer, a multiple of twice its heads"""
    depth: Count = 6
    """number of blocks of the transformer"""
    heads: Count = 4
    """number of attention heads of the transformer"""
    dropout: Share = 0.01
    """dropout rate of the transformer's attention and blocks"""
    image_width: Count = 16
    """channels of the image encoder's first level, a multiple of 16; 64 is the published ResNet-18"""
    image_keypoints: Count = 32
    """number of keypoints of the image encoder's spatial softmax"""
    distill: str = ""
    """run to distill into a student that needs 1 to 3 network calls (`--solver consistency`); the student
    starts with the network and weights of the run, which should predict v or flow: the weights of other runs
    are a poor start, since their students predict v; by default no distillation"""
    distill_steps: Count = 6
    """with `distill`: number of DDIM steps of the original run, whose results the student learns; a multiple
    of the number of steps that the student is used with"""

    def __post_init__(self) -> None:
        check_fields(self)


Model = OmitArgPrefixes[ModelFlags]
"""`ModelFlags` as a field of a config, with flags without a prefix."""


TINY = {
    "widths": (32, 64, 128),
    "step_width": 64,
    "width": 96,
    "depth": 3,
    "steps": 1_500,
    "warmup": 100,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "save_every": 500,
}
"""What the preset `tiny` changes, of every training of a policy."""
PAPER = {
    "predicts": "eps",
    "widths": (256, 512, 1024),
    "image_width": 64,
    "step_width": 256,
    "width": 256,
    "depth": 8,
    "learning_rate": 1e-4,
    "final_fraction": 0.0,  # the released trainer's rate falls to 0, and it does not clip
    "clip": inf,
    "bfloat16": False,
}
"""What the preset `paper` changes, but for the steps."""

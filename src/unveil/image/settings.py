"""The settings of `generate`, for Python, the command line and the text of PNG files; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields


@dataclass(frozen=True)
class ImageSettings:
    """How images are sampled.

    Raises:
        ValueError: a value of another type or out of range, by name, or settings that exclude each other.
    """

    solver: Literal["ddim", "ddpm", "dpmpp", "heun"] = "dpmpp"
    """ddpm is ancestral sampling and needs many steps; ddim is deterministic; dpmpp (DPM-Solver++ 2M) and
    heun are of second order"""
    steps: Annotated[int, Bounds(1)] = 20
    """number of solver steps, at most those of the model's table; heun calls the network twice in each step
    but the last"""
    spacing: Literal["even", "quadratic"] = "even"
    """spacing of the times of ddim and ddpm on a table; quadratic is denser near the data (DDIM's choice for
    CIFAR-10)"""
    respacing: str = ""
    """times of ddim and ddpm on a table, instead of --steps: counts of equal sections from clean to noisy,
    such as 25,25,50; or ddim25"""
    eta: Annotated[float, Bounds(0, 1)] = 0.0
    """share of ddpm's noise that ddim adds in each step; 0 is deterministic"""
    variance: Literal["", "small", "large", "learned"] = ""
    """variance of ddpm's steps; by default learned if the model learned it, else small (beta-tilde)"""
    scale: Annotated[float, Bounds(0, below=True)] = 1.0
    """scale of classifier-free guidance; 1 disables it, 0 ignores the class"""
    interval: tuple[Annotated[float, Bounds(0)], Annotated[float, Bounds(0)]] = (0.0, 1.0)
    """times t between which guidance acts, with a classifier or without one"""
    rescale: Annotated[float, Bounds(0, 1)] = 0.0
    """rescaling of guided predictions to the standard deviation of conditional ones, against over-exposure; 0
    disables it"""
    negative: Annotated[int, Bounds(-1)] | str = -1
    """class that guidance leads away from, by number or by name; -1: away from the unconditional
    prediction"""
    classifier_scale: Annotated[float, Bounds(0, below=True)] = 1.0
    """scale of the classifier's guidance; the same scale is stronger with --classifier-form belief than with
    mean"""
    classifier_form: Literal["belief", "mean"] = "belief"
    """what the classifier's gradient shifts: the belief about x_0, with any solver (Dhariwal & Nichol 2021,
    Alg. 2), or the mean of ddpm's steps (Alg. 1)"""
    strength: Annotated[float, Bounds(0, 1, above=True)] = 0.6
    """time t that the images of --task img2img are noised to; 1 starts from noise alone"""
    jumps: Annotated[int, Bounds(1)] = 1
    """number of times that --task inpaint repeats each stretch of --jump-length steps (r of RePaint, whose
    value is 10)"""
    jump_length: Annotated[int, Bounds(1)] = 10
    """length of these stretches in steps (j of RePaint)"""
    clip: bool = True
    """clip the belief about x_0 to the range of pixels"""
    threshold: Annotated[float, Bounds(0, 1)] = 0.0
    """quantile of dynamic thresholding, instead of clipping, such as 0.995; 0 disables it"""
    temperature: Annotated[float, Bounds(0, below=True)] = 1.0
    """factor of the noise that ddpm adds in each step"""

    def __post_init__(self) -> None:
        check_fields(self)
        low, high = self.interval
        if not low < min(high, 1.0) or (high > 1.0 and not isinf(high)):
            raise ValueError(f"`interval` must be two rising times within 0 .. 1, got {low} {high}")
        for name, solver in (("eta", "ddim"), ("variance", "ddpm"), ("temperature", "ddpm")):
            if getattr(self, name) != getattr(ImageSettings, name) and self.solver != solver:
                raise ValueError(f"`{name}` needs `solver={solver}`, got `solver={self.solver}`")
        if self.classifier_form == "mean" and self.solver != "ddpm":
            raise ValueError(f"`classifier_form=mean` needs `solver=ddpm`, got `solver={self.solver}`")
        if self.respacing and self.spacing != "even":
            raise ValueError("`respacing` and `spacing` both choose the times; leave one of them out")
        if self.rescale and self.scale == 1.0:
            raise ValueError("`rescale` changes guided predictions; give `scale` above 1")
        if self.threshold and not self.clip:
            raise ValueError("`threshold` replaces clipping; leave `clip` as it is")

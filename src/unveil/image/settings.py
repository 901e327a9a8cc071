"""The settings of `generate`, for Python, the command line and the text of PNG files; free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isinf
from typing import Annotated, Literal

from unveil.checks import Bounds, check_fields

SolverName = Literal[
    "ddim",
    "ddpm",
    "dpmpp",
    "heun",
    "euler",
    "euler_ancestral",
    "dpmpp_2m_sde",
    "dpmpp_sde",
    "pndm",
    "unipc",
    "lcm",
]
GridName = Literal["", "karras", "exponential", "sgm_uniform", "uniform", "linspace", "leading", "trailing"]
NOISY = ("ddim", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde")  # solvers with `eta`


@dataclass(frozen=True)
class ImageSettings:
    """How images are sampled.

    Raises:
        ValueError: a value of another type or out of range, by name, or settings that exclude each other.
    """

    solver: SolverName = "dpmpp"
    """ddim and euler are deterministic and of first order; dpmpp (DPM-Solver++ 2M), heun, pndm (PLMS) and
    unipc are deterministic and of second order or higher; ddpm, euler_ancestral, dpmpp_2m_sde and dpmpp_sde
    add noise in each step and need more steps; lcm takes a few steps, with distilled models (latent
    consistency)"""
    grid: GridName = field(default="", kw_only=True)
    """times of the steps: karras and exponential by noise level; the others by the entries of the model's
    table of betas, uniform and sgm_uniform as in A1111's web UI, and linspace, leading and trailing as
    `timestep_spacing` of diffusers' scheduler of that solver. Default: the solver's usual ones"""
    steps: Annotated[int, Bounds(1)] = 20
    """number of solver steps, at most those of the model's table of betas; heun and dpmpp_sde call the
    network twice in each step but the last"""
    spacing: Literal["even", "quadratic"] = "even"
    """spacing of the times, with `solver` ddim or ddpm and a table of betas; quadratic is denser near the
    data (DDIM's choice for CIFAR-10)"""
    mixes: Literal["", "eps", "v"] = field(default="", kw_only=True)
    """prediction that `solver=pndm` mixes over several steps: the noise (eps), or v, as diffusers does with
    models that predict v. Default: v for Stable Diffusion's models that predict v, else eps, which is more
    accurate"""
    respacing: str = ""
    """number of steps in each of several equal sections of the table of betas, from clean to noisy, such as
    25,25,50; or ddim25 (as in improved-diffusion), or fast27 (of GLIDE's upsampler). It replaces `steps`,
    with `solver` ddim or ddpm"""
    eta: Annotated[float, Bounds(0, 1)] | None = None
    """noise that `solver` ddim, euler_ancestral, dpmpp_2m_sde or dpmpp_sde adds in each step, as a fraction
    of ddpm's; 0 is deterministic. Default: 0 for ddim, 1 for the others"""
    variance: Literal["", "small", "large", "learned"] = ""
    """variance of the steps of `solver=ddpm`, beta-tilde (small), beta (large) or learned; default: learned
    if the model learned it, else small"""
    scale: Annotated[float, Bounds(0, below=True)] = 1.0
    """scale of classifier-free guidance; 1 disables it, 0 ignores class and prompt; on Fashion-MNIST 2 gives
    the best images. With `prompt` of `unveil sample image` the default is 3, or 7.5 for Stable Diffusion"""
    interval: tuple[Annotated[float, Bounds(0)], Annotated[float, Bounds(0)]] = (0.0, 1.0)
    """times t, from 0 (clean) to 1 (noise), between which guidance acts, by a classifier or
    classifier-free"""
    rescale: Annotated[float, Bounds(0, 1)] = 0.0
    """fraction by which guided predictions are rescaled to the standard deviation of conditional ones,
    against over-exposure at large `scale`; 0 disables it"""
    negative: Annotated[int, Bounds(-1)] | str = -1
    """negative prompt; for models with classes, the class to guide away from, by number or by name; -1:
    none"""
    classifier_scale: Annotated[float, Bounds(0, below=True)] = 1.0
    """scale of the guidance by `classifier`: on Fashion-MNIST 4 to 10 give the best images, and 0.5 worse
    ones than no guidance. The same scale is stronger with `classifier_form=belief` than with mean"""
    classifier_form: Literal["belief", "mean"] = "belief"
    """what the gradient of `classifier` or `clip_model` shifts: the predicted clean image x_0, with any
    solver (belief; Dhariwal & Nichol 2021, Alg. 2), or the mean of each step of `solver=ddpm` (mean;
    Alg. 1)"""
    strength: Annotated[float, Bounds(0, 1, above=True)] = 0.6
    """time t, from 0 (clean) to 1 (noise), to which the images are noised, with `task=img2img` of `unveil
    sample image` only; larger values change them more. With `grid` it is the fraction of the steps that are
    done, the last int(steps * strength), as in diffusers"""
    jumps: Annotated[int, Bounds(1)] = 1
    """number of times that each section of `jump_length` steps is sampled (r of RePaint, 10 in the paper),
    with `task=inpaint` of `unveil sample image` only; more give better transitions, at as many times the
    cost"""
    jump_length: Annotated[int, Bounds(1)] = 10
    """number of steps per section (j of RePaint), with `jumps` above 1 in `unveil sample image` only"""
    clip: bool = True
    """clip the predicted clean image x_0 to the range of pixels in each step"""
    threshold: Annotated[float, Bounds(0, 1)] = 0.0
    """quantile of dynamic thresholding (Imagen), which replaces clipping, such as 0.995 with a large `scale`;
    0 disables it"""
    temperature: Annotated[float, Bounds(0, below=True)] = 1.0
    """factor of the noise that `solver=ddpm` adds in each step; below 1, images are smoother and vary
    less"""

    clip_scale: Annotated[float, Bounds(0, below=True)] = field(default=1.0, kw_only=True)
    """scale of the guidance by `clip_model`, of the gradient of the scaled similarity of image and text; 3
    in GLIDE's notebook, with `classifier_form=mean`"""
    noise_factor: Annotated[float, Bounds(0, below=True)] = field(default=1.0, kw_only=True)
    """factor of the initial noise; GLIDE's upsampler takes 0.997, and smaller ones make smoother images"""

    def __post_init__(self) -> None:
        check_fields(self)
        low, high = self.interval
        if not low < min(high, 1.0) or (high > 1.0 and not isinf(high)):
            raise ValueError(f"`interval` must be two rising times within 0 .. 1, got {low} {high}")
        if self.eta and self.solver not in NOISY:
            raise ValueError(f"`eta` needs `solver` {' or '.join(NOISY)}, got `solver={self.solver}`")
        for name, solver in (("variance", "ddpm"), ("temperature", "ddpm")):
            if getattr(self, name) != getattr(ImageSettings, name) and self.solver != solver:
                raise ValueError(f"`{name}` needs `solver={solver}`, got `solver={self.solver}`")
        if self.mixes and self.solver != "pndm":
            raise ValueError(f"`mixes` needs `solver=pndm`, got `solver={self.solver}`")
        if self.classifier_form == "mean" and self.solver != "ddpm":
            raise ValueError(f"`classifier_form=mean` needs `solver=ddpm`, got `solver={self.solver}`")
        if self.grid and (self.respacing or self.spacing != "even"):
            other = "respacing" if self.respacing else "spacing"
            raise ValueError(f"`grid` and `{other}` both choose the times; leave one of them out")
        if self.respacing and self.spacing != "even":
            raise ValueError("`respacing` and `spacing` both choose the times; leave one of them out")
        if self.rescale and self.scale == 1.0:
            raise ValueError("`rescale` changes guided predictions; give `scale` above 1")
        if self.threshold and not self.clip:
            raise ValueError("`threshold` replaces clipping; leave `clip` as it is")

"""Images out of noise: times, solver and guidance by name, in batches."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from unveil.apps.image_model import TABLES, ImageModel, pixels_of
from unveil.network.condition import Condition
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import karras, quadratic, respaced, respaced_by, uniform
from unveil.process.schedule import log_snr
from unveil.sampling.edit import normal_like
from unveil.sampling.gaussian import DDIM, Ancestral, DPMpp2M, Heun
from unveil.sampling.guidance import ALWAYS, Branch, Interval, cfg, clipped, dynamic_threshold
from unveil.sampling.loop import sample


@dataclass(frozen=True)
class ImageSettings:
    """How to make images.

    Args:
        solver: ddpm (ancestral), ddim, dpmpp (DPM-Solver++ 2M) or heun.
        steps: at most T of a model with a table; heun calls the network twice a step but the last.
        spacing: of ddim and ddpm on a table: evenly, or "quadratic", closer where it is clean (DDIM's for CIFAR-10).
        respacing: of ddim and ddpm on a table, instead of steps: counts of equal sections, clean to noisy, such as "25,25,50", or "ddim25".
        eta: of ddim.
        variance: of ddpm; "" takes "learned" from a model that learned it, else "small" (beta-tilde).
        scale: of classifier-free guidance; 1: none.
        interval: t within which guidance acts.
        rescale: of guidance, see `cfg`.
        clip: the belief stays within -1 .. 1.
        threshold: quantile of dynamic thresholding instead of clipping; 0: none.
        temperature: of ddpm's noise.
    Raises:
        ValueError: numbers out of range.
    """

    solver: Literal["ddim", "ddpm", "dpmpp", "heun"] = "dpmpp"
    steps: int = 20
    spacing: Literal["even", "quadratic"] = "even"
    respacing: str = ""
    eta: float = 0.0
    variance: Literal["", "small", "large", "learned"] = ""
    scale: float = 1.0
    interval: Interval = ALWAYS
    rescale: float = 0.0
    clip: bool = True
    threshold: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.scale < 0.0 or self.temperature < 0.0 or not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"--steps must be at least 1, --scale and --temperature at least 0, --rescale in 0 .. 1, got {self}")
        if not 0.0 <= self.threshold <= 1.0 or not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"--threshold and --eta must lie in 0 .. 1, got {self.threshold} and {self.eta}")
        if self.respacing and self.spacing != "even":
            raise ValueError("--respacing says all of the spacing; leave --spacing out")
        if self.eta and self.solver != "ddim":
            raise ValueError(f"--eta is of --solver ddim, got --solver {self.solver}")
        if self.variance and self.solver != "ddpm":
            raise ValueError(f"--variance is of --solver ddpm, got --solver {self.solver}")


class Generated(NamedTuple):
    """uint8 (N, C, S, S), and how often the network was called for each of them."""

    pixels: Tensor
    calls: int


def image_times(model: ImageModel, settings: ImageSettings) -> Tensor:
    """The times of a solver on a model's schedule.

    ddpm and ddim on a table take evenly spaced entries (Nichol & Dhariwal 2021, section 4); the second-order solvers, and all on EDM's
    schedule, the spacing of Karras et al. 2022, eq. 5, between the table's own ends but not beyond 0.002 .. 80; flow matching's times are
    even, except that dpmpp needs alpha > 0.

    Raises:
        ValueError: more steps than the model was trained with.
    """
    shape, schedule, steps = model.shape, model.denoiser.schedule, settings.steps
    if shape.schedule in TABLES and steps > shape.diffusion_steps:
        raise ValueError(f"--steps {steps}: this model was trained with {shape.diffusion_steps} steps, take at most as many")
    if shape.schedule in TABLES and settings.solver in ("ddpm", "ddim"):
        if settings.respacing:
            return respaced_by(shape.diffusion_steps, settings.respacing)
        if settings.spacing == "quadratic":
            return quadratic(shape.diffusion_steps, steps)
        return respaced(shape.diffusion_steps, (steps,)) if steps > 1 else uniform(1)
    if settings.spacing != "even" or settings.respacing:
        what = "--respacing" if settings.respacing else "--spacing"
        raise ValueError(
            f"{what} {settings.respacing or settings.spacing} is of ddim and ddpm on a table of steps (methods ddpm, iddpm and v)"
        )
    if shape.schedule == "flow" and settings.solver != "dpmpp":
        return uniform(steps)
    ends = torch.tensor([1.0 / shape.diffusion_steps, 1.0], dtype=torch.float64, device="cpu")
    low, high = (-0.5 * log_snr(schedule, ends)).exp().tolist() if shape.schedule in TABLES else (0.002, 80.0)
    if steps == 1:
        return torch.tensor([1.0 if shape.schedule != "flow" else 80.0 / 81.0, 0.0], dtype=torch.float64, device="cpu")
    return karras(schedule, steps, max(low, 0.002), min(high, 80.0))


def generate(
    model: ImageModel,
    labels: Tensor | None,
    count: int,
    settings: ImageSettings,
    generator: torch.Generator,
    batch: int = 64,
    on_step: Callable[[Tensor, Tensor], object] | None = None,
    noise: Tensor | None = None,
) -> Generated:
    """`count` images.

    Args:
        labels: (count,) classes, or None for no class.
        batch: images at a time; the noise is drawn batch by batch, so it belongs to what makes the images.
        noise: (count, C, S, S), where to start, of variance 1, such as `inverted` or `slerp` give; None draws it.
        on_step: called with the belief about the first batch, (B, C, S, S) in -1 .. 1, and t.
    Raises:
        ValueError: settings that this model cannot follow.
    """
    if labels is not None and len(labels) != count:
        raise ValueError(f"{count} images need as many classes, got {len(labels)}")
    if settings.scale != 1.0 and not (model.shape.classes and model.shape.null):
        what = "without classes (--classes)" if not model.shape.classes else "without dropping labels (--label-drop)"
        raise ValueError(f"--scale {settings.scale} needs a model that knows images with and without a class; this was trained {what}")
    if settings.scale != 1.0 and labels is None:
        raise ValueError(f"--scale {settings.scale} guides towards a class; give --class")
    times, solver = image_times(model, settings), solver_of(model, settings)
    model.eval()
    made: list[Tensor] = []
    calls = 0

    def counted(x_t: Tensor, t: Tensor, cond: Condition | None = None) -> GaussianDenoised:
        nonlocal calls
        calls += 1
        return model.denoiser(x_t, t, cond)

    for start in range(0, count, batch):
        rows = min(batch, count - start)
        calls = 0
        cond = model.condition(None if labels is None else labels[start : start + rows], rows)
        denoise: GaussianDenoise = partial(counted, cond=cond)
        if settings.scale != 1.0:
            null = model.condition(None, rows)
            denoise = cfg(counted, Branch(cond), Branch(null), settings.scale, settings.interval, settings.rescale)
        if settings.threshold:
            denoise = dynamic_threshold(denoise, settings.threshold)
        elif settings.clip:
            denoise = clipped(denoise, -1.0, 1.0)
        if on_step is not None and start == 0:
            denoise = _watched_by(denoise, on_step)
        shape = (rows, model.shape.channels, model.shape.size, model.shape.size)
        first = normal_like(torch.empty(shape, device=model.device), generator) if noise is None else noise[start : start + rows]
        x = float(model.denoiser.schedule.sigma(times[0])) * first.to(model.device)
        made.append(pixels_of(sample(denoise, solver, x, times, generator=generator)))
    return Generated(torch.cat(made) if made else torch.empty(0, dtype=torch.uint8), calls)


def inverted(model: ImageModel, pixels: Tensor, labels: Tensor | None, settings: ImageSettings) -> Tensor:
    """The noise (B, C, S, S) from which ddim with eta 0 makes these images, but for errors that fall with the steps.

    The same update with s > t, from the image as the state at the least time of the grid on. Song, Meng & Ermon 2021, section 5.4.

    Raises:
        ValueError: another solver than ddim with eta 0, or a guided one.
    """
    if settings.solver != "ddim" or settings.eta or settings.scale != 1.0:
        raise ValueError("inversion is of --solver ddim with --eta 0 and --scale 1")
    times = image_times(model, settings).flip(0)[1:]
    model.eval()
    denoise = partial(model.denoiser, cond=model.condition(labels, len(pixels)))
    x = sample(denoise, DDIM(model.denoiser.schedule), model.normalized(pixels), times)
    return x / float(model.denoiser.schedule.sigma(times[-1]))


def slerp(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """From a (share 0) to b (share 1) along the arc between them, which keeps the norm of noise. Shoemake 1985; Song et al. 2021, D.3.

    Shapes: a and b (B, *E); share a number or (B,).
    """
    x, y = a.flatten(1), b.flatten(1)
    angle = ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))).clamp(-1.0, 1.0).acos().clamp(min=1e-6)
    share = torch.as_tensor(share, dtype=x.dtype, device=x.device)
    mixed = (((1.0 - share) * angle).sin() / angle.sin())[:, None] * x + ((share * angle).sin() / angle.sin())[:, None] * y
    return mixed.view_as(a)


def _watched_by(denoise: GaussianDenoise, show: Callable[[Tensor, Tensor], object]) -> GaussianDenoise:
    def watched(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        show(belief.mean, t[0])
        return belief

    return watched


def solver_of(model: ImageModel, settings: ImageSettings) -> Any:
    """The solver by its name.

    Raises:
        ValueError: a learned variance is asked of a model that has none.
    """
    schedule = model.denoiser.schedule
    if settings.solver == "ddpm":
        if settings.variance == "learned" and not model.shape.learned_variance:
            raise ValueError("--variance learned: this model did not learn its variance; take small or large")
        return Ancestral(schedule, settings.variance or ("learned" if model.shape.learned_variance else "small"), settings.temperature)
    return {"ddim": DDIM(schedule, settings.eta), "dpmpp": DPMpp2M(schedule), "heun": Heun(schedule)}[settings.solver]

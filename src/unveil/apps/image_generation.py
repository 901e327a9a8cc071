"""Images out of noise: times, solver and guidance by name, in batches."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from unveil.apps.image_classifier import ImageClassifier
from unveil.apps.image_model import TABLES, ImageModel, pixels_of
from unveil.network.condition import Condition
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import jumping, karras, quadratic, respaced, respaced_by, uniform
from unveil.process.schedule import log_snr
from unveil.sampling.edit import LogPotential, Replace, identity
from unveil.sampling.gaussian import DDIM, Ancestral, DPMpp2M, Heun, Renoise
from unveil.sampling.guidance import ALWAYS, Branch, Interval, cfg, clipped, dynamic_threshold, steered, tilted, within
from unveil.sampling.loop import sample
from unveil.sampling.noise import normal_like


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
        interval: t within which guidance acts, both that of a classifier and that without one.
        rescale: of guidance, see `cfg`.
        negative: class that guidance leads away from, in the place of no class; -1: no class.
        classifier_scale: of a classifier's guidance.
        classifier_form: belief moves it for every solver (`tilted`; Dhariwal & Nichol 2021, Alg. 2), mean the mean of ddpm's step
            (`Ancestral`; Alg. 1). The same scale pulls harder in the first.
        strength: t that given images are noised to, before they are changed; of ddim and ddpm on a table, the nearest of its steps.
        jumps: how often each stretch of `jump_length` steps is walked when part of an image is known; 1: once (RePaint's r and j).
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
    negative: int = -1
    classifier_scale: float = 1.0
    classifier_form: Literal["belief", "mean"] = "belief"
    strength: float = 0.6
    jumps: int = 1
    jump_length: int = 10
    clip: bool = True
    threshold: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not all(map(isfinite, (self.scale, self.temperature, self.classifier_scale))):
            raise ValueError(
                "--scale, --temperature and --classifier-scale must be finite numbers, got "
                f"{self.scale}, {self.temperature} and {self.classifier_scale}"
            )
        low, high = self.interval
        if not 0.0 <= low < min(high, 1.0) or 1.0 < high < ALWAYS[1]:
            raise ValueError(f"--interval must be two rising times within 0 .. 1, got {low} {high}")
        if self.steps < 1 or self.scale < 0.0 or self.temperature < 0.0 or not 0.0 <= self.rescale <= 1.0:
            raise ValueError(
                "--steps must be at least 1, --scale and --temperature at least 0, --rescale in 0 .. 1, got "
                f"{self.steps}, {self.scale}, {self.temperature} and {self.rescale}"
            )
        if not 0.0 <= self.threshold <= 1.0 or not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"--threshold and --eta must lie in 0 .. 1, got {self.threshold} and {self.eta}")
        if self.classifier_scale < 0.0 or not 0.0 < self.strength <= 1.0 or self.jumps < 1 or self.jump_length < 1 or self.negative < -1:
            raise ValueError(
                "--classifier-scale must be at least 0, --strength above 0 and at most 1, --jumps and --jump-length at least 1, "
                f"--negative a class, got {self.classifier_scale}, {self.strength}, {self.jumps}, {self.jump_length} and {self.negative}"
            )
        if self.classifier_form == "mean" and self.solver != "ddpm":
            raise ValueError(f"--classifier-form mean is of --solver ddpm, got --solver {self.solver}")
        if self.respacing and self.spacing != "even":
            raise ValueError("--respacing says all of the spacing; leave --spacing out")
        if self.eta and self.solver != "ddim":
            raise ValueError(f"--eta is of --solver ddim, got --solver {self.solver}")
        if self.variance and self.solver != "ddpm":
            raise ValueError(f"--variance is of --solver ddpm, got --solver {self.solver}")
        if self.temperature != 1.0 and self.solver != "ddpm":
            raise ValueError(f"--temperature is of --solver ddpm, got --solver {self.solver}")
        if self.rescale and self.scale == 1.0:
            raise ValueError("--rescale is of guidance; give --scale above 1")
        if self.threshold and not self.clip:
            raise ValueError("--threshold is a way to clip; leave --clip as it is")


@dataclass(frozen=True, eq=False)
class Given:
    """What is given besides classes; tensors have a row for each image and lie in -1 .. 1.

    Args:
        classifier: leads towards the classes, which the model itself need not know.
        begin: (N, C, S, S), images to change: noised to t = strength, and denoised from there.
        known: (N, 1, S, S) bool, which pixels of `value` (N, C, S, S) are known; the others are made up (RePaint).
        cost: rows (a slice) to a cost of their clean images, in nats: a measurement, see `steered`.
        low: (N, C, s, s), what an upsampler enlarges.
    """

    classifier: ImageClassifier | None = None
    begin: Tensor | None = None
    known: Tensor | None = None
    value: Tensor | None = None
    cost: Callable[[slice], LogPotential] | None = None
    low: Tensor | None = None


NOTHING = Given()


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
    given: Given = NOTHING,
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
    _check(model, labels, settings, given)
    times = image_times(model, settings)
    if given.begin is not None:
        table = model.shape.schedule in TABLES and settings.solver in ("ddpm", "ddim")
        times = _from(times, settings.strength, model.shape.diffusion_steps if table else 0)
    if given.known is not None:
        times = jumping(times, settings.jump_length, settings.jumps)
    model.eval()
    made: list[Tensor] = []
    calls = 0

    def counted(x_t: Tensor, t: Tensor, cond: Condition | None = None) -> GaussianDenoised:
        nonlocal calls
        calls += 1
        return model.denoiser(x_t, t, cond)

    for start in range(0, count, batch):
        some = slice(start, min(count, start + batch))
        rows = some.stop - start
        calls = 0
        told = labels[some] if labels is not None else None
        denoise, solver = _guided(model, counted, told, rows, some, settings, given)
        if on_step is not None and start == 0:
            denoise = _watched_by(denoise, on_step)
        shape = (rows, model.shape.channels, model.shape.size, model.shape.size)
        first = normal_like(torch.empty(shape, device=model.device), generator) if noise is None else noise[some].to(model.device)
        x, edit = float(model.denoiser.schedule.sigma(times[0])) * first, identity
        if given.begin is not None:
            x = corrupt(model.denoiser.schedule, given.begin[some].to(model.device), times[0], first)
        if given.known is not None:
            assert given.value is not None
            edit = Replace(given.known[some].to(model.device), given.value[some].to(model.device), model.denoiser.schedule)
        made.append(pixels_of(sample(denoise, solver, x, times, edit=edit, generator=generator)))
    return Generated(torch.cat(made) if made else torch.empty(0, dtype=torch.uint8), calls)


def _guided(
    model: ImageModel, denoiser: Any, labels: Tensor | None, rows: int, some: slice, settings: ImageSettings, given: Given
) -> tuple[GaussianDenoise, Any]:
    """The belief under all guidance that the settings ask for, and the solver that goes with it."""
    schedule, log_h = model.denoiser.schedule, None
    known = labels if model.shape.classes or given.classifier is None else None  # others are for the classifier alone
    cond = model.condition(known, rows, None if given.low is None else given.low[some])
    denoise: GaussianDenoise = partial(denoiser, cond=cond)
    if settings.scale != 1.0:
        away = None if settings.negative < 0 else torch.full((rows,), settings.negative, device="cpu")
        null = model.condition(away, rows, None if given.low is None else given.low[some])
        denoise = cfg(denoiser, Branch(cond), Branch(null), settings.scale, settings.interval, settings.rescale)
    if given.cost is not None:
        denoise = steered(denoise, given.cost(some), schedule, interval=(0.0, 1.0 if model.shape.schedule != "flow" else 0.999))
    if given.classifier is not None and settings.classifier_scale:
        assert labels is not None
        log_h = given.classifier.log_probability(labels)
        if settings.classifier_form == "belief":
            denoise = tilted(denoise, log_h, schedule, settings.classifier_scale, settings.interval)
            log_h = None
    if settings.threshold:
        denoise = dynamic_threshold(denoise, settings.threshold)
    elif settings.clip:
        denoise = clipped(denoise, -1.0, 1.0)
    solver = solver_of(model, settings, None if log_h is None else within(log_h, settings.interval))
    return denoise, solver if given.known is None else Renoise(solver, schedule)


def _check(model: ImageModel, labels: Tensor | None, settings: ImageSettings, given: Given) -> None:
    """Refuse what this model cannot follow."""
    classes, null = model.shape.classes, model.shape.null
    if settings.scale != 1.0 and not (classes and (null or settings.negative >= 0)):
        what = "without classes (--classes)" if not classes else "without dropping labels (--label-drop); or give --negative"
        raise ValueError(f"--scale {settings.scale} needs a model that knows images with and without a class; this was trained {what}")
    if settings.scale != 1.0 and labels is None:
        raise ValueError(f"--scale {settings.scale} guides towards a class; give --class")
    if settings.negative >= 0 and settings.scale == 1.0:
        raise ValueError(f"--negative {settings.negative} is what guidance leads away from; give --scale above 1")
    if given.classifier is not None:
        _check_pair(model, given.classifier)
        if labels is None:
            raise ValueError("--classifier leads towards a class; give --class")


def _check_pair(model: ImageModel, classifier: ImageClassifier) -> None:
    ours, theirs = ((s.size, s.channels, s.schedule, s.diffusion_steps) for s in (model.shape, classifier.shape))
    if classifier.clean:
        raise ValueError("this classifier was trained on clean images (--clean); guidance needs one that knows noisy ones")
    if ours != theirs or (model.shape.classes and model.shape.classes != classifier.shape.classes):
        raise ValueError(
            "classifier and model do not fit: side, channels, schedule, T and classes are "
            f"{(*theirs, classifier.shape.classes)} and {(*ours, model.shape.classes)}"
        )


def _from(times: Tensor, strength: float, table: int) -> Tensor:
    """The grid from `strength` on, to which its nearest time is moved; with a table, the nearest of its entries."""
    begin = max(1, round(strength * table)) / table if table else min(strength, float(times[0]))
    nearest = int((times[:-1] - begin).abs().argmin())
    kept = times[nearest:].clone()
    kept[0] = begin
    return kept


def _watched_by(denoise: GaussianDenoise, show: Callable[[Tensor, Tensor], object]) -> GaussianDenoise:
    def watched(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        show(belief.mean, t[0])
        return belief

    return watched


def solver_of(model: ImageModel, settings: ImageSettings, log_h: LogPotential | None = None) -> Any:
    """The solver by its name; log_h shifts the mean of ddpm's steps.

    Raises:
        ValueError: a learned variance is asked of a model that has none.
    """
    schedule = model.denoiser.schedule
    if settings.solver == "ddpm":
        if settings.variance == "learned" and not model.shape.learned_variance:
            raise ValueError("--variance learned: this model did not learn its variance; take small or large")
        variance = settings.variance or ("learned" if model.shape.learned_variance else "small")
        return Ancestral(schedule, variance, settings.temperature, log_h, settings.classifier_scale)
    return {"ddim": DDIM(schedule, settings.eta), "dpmpp": DPMpp2M(schedule), "heun": Heun(schedule)}[settings.solver]

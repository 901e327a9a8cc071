"""How images are made: the settings of `generate`, checked when they are made."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from unveil.sampling.guidance import ALWAYS, Interval


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
        _check_types(self)
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
        if (
            self.classifier_scale < 0.0
            or not 0.0 < self.strength <= 1.0
            or self.jumps < 1
            or self.jump_length < 1
            or self.negative < -1
        ):
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


def _check_types(settings: ImageSettings) -> None:
    """Refuse a value of another kind than its field's; a list of two times becomes a tuple.

    Raises:
        ValueError: the field, what was got and what is needed.
    """
    hints = get_type_hints(ImageSettings)
    for field in fields(settings):
        name, value, hint = field.name, getattr(settings, field.name), hints[field.name]
        flag = f"{name} (--{name.replace('_', '-')})"
        if name == "interval":
            times = (
                list(cast(Sequence[Any], value))
                if isinstance(value, Sequence) and not isinstance(value, str)
                else []
            )
            if len(times) != 2 or not all(_real(time) for time in times):
                raise ValueError(f"{flag} must be two times, such as (0.0, 1.0), got {value!r}")
            object.__setattr__(settings, name, (float(times[0]), float(times[1])))
        elif get_origin(hint) is Literal:
            if value not in get_args(hint):
                raise ValueError(
                    f"{flag} must be one of {', '.join(map(repr, get_args(hint)))}, got {value!r}"
                )
        elif not _of_kind(value, hint):
            kinds = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text"}
            raise ValueError(f"{flag} must be {kinds[hint]}, got {value!r}")


def _of_kind(value: Any, hint: Any) -> bool:
    if hint is int:
        return type(value) is not bool and isinstance(value, Integral)
    return _real(value) if hint is float else isinstance(value, hint)


def _real(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, Real)

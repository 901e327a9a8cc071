"""Checks of what a policy is given from Python: whole numbers, numbers, arrays and functions, each refusal in one line with its name."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from unveil.network.observation import Part
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.sampling.edit import Edit
from unveil.sampling.noise import Noise

DAMAGED = "its weights are damaged, or what it observes is far outside its data"


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """The whole number.

    Raises:
        ValueError: something else (True too), less than `least` or more than `most`.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"in {least} .. {most}"
        raise ValueError(f"{name} must be a whole number {limits}, got {_shown(value)}")
    return int(value)


def number(name: str, value: object, least: float = -float("inf")) -> float:
    """The finite number.

    Raises:
        ValueError: something else, not finite, or less than `least`.
    """
    if (
        not isinstance(value, int | float | np.integer | np.floating)
        or isinstance(value, bool)
        or not np.isfinite(float(value))
        or value < least
    ):
        limits = "" if np.isinf(least) else f" of at least {least:g}"
        raise ValueError(f"{name} must be a finite number{limits}, got {_shown(value)}")
    return float(value)


def kind(name: str, value: object, wanted: type, hint: str = "") -> None:
    """Refuse a value of another type.

    Raises:
        ValueError: it is.
    """
    if not isinstance(value, wanted):
        raise ValueError(f"{name} must be a {wanted.__name__}{hint}, got {_shown(value)}")


def one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    """Refuse what is none of the words.

    Raises:
        ValueError: it is not.
    """
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {_shown(value)}")


def flag(name: str, value: object) -> bool:
    """True or false.

    Raises:
        ValueError: something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {_shown(value)}")
    return bool(value)


def numbers(name: str, value: object, shape: tuple[int | None, ...], letters: str) -> Float[np.ndarray, "..."]:
    """A float array of this shape, finite in float32.

    Args:
        shape: None where any length of at least 1 will do.
        letters: the shape for people, such as "(B, 20)".
    Raises:
        ValueError: no array of numbers, another shape, or a number that is not finite, or beyond float32.
    """
    if isinstance(value, Mapping):
        raise ValueError(f"{name} must be an array of shape {letters}, got a dict with {[str(key) for key in value][:6]}")
    try:
        found = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of shape {letters}, got {_shown(value)}") from error
    if found.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers of shape {letters}, got {found.dtype}")
    fits = found.ndim == len(shape) and all(
        got == want if want is not None else got > 0 for got, want in zip(found.shape, shape, strict=True)
    )
    if not fits:
        one = found.ndim == len(shape) - 1 and found.shape == shape[1:]
        raise ValueError(f"{name} must have shape {letters}, got {found.shape}{'; of one alone give x[None]' if one else ''}")
    with np.errstate(over="ignore"):
        if not np.isfinite(found.astype(np.float32)).all():
            raise ValueError(f"{name} must be finite numbers")
    return found


def axes_of(value: object) -> int:
    """How many axes an array, a tensor or nested lists have; -1 where that has no answer, which `numbers` says better."""
    found = getattr(value, "ndim", None)
    try:
        return found if isinstance(found, int) else np.ndim(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return -1


def parts_text(parts: tuple[Part, ...]) -> str:
    """The parts of an observation in their order, for people."""
    return ", ".join(f"{part.key} {'x'.join(map(str, part.shape))}" for part in parts)


def finite(denoise: GaussianDenoise, what: str, how: str) -> GaussianDenoise:
    """The denoiser, whose beliefs are refused where they are not finite.

    Args:
        what, how: that makes them so, and what to do about it, for people.
    """

    def checked(x_t: torch.Tensor, t: torch.Tensor) -> GaussianDenoised:
        belief = denoise(x_t, t)
        if not bool(torch.isfinite(belief.mean).all()):
            raise ValueError(f"policy: {what} made actions that are not finite at t = {float(t.max()):.2f}; {how}")
        return belief

    return checked


def finite_edit(edit: Edit) -> Edit:
    """The edit, refused where it makes numbers that are not finite."""

    def checked(x_t: torch.Tensor, t: torch.Tensor, generator: Noise) -> torch.Tensor:
        x = edit(x_t, t, generator)
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"policy: the edit (edit=) made actions that are not finite at t = {float(t.max()):.2f}; mend what it adds")
        return x

    return checked


def _shown(value: object) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float | bool | None) else f"{type(value).__name__}"

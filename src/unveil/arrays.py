"""Arrays that people give from Python: their shape and their numbers, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from unveil.checks import shown

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


def numbers(name: str, value: object, shape: tuple[int | None, ...], letters: str) -> Float[np.ndarray, ...]:
    """A float array of this shape, finite in float32.

    Args:
        shape: None where any length of at least 1 will do.
        letters: the shape for people, such as "(B, 20)".
    Raises:
        ValueError: no array of numbers, another shape, or a number that is not finite, or beyond float32.
    """
    import numpy as np

    if isinstance(value, Mapping):
        raise ValueError(
            f"{name} must be an array of shape {letters}, got a dict with {[str(key) for key in value][:6]}"
        )
    try:
        found = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)  # pyright: ignore[reportAttributeAccessIssue]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of shape {letters}, got {shown(value)}") from error
    if found.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers of shape {letters}, got {found.dtype}")
    fits = found.ndim == len(shape) and all(
        got == want if want is not None else got > 0 for got, want in zip(found.shape, shape, strict=True)
    )
    if not fits:
        one = found.ndim == len(shape) - 1 and found.shape == shape[1:]
        raise ValueError(
            f"{name} must have shape {letters}, got {found.shape}{'; of one alone give x[None]' if one else ''}"
        )
    with np.errstate(over="ignore"):
        if not np.isfinite(found.astype(np.float32)).all():
            raise ValueError(f"{name} must be finite numbers")
    return found


def axes_of(value: object) -> int:
    """How many axes an array, a tensor or nested lists have; -1 where that has no answer, which `numbers` says better."""
    import numpy as np

    found = getattr(value, "ndim", None)
    try:
        return found if isinstance(found, int) else np.ndim(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return -1

"""Check the shape and the numbers of arrays that the user passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from unveil.checks import shown

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


def numbers(name: str, value: object, shape: tuple[int | None, ...], letters: str) -> Float[np.ndarray, ...]:
    """Convert a value to an array of numbers of this shape, finite in float32.

    Args:
        name: name of the argument, for messages.
        shape: length of each axis; None allows any length of at least 1.
        letters: the shape in messages, such as "(B, 20)".
    Raises:
        ValueError: not an array of numbers, of another shape, or a number that is not finite in float32.
    """
    import numpy as np

    if isinstance(value, Mapping):
        raise ValueError(
            f"{name} must be an array of shape {letters}, got a dict with {[str(key) for key in value][:6]}"
        )
    try:
        array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)  # pyright: ignore[reportAttributeAccessIssue]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of shape {letters}, got {shown(value)}") from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers of shape {letters}, got {array.dtype}")
    fits = array.ndim == len(shape) and all(
        got == want if want is not None else got > 0 for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        one = array.ndim == len(shape) - 1 and array.shape == shape[1:]
        raise ValueError(
            f"{name} must have shape {letters}, got "
            f"{array.shape}{'; for a single one give x[None]' if one else ''}"
        )
    with np.errstate(over="ignore"):
        if not np.isfinite(array.astype(np.float32)).all():
            raise ValueError(f"{name} must be finite numbers")
    return array


def axes_of(value: object) -> int:
    """Number of axes of an array, a tensor or nested lists; -1 for anything else, which `numbers` refuses."""
    import numpy as np

    axes = getattr(value, "ndim", None)
    try:
        return axes if isinstance(axes, int) else np.ndim(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return -1

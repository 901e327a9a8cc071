"""Arrays of transitions as people store them: single numbers with an axis too many or too few, and marks in whatever type."""

import numpy as np

from unveil.errors import UnveilError
from unveil.files.notes import note


def column(values: np.ndarray) -> np.ndarray:
    """(N, 1) as (N,); anything else as it is."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def matrix(values: np.ndarray) -> np.ndarray:
    """(N,) as (N, 1), one number a transition; anything else as it is."""
    return values[:, None] if values.ndim == 1 else values


def flags(where: str, values: np.ndarray) -> np.ndarray:
    """Bools (N,) of true and false, or of 0 and 1 in whatever type.

    Raises:
        UnveilError: another number.
    """
    values = column(np.asarray(values))
    strange = np.argwhere(~((values == 0) | (values == 1)))
    if len(strange):
        got = values[tuple(strange[0])]
        raise UnveilError(
            f"{where} must be true or false, or 0 or 1, got {got} in row {strange[0][0] if values.ndim else 0}"
        )
    return values.astype(bool)


def float32(where: str, values: np.ndarray) -> np.ndarray:
    """Numbers as float32, with a note where they are whole and so large that it takes two of them for one."""
    values = np.asarray(values)
    if values.dtype.kind in "iu" and values.size and max(int(values.max()), -int(values.min())) > 2**24:
        note(
            f"{where} holds whole numbers beyond 2^24, such as {np.abs(values).max()}, which float32 does not keep apart"
        )
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and infinite is refused by `Episodes`
        return values.astype(np.float32)

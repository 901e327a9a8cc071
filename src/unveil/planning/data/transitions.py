"""Normalise stored arrays of transitions: axes of size 1 that are added or missing, and marks of any type."""

import numpy as np

from unveil.errors import UnveilError
from unveil.files.notes import note


def column(values: np.ndarray) -> np.ndarray:
    """(N, 1) as (N,); other shapes are not changed."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def matrix(values: np.ndarray) -> np.ndarray:
    """(N,) as (N, 1), one number per transition; other shapes are not changed."""
    return values[:, None] if values.ndim == 1 else values


def is_whole(actions: np.ndarray) -> bool:
    """Whether actions are stored as one whole number per step, as discrete actions are."""
    return actions.dtype.kind in "iu" and column(actions).ndim == 1


def flags(where: str, values: np.ndarray) -> np.ndarray:
    """Booleans (N,) from true and false, or from 0 and 1 of any type.

    Raises:
        UnveilError: another number.
    """
    values = column(np.asarray(values))
    strange = np.argwhere(~((values == 0) | (values == 1)))
    if len(strange):
        got = values[tuple(strange[0])]
        raise UnveilError(
            f"{where} must be true or false, or 0 or 1, got {got} in row "
            f"{strange[0][0] if values.ndim else 0}"
        )
    return values.astype(bool)


def float32(where: str, values: np.ndarray) -> np.ndarray:
    """Numbers as float32, with a note if they are whole numbers that float32 cannot represent."""
    values = np.asarray(values)
    if values.dtype.kind in "iu" and values.size and max(int(values.max()), -int(values.min())) > 2**24:
        note(
            f"{where} holds whole numbers beyond 2^24, such as {np.abs(values).max()}, which float32 cannot "
            "represent exactly"
        )
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, which `Episodes` refuses
        return values.astype(np.float32)

"""Numbers chosen by position, as flags write them: 0:50 or 0:50,60,70:."""

import re

import numpy as np
from jaxtyping import Bool


def chosen_positions(text: str, count: int, what: str) -> Bool[np.ndarray, " N"]:
    """Mark the positions of a text such as "0:50,60,-5:", as Python's slices, among `count`.

    Args:
        what: name of what is counted, for messages.
    Raises:
        ValueError: no such text, a position beyond the last, or nothing is chosen.
    """
    mask = np.zeros(count, bool)
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d{1,9})?\s*(?:(:)\s*(-?\d{1,9})?)?\s*", part)
        if match is None or not part.strip():
            raise ValueError(f"{what} are chosen by position, such as 0:50 or 0:50,60; got {text!r}")
        low, colon, high = match.groups()
        bounds = [int(one) for one in (low, high) if one is not None]
        if any(bound > count or bound < -count for bound in bounds) or (not colon and bounds == [count]):
            raise ValueError(f"{what} {part.strip()}: there are {count}, from 0 to {count - 1}")
        if colon:
            mask[slice(int(low) if low else None, int(high) if high else None)] = True
        else:
            mask[bounds[0]] = True
    if not mask.any():
        raise ValueError(f"{what} {text}: none is chosen")
    return mask

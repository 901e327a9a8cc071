"""Means and rates with their uncertainty."""

import numpy as np
from jaxtyping import Float
from scipy import stats


def mean_ci95(values: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval (Student's t)."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("nan")
    error = float(np.std(values, ddof=1)) / count**0.5
    return float(np.mean(values)), float(stats.t.ppf(0.975, count - 1)) * error

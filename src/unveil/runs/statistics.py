"""Means and rates with their uncertainty."""

from collections.abc import Callable
from typing import Any

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


def paired_ci95(values: Float[np.ndarray, " N"], reference: Float[np.ndarray, " M"]) -> tuple[float, float]:
    """Mean of the differences, episode by episode, and half the width of its 95 % interval (Student's t).

    Raises:
        ValueError: not as many of one as of the other.
    """
    if len(values) != len(reference):
        raise ValueError(
            f"paired interval: the same episodes are needed, got {len(values)} and {len(reference)}"
        )
    return mean_ci95(values - reference)


def standard_error(values: Float[np.ndarray, " N"]) -> float:
    """Of the mean, sqrt(mean((x - mean)^2) / N) as Diffuser's tables have it (N, not N - 1); not a number for a single value."""
    return float(np.std(values)) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def interquartile_mean(values: Float[np.ndarray, "*N"], axis: int = -1) -> Float[np.ndarray, "*M"]:
    """Mean without the lowest and the highest quarter of the values, floor(N / 4) each (Agarwal et al. 2021, arXiv:2108.13264)."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=axis))


def bootstrap_ci95(
    values: Float[np.ndarray, " N"], statistic: Callable[..., Any], seed: int = 0
) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of `statistic(values, axis=-1)` over 2000 resamples; not numbers for a single value."""
    if len(values) < 2:
        return float("nan"), float("nan")
    found = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=2000,
        batch=max(1, 1_000_000 // len(values)),  # 8 MB at a time
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)

"""Statistics of results, with confidence intervals."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import stats


def mean_ci95(values: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % confidence interval (Student's t)."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("nan")
    error = float(np.std(values, ddof=1)) / count**0.5
    return float(np.mean(values)), float(stats.t.ppf(0.975, count - 1)) * error


def paired_ci95(values: Float[np.ndarray, " N"], reference: Float[np.ndarray, " M"]) -> tuple[float, float]:
    """Mean of the paired differences, and half the width of its 95 % confidence interval (Student's t).

    Raises:
        ValueError: the arrays have different lengths.
    """
    if len(values) != len(reference):
        raise ValueError(
            f"paired interval: the same episodes are needed, got {len(values)} and {len(reference)}"
        )
    return mean_ci95(values - reference)


def standard_error(values: Float[np.ndarray, " N"]) -> float:
    """Standard error of the mean, sqrt(mean((x - mean)^2) / N); NaN for a single value.

    It divides by N, not N - 1, as the tables of Diffuser do.
    """
    return float(np.std(values)) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def interquartile_mean(values: Float[np.ndarray, "*N"], axis: int = -1) -> Float[np.ndarray, "*M"]:
    """Mean without the lowest and the highest floor(N / 4) values (Agarwal et al. 2021, arXiv:2108.13264)."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=axis))


def bootstrap_ci95(
    values: Float[np.ndarray, " N"], statistic: Callable[..., object], seed: int = 0
) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of `statistic(values, axis=-1)` over 2000 resamples; NaN for one value."""
    if len(values) < 2:
        return float("nan"), float("nan")
    interval = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=2000,
        batch=max(1, 1_000_000 // len(values)),  # 8 MB at a time
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def wilson_ci95(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a proportion; NaN without a trial.

    Its ends are inside 0 .. 1 also where all trials succeed (Wilson 1927).

    Raises:
        ValueError: more successes than trials, or a negative number.
    """
    if not count:
        return float("nan"), float("nan")
    interval = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)

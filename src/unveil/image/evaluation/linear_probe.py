"""A linear classifier of features, by ridge regression: it classifies samples without a training run."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Features = Float[np.ndarray, "_ D"]
Classes = Int[np.ndarray, " _"]


def ridge_classifier(
    features: Features, labels: Classes, penalty: float = 0.1
) -> Callable[[Features], Classes]:
    """A function from features to classes: the largest indicator by ridge regression on standardised
    features.

    W = argmin |X W - Y|^2 / N + penalty |W|^2 = X' (X X' + penalty N I)^-1 Y, for centred indicators Y (N,
    K).

    Raises:
        ValueError: no features, or not as many classes as features.
    """
    if not len(features) or labels.shape != (len(features),):
        raise ValueError(
            f"a classifier needs as many classes as features, got {labels.shape} and {features.shape}"
        )
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.where(deviation > 1e-12, 1.0 / np.maximum(deviation, 1e-12), 0.0)
    x, kinds = (features - mean) * scale, np.arange(int(labels.max()) + 1)
    indicators = (labels[:, None] == kinds).astype(np.float64)
    count, y = len(x), indicators - indicators.mean(0)
    if x.shape[1] <= count:
        weights = np.linalg.solve(x.T @ x + penalty * count * np.eye(x.shape[1]), x.T @ y)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + penalty * count * np.eye(count), y)

    def predicted(some: Features) -> Classes:
        return (((some - mean) * scale) @ weights + indicators.mean(0)).argmax(1)

    return predicted

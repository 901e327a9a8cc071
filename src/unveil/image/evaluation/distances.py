"""Distances between two sets of feature vectors; they depend on the features, so name these."""

from collections.abc import Generator

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "_ D"]


def frechet_distance(a: Features, b: Features) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), of means m and covariances S. Heusel et al. 2017,
    eq. 6.

    Biased upwards by about D / N: compare it with a floor of as many samples.

    Raises:
        ValueError: fewer than two samples, or features of different sizes.
    """
    _alike(a, b, 2)
    (mean_a, root_a, trace_a), (mean_b, root_b, trace_b) = (_centred(x) for x in (a, b))
    # tr (S_a S_b)^(1/2) is the nuclear norm of S_a^(1/2) S_b^(1/2), for any roots R' R = S: of R_a R_b'
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(((mean_a - mean_b) ** 2).sum() + trace_a + trace_b - 2.0 * cross)


def _centred(x: Features) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, a matrix R with R' R = covariance and at most D rows, and the covariance's trace."""
    x = x.astype(np.float64)
    mean = x.mean(0)
    rows = (x - mean) / np.sqrt(len(x) - 1)
    if len(rows) > rows.shape[1]:
        rows = np.asarray(np.linalg.qr(rows, mode="r"))
    return mean, rows, float((rows**2).sum())


def kernel_distance(a: Features, b: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x'y / D + 1)^3; may be below 0. Binkowski et
    al. 2018, section 4.

    Raises:
        ValueError: fewer than two samples, or features of different sizes.
    """
    _alike(a, b, 2)
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return float((k.sum() - np.trace(k)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2.0 * float(kernel(a, b).mean())


def precision_recall(real: Features, made: Features, k: int = 3) -> tuple[float, float]:
    """Precision: the share of `made` inside the manifold of `real`; recall: the reverse. A manifold is the
    union of balls around its points with the distances to their k-th nearest neighbours as radii.
    Kynkaanniemi et al. 2019, eq. 1-2.

    Raises:
        ValueError: not more than k samples, or features of different sizes.
    """
    _alike(real, made, k + 1)
    return _covered(made, real, k), _covered(real, made, k)


def _covered(points: Features, manifold: Features, k: int) -> float:
    radii = np.concatenate(
        [np.partition(d, k, axis=1)[:, k] for d in _distances(manifold, manifold)]
    )  # the 0-th is itself
    return float(np.concatenate([(d <= radii).any(1) for d in _distances(points, manifold)]).mean())


def nearest(a: Features, b: Features) -> Float[np.ndarray, " _"]:
    """The squared distance of each row of a to the nearest row of b."""
    return np.concatenate([d.min(1) for d in _distances(a, b)])


def memorised_share(made: Features, train: Features, held: Features, quantile: float = 0.01) -> float:
    """Share of `made` whose distance to the nearest training sample is below the `quantile` of those
    distances of held-out samples.

    About `quantile` if nothing is memorised, 1 if training images are repeated.
    """
    return float((nearest(made, train) < np.quantile(nearest(held, train), quantile)).mean())


def _distances(a: Features, b: Features, rows: int = 256) -> Generator[np.ndarray]:
    """Squared distances, some rows of a at a time; the distance of a point to itself is 0 up to rounding."""
    b = b.astype(np.float64) if b.shape[1] < 4096 else b.astype(np.float32)
    squares = (b**2).sum(1)
    for i in range(0, len(a), rows):
        part = a[i : i + rows].astype(b.dtype)
        yield np.maximum((part**2).sum(1)[:, None] + squares - 2.0 * part @ b.T, 0.0)


def _alike(a: Features, b: Features, least: int) -> None:
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise ValueError(
            f"distances need at least {least} samples each and features of one size, got {a.shape} and "
            f"{b.shape}"
        )

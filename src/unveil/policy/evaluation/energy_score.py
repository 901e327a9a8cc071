"""How well drawn chunks forecast what was done, fairly to those that choose and to those that take the mean."""

import numpy as np
from jaxtyping import Float


def energy_score(draws: Float[np.ndarray, "M B H A"], done: Float[np.ndarray, "B H A"]) -> float:
    """mean over B of E|X - y| - E|X - X'| / 2, |.| over all numbers of a chunk; the least is expected of what drew y itself.

    A proper score (Gneiting & Raftery 2007): of a point forecast it is the distance. Pairs (X, X') are the M (M - 1) pairs of draws.

    For y = +-(1, ..., 1) with equal chance in D = H A numbers: truth 1/2 sqrt(D); the mean sqrt(D); independent signs, each with the right
    share, E sqrt(N), N ~ Binomial(D, 1/2), so about sqrt(D / 2).

    Raises:
        ValueError: fewer than two draws.
    """
    count = len(draws)
    if count < 2:
        raise ValueError(f"energy score: at least 2 draws are needed, got {count}")
    flat, truth = draws.reshape(count, draws.shape[1], -1), done.reshape(len(done), -1)
    near = np.linalg.norm(flat - truth, axis=-1).mean()
    apart = sum(np.linalg.norm(flat - flat[k], axis=-1).sum() for k in range(count)) / (
        count * (count - 1) * flat.shape[1]
    )
    return float(near - 0.5 * apart)

"""The energy score of sampled chunks: a proper score for multi-modal and for mean predictions alike."""

import numpy as np
from jaxtyping import Float


def energy_score(draws: Float[np.ndarray, "M B H A"], done: Float[np.ndarray, "B H A"]) -> float:
    """mean over B of E|X - y| - E|X - X'| / 2, with |.| over all numbers of a chunk; lower is better.

    A proper score (Gneiting & Raftery 2007): its expectation is lowest for draws X from the distribution of
    y, and for a point forecast it is the distance. Pairs (X, X') are the M (M - 1) pairs of draws.

    For y = +-(1, ..., 1) with equal probability in D = H A numbers, the score of the true distribution is 1/2
    sqrt(D), of the mean sqrt(D), and of independent signs E sqrt(N), N ~ Binomial(D, 1/2), so about sqrt(D /
    2).

    Args:
        draws: M sampled chunks for each of B observations.
        done: the recorded chunks.
    Raises:
        ValueError: fewer than two draws.
    """
    count = len(draws)
    if count < 2:
        raise ValueError(f"energy score: at least 2 draws are needed, got {count}")
    flat, truth = draws.reshape(count, draws.shape[1], -1), done.reshape(len(done), -1)
    near = np.linalg.norm(flat - truth, axis=-1).mean()
    apart = sum(np.linalg.norm(flat - flat[k], axis=-1).sum() for k in range(count))
    return float(near - 0.5 * (apart / (count * (count - 1) * flat.shape[1])))

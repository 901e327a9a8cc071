"""Errors of predicted actions on demonstrations, beside baselines that predict without a network.

All errors are of normalised actions, in which an action's limits in the training data are -1 and 1. For the
recorded action y of a step and K predictions x_k:

    MSE            mean_k |x_k - y|^2 / A, the squared error of an executed prediction
    energy score   mean_k |x_k - y| - sum_{k != l} |x_k - x_l| / (2 K (K - 1))      Gneiting & Raftery 2007

Demonstrations often go one way or the other. The MSE is smallest for their mean, which is neither; the energy
score is proper: its expectation is smallest for predictions with the distribution of the recorded actions.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unveil.runs.tables import text_table

Predictions = Float[np.ndarray, "N K H A"]


class Errors(NamedTuple):
    """Mean errors of each step of a chunk, (H,)."""

    mse: Float[np.ndarray, " H"]
    energy: Float[np.ndarray, " H"]


def errors_of(predicted: Predictions, recorded: Float[np.ndarray, "N H A"]) -> Errors:
    """The errors of K predictions for each of N windows; with K = 1 the energy score is the distance."""
    off = predicted - recorded[:, None]
    return Errors((off**2).mean((0, 1, 3)), energy_scores(predicted, recorded).mean(0))


def energy_scores(predicted: Predictions, recorded: Float[np.ndarray, "N H A"]) -> Float[np.ndarray, "N H"]:
    """The energy score of every step, from K samples without bias."""
    count = predicted.shape[1]
    away = np.linalg.norm(predicted - recorded[:, None], axis=3).mean(1)
    if count < 2:
        return away
    apart = np.zeros_like(away)
    for k in range(count - 1):  # pairs, each once
        apart += np.linalg.norm(predicted[:, k + 1 :] - predicted[:, k : k + 1], axis=3).sum(1)
    return away - apart / (count * (count - 1))


def nearest(
    features: Float[np.ndarray, "N F"], known: Float[np.ndarray, "M F"], count: int, block: int = 256
) -> Int[np.ndarray, "N K"]:
    """The `count` nearest rows of `known` for each row, the nearest first, by Euclidean distance."""
    found: list[np.ndarray] = []
    size = (known**2).sum(1)
    count = min(count, len(known))
    for start in range(0, len(features), block):
        some = features[start : start + block]
        distance = size - 2.0 * some @ known.T
        first = np.argpartition(distance, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distance, first, 1), axis=1, kind="stable")
        found.append(np.take_along_axis(first, order, 1))
    return np.concatenate(found)


def shown_steps(steps: int, executed: int) -> list[int]:
    """Steps of a chunk that a table shows, from 1: the first, the middle and last executed, and the last."""
    return sorted({1, max(1, executed // 2), min(executed, steps), steps})


def horizon_table(named: Mapping[str, Errors], steps: Sequence[int]) -> str:
    """The errors of several predictors at these steps, from 1, as text."""
    header = ["", *(f"step {step}" for step in steps)]
    tables: list[str] = []
    for title, field in (("MSE", "mse"), ("energy score", "energy")):
        rows = [
            [name, *(f"{getattr(it, field)[step - 1]:.4g}" for step in steps)] for name, it in named.items()
        ]
        tables.append(text_table([title, *header[1:]], rows))
    return "\n\n".join(tables)

"""Acting by anything that predicts chunks, and the nearest neighbours among recorded ones."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from unveil.policy.data.chunks import Chunks

Predict = Callable[[Float[np.ndarray, "B n_obs D"]], Float[np.ndarray, "B H A"]]


class ChunkActor:
    """`act` as a `Policy` does, for environments that all begin together: every `n_action` calls it predicts for all.

    Attributes:
        decisions: number of calls that predicted.
    """

    def __init__(self, predict: Predict, n_obs: int, n_action: int) -> None:
        self.predict, self.n_obs, self.n_action = predict, n_obs, n_action
        self.decisions = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was seen and predicted."""
        self._seen: list[np.ndarray] = []
        self._chunks = np.zeros((0, 0, 0))
        self._place = self.n_action

    def act(self, observations: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B A"]:
        """The next action of every environment; the first observation counts for all before it."""
        self._seen = [*(self._seen or [observations] * (self.n_obs - 1)), observations][-self.n_obs :]
        if self._place >= self.n_action:
            self._chunks = self.predict(np.stack(self._seen, axis=1).astype(np.float32))
            self._place = 0
            self.decisions += 1
        self._place += 1
        return self._chunks[:, self.n_obs - 2 + self._place]


class Nearest:
    """The recorded chunk whose observations are nearest, or the mean of the k nearest, weighted by exp(-distance) (Pari et al. 2021).

    Distances are Euclidean over n_obs observations, each number scaled by the data's limits to [-1, 1]. With k = 1 the chunk after a
    recorded observation is the recorded one itself.

    Raises:
        ValueError: k < 1, or more than there are windows.
    """

    def __init__(self, chunks: Chunks, k: int = 1) -> None:
        if not 1 <= k <= len(chunks):
            raise ValueError(f"nearest: k must lie in 1 .. {len(chunks)}, got {k}")
        import torch

        seen, done = chunks.windows(torch.arange(len(chunks), device="cpu"))
        low, high = chunks.observations.min(0).values.numpy(), chunks.observations.max(0).values.numpy()
        self.k = k
        self._low, self._span = low, np.where(high > low, high - low, 1.0)
        self._chunks = done.double().numpy()
        self._tree = KDTree(self._scaled(seen.numpy()))

    def predict(self, observations: Float[np.ndarray, "B n_obs D"]) -> Float[np.ndarray, "B H A"]:
        """A chunk for each history."""
        found = self._tree.query(self._scaled(observations), k=self.k)
        distances, places = (np.reshape(part, (len(observations), self.k)) for part in found)
        weights = np.exp(distances[:, :1] - distances)
        return np.einsum("bk,bkha->bha", weights / weights.sum(1, keepdims=True), self._chunks[places])

    def _scaled(self, observations: np.ndarray) -> np.ndarray:
        return (
            (2.0 * (observations - self._low) / self._span - 1.0)
            .reshape(len(observations), -1)
            .astype(np.float64)
        )

"""Acting with any function that predicts chunks, and nearest neighbours among recorded chunks."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from unveil.policy.data.chunks import Chunks

Predict = Callable[[Float[np.ndarray, "B n_obs D"]], Float[np.ndarray, "B H A"]]


class ChunkActor:
    """`act` as in `Policy`, for environments that begin together: every `n_action` calls it predicts for all of them.

    Attributes:
        decisions: number of calls that predicted.
    """

    def __init__(self, predict: Predict, n_obs: int, n_action: int) -> None:
        self.predict, self.n_obs, self.n_action = predict, n_obs, n_action
        self.decisions = 0
        self.reset()

    def reset(self) -> None:
        """Forget history and chunks."""
        self._history: list[np.ndarray] = []
        self._chunks = np.zeros((0, 0, 0))
        self._position = self.n_action

    def act(self, observations: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B A"]:
        """The next action of every environment; the first observation also fills the history before it."""
        self._history = [*(self._history or [observations] * (self.n_obs - 1)), observations][-self.n_obs :]
        if self._position >= self.n_action:
            self._chunks = self.predict(np.stack(self._history, axis=1).astype(np.float32))
            self._position = 0
            self.decisions += 1
        self._position += 1
        return self._chunks[:, self.n_obs - 2 + self._position]


class Nearest:
    """The recorded chunk with the nearest observations, or the mean of the k nearest, weighted by exp(-distance) (Pari et al. 2021).

    Distances are Euclidean over n_obs observations, each number scaled by the data's limits to [-1, 1]. With
    k = 1 the prediction for a recorded observation is the recorded chunk itself.

    Raises:
        ValueError: k < 1, or more than the number of windows.
    """

    def __init__(self, chunks: Chunks, k: int = 1) -> None:
        if not 1 <= k <= len(chunks):
            raise ValueError(f"nearest: k must lie in 1 .. {len(chunks)}, got {k}")
        import torch

        observations, actions = chunks.windows(torch.arange(len(chunks), device="cpu"))
        low, high = chunks.observations.min(0).values.numpy(), chunks.observations.max(0).values.numpy()
        self.k = k
        self._low, self._span = low, np.where(high > low, high - low, 1.0)
        self._chunks = actions.double().numpy()
        self._tree = KDTree(self._scaled(observations.numpy()))

    def predict(self, observations: Float[np.ndarray, "B n_obs D"]) -> Float[np.ndarray, "B H A"]:
        """Predict a chunk for each history."""
        nearest = self._tree.query(self._scaled(observations), k=self.k)
        distances, indices = (np.reshape(part, (len(observations), self.k)) for part in nearest)  # (B, k)
        weights = np.exp(distances[:, :1] - distances)
        return np.einsum("bk,bkha->bha", weights / weights.sum(1, keepdims=True), self._chunks[indices])

    def _scaled(self, observations: np.ndarray) -> np.ndarray:
        scaled = 2.0 * (observations - self._low) / self._span - 1.0
        return scaled.reshape(len(observations), -1).astype(np.float64)

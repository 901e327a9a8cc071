"""Graph search over recorded data, without a model: the baseline of maze planners."""

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from unveil.planning.data.episodes import Episodes


class DataGraph:
    """Shortest paths in a graph of visited bins of positions, with an edge where the data went from one bin
    to another.

    Args:
        episodes: the data.
        bin_size: size of a bin, in cells.
        hops: transitions between both ends of an edge; larger values connect bins that a slow body crosses in
            several steps.
    """

    def __init__(self, episodes: Episodes, bin_size: float = 0.1, hops: int = 5) -> None:
        position = episodes.observations[:, :2].astype(np.float64)
        self._low, self._size = position.min(0), bin_size
        cell = ((position - self._low) / bin_size).astype(np.int64)
        self._columns = int(cell[:, 1].max()) + 1
        key = cell[:, 0] * self._columns + cell[:, 1]
        nodes, index = np.unique(key, return_inverse=True)
        count = np.bincount(index)
        self.points = np.stack([np.bincount(index, position[:, d]) / count for d in (0, 1)], axis=1)
        ends = np.repeat(episodes.ends, episodes.ends - episodes.starts)
        first = np.flatnonzero(np.arange(len(position)) + hops < ends)
        moves = np.unique(np.stack([index[first], index[first + hops]], axis=1), axis=0)
        moves = moves[moves[:, 0] != moves[:, 1]]
        lengths = np.linalg.norm(self.points[moves[:, 0]] - self.points[moves[:, 1]], axis=1)
        # edges are reversed, since the search begins at the goal
        self._graph = coo_matrix((lengths, (moves[:, 1], moves[:, 0])), (len(nodes), len(nodes))).tocsr()

    def path(self, start: Float[np.ndarray, "2"], goal: Float[np.ndarray, "2"]) -> Float[np.ndarray, "H 2"]:
        """The path from start to goal, with both ends; a straight line if the data contain no way."""
        source, node = self._nearest(goal), self._nearest(start)
        _, before = dijkstra(self._graph, indices=source, return_predecessors=True)
        path = [start, self.points[node]]
        while node != source and before[node] >= 0:
            node = int(before[node])
            path.append(self.points[node])
        return np.array([*path, goal])

    def _nearest(self, point: np.ndarray) -> int:
        return int(np.linalg.norm(self.points - point, axis=1).argmin())

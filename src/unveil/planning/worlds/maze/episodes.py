"""Many Maze2D episodes at once, with D4RL's reset, reward and length."""

import numpy as np
from jaxtyping import Float

from unveil.planning.worlds.maze.layout import GOAL_RADIUS, Layout
from unveil.planning.worlds.maze.physics import BallPhysics


class MazeEpisodes:
    """`count` episodes of one maze, stepped together.

    Reset: a uniform free cell plus U(-0.1, 0.1) on each axis, velocity N(0, 0.1^2). Goal: that of the layout,
    or in Multi2D a uniform free cell plus U(-0.1, 0.1). Reward: 1 for **every** step whose next position is
    within 0.5 cells of the goal, else 0; no episode ends early (D4RL `maze2d-*-v1`). Some published tables
    use another, latched reward.
    """

    def __init__(self, layout: Layout, count: int) -> None:
        self.layout = layout
        self.count = count
        self.physics = BallPhysics(layout)
        self.state = np.zeros((count, 4))
        self.goal = np.zeros((count, 2))

    def reset(self, generator: np.random.Generator, multi: bool = False) -> Float[np.ndarray, "B 4"]:
        """Reset all episodes; returns observations (x, y, vx, vy)."""
        position = random_positions(self.layout, self.count, generator)
        velocity = 0.1 * generator.standard_normal((self.count, 2))
        self.state = np.concatenate([position, velocity], axis=1)
        self.goal = (
            random_positions(self.layout, self.count, generator)
            if multi
            else np.tile(self.layout.goal, (self.count, 1))
        )
        return self.state.copy()

    def step(
        self, action: Float[np.ndarray, "B 2"]
    ) -> tuple[Float[np.ndarray, "B 4"], Float[np.ndarray, " B"]]:
        """Apply forces in [-1, 1]; returns observations and rewards."""
        self.state = self.physics.step(self.state, action)
        return self.state.copy(), goal_reward(self.state[:, :2], self.goal)


def random_positions(layout: Layout, count: int, generator: np.random.Generator) -> Float[np.ndarray, "B 2"]:
    """A uniform free cell plus U(-0.1, 0.1) on each axis."""
    return layout.cells[generator.integers(len(layout.cells), size=count)] + generator.uniform(
        -0.1, 0.1, (count, 2)
    )


def goal_reward(
    position: Float[np.ndarray, "*B 2"], goal: Float[np.ndarray, "*B 2"]
) -> Float[np.ndarray, "*B"]:
    """1 where the position is within 0.5 cells of the goal, else 0."""
    return np.asarray(np.linalg.norm(position - goal, axis=-1) <= GOAL_RADIUS, dtype=np.float64)

"""One maze in two coordinates. `PointStandIn` has the spaces and the map of gymnasium-robotics' PointMaze, with
D4RL's physics below it, so that driving it shows whether all signs are right."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from unveil.errors import UnveilError
from unveil.planning.data.episodes import Episodes
from unveil.planning.worlds.maze.env import MazeEnv
from unveil.planning.worlds.maze.geometry import (
    InD4RL,
    InPointMaze,
    adapted,
    episodes_in_d4rl,
    layout_in,
    to_d4rl,
    to_point,
    turned,
    turned_back,
)
from unveil.planning.worlds.maze.layout import named_layout
from unveil.planning.worlds.maze.registration import layout_named

LARGE = named_layout("large")
CELLS = LARGE.walls.shape


def centre(row: int, column: int) -> np.ndarray:
    """The centre of a cell as gymnasium-robotics computes it (`cell_rowcol_to_xy`)."""
    return np.array([(column + 0.5) - CELLS[1] / 2, CELLS[0] / 2 - (row + 0.5)])


class PointStandIn(gymnasium.Env):
    """A maze of unveil that looks like PointMaze."""

    def __init__(self, maze="umaze", **more):
        self.inside = MazeEnv(maze, multi=True)
        rows = self.inside.layout.rows
        tiles = [[1 if tile == "#" else 0 for tile in row] for row in rows]
        self.maze = SimpleNamespace(maze_size_scaling=1, maze_map=tiles)
        sizes = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
        self.observation_space = Dict({k: Box(-np.inf, np.inf, (n,)) for k, n in sizes.items()})
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)

    def seen(self, state, info):
        row = to_point(state, self.inside.layout)
        goal = to_point(info["goal"], self.inside.layout)
        return {"observation": row, "achieved_goal": row[:2], "desired_goal": goal}

    def reset(self, *, seed=None, options=None):
        state, info = self.inside.reset(seed=seed)
        return self.seen(state, info), {"success": info["success"]}

    def step(self, action):
        state, reward, ended, cut, info = self.inside.step(turned(np.asarray(action, float)))
        return self.seen(state, info), reward, ended, cut, {"success": info["success"]}


def test_cells_lie_where_gymnasium_robotics_has_them():
    for row, column in ((1, 1), (7, 10), (3, 6)):
        np.testing.assert_allclose(to_d4rl(centre(row, column), LARGE), [row - 0.2, column - 0.2])
    # to the right in PointMaze is the next column, upwards the row before
    np.testing.assert_allclose(to_d4rl(centre(3, 6) + np.array([0.25, 0.1]), LARGE), [2.7, 6.05])


def test_the_two_ways_are_inverse_and_turn_velocities_alike():
    rows = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(to_point(to_d4rl(rows, LARGE), LARGE), rows, atol=1e-12)
    np.testing.assert_allclose(turned_back(turned(rows[:, :2])), rows[:, :2])
    # a step along the velocity is the same step in both
    after = rows[:, :2] + 0.01 * rows[:, 2:]
    converted = to_d4rl(rows, LARGE)
    np.testing.assert_allclose(to_d4rl(after, LARGE), converted[:, :2] + 0.01 * converted[:, 2:], atol=1e-12)


def test_recordings_become_those_of_d4rl():
    rows = np.concatenate([[centre(1, 1), centre(1, 2)], [[1.0, 0.0], [0.0, 2.0]]], axis=1)
    ends = np.array([False, True])
    infos = {"goal": np.array([centre(7, 9)] * 2), "other": np.ones(2)}
    episodes = Episodes(
        rows, np.array([[0.5, 0.0], [0.0, -1.0]]), np.zeros(2), np.zeros(2, bool), ends, rows[-1:], infos
    )
    found = episodes_in_d4rl(episodes, LARGE)
    np.testing.assert_allclose(found.observations, [[0.8, 0.8, 0.0, 1.0], [0.8, 1.8, -2.0, 0.0]])
    np.testing.assert_allclose(found.actions, [[0.0, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(found.final_observations, found.observations[-1:])
    np.testing.assert_allclose(found.infos["goal"], [[6.8, 8.8]] * 2)


def test_an_environment_in_the_other_coordinates_is_the_same_environment():
    """The same forces, in each one's axes, lead to the same place."""
    make = adapted(PointStandIn, "point", "d4rl", None)
    env, own = make(), MazeEnv("umaze", multi=True)
    assert isinstance(env, InD4RL)
    seen, info = env.reset(seed=3)
    state, known = own.reset(seed=3)
    np.testing.assert_allclose(info["goal"], known["goal"])
    for force in np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32):
        np.testing.assert_allclose(seen, state, atol=1e-9)
        seen, _, _, _, info = env.step(force)
        state, _, _, _, known = own.step(force)
    assert env.render().shape == (5 * 24, 5 * 24, 3)
    back = adapted(lambda **more: MazeEnv("umaze", multi=True), "unveil/x", "point", None)()
    assert isinstance(back, InPointMaze)
    point = PointStandIn()
    first, _ = back.reset(seed=3)
    second, _ = point.reset(seed=3)
    for force in np.random.default_rng(1).uniform(-1, 1, (20, 2)):
        for name in ("observation", "achieved_goal", "desired_goal"):
            np.testing.assert_allclose(first[name], second[name], atol=1e-9)
        first, second = back.step(force)[0], point.step(force)[0]


def test_only_mazes_of_the_planners_walls_are_adapted():
    assert adapted(lambda **more: MazeEnv("large"), "m", "d4rl", LARGE)().layout == LARGE
    pendulum = adapted(lambda **more: gymnasium.make("Pendulum-v1"), "p", "d4rl", LARGE)()
    assert pendulum.spec.id == "Pendulum-v1"
    with pytest.raises(
        UnveilError, match="point is the maze 'umaze', but the planner was trained on 'large'"
    ):
        adapted(PointStandIn, "point", "d4rl", LARGE)()
    scaled = PointStandIn()
    scaled.maze.maze_size_scaling = 4
    with pytest.raises(UnveilError, match="no maze of cells of size 1"):
        layout_in(scaled, "AntMaze")


def test_names_of_both_mean_one_layout():
    for name in ("PointMaze_Large-v3", "unveil/Maze2D-Large-v1", "unveil/Multi2D-Large-v1"):
        assert layout_named(name) == LARGE
    assert layout_named("unveil/Maze2D-Eval-UMaze-v1").name == "eval-umaze"
    assert layout_named("PointMaze_Open-v3") is None and layout_named("Pendulum-v1") is None


def test_the_real_pointmaze_agrees_where_it_is_installed():
    robotics = pytest.importorskip("gymnasium_robotics")
    gymnasium.register_envs(robotics)
    env = gymnasium.make("PointMaze_Large-v3")
    assert layout_in(env, "PointMaze_Large-v3") == LARGE
    own = InD4RL(env, LARGE)
    for seed in range(5):
        seen, info = own.reset(seed=seed)
        assert LARGE.clearance(seen[:2]) > 0 and LARGE.clearance(info["goal"]) > 0


def test_a_planner_of_mazes_trains_on_recordings_of_pointmaze(tmp_path, capsys):
    """They are recognised by their positions, which would lie inside walls, and converted with a note."""
    from unveil.planning.recipes.maze.config import TrainMaze
    from unveil.planning.recipes.maze.data import load_data
    from unveil.planning.worlds.maze.collect import collect

    layout = named_layout("umaze")
    episodes = collect(layout, 600, np.random.default_rng(0))
    np.savez(
        tmp_path / "point.npz",
        observations=to_point(episodes.observations.astype(float), layout),
        actions=turned_back(episodes.actions.astype(float)),
        rewards=episodes.rewards,
        terminals=episodes.terminals,
        timeouts=episodes.timeouts,
    )
    found = load_data(TrainMaze(maze="umaze", data=tmp_path / "point.npz"), lambda *_: None)
    np.testing.assert_allclose(found.observations, episodes.observations, atol=1e-5)
    np.testing.assert_allclose(found.actions, episodes.actions, atol=1e-6)
    assert "PointMaze's coordinates, converted to D4RL's" in capsys.readouterr().err
    with pytest.raises(UnveilError, match="lie inside walls of maze large; give the `maze`"):
        load_data(TrainMaze(maze="large", data=tmp_path / "point.npz"), lambda *_: None)

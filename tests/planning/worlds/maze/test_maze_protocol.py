"""D4RL's protocol: how episodes start, when a step pays, how long it lasts; in lock-step and behind
gymnasium."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import namespace
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from unveil.planning.worlds.maze.env import BALL, FLOOR, WALL, MazeEnv
from unveil.planning.worlds.maze.episodes import MazeEpisodes, goal_reward
from unveil.planning.worlds.maze.layout import LAYOUTS, parse_layout
from unveil.planning.worlds.maze.physics import BallPhysics
from unveil.planning.worlds.maze.registration import register

SINGLE = {
    "unveil/Maze2D-UMaze-v1": "umaze",
    "unveil/Maze2D-Medium-v1": "medium",
    "unveil/Maze2D-Large-v1": "large",
    "unveil/Maze2D-Eval-UMaze-v1": "eval-umaze",
    "unveil/Maze2D-Eval-Medium-v1": "eval-medium",
    "unveil/Maze2D-Eval-Large-v1": "eval-large",
}
MULTI = {
    "unveil/Multi2D-UMaze-v1": "umaze",
    "unveil/Multi2D-Medium-v1": "medium",
    "unveil/Multi2D-Large-v1": "large",
}
STEPS = {"umaze": 300, "medium": 600, "large": 800, "eval-umaze": 300, "eval-medium": 600, "eval-large": 800}


def is_jittered_uniform(position: np.ndarray, layout) -> None:
    offset = position - np.round(position)
    assert np.abs(offset).max() <= 0.1
    np.testing.assert_allclose(offset.std(axis=0), 0.2 / 12**0.5, rtol=0.05)
    np.testing.assert_allclose(offset.mean(axis=0), 0, atol=0.005)
    count = np.array([(np.round(position) == cell).all(1).sum() for cell in layout.cells])
    expected = len(position) / len(layout.cells)
    assert count.sum() == len(position)
    assert np.abs(count - expected).max() < 5 * expected**0.5  # the goal cell as often as any other


@pytest.mark.parametrize("name", ["umaze", "large"])
def test_reset_distribution(name):
    layout = LAYOUTS[name]
    world = MazeEpisodes(layout, 6000)
    for multi in (False, True):
        seen = world.reset(np.random.default_rng(0), multi)
        np.testing.assert_array_equal(seen, world.state)
        is_jittered_uniform(seen[:, :2], layout)
        np.testing.assert_allclose(seen[:, 2:].std(axis=0), 0.1, rtol=0.05)
        np.testing.assert_allclose(seen[:, 2:].mean(axis=0), 0.0, atol=0.006)
        if multi:
            is_jittered_uniform(world.goal, layout)
            assert abs(np.corrcoef(seen[:, 0], world.goal[:, 0])[0, 1]) < 0.06
        else:
            assert (world.goal == layout.goal).all()


def test_reward_is_half_a_cell_inclusive():
    goal = np.array([7.0, 9.0])
    for inside in ([7.5, 9.0], [6.5, 9.0], [7.0, 8.5], [7.0, 9.5], [7.3, 8.61], [7.0, 9.0]):
        assert goal_reward(np.array(inside), goal) == 1.0
    for outside in (
        [np.nextafter(7.5, 8), 9.0],
        [np.nextafter(6.5, 6), 9.0],
        [7.0, np.nextafter(9.5, 10)],
        [7.36, 9.36],
        [9.0, 7.0],
    ):
        assert goal_reward(np.array(outside), goal) == 0.0


def test_reward_on_every_step_of_the_state_after_it_and_never_latched():
    layout = LAYOUTS["umaze"]
    world = MazeEpisodes(layout, 2)
    world.reset(np.random.default_rng(0))
    world.state[:] = [[1.0, 1.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]]
    paid = []
    for t in range(
        160
    ):  # out of the goal's disc to the right, back, and out to the left, where the wall lets the ball come to 0.4
        state, reward = world.step(np.array([[0.0, 1.0 if t < 40 else -1.0], [0.0, 0.0]]))
        np.testing.assert_array_equal(reward, np.hypot(*(state[:, :2] - layout.goal).T) <= 0.5)
        paid.append(reward[0])
        assert reward[1] == 0.0
    changes = np.flatnonzero(np.diff(paid)) + 1
    assert [paid[t] for t in (0, *changes)] == [1.0, 0.0, 1.0, 0.0]
    world.state[0] = [1.0, 1.49, 0.0, 5.0]  # within the disc before the step, beyond it afterwards
    assert world.step(np.zeros((2, 2)))[1][0] == 0.0


@pytest.mark.filterwarnings(
    r"ignore:.*A Box observation space (minimum|maximum) value is -?infinity:UserWarning"
)
@pytest.mark.parametrize("name", [*SINGLE, *MULTI])
def test_check_env(name):
    check_env(gymnasium.make(name, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize(("name", "maze"), [*SINGLE.items(), *MULTI.items()])
def test_ids_maze_task_and_length(name, maze):
    env = gymnasium.make(name)
    inner = env.unwrapped
    assert isinstance(inner, MazeEnv) and inner.layout is LAYOUTS[maze] and inner.multi == (name in MULTI)
    goals = set()
    for seed in range(4):
        _, info = env.reset(seed=seed)
        goals.add(tuple(info["goal"]))
    assert len(goals) == 4 if name in MULTI else goals == {tuple(LAYOUTS[maze].goal)}
    flags = [env.step(env.action_space.sample())[2:4] for _ in range(STEPS[maze])]
    assert flags == [(False, False)] * (STEPS[maze] - 1) + [(False, True)]


def test_env_is_one_episode_of_the_lock_step_world():
    env, layout = MazeEnv("medium", multi=True), LAYOUTS["medium"]
    state, info = env.reset(seed=3)
    physics, generator = BallPhysics(layout), np.random.default_rng(0)
    for _ in range(200):
        action = generator.uniform(-1, 1, 2).astype(np.float32)
        seen, reward, _, _, info = env.step(action)
        state = physics.step(state[None], action[None].astype(np.float64))[0]
        np.testing.assert_array_equal(seen, state)
        assert info["success"] == (reward == 1.0) == bool(np.hypot(*(state[:2] - info["goal"])) <= 0.5)


def test_a_seed_fixes_the_episode():
    def episode(env: MazeEnv, seed: int | None):
        first, info = env.reset(seed=seed)
        return np.concatenate(
            [first, info["goal"], *(env.step(np.array([0.5, -0.25], np.float32))[0] for _ in range(50))]
        )

    one, two = MazeEnv("large", multi=True), MazeEnv("large", multi=True)
    first = episode(one, 5)
    np.testing.assert_array_equal(first, episode(two, 5))
    again = episode(one, None)
    assert (again[:6] != first[:6]).all()  # the next episode is another one ...
    np.testing.assert_array_equal(again, episode(two, None))  # ... and fixed as well
    np.testing.assert_array_equal(first, episode(one, 5))
    assert (episode(one, 6)[:6] != first[:6]).all()


def test_options_place_start_and_goal():
    env = MazeEnv("large")
    drawn, _ = env.reset(seed=1)
    seen, info = env.reset(seed=1, options={"start": (1, 10), "goal": [1.2, 9.8]})
    assert (
        seen.tolist() == [1.0, 10.0, *drawn[2:]] and info["goal"].tolist() == [1.2, 9.8] and info["success"]
    )
    assert env.step(np.zeros(2, np.float32))[1] == 1.0
    seen, info = env.reset(seed=1, options={"goal": np.array([3.0, 1.0])})
    np.testing.assert_array_equal(seen, drawn)
    assert info["goal"].tolist() == [3.0, 1.0] and not info["success"]
    assert env.reset(seed=1)[1]["goal"].tolist() == [7.0, 9.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"start": (10, 1)},
            r"start \(10, 1\) lies inside a wall of maze 'large' or outside it",
        ),  # (1, 10) is free
        ({"start": (2, 2)}, r"start \(2, 2\) lies inside a wall"),
        ({"start": (1.31, 5.0)}, r"start \(1.31, 5.0\) lies inside a wall"),
        ({"goal": (1.0, -9.0)}, r"goal \(1.0, -9.0\) lies inside a wall of maze 'large' or outside it"),
        ({"goal": (np.nan, 1.0)}, r"goal: two finite numbers .* got \(nan, 1.0\)"),
        ({"goal": (1.0, np.inf)}, r"goal: two finite numbers"),
        ({"start": (1, 1, 1)}, r"start: two finite numbers .* got \(1, 1, 1\)"),
        ({"start": 1.0}, r"start: two finite numbers .* got 1.0"),
        ({"start": ("a", "b")}, r"start: two numbers .* got \('a', 'b'\)"),
        ({"start": None}, r"start: two finite numbers|start: two numbers"),
        ({"strat": (1, 1)}, r"unknown options \['strat'\]; 'start' and 'goal' are known"),
    ],
)
def test_options_errors(options, message):
    env = MazeEnv("large")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="unknown maze 'hugh'"):
        MazeEnv("hugh")
    with pytest.raises(ValueError, match="render_mode must be None or 'rgb_array', got 'ansi'"):
        MazeEnv(render_mode="ansi")
    env = MazeEnv("umaze", render_mode="rgb_array")
    for call in (env.render, lambda: env.step(np.zeros(2))):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(2,\) is needed, got shape \(1, 2\)"):
        env.step(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.array([0.0, np.nan]))
    silent = MazeEnv("umaze")
    silent.reset()
    with pytest.raises(ValueError, match="render_mode='rgb_array'"):
        silent.render()


def test_picture():
    layout = parse_layout("######\n#OOOO#\n#O####\n######", "bent")
    env = MazeEnv(layout, render_mode="rgb_array")
    env.reset(seed=0, options={"start": (1.0, 3.9), "goal": (1.8, 0.8)})
    image = env.render()
    assert image.shape == (4 * 24, 6 * 24, 3) and image.dtype == np.uint8
    ball = np.argwhere((image == BALL).all(-1))
    np.testing.assert_allclose(ball.mean(0) + 0.5, [(1.0 + 0.7) * 24, (3.9 + 0.7) * 24], atol=0.5)
    assert len(ball) == pytest.approx(np.pi * 2.4**2, rel=0.2)
    disc = np.argwhere(~((image == BALL) | (image == WALL) | (image == FLOOR)).all(-1))
    np.testing.assert_allclose(disc.mean(0) + 0.5, [(1.8 + 0.7) * 24, (0.8 + 0.7) * 24], atol=0.5)
    assert len(disc) == pytest.approx(np.pi * 12**2, rel=0.03)
    plain = {(i, j): tuple(image[24 * i + 1, 24 * j + 1].tolist()) for i in range(4) for j in range(6)}
    assert {cell for cell, colour in plain.items() if colour == FLOOR} == {
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 4),
        (2, 1),
    }


def test_registering_twice_is_silent():
    before = dict(gymnasium.registry)
    register()
    assert gymnasium.registry == before
    taken = {name: gymnasium.registry.pop(name) for name in [*SINGLE, *MULTI]}
    with namespace("unveil"):  # as gymnasium did below 1.0
        register()
    assert gymnasium.registry == before and {name: gymnasium.registry[name] for name in taken} == taken


def test_make_by_module_imports_no_simulator_before_it_must():
    code = (
        "import gymnasium, sys; import unveil.planning.worlds.maze.registration as r; assert not {'mujoco', 'torch'} & set(sys.modules);"
        "e = gymnasium.make(r.__name__ + ':unveil/Maze2D-Large-v1'); e.reset(seed=0); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)

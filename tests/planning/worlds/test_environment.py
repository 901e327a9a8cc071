"""Episodes of any gymnasium environment: how one is found, which one fits, and what it reports."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from unveil.errors import UnveilError
from unveil.planning.data.interface import Interface
from unveil.planning.worlds.environment import (
    EnvironmentEpisodes,
    check_spaces,
    choices,
    limits,
    made_with,
    maker,
)


class Line(gymnasium.Env):
    """A point on a line that should come near its goal; the second number counts steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, kind="flat", reports="success", length=5, discrete=False, render_mode=None):
        self.kind, self.reports, self.length, self.render_mode = kind, reports, length, render_mode
        flat, goal = Box(-9, 9, (2,)), Box(-9, 9, (1,))
        dictionary = Dict({"observation": flat, "achieved_goal": goal, "desired_goal": goal})
        pictures = Box(0, 255, (4, 4, 3), np.uint8)
        self.observation_space = {"flat": flat, "goal": dictionary, "pictures": pictures}[kind]
        self.action_space = Discrete(2, start=1) if discrete else Box(-2.0, 2.0, (1,))
        self.got = []

    def seen(self):
        row = np.array([self.place, self.t], np.float32)
        if self.kind == "flat":
            return row
        return {"observation": row, "achieved_goal": row[:1], "desired_goal": np.ones(1, np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self.seen(), {"goal": np.ones(1)}

    def step(self, action):
        self.got.append(action)
        self.place += float(np.asarray(action).reshape(-1)[0])
        self.t += 1
        near = abs(self.place - 1.0) < 0.1
        info = {"goal": np.ones(1)} | ({self.reports: near} if self.reports else {})
        return self.seen(), -abs(self.place - 1.0), False, self.t >= self.length, info

    def render(self):
        return np.full((8, 8, 3), self.t, np.uint8)


def test_an_id_or_a_function_of_the_users_folder(tmp_path, monkeypatch):
    assert made_with(maker("CartPole-v1"), "CartPole-v1").spec.id == "CartPole-v1"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_world.py").write_text(
        "import gymnasium\nmake = lambda: gymnasium.make('Pendulum-v1')\nnumber = 3\nnone = lambda: 3\n"
    )
    assert made_with(maker("own_world:make"), "own_world:make", render=True).spec.id == "Pendulum-v1"
    for name, said in (
        ("own_world:lost", "no attribute 'lost'"),
        ("no_world:make", "No module named 'no_world'"),
        ("own_world:number", "number is no function"),
        ("Nothing-v0", "give an id of gymnasium, or module:function"),
    ):
        with pytest.raises(UnveilError, match=said) as caught:
            maker(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnveilError, match=r"gives int, but a gymnasium\.Env is needed"):
        made_with(maker("own_world:none"), "own_world:none")


def test_a_missing_package_is_said_with_the_line_that_installs_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    monkeypatch.delitem(gymnasium.registry, "PointMaze_Odd-v3", raising=False)
    with pytest.raises(UnveilError, match=r"not installed: pip install 'unveil\[rl\]'"):
        maker("PointMaze_Odd-v3")


def test_our_own_mazes_need_no_import():
    env = made_with(maker("unveil/Maze2D-UMaze-v1"), "x")
    assert env.observation_space.shape == (4,)


@pytest.mark.parametrize(
    ("env", "interface", "observations", "actions", "said"),
    [
        (Line(), Interface(), 3, 1, "observations have 2 numbers, but the planner reads 3"),
        (Line(), Interface(), 2, 2, r"actions are Box.*, but the planner gives 2 numbers"),
        (Line(), Interface(fields=("a",)), 2, 1, "flat observations, but the planner reads a"),
        (Line("goal"), Interface(), 2, 1, "dictionary observations .*but the data flat ones"),
        (Line("goal"), Interface(fields=("speed",)), 2, 1, "no observation 'speed', .* it has achieved_goal"),
        (Line("goal"), Interface(fields=("observation",)), 3, 1, "observation 2, but the planner reads 3"),
        (Line("pictures"), Interface(), 2, 1, r"shape \(4, 4, 3\), such as a picture"),
        (Line(discrete=True), Interface(), 2, 1, "actions are Discrete"),
        (Line(discrete=True), Interface(choices=3), 2, 3, "the planner chooses one of 3"),
    ],
)
def test_spaces_that_do_not_fit_are_named(env, interface, observations, actions, said):
    with pytest.raises(UnveilError, match=f"^own.*{said}") as caught:
        check_spaces(env, "own", interface, observations, actions)
    assert "\n" not in str(caught.value)


def test_spaces_that_fit_and_what_they_say():
    check_spaces(Line(), "own", Interface(), 2, 1)
    check_spaces(Line("goal"), "own", Interface(fields=("observation", "achieved_goal")), 3, 1)
    check_spaces(Line(discrete=True), "own", Interface(choices=2), 2, 2)
    assert limits(Line()) == ((-2.0,), (2.0,)) and limits(Line(discrete=True)) == ((), ())
    assert (choices(Line()), choices(Line(discrete=True))) == (0, 2)
    assert limits(gymnasium.make("unveil/Maze2D-UMaze-v1")) == ((), ())


def test_each_episode_has_its_seed_and_is_stepped_while_it_runs():
    world = EnvironmentEpisodes(Line, "line", 3, seed=4)
    alone = Line()
    for i in range(3):
        np.testing.assert_array_equal(world.observations[i], alone.reset(seed=4 + i)[0])
    world.envs[1].length = 2
    for _ in range(3):
        which = np.flatnonzero(world.running).tolist()
        world.step(which, np.array([[1.0 - world.observations[i][0]] for i in which]))
    assert world.running.tolist() == [True, False, True] and world.lengths.tolist() == [3, 2, 3]
    assert world.succeeded.all() and world.reported == "success"
    np.testing.assert_allclose(world.returns, 0.0, atol=1e-6)
    assert world.goal(0).tolist() == [1.0]


def test_steps_are_limited_and_discrete_actions_begin_where_the_space_does():
    world = EnvironmentEpisodes(lambda: Line(discrete=True), "line", 1, seed=0, steps=2)
    world.step([0], np.array([0]))
    world.step([0], np.array([1]))
    assert world.envs[0].got == [1, 2] and not world.running.any() and not world.terminated.any()


def test_success_is_what_the_named_entry_says():
    world = EnvironmentEpisodes(lambda: Line(reports="won"), "line", 1, seed=0, success="won")
    world.step([0], np.array([[1.0 - world.observations[0][0]]]))
    assert world.succeeded.tolist() == [True] and world.reported == "won"
    silent = EnvironmentEpisodes(lambda: Line(reports=""), "line", 1, seed=0)
    silent.step([0], np.array([[0.0]]))
    assert silent.reported == "" and silent.names == {"goal"}


def test_the_first_episode_is_drawn():
    world = EnvironmentEpisodes(Line, "line", 2, seed=0, frames=True)
    world.step([0, 1], np.zeros((2, 1)))
    assert [int(frame[0, 0, 0]) for frame in world.frames] == [0, 1]
    own = EnvironmentEpisodes(
        Line, "line", 1, seed=0, frames=True, draw=lambda env, step: np.full((2, 2, 3), 7 + step, np.uint8)
    )
    own.step([0], np.zeros((1, 1)))
    assert [int(frame[0, 0, 0]) for frame in own.frames] == [7, 8]


def test_an_environment_that_fails_is_one_line():
    class Broken(Line):
        def step(self, action):
            raise RuntimeError("the joint\nis stuck")

    world = EnvironmentEpisodes(Broken, "own:broken", 1, seed=0)
    with pytest.raises(UnveilError, match=r"^own:broken cannot be step.*RuntimeError: the joint$"):
        world.step([0], np.zeros((1, 1)))

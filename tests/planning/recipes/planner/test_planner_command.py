"""`unveil train planner` and `unveil eval planner`: from any data to any environment by the command line."""

import json
import re
import shlex

import numpy as np
import pytest

import unveil
from unveil.cli import main
from unveil.planning.goal_planner import GoalPlanner
from unveil.planning.guided_planner import GuidedPlanner
from unveil.planning.recipes.planner.config import TRAIN_PRESETS
from unveil.planning.recipes.planner.train import diffusion_config, value_config
from unveil.runs.flags import changed, flat

QUICK = [
    "--preset",
    "tiny",
    "--steps",
    "2",
    "--value-steps",
    "2",
    "--save-every",
    "2",
    "--batch-size",
    "4",
    "--threads",
    "1",
    "--horizon",
    "8",
]
SCORE = ["--episodes", "2", "--max-steps", "3", "--cloning-steps", "2"]
WORLD = """
import gymnasium, numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Cart(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        goal = Box(-9, 9, (1,))
        self.observation_space = Dict({"state": Box(-9, 9, (2,)), "achieved_goal": goal, "desired_goal": goal})
        self.action_space = Discrete(3)

    def seen(self):
        return {"state": np.array([self.place, self.t], "f4"), "achieved_goal": np.array([self.place], "f4"),
                "desired_goal": np.array([1.0], "f4")}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self.seen(), {}

    def step(self, action):
        assert action in (0, 1, 2)
        self.place, self.t = self.place + 0.1 * (int(action) - 1), self.t + 1
        return self.seen(), 0.0, False, False, {"is_success": abs(self.place - 1) < 0.1}

    def render(self):
        return np.full((8, 8, 3), 40 * self.t, np.uint8)


def silent():
    env = Cart()
    step = env.step
    env.step = lambda action: (*step(action)[:4], {"speed": 1.0})
    return env
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "cart_world", raising=False)
    (tmp_path / "cart_world.py").write_text(WORLD)
    return tmp_path


def pendulum(path="own.npz", count=80, **more):
    rng, ends = np.random.default_rng(0), np.arange(count) % 20 == 19
    rows = {
        "observations": rng.standard_normal((count, 3)),
        "actions": rng.uniform(-2, 2, (count, 1)),
        "rewards": -rng.random(count),
        "terminals": np.zeros(count, bool),
        "timeouts": ends,
    }
    np.savez(path, **{k: v for k, v in (rows | more).items() if v is not None})


def cart(path="cart.npz", count=60):
    rng, ends = np.random.default_rng(0), np.arange(count) % 20 == 19
    place = rng.standard_normal((count, 1)).astype("f4")
    np.savez(
        path,
        **{"observations/state": np.concatenate([place, place], axis=1), "observations/achieved_goal": place},
        **{"observations/desired_goal": np.ones((count, 1), "f4"), "actions": rng.integers(0, 3, count)},
        terminals=np.zeros(count, bool),
        timeouts=ends,
    )


def following(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    return line.removeprefix("next: ")


def refused(words, capsys) -> str:
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("unveil: ")]
    return line


def test_own_transitions_become_a_planner_that_its_next_command_scores(here, capsys):
    pendulum()
    assert main(["train", "planner", "--data", "own.npz", "--env", "Pendulum-v1", *QUICK]) == 0
    command = shlex.split(following(capsys))
    assert command[:3] == ["unveil", "eval", "planner"]
    assert main([*command[1:], *SCORE, "--video", "v.gif", "--json", "r.json"]) == 0
    table = capsys.readouterr().out
    for row in ("unveil", "cloning", "behaviour in the data", "random actions", "±"):
        assert row in table
    record = json.loads((here / "r.json").read_text())
    assert record["metrics"]["n"] == 2 and record["metrics"]["length_mean"] == 3
    assert (here / "v.gif").stat().st_size > 0
    returns = record["reference"]["behaviour in the data"]["return_mean"]
    np.testing.assert_allclose(returns, np.load("own.npz")["rewards"].sum() / 4, rtol=1e-5)
    planner = unveil.load("runs/planner-own", "cpu")
    assert isinstance(planner, GuidedPlanner) and planner.act(np.zeros(3)).shape == (1,)
    assert planner.interface.high == (2.0,)  # of the environment, not of the data
    assert unveil.load("runs/planner-own", "cpu", preset="default").score is not None
    # --resume goes on with both; another training does not overwrite them
    assert "already holds" in refused(["train", "planner", "--data", "own.npz", *QUICK], capsys)
    more = [*QUICK, "--resume", "--steps", "4", "--value-steps", "4"]
    assert main(["train", "planner", "--data", "own.npz", "--env", "Pendulum-v1", *more]) == 0
    assert (here / "runs/planner-own/value/checkpoint-4").is_dir()


def test_without_an_environment_the_next_line_says_how_to_plan(here, capsys):
    pendulum()
    assert main(["train", "planner", "--data", "own.npz", "--no-value", "--out", "my run", *QUICK]) == 0
    said = following(capsys)
    assert re.match(
        r"in Python, planner = unveil\.load\('my run'\); action = planner\.act\(observation\)", said
    )
    assert "--checkpoint 'my run' --env ID" in said and not (here / "my run" / "value").exists()
    assert "names no environment; give --env" in refused(
        ["eval", "planner", "--checkpoint", "my run", *SCORE], capsys
    )


def test_dictionaries_goals_and_discrete_actions(here, capsys):
    cart()
    train = ["train", "planner", "--data", "cart.npz", "--env", "cart_world:Cart", *QUICK]
    assert main(train) == 0
    told = capsys.readouterr()
    assert "no value function is trained" in told.err
    command = shlex.split(told.out.splitlines()[-1].removeprefix("next: "))
    assert main([*command[1:], *SCORE, "--video", "v.gif", "--json", "r.json"]) == 0
    metrics = json.loads((here / "r.json").read_text())["metrics"]
    assert 0.0 <= metrics["success_low"] <= metrics["success_rate"] <= metrics["success_high"] <= 1.0
    planner = unveil.load("runs/planner-cart", "cpu", act_steps=2)
    assert isinstance(planner, GoalPlanner)
    seen = {"state": np.zeros(2), "achieved_goal": np.zeros(1), "desired_goal": np.ones(1)}
    assert planner.interface.goal == (0,) and planner.act(seen) in (0, 1, 2)
    silent = ["eval", "planner", "--checkpoint", "runs/planner-cart", "--env", "cart_world:silent", *SCORE]
    assert (
        "reports no success in its info, which holds speed; name the entry that does (--success"
        in refused(silent, capsys)
    )


def test_what_does_not_fit_is_one_line_and_leaves_nothing(here, capsys):
    pendulum()
    pendulum("ten.npz", observations=np.zeros((80, 10)))
    pendulum("poor.npz", rewards=None)
    pendulum("pictures.npz", observations=np.zeros((80, 4, 4, 3), np.uint8))
    for data, more, said in (
        ("ten.npz", ["--env", "Pendulum-v1"], "Pendulum-v1: observations have 3 numbers, but .* 10"),
        ("own.npz", ["--env", "CartPole-v1"], "CartPole-v1: observations have 4 numbers, but .* 3"),
        ("own.npz", ["--env", "cart_world:Cart"], "dictionary observations .*state"),
        ("own.npz", ["--env", "Nowhere-v9"], "--env Nowhere-v9: .*give an id of gymnasium"),
        ("poor.npz", ["--goal", "none"], "neither rewards nor goals"),
        ("poor.npz", ["--goal", "7"], "--goal 7: an observation has the numbers 0 .. 2"),
        ("own.npz", ["--observe", "speed"], "names speed, but observations are flat"),
        ("pictures.npz", [], r"shape \(4, 4, 3\) per step, such as pictures"),
        ("", [], "--data is needed"),
    ):
        line = refused(["train", "planner", "--data", data, *more, *QUICK], capsys)
        assert re.search(said, line), line
        assert not (here / "runs").exists()
    assert "--video must end in .gif" in refused(["eval", "planner", "--video", "v.avi"], capsys)


def test_plans_to_a_part_of_an_observation(here, capsys):
    pendulum(rewards=None)
    assert main(["train", "planner", "--data", "own.npz", "--goal", "0:2", "--out", "run", *QUICK]) == 0
    assert "planner.reset(goal)" in following(capsys)
    planner = unveil.load("run", "cpu")
    planner.reset(np.zeros(2))
    assert planner.act(np.zeros(3)).shape == (1,)
    with pytest.raises(TypeError, match="candidates"):
        unveil.load("run", "cpu", candidates=3)


def test_a_packaged_body_is_a_planner_with_a_named_environment(here, capsys):
    """The returns are those of `unveil eval locomotion`, in the same episodes."""
    shared = ["--checkpoint", "hopper-medium", "--episodes", "2"]
    own = ["--max-steps", "4", "--no-random", "--json", "a.json", "--video", "hopper.gif"]
    assert main(["eval", "planner", *shared, *own]) == 0
    assert "Hopper-v5" in capsys.readouterr().out
    assert main(["eval", "locomotion", *shared, "--max-episode-length", "4", "--json", "b.json"]) == 0
    ours, theirs = (json.loads((here / name).read_text()) for name in ("a.json", "b.json"))
    np.testing.assert_allclose(ours["returns"], theirs["returns"], rtol=1e-12)
    assert ours["metrics"]["score_mean"] == pytest.approx(theirs["metrics"]["score_mean"])
    capsys.readouterr()
    assert "the planner reads 11" in refused(["eval", "planner", *shared, "--env", "Pendulum-v1"], capsys)


def test_a_packaged_maze_planner_drives_our_mazes(here, capsys):
    words = ["eval", "planner", "--checkpoint", "maze-umaze", "--episodes", "2", "--max-steps", "120"]
    assert main([*words, "--video", "m.gif", "--json", "r.json"]) == 0
    record = json.loads((here / "r.json").read_text())
    assert record["environment"] == "unveil/Maze2D-UMaze-v1"
    assert record["metrics"]["success_rate"] == 1.0 and record["metrics"]["score_mean"] is not None
    capsys.readouterr()
    assert "the maze 'large', but the planner was trained on 'umaze'" in refused(
        [*words, "--env", "unveil/Maze2D-Large-v1"], capsys
    )


def test_named_bodies_have_the_settings_of_diffusers_commands():
    """`train planner` on data of a body is `train locomotion` and `train value`."""
    from unveil.planning.recipes.locomotion import config as locomotion

    for preset, data in (("default", "hopper-medium"), ("tiny", "walker2d-medium-v2")):
        config = changed(TRAIN_PRESETS[preset], data=data)
        run = config.run.folder
        for made, theirs in (
            (diffusion_config(config, run, 0), locomotion.TRAIN_PRESETS[preset]),
            (value_config(config, run), locomotion.VALUE_PRESETS[preset]),
        ):
            different = {"dataset", "out"} | ({"save_every"} if made is not None else set())
            ours, known = flat(made), flat(theirs)
            assert {k for k in ours if ours[k] != known[k]} <= different

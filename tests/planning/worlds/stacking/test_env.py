"""The gymnasium environment and its pictures."""

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from unveil.errors import UnveilError
from unveil.planning.data.stacking_states import TURNS, cube_positions, yaw_of
from unveil.planning.worlds.stacking.demonstrator import moves, random_style
from unveil.planning.worlds.stacking.env import STEPS, StackingEnv
from unveil.planning.worlds.stacking.registration import NAME
from unveil.planning.worlds.stacking.scene import SIDE
from unveil.planning.worlds.stacking.tasks import Goal


@pytest.mark.filterwarnings("ignore")
def test_gymnasiums_checks_pass():
    env = gymnasium.make(NAME)
    assert env.spec.max_episode_steps == STEPS == 384
    check_env(env.unwrapped, skip_render_check=True)


def test_rewards_add_up_to_the_tasks_and_the_goal_is_told():
    env = StackingEnv("conditional")
    goal = Goal("conditional", ((0,), (1,), (2,), (3,)), ((1, 3),))
    state, info = env.reset(seed=0, options={"goal": goal})
    assert info["pairs"].tolist() == [[1, 3]] and info["held"] == -1 and not info["success"]
    on = cube_positions(state)[3] + [0, 0, SIDE]
    total, held = 0.0, set()
    for commands in moves(state, 1, on, yaw_of(state[TURNS[3]]), random_style(np.random.default_rng(0))):
        _, change, terminated, truncated, info = env.step(
            np.array([*commands.joints, float(commands.suction)])
        )
        total += change
        held.add(info["held"])
        assert not terminated and not truncated
    assert total == 1.0 and held == {-1, 1} and info["clipped"] == 0


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="task must be one of unconditional, conditional, rearrangement"):
        StackingEnv("tower")
    env = StackingEnv()
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(8))
    with pytest.raises(ValueError, match="unknown options"):
        env.reset(options={"gaol": 1})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="eight finite numbers"):
        env.step(np.zeros(7))
    with pytest.raises(ValueError, match="draws no pictures"):
        env.render()


def test_a_picture_without_opengl_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr("unveil.planning.worlds.stacking.world.mujoco.GLContext", None)
    env = StackingEnv(render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    with pytest.raises(UnveilError, match="libegl1 or libosmesa6"):
        env.render()

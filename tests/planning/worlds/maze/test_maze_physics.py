"""The ball against a plain MuJoCo loop, and against the closed form of its motion."""

from math import pi

import mujoco
import numpy as np
import pytest

from unveil.planning.worlds.maze.layout import BODY_OFFSET, LAYOUTS, parse_layout
from unveil.planning.worlds.maze.physics import BallPhysics, model_xml

ROOM = parse_layout("\n".join(["#" * 22, *["#" + "O" * 20 + "#"] * 20, "#" * 22]), "room")
MASS, TIMESTEP, DAMPING, GEAR = 4 / 3 * pi * 0.1**3 * 1000, 0.01, 1.0, 100.0


def free_flight(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Semi-implicit Euler with implicit damping, velocities clipped before and forces always."""
    speed = np.clip(state[:, 2:], -5, 5)
    force = GEAR * np.clip(action, -1, 1)
    after = (MASS * speed + TIMESTEP * force) / (MASS + TIMESTEP * DAMPING)
    return np.concatenate([state[:, :2] + TIMESTEP * after, after], axis=1)


def random_states(layout, count: int, generator: np.random.Generator) -> np.ndarray:
    cells = layout.cells[generator.integers(len(layout.cells), size=count)]
    return np.concatenate(
        [cells + generator.uniform(-0.1, 0.1, (count, 2)), generator.normal(0, 2.5, (count, 2))], axis=1
    )


@pytest.mark.parametrize("name", ["umaze", "large"])
def test_batch_equals_a_loop_over_mjdata(name):
    layout, generator = LAYOUTS[name], np.random.default_rng(0)
    states = random_states(layout, 6, generator)
    actions = np.repeat(
        generator.uniform(-1.5, 1.5, (15, 6, 2)), 20, axis=0
    )  # held for 20 steps, so walls are reached
    physics = BallPhysics(layout)
    model = mujoco.MjModel.from_xml_string(model_xml(layout))
    walls = {
        g
        for g in range(model.ngeom)
        if mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, g).startswith("wall")
    }
    touched = 0
    loops = [mujoco.MjData(model) for _ in range(6)]
    for data, state in zip(loops, states, strict=True):
        data.qpos[:], data.qvel[:] = state[:2], state[2:]
    for action in actions:
        together = physics.step(np.array([[*data.qpos, *data.qvel] for data in loops]), action)
        for k, data in enumerate(loops):
            data.qvel[:] = np.clip(data.qvel, -5, 5)
            data.ctrl[:] = action[k]
            mujoco.mj_step(model, data)
            touched += any(data.contact.geom[c, side] in walls for c in range(data.ncon) for side in (0, 1))
            # one step apart: the loop's contact solver starts from its last solution, the batch's from zero
            np.testing.assert_allclose(together[k], [*data.qpos, *data.qvel], atol=1e-5)
    assert touched > 300  # of 1800 steps


def test_free_flight_closed_form():
    generator = np.random.default_rng(1)
    state = np.concatenate([generator.uniform(8, 12, (64, 2)), generator.normal(0, 4, (64, 2))], axis=1)
    physics = BallPhysics(ROOM)
    for _ in range(40):
        action = generator.uniform(-1.5, 1.5, (64, 2))
        expected = free_flight(state, action)
        state = physics.step(state, action)
        np.testing.assert_allclose(state, expected, atol=1e-10)


def test_velocity_is_clipped_before_the_step_not_after():
    physics = BallPhysics(ROOM)
    rest = np.zeros((1, 2))
    after = physics.step(np.array([[10.0, 10.0, 9.0, -7.0]]), rest)[0]
    slowed = 5 * MASS / (MASS + TIMESTEP * DAMPING)
    np.testing.assert_allclose(after, [10 + 0.01 * slowed, 10 - 0.01 * slowed, slowed, -slowed], atol=1e-10)
    pushed = physics.step(np.array([[10.0, 10.0, 5.0, -5.0]]), np.array([[1.0, -1.0]]))[0]
    assert (
        pushed[2] == pytest.approx((5 * MASS + 1) / (MASS + 0.01), abs=1e-10)
        and pushed[2] > 5.2
        and pushed[3] < -5.2
    )


def test_forces_are_clipped():
    physics, state = BallPhysics(ROOM), np.array([[10.0, 10.0, 0.5, 0.5]])
    np.testing.assert_array_equal(
        physics.step(state, np.array([[7.0, -3.0]])), physics.step(state, np.array([[1.0, -1.0]]))
    )


@pytest.mark.parametrize(
    ("start", "force", "axis", "rest"),
    [
        ((1.0, 1.0), (1.0, 0.0), 0, 1.2),  # down: the wall's face stands at 1.3
        ((1.0, 1.0), (-1.0, 0.0), 0, 0.4),  # up: 0.3
        ((1.0, 1.0), (0.0, -1.0), 1, 0.4),  # left: 0.3
        ((1.0, 1.0), (0.0, 1.0), 1, 3.2),  # right, through the whole first row: 3.3
        ((2.0, 3.0), (0.0, -1.0), 1, 2.4),  # the corridor's left side: 2.3
        ((3.0, 1.0), (-1.0, 0.0), 0, 2.4),  # from below against the bar: 2.3
        ((1.0, 3.0), (1.0, 0.0), 0, 3.2),  # down the corridor: 3.3
    ],
)
def test_walls_stop_the_ball_one_radius_off(start, force, axis, rest):
    physics = BallPhysics(LAYOUTS["umaze"])
    state = np.array([[*start, 0.0, 0.0]])
    reached = []
    for _ in range(400):
        state = physics.step(state, np.array([force]))
        reached.append(state[0, axis])
    away = np.sign(sum(force))
    assert (
        max(away * (np.array(reached) - rest)) < 0.1
    )  # the centre never comes to the wall's face, not even in the impact
    assert state[0, axis] == pytest.approx(rest, abs=0.02)
    assert abs(state[0, 2 + axis]) < 0.02
    assert state[0, 1 - axis] == pytest.approx(start[1 - axis], abs=1e-9)


def test_model_places_walls_and_ball_as_d4rl_does():
    model = mujoco.MjModel.from_xml_string(model_xml(LAYOUTS["large"]))
    assert model.body("particle").pos[:2].tolist() == [1 + BODY_OFFSET] * 2
    assert model.geom("wall_2_7").pos[:2].tolist() == [3.0, 8.0] and "wall_1_2" not in [
        model.geom(g).name for g in range(model.ngeom)
    ]
    assert model.body_mass[1] == pytest.approx(MASS)
    assert (model.opt.timestep, model.dof_damping.tolist(), model.actuator_gear[:, 0].tolist()) == (
        0.01,
        [1, 1],
        [100, 100],
    )


def test_a_step_depends_on_its_row_alone():
    layout, generator = LAYOUTS["medium"], np.random.default_rng(2)
    state, action = random_states(layout, 40, generator), generator.uniform(-1, 1, (40, 2))
    physics = BallPhysics(layout)
    for _ in range(30):
        state = physics.step(state, action)
    before, after = state.copy(), physics.step(state, action)
    np.testing.assert_array_equal(state, before)
    order = generator.permutation(40)
    np.testing.assert_array_equal(physics.step(state[order], action[order]), after[order])
    np.testing.assert_array_equal(physics.step(state[7:8], action[7:8]), after[7:8])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_numbers_are_refused(bad):
    physics, state, action = BallPhysics(LAYOUTS["umaze"]), np.ones((3, 4)), np.zeros((3, 2))
    for array, place in ((state, (2, 0)), (state, (0, 3)), (action, (1, 1))):
        broken = array.copy()
        broken[place] = bad
        with pytest.raises(ValueError, match="finite"):
            physics.step(broken if array is state else state, broken if array is action else action)

"""Physics: gravity, position control, and a cup that holds only what it touches."""

import numpy as np
import pytest

from unveil.planning.data.stacking_states import CONTACTS, PLACES, TURNS, cube_positions, upright, yaw_of
from unveil.planning.worlds.stacking.kinematics import inverse, tip
from unveil.planning.worlds.stacking.placement import APART, RADIUS, WIDEST, angles_on_circle, placed
from unveil.planning.worlds.stacking.scene import HOME, LIMITS, SIDE
from unveil.planning.worlds.stacking.stacks import is_clear, levels, on_table, stands_on, tallest
from unveil.planning.worlds.stacking.world import Commands, StackingWorld

APART_FROM_EACH_OTHER = np.array([[0.6, 0.0], [0.0, 0.6], [0.0, -0.6], [-0.35, 0.45]])


@pytest.fixture(scope="module")
def world():
    return StackingWorld()


def poses(heights=(0, 0, 0, 0)):
    return np.array(
        [
            upright(np.array([*xy, SIDE / 2 + height]), 0.1 * k)
            for k, (xy, height) in enumerate(zip(APART_FROM_EACH_OTHER, heights, strict=True))
        ]
    )


def go(world, joints, suction, steps):
    for _ in range(steps):
        state = world.step(Commands(joints, suction))
    return state


def over(height, xy=(0.6, 0.0)):
    return inverse(np.array([*xy, SIDE + height]), float(np.arctan2(xy[1], xy[0])))


def test_a_state_is_what_was_put_there(world):
    state = world.reset(poses(), HOME, settle=0)
    np.testing.assert_allclose(state[:7], HOME)
    np.testing.assert_allclose(state[PLACES], poses()[:, :3])
    assert [yaw_of(state[turn]) for turn in TURNS] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert state[CONTACTS].tolist() == [0.0] * 4


def test_cubes_fall_by_gravity_and_come_to_rest(world):
    state = world.reset(poses((0.3, 0, 0, 0)), settle=0)
    world.step(Commands(HOME, False))
    fallen = 0.3 + SIDE / 2 - world.state()[PLACES[0, 2]]
    assert fallen == pytest.approx(9.81 * 0.08**2 / 2, rel=0.1)
    state = go(world, HOME, False, 12)
    assert on_table(cube_positions(state)).all()


def test_joints_follow_their_commands_and_stop_at_their_limits(world):
    world.reset(poses())
    aim = HOME + np.array([0.4, 0.1, 0.2, 0.1, -0.2, 0.1, 0.5])
    np.testing.assert_allclose(go(world, aim, False, 25)[:7], aim, atol=2e-3)
    assert world.clipped == 0
    state = go(world, HOME + np.array([0, 0, 0, 0, 0, 0, 9.0]), False, 40)
    assert state[6] == pytest.approx(LIMITS[6], abs=0.02) and world.clipped == 40
    with pytest.raises(ValueError, match="seven finite angles"):
        world.step(Commands(np.full(7, np.nan), False))


def test_the_cup_holds_only_what_it_touches(world):
    world.reset(poses(), over(0.02))
    assert not go(world, over(0.02), True, 5)[CONTACTS].any()  # 2 cm above: nothing
    state = go(world, over(-0.001), True, 8)
    assert state[CONTACTS].tolist() == [1, 0, 0, 0] and world.held == 0
    before = state[PLACES[0]] - tip(state[:7]).position
    state = go(world, over(0.2), True, 30)
    assert state[PLACES[0, 2]] > SIDE / 2 + 0.19  # it comes along, at the same place below the tip
    np.testing.assert_allclose(state[PLACES[0]] - tip(state[:7]).position, before, atol=2e-3)
    state = go(world, over(0.2), False, 15)
    assert not state[CONTACTS].any() and on_table(cube_positions(state))[0]  # let go, it falls


def test_without_suction_a_touched_cube_stays(world):
    world.reset(poses(), over(0.02))
    go(world, over(-0.001), False, 8)
    state = go(world, over(0.2), False, 20)
    assert on_table(cube_positions(state)).all() and not state[CONTACTS].any()


def test_a_side_is_not_held_by_an_edge_of_the_cup(world):
    """The cup moves against a side of the cube, axis down: it touches, but not flat."""
    height = -SIDE / 2
    begin, end = (0.6 - SIDE / 2 - 0.03, 0.0), (0.6 - SIDE / 2 - 0.015, 0.0)
    world.reset(poses(), over(height, begin))
    touched = go(world, over(height, end), True, 15)
    assert touched[PLACES[0, 0]] > 0.6 + 0.002 and world.held is None


def test_a_tall_stack_that_is_pushed_falls(world):
    xy = [0.6, 0.0]
    stack = np.array([upright(np.array([*xy, SIDE * (level + 0.5)]), 0.0) for level in range(4)])
    state = world.reset(stack, over(3.5 * SIDE - SIDE, (0.45, 0.0)))
    assert tallest(cube_positions(state)) == 4
    state = go(world, over(3.5 * SIDE - SIDE, (0.62, 0.0)), False, 40)
    assert tallest(cube_positions(state)) < 4


def test_placements_are_on_the_circle_and_apart():
    rng = np.random.default_rng(0)
    for _ in range(50):
        angles = angles_on_circle(4, rng)
        places = RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1)
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(4, 1)]
        assert apart.min() > APART and np.abs(angles).max() <= WIDEST
    stacked = placed([[2, 0], [3], [1]], rng)[:, :3]
    assert stands_on(stacked).nonzero()[0].tolist() == [0] and bool(stands_on(stacked)[0, 2])
    for stacks in ([[0, 1], [2]], [[0, 1], [1, 2, 3]]):
        with pytest.raises(ValueError, match="must be in one stack"):
            placed(stacks, rng)


def test_levels_count_from_the_table():
    places = np.array([[0, 0, 0.5], [0, 0, 1.5], [0, 0, 2.5], [3, 0, 0.5]]) * SIDE
    assert levels(places) == [0, 1, 2, 0] and tallest(places) == 3
    assert [is_clear(places, k) for k in range(4)] == [False, False, True, True]
    floating = places + np.array([0, 0, SIDE])
    floating[0, 0] = 9.0
    assert levels(floating)[1] == -1  # what stands on nothing has no level

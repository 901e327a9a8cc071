"""Goals and rewards by hand, and the demonstrator."""

import numpy as np
import pytest

from unveil.planning.data.stacking_states import CONTACTS, PLACES
from unveil.planning.worlds.stacking import collect, tasks
from unveil.planning.worlds.stacking.placement import placed
from unveil.planning.worlds.stacking.scene import SIDE, SPEEDS
from unveil.planning.worlds.stacking.tasks import Goal, ordered, pairs_of, random_goal, reward
from unveil.planning.worlds.stacking.world import CONTROL, StackingWorld


def at(*stacks):
    """Positions of cubes in stacks."""
    found = np.zeros((4, 3))
    for x, stack in enumerate(stacks):
        for level, cube in enumerate(stack):
            found[cube] = [x, 0.0, SIDE * (level + 0.5)]
    return found


ALONE = at([0], [1], [2], [3])


def test_a_third_of_all_pairs_is_held_out_each_cube_once():
    assert len(tasks.PAIRS) == 12 and len(tasks.UNSEEN) == 4 and set(tasks.PAIRS) > tasks.UNSEEN
    assert {i for i, _ in tasks.UNSEEN} == {j for _, j in tasks.UNSEEN} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("stacks", "height"),
    [(([0], [1], [2], [3]), 0), (([0, 1], [2, 3]), 1), (([3, 1, 0], [2]), 2), (([3, 1, 0, 2],), 3)],
)
def test_unconditional_rewards_how_much_the_tallest_stack_grows(stacks, height):
    goal = random_goal("unconditional", np.random.default_rng(0))
    assert reward(goal, ALONE, at(*stacks)) == height
    assert reward(goal, at(*stacks), ALONE) == 0.0


def test_conditional_rewards_levels_that_are_right_from_below():
    goal = ordered([2, 0, 3, 1])
    assert goal.pairs == ((0, 2), (3, 0), (1, 3))
    for stacks, right in (
        (([2, 0, 3, 1],), 3),
        (([2, 0, 3], [1]), 2),
        (([2, 0, 1], [3]), 1),
        (([2], [0, 3, 1]), 0),  # right above a wrong beginning
        (([1, 2, 0, 3],), 0),  # not on the table
    ):
        assert reward(goal, ALONE, at(*stacks)) == right, stacks
    for order in ([0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 4]):
        with pytest.raises(ValueError, match="name each of the cubes once"):
            ordered(order)


def test_rearrangement_rewards_the_share_of_pairs():
    goal = Goal("rearrangement", ((0, 1), (2, 3)), ((0, 2), (1, 3)))
    assert reward(goal, at([0, 1], [2, 3]), at([2, 0], [3, 1])) == 3.0
    assert reward(goal, at([0, 1], [2, 3]), at([2, 0], [3], [1])) == 1.5


def test_random_goals_of_rearrangement_can_be_reached_and_share_no_pair_with_the_beginning():
    rng = np.random.default_rng(0)
    for _ in range(200):
        goal = random_goal("rearrangement", rng)
        assert goal.pairs and not set(goal.pairs) & set(pairs_of(goal.stacks))
        assert len(goal.pairs) <= tasks.MOVES


def test_demonstrations_succeed_within_the_speeds_of_the_joints_and_are_diverse():
    recorded = collect.collect(4, 0)
    assert sum(it.done for it in recorded) == sum(len(it.asked) for it in recorded) >= 10
    for it in recorded:
        speeds = np.abs(np.diff(it.actions[:, :7], axis=0)) / CONTROL
        assert (speeds <= SPEEDS * 1.001).all()
        assert it.states[:-1][it.actions[:, 7] == 0][1:, CONTACTS].sum() <= len(
            it.asked
        )  # but for the moment
    assert len({it.asked for it in recorded}) == 4 and len({len(it.actions) for it in recorded}) > 1
    again = collect.collect(2, 0)
    np.testing.assert_array_equal(again[1].states, recorded[1].states)
    assert not np.array_equal(collect.collect(1, 1)[0].states[0], recorded[0].states[0])
    with pytest.raises(ValueError, match="at least 1 episode"):
        collect.collect(0, 0)


def test_a_move_that_fails_is_not_counted(monkeypatch):
    monkeypatch.setattr(collect, "succeeded", lambda *_: False)
    found = collect.episode(StackingWorld(), np.random.default_rng(0))
    assert found.done == 0 and len(found.asked) == 1


def test_held_out_pairs_never_occur():
    rng = np.random.default_rng(0)
    for _ in range(200):
        stacks = collect.random_stacks(rng, tasks.UNSEEN)
        assert not set(pairs_of(stacks)) & tasks.UNSEEN
        move = collect.random_move(placed(stacks, rng)[:, :3], rng, tasks.UNSEEN)
        assert move is not None and (move.cube, move.on) not in tasks.UNSEEN


def test_moves_take_clear_cubes_only():
    rng = np.random.default_rng(0)
    seen = {collect.random_move(at([0, 1], [2, 3]), rng, frozenset()) for _ in range(200)}
    assert seen == {collect.Move(1, 3), collect.Move(3, 1), collect.Move(1, None), collect.Move(3, None)}
    assert {collect.random_move(at([0, 1, 2, 3]), rng, frozenset()) for _ in range(9)} == {
        collect.Move(3, None)
    }


def test_a_place_on_the_table_is_free():
    rng = np.random.default_rng(0)
    cubes = placed([[k] for k in range(4)], rng)[:, :3]
    for _ in range(50):
        place = collect.free_place(cubes, rng)
        assert np.linalg.norm(cubes[:, :2] - place[:2], axis=1).min() > 2 * SIDE
        assert place[2] == SIDE / 2
    assert PLACES.shape == (4, 3)

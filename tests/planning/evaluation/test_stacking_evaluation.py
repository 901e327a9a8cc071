"""Following plans: the demonstrator's own commands succeed, and failures are named."""

import numpy as np
import pytest

from unveil.planning.data.stacking_states import CONTACTS, JOINTS, SIZE, TURNS, cube_positions, yaw_of
from unveil.planning.evaluation import stacking
from unveil.planning.worlds.stacking.demonstrator import moves, random_style
from unveil.planning.worlds.stacking.scene import SIDE
from unveil.planning.worlds.stacking.tasks import Goal, ordered


class Demonstrator:
    """Plans as the demonstrator moves; the cube and its target are read from the goal."""

    def __init__(self, wrong=False, lift=0.0, stop=None):
        self.wrong, self.lift, self.stop, self.calls = wrong, lift, stop, 0

    def plan(self, states, goals, score=None):
        self.calls += 1
        rng = np.random.default_rng(self.calls)
        plans = [self.one(state, goal, rng) for state, goal in zip(states, goals, strict=True)]
        longest = max(map(len, plans))
        return np.array([np.concatenate([plan, plan[-1:].repeat(longest - len(plan), 0)]) for plan in plans])

    def one(self, state, goal, rng):
        cube = int(np.linalg.norm(goal - cube_positions(state), axis=1).argmax())
        on = int(np.linalg.norm(cube_positions(state) - (goal[cube] - [0, 0, SIDE]), axis=1).argmin())
        if self.wrong:
            cube = next(k for k in range(4) if k not in (cube, on))
        rows = [state]
        for commands in moves(
            state,
            cube,
            goal[cube] if not self.wrong else goal[on] + [0, 0, SIDE],
            yaw_of(state[TURNS[on]]),
            random_style(rng),
        ):
            row = state.copy()
            row[:JOINTS], row[CONTACTS] = commands.joints, 0.0
            row[CONTACTS[cube]] = float(commands.suction)
            row[1] -= self.lift
            rows.append(row)
        return np.array(rows[: self.stop])


def test_the_demonstrators_plans_do_the_tasks():
    for task in ("conditional", "unconditional", "rearrangement"):
        planner = Demonstrator()
        result = stacking.run(planner, stacking.begin(task, 2, 3), 1)
        assert result.rewards.tolist() == [3.0, 3.0], (task, result.failures)
        assert not result.failures and result.clipped == 0
        assert stacking.score(result.rewards) == 100.0
    assert planner.calls <= 3 and all(len(it) <= stacking.STEPS + 1 for it in result.episodes)


def test_episodes_depend_on_the_seed_and_their_number_alone():
    one, three = (stacking.begin("conditional", count, 7) for count in (1, 3))
    np.testing.assert_array_equal(one[0].states[0], three[0].states[0])
    assert one[0].goal == three[0].goal
    goals = [ordered([3, 2, 1, 0])] * 2
    assert all(it.goal is goals[0] for it in stacking.begin("conditional", 2, 0, goals))


@pytest.mark.parametrize(
    ("planner", "reason"),
    [
        (Demonstrator(lift=0.1), "missed grasp"),
        (Demonstrator(wrong=True), "wrong cube"),
        (Demonstrator(stop=1), "no move"),
    ],
)
def test_failures_are_counted_by_kind_and_the_episode_ends(planner, reason):
    result = stacking.run(planner, stacking.begin("conditional", 1, 0), 1)
    assert set(result.failures) == {reason} and result.failures[reason] >= 1
    assert result.rewards[0] == 0.0 and len(result.episodes[0]) <= stacking.STEPS + 1


def test_what_is_next_is_the_first_pair_that_does_not_hold():
    episode = stacking.begin("conditional", 1, 0, [ordered([1, 0, 2, 3])])[0]
    assert stacking.next_pair(episode) == (0, 1)
    goal = stacking.goal_positions(episode.positions, (0, 1))
    np.testing.assert_allclose(goal[0], episode.positions[1] + [0, 0, SIDE])
    np.testing.assert_array_equal(goal[1:], episode.positions[1:])
    state = episode.states[-1].copy()
    state[JOINTS : JOINTS + 3] = goal[0]
    episode.states.append(state)
    assert stacking.next_pair(episode) == (2, 0)
    episode.goal = Goal("rearrangement", (), ((0, 1),))
    assert stacking.next_pair(episode) is None
    free = stacking.begin("unconditional", 1, 0)[0]
    assert stacking.next_pair(free) is not None
    assert stacking.tallest_at_end(
        np.stack([np.stack([free.states[0]] * 2), np.stack([state] * 2)])
    ).tolist() == [1, 2]
    assert state.shape == (SIZE,)

"""Generated data against D4RL's: its statistics, its stale observations, its marks; and the controller behind
it."""

import numpy as np
import pytest

from unveil.planning.worlds.maze.collect import BLOCK, collect
from unveil.planning.worlds.maze.controller import WaypointController, greedy_next
from unveil.planning.worlds.maze.layout import LAYOUTS, parse_layout
from unveil.planning.worlds.maze.physics import BallPhysics

UMAZE = LAYOUTS["umaze"]
STEPS = 60_000

# maze: official v1 deviations of observations and actions, and segments and rewards a step (planning.md 0.4
# and 5.1)
OFFICIAL = {
    "umaze": ([0.900, 0.709, 2.213, 2.468], None, 0.0125, 0.0745),
    "medium": ([1.337, 1.521, 2.341, 2.369], None, 0.0060, 0.0220),
    "large": ([1.807, 2.569, 2.437, 2.649], [0.725, 0.739], 0.0042, 0.0085),
}


@pytest.fixture(scope="module")
def data():
    return collect(UMAZE, STEPS, np.random.default_rng(0))


def distances(layout, target: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Breadth-first distances of all free cells to one."""
    free = {(int(i), int(j)) for i, j in layout.cells}
    found, border = {target: 0}, [target]
    for i, j in border:
        for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if cell in free and cell not in found:
                found[cell] = found[i, j] + 1
                border.append(cell)
    return found


def test_deviations_of_umaze(data):
    np.testing.assert_allclose(data.observations.std(axis=0), OFFICIAL["umaze"][0], rtol=0.05)
    assert ((data.actions.std(axis=0) > 0.65) & (data.actions.std(axis=0) < 0.8)).all()
    assert np.abs(data.actions.mean(axis=0)).max() < 0.05
    assert data.timeouts.mean() == pytest.approx(0.0125, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_deviations(name):
    seen, acted, segments, rewards = OFFICIAL[name]
    data = collect(LAYOUTS[name], 400_000, np.random.default_rng(1))
    np.testing.assert_allclose(data.observations.std(axis=0), seen, rtol=0.03)
    if acted is not None:
        np.testing.assert_allclose(data.actions.std(axis=0), acted, rtol=0.03)
    assert data.timeouts.mean() == pytest.approx(segments, rel=0.05)
    assert data.rewards.mean() == pytest.approx(rewards, rel=0.15)


def test_the_observation_after_a_mark_is_stale_and_only_that(data):
    marks = data.timeouts[:-1]
    repeated = (data.observations[1:] == data.observations[:-1]).all(axis=1)
    np.testing.assert_array_equal(repeated, marks)
    exact = np.concatenate([data.infos["qpos"], data.infos["qvel"]], axis=1)
    np.testing.assert_array_equal((data.observations[1:] != exact[1:]).any(axis=1), marks)
    np.testing.assert_array_equal(data.observations[0], exact[0])
    assert marks.sum() > 500


def test_every_transition_is_one_physics_step_and_nothing_is_reset(data):
    exact = np.concatenate([data.infos["qpos"], data.infos["qvel"]], axis=1).astype(np.float64)[:20_000]
    after = BallPhysics(UMAZE).step(exact[:-1], data.actions[: len(exact) - 1].astype(np.float64))
    np.testing.assert_allclose(after[:, :2], exact[1:, :2], atol=1e-5)
    np.testing.assert_allclose(after[:, 2:], exact[1:, 2:], atol=1e-3)
    assert np.abs(np.diff(data.infos["qpos"], axis=0)).max() < 0.06
    assert UMAZE.clearance(data.infos["qpos"].astype(np.float64)).min() > 0.05
    assert np.abs(data.infos["qvel"]).max() > 5.0  # logged as it is, clipped only inside the step


def test_rewards_are_those_of_the_observation_at_the_layouts_goal(data):
    near = np.linalg.norm(data.observations[:, :2].astype(np.float64) - [1.0, 1.0], axis=1) <= 0.5
    np.testing.assert_array_equal(data.rewards, near)
    assert data.rewards.mean() == pytest.approx(0.0745, rel=0.25) and not data.terminals.any()


def test_marks_end_a_task_solved_or_out_of_time(data):
    ends = np.flatnonzero(data.timeouts)
    gaps = np.diff(ends, prepend=-1)
    assert gaps.max() <= UMAZE.steps + 1
    target = np.round(data.infos["goal"][ends])
    solved = np.linalg.norm(data.observations[ends, :2] - target, axis=1) < 0.1 + 1e-6
    assert (solved | (gaps == UMAZE.steps + 1)).all() and solved.mean() > 0.9
    moved = (data.infos["goal"][1:] != data.infos["goal"][:-1]).any(axis=1)
    np.testing.assert_array_equal(moved, data.timeouts[:-1])
    offset = data.infos["goal"] - np.round(data.infos["goal"])
    assert np.abs(offset).max() <= 0.1 + 1e-6
    assert {tuple(cell) for cell in np.round(data.infos["goal"])} == {tuple(cell) for cell in UMAZE.cells}


def test_actions_are_noisy_clipped_and_point_to_the_target(data):
    assert np.abs(data.actions).max() == 1.0 and (data.actions == 1.0).any() and (data.actions == -1.0).any()
    quiet = collect(UMAZE, 5_000, np.random.default_rng(0), noise=0.0)
    assert (np.abs(quiet.actions) == 1.0).mean() > (np.abs(data.actions) == 1.0).mean() + 0.1
    ends = np.flatnonzero(quiet.timeouts)
    force = 10 * (np.round(quiet.infos["goal"]) - quiet.observations[:, :2]) - quiet.observations[:, 2:]
    np.testing.assert_allclose(quiet.actions[ends], np.clip(force[ends], -1, 1), atol=1e-5)


def test_out_of_time_happens_at_the_layouts_length():
    short = parse_layout("\n".join(UMAZE.rows), steps=20)
    ends = np.flatnonzero(collect(short, 3_000, np.random.default_rng(0)).timeouts)
    gaps = np.diff(ends)
    assert ends[0] <= 20 and gaps.max() == 21 and (gaps == 21).mean() > 0.5


def test_a_seed_fixes_everything():
    layout, told = LAYOUTS["medium"], []
    one = collect(layout, 2 * BLOCK + 5, np.random.default_rng(7), progress=told.append)
    two = collect(layout, 2 * BLOCK + 5, np.random.default_rng(7))
    other = collect(layout, 100, np.random.default_rng(8))
    for name in ("observations", "actions", "rewards", "timeouts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert all((one.infos[name] == two.infos[name]).all() for name in ("goal", "qpos", "qvel"))
    assert (other.observations[:100] != one.observations[:100]).any()
    assert told == [0, BLOCK, 2 * BLOCK, 2 * BLOCK + 5]


@pytest.mark.parametrize(("steps", "noise"), [(0, 0.5), (-3, 0.5), (10, -0.1)])
def test_wrong_arguments(steps, noise):
    with pytest.raises(ValueError, match=rf"got {steps} and {noise}"):
        collect(UMAZE, steps, np.random.default_rng(0), noise)


@pytest.mark.parametrize(
    "layout",
    [parse_layout("######\n#OOOO#\n#O##O#\n#OO#O#\n######", "hook"), *LAYOUTS.values()],
    ids=lambda maze: maze.name,
)
def test_greedy_routes_are_shortest(layout):
    walls = tuple(tuple(bool(tile) for tile in row) for row in layout.walls)
    for target in ((int(i), int(j)) for i, j in layout.cells[:: max(1, len(layout.cells) // 8)]):
        following, steps = greedy_next(walls, target), distances(layout, target)
        for cell, away in steps.items():
            assert steps[tuple(following[cell])] == max(0, away - 1)


def test_greedy_ties_go_to_the_first_move():
    walls = tuple(tuple(tile == "#" for tile in row) for row in ("####", "#OO#", "#OO#", "####"))
    assert greedy_next(walls, (2, 2))[1, 1].tolist() == [1, 2]  # along the row before down the column
    assert greedy_next(walls, (1, 1))[2, 2].tolist() == [2, 1]


def test_waypoints_lie_up_to_a_fifth_below_their_cells():
    controller = WaypointController(UMAZE, np.random.default_rng(0))
    offsets = []
    for _ in range(200):
        controller._target = None
        controller.act(1.0, 1.0, 0.0, 0.0, (3.05, 0.95))
        cells = [(1, 2), (1, 3), (2, 3), (3, 3), (3, 2)]
        assert controller._route[-1] == (3, 1) and len(controller._route) == 6
        offsets += [np.subtract(cell, point) for cell, point in zip(cells, controller._route, strict=False)]
    offsets = np.array(offsets)
    assert offsets.min() >= 0 and offsets.max() <= 0.2
    np.testing.assert_allclose(offsets.mean(axis=0), 0.1, atol=0.01)


def test_force_is_proportional_and_damped():
    controller = WaypointController(UMAZE, np.random.default_rng(0))
    fx, fy, done = controller.act(1.05, 0.96, 0.2, -0.3, (1.02, 0.98))  # on the target's cell (1, 1)
    assert done and (fx, fy) == (pytest.approx(10 * -0.05 - 0.2), pytest.approx(10 * 0.04 + 0.3))
    fx, fy, done = controller.act(1.08, 1.08, 0.0, 0.0, (1.02, 0.98))
    assert not done  # 0.113 away
    fx, fy, done = controller.act(0.95, 0.96, 0.0, 0.0, (1.02, 0.98))
    assert not done  # near enough, but 0.18 since the last call is too fast
    assert controller.act(0.95, 0.96, 0.0, 0.0, (1.02, 0.98))[2]
    assert WaypointController(UMAZE, np.random.default_rng(0)).act(1.0, 1.0, 0.0, 0.0, (1.0, 3.0))[1] == 1.0


def test_without_noise_the_controller_arrives_from_everywhere():
    generator = np.random.default_rng(0)
    places = generator.uniform(0, 4, (4000, 2))
    rounded = np.round(places).astype(
        int
    )  # a start that rounds to a wall's cell may stay stuck, as published
    places = places[(UMAZE.clearance(places) > 0.1) & ~UMAZE.walls[rounded[:, 0], rounded[:, 1]]][:30]
    starts = np.concatenate(
        [UMAZE.cells, UMAZE.cells + generator.uniform(-0.1, 0.1, UMAZE.cells.shape), places]
    )
    pairs = [(start, goal) for start in starts for goal in UMAZE.cells]
    controllers = [WaypointController(UMAZE, generator) for _ in pairs]
    state = np.array([[*start, 0.0, 0.0] for start, _ in pairs])
    physics, arrived = BallPhysics(UMAZE), np.zeros(len(pairs), dtype=bool)
    for _ in range(UMAZE.steps):
        acts = [
            c.act(*row, tuple(goal))
            for c, row, (_, goal) in zip(controllers, state.tolist(), pairs, strict=True)
        ]
        arrived |= [done for _, _, done in acts]
        state = physics.step(state, np.array([act[:2] for act in acts]))
    assert arrived.all(), [pairs[k] for k in np.flatnonzero(~arrived)]

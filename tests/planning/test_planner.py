"""The planner with its packaged weights: known positions, horizons, budgets, determinism, errors, and
driving."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import unveil
from unveil.planning.evaluation.maze import maze_metrics, roll, starting_states
from unveil.planning.evaluation.plan_diagnostics import crosses_wall
from unveil.planning.planner import Planner, PlannerSettings
from unveil.planning.pursuit import PursuitGains
from unveil.planning.worlds.maze.layout import named_layout

LARGE = named_layout("large")
START, GOAL = (1.0, 1.0), (7.0, 9.0)


@pytest.fixture(scope="module")
def planner() -> Planner:
    return unveil.load("maze-large", device="cpu")


def test_plans_join_start_and_goal_without_crossing_walls(planner):
    world = starting_states(LARGE, True, 20, 77)
    crossed = 0
    for state, goal in zip(world.state, world.goal, strict=True):
        plan = planner.plan(state, goal)
        np.testing.assert_allclose(plan.path[0], state[:2], atol=1e-5)
        np.testing.assert_allclose(plan.path[-1], goal, atol=1e-5)
        np.testing.assert_allclose(
            plan.candidates[:, 0], np.tile(state[:2], (len(plan.candidates), 1)), atol=1e-5
        )
        assert bool((np.diff(plan.times) > 0).all())
        crossed += crosses_wall(LARGE, plan.path)
    assert crossed <= 3


def test_waypoints_hold_exactly_at_their_index_and_nan_leaves_a_coordinate_free(planner):
    plan = planner.plan(START, GOAL, via=[(40, (3.0, 6.0)), (55, (5.0, float("nan")))])
    np.testing.assert_allclose(
        plan.candidates[:, 40], np.tile([3.0, 6.0], (len(plan.candidates), 1)), atol=1e-5
    )
    np.testing.assert_allclose(plan.candidates[:, 55, 0], 5.0, atol=1e-5)
    assert plan.candidates[:, 55, 1].std() > 1e-4


def test_free_waypoints_join_legs_longer_than_any_in_the_data(planner):
    plan = planner.plan(START, (7.0, 1.0), via=[(None, (3.0, 9.0))])
    assert len(plan.path) > planner.longest
    assert np.linalg.norm(plan.path - [3.0, 9.0], axis=1).min() < 1e-5
    np.testing.assert_allclose(plan.path[-1], [7.0, 1.0], atol=1e-5)


def test_the_horizon_is_adaptive_or_as_asked(planner):
    near, far = planner.plan(START, (1.0, 3.0)), planner.plan(START, GOAL)
    assert len(near.path) < 0.5 * len(far.path)
    assert near.arrival < far.arrival
    assert len(planner.plan(START, GOAL, horizon=100).path) == 100
    assert len(set(far.lengths.tolist())) > 1  # several horizons in one batch


def test_a_faster_pace_gives_shorter_straighter_paths():
    world = starting_states(LARGE, True, 30, 78)
    lengths = []
    for pace in ((1.0, 1.0), (0.8, 0.8)):
        planner = unveil.load("maze-large", device="cpu", pace=pace)
        plans = planner.plan_many(world.state, world.goal)
        lengths.append(np.mean([np.linalg.norm(np.diff(plan.path, axis=0), axis=1).sum() for plan in plans]))
    assert 0.85 * lengths[0] < lengths[1] < 0.98 * lengths[0]


def test_seeds_decide_and_seeds_differ():
    a, b, c = (
        unveil.load("maze-large", device="cpu", seed=s).plan(START, GOAL).candidates for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(a, b)
    assert a.shape != c.shape or not np.array_equal(a, c)


def test_a_budget_buys_steps_and_candidates(monkeypatch):
    """On a clock that only the network moves, by 1 ms a path and call: what the budget holds; it is measured
    once."""
    now, calls = [0.0], []
    planner = unveil.load("maze-large", device="cpu")

    def spend(denoiser, arguments, keywords):
        now[0] += 1e-3 * len(arguments[0])
        calls.append(len(arguments[0]))

    planner.model.denoiser.register_forward_pre_hook(spend, with_kwargs=True)
    monkeypatch.setattr("unveil.planning.planner.time", SimpleNamespace(perf_counter=lambda: now[0]))
    for budget, steps, candidates in ((1.0, 1, 1), (4.5, 2, 2), (130.0, 8, 16), (10_000.0, 12, 32)):
        plan = planner.plan(START, GOAL, budget_ms=budget)
        assert calls[-steps:] == [candidates] * steps and len(plan.candidates) == candidates
    before = len(calls)
    planner.plan(START, GOAL, budget_ms=4.5)
    assert len(calls) == before + 2


def test_states_run_from_noise_to_plan(planner):
    states = []
    plan = planner.plan(START, GOAL, on_state=lambda x, t: states.append((x, t)))
    assert [t for _, t in states] == pytest.approx([1.0, 0.5, 0.0])
    np.testing.assert_allclose(states[-1][0][plan.chosen, : len(plan.path)], plan.path)
    rough = [np.abs(np.diff(x[plan.chosen, : len(plan.path)], n=2, axis=0)).mean() for x, _ in states]
    assert rough[0] > 5 * rough[-1]


def test_driving_reaches_every_goal_and_beats_the_data_controller(planner):
    """Score >= 225 over 40 episodes; the noise-free data controller has about 205."""
    world = starting_states(LARGE, False, 40, 5)
    planner.reset(world.goal)
    metrics = maze_metrics(LARGE, roll(world, planner.act))
    assert metrics["success_rate"] == 1.0
    assert metrics["score_mean"] > 225


def test_a_body_that_is_carried_off_gets_a_new_plan(planner):
    world = starting_states(LARGE, False, 1, 9)
    planner.reset(world.goal[0])
    for t in range(400):
        if t == 40:
            world.state = np.array([[1.0, 10.0, 0.0, 0.0]])
        seen, _ = world.step(planner.act(world.state[0])[None])
    assert planner.replans >= 1
    assert np.linalg.norm(seen[0, :2] - world.goal[0]) < 0.5


def test_waypoints_are_driven_through_even_after_a_mishap(planner):
    """A dead end on the way, and the body is carried off once after it, once before."""
    stop, goal = np.array([1.0, 4.0]), np.array([7.0, 9.0])
    for carried in (15, None):
        world = starting_states(LARGE, False, 1, 9)
        world.state, world.goal = np.array([[3.0, 1.0, 0.0, 0.0]]), goal[None]
        planner.reset(goal, via=[(None, tuple(stop))])
        track = []
        for t in range(600):
            if t == carried:
                world.state = np.array([[5.0, 10.0, 0.0, 0.0]])
            seen, _ = world.step(planner.act(world.state[0])[None])
            track.append(seen[0, :2])
        near = np.linalg.norm(np.array(track) - stop, axis=1)
        assert near.min() <= 0.2
        assert np.linalg.norm(track[-1] - goal) < 0.5
        assert (planner.replans >= 1) == (carried is not None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.plan((1.0,), GOAL), "start must be 2 numbers"),
        (lambda p: p.plan(START, (float("nan"), 1.0)), "goal must be finite"),
        (lambda p: p.plan(START, (30.0, 1.0)), "outside the data"),
        (lambda p: p.plan(START, GOAL, horizon=1), "horizon 1 is impossible"),
        (lambda p: p.plan(START, GOAL, horizon=100_000), "horizon 100000 is impossible"),
        (lambda p: p.plan(START, GOAL, via=[(5000, (3.0, 6.0))]), "is impossible"),
        (lambda p: p.plan(START, GOAL, via=[(30, (3.0, 6.0)), (20, (3.0, 5.0))]), "rise from 1"),
        (lambda p: p.plan(START, GOAL, via=[(0, (3.0, 6.0))]), "rise from 1"),
        (lambda p: p.reset((1.0, 2.0, 3.0, float("nan"))[3:]), "goal must be 2 numbers"),
        (lambda p: p.reset((1.0, float("nan"))), "goal must be finite"),
        (lambda p: p.reset(np.array([GOAL, GOAL]), via=[(None, START)]), "waypoints need a single goal"),
        (lambda p: p.plan(START, GOAL, budget_ms=0.0), "budget_ms must be positive"),
        (lambda p: (p.reset(GOAL), p.act(np.array([1.0, 1.0, float("nan"), 0.0]))), "finite numbers"),
        (lambda p: (p.reset(GOAL), p.act(np.zeros((2, 4)))), r"must be \(4,\)"),
        (lambda p: Planner(p.model, PlannerSettings()).act(np.zeros(4)), "reset"),
    ],
)
def test_bad_input_says_what_is_needed(planner, call, message):
    with pytest.raises(ValueError, match=message):
        call(planner)


def fresh(**settings) -> Planner:
    return unveil.load("maze-large", device="cpu", seed=3, **settings)


def test_a_plans_noise_does_not_depend_on_those_beside_it():
    """Far and near ones together, one after another, and with fewer candidates a batch."""
    starts, goals = np.array([START, START, (3.0, 1.0)]), np.array([GOAL, (1.0, 3.0), (1.0, 1.0)])
    together, alone = fresh().plan_many(starts, goals), fresh()
    for start, goal, plan in zip(starts, goals, together, strict=True):
        single = alone.plan(start, goal)
        longest = max(single.lengths)
        np.testing.assert_allclose(single.candidates[:, :longest], plan.candidates[:, :longest], atol=1e-4)
    assert np.abs(fresh().plan(*GOAL_AND_BACK).candidates - together[0].candidates).max() < 1e-4
    assert np.abs(alone.plan(*GOAL_AND_BACK).candidates - together[0].candidates).max() > 1e-3, (
        "a later plan has other noise"
    )


GOAL_AND_BACK = (START, GOAL)


def test_a_bodys_path_does_not_depend_on_those_beside_it():
    """Bodies together and one after another, through a mishap that makes a new plan."""
    starts, goals = np.array([[*START, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]]), np.array([GOAL, (1.0, 1.0)])
    far = np.array([[7.0, 1.0, 0.0, 0.0], [7.0, 9.0, 0.0, 0.0]])
    both, alone = fresh(), fresh()
    both.reset(goals)
    forces = [both.act(seen) for seen in (starts, far, far)]
    points = both._pursuit.points
    assert both.replans == 2
    for i in range(2):
        alone.reset(goals[i])
        alone.reset(goals[i])  # a body that was never driven counts nothing
        for step, seen in enumerate((starts, far, far)):
            np.testing.assert_allclose(alone.act(seen[i]), forces[step][i], atol=2e-3)
        own = alone._pursuit.points[0]
        count = min(len(own), points.shape[1])
        np.testing.assert_allclose(own[:count], points[i, :count], atol=1e-3)


def test_recorded_noise_takes_the_place_of_what_is_drawn_and_is_not_scaled():
    longest = -(-fresh().longest // 4) * 4
    drawn = torch.randn((2, longest, 2), generator=torch.Generator().manual_seed(3))
    expected = fresh().plan(START, GOAL)
    for noise in (
        0.5 * drawn,
        (0.5 * drawn).numpy(),
        0.5 * drawn[:, : max(expected.lengths)],
    ):  # temperature 0.5
        np.testing.assert_allclose(fresh().plan(START, GOAL, noise=noise).path, expected.path, atol=1e-4)
    np.testing.assert_allclose(
        fresh().plan_many(np.array([START]), np.array([GOAL]), noise=0.5 * drawn[None])[0].path,
        expected.path,
        atol=1e-4,
    )
    cold = fresh(temperature=0.0)
    assert (
        np.abs(cold.plan(START, GOAL, noise=drawn).candidates - cold.plan(START, GOAL).candidates).max()
        > 1e-2
    )
    via = [(None, (3.0, 9.0))]
    legs = fresh().plan(START, GOAL, via=via, noise=np.stack([0.5 * drawn, 0.5 * drawn]))
    assert np.abs(legs.path - fresh().plan(START, GOAL, via=via).path[: len(legs.path)]).max() > 1e-4
    for wrong, message in (
        (drawn[:1], "of 2 candidates"),
        (drawn[:, :3], "positions, got"),
        (drawn[..., :1], "noise must have shape"),
        (drawn[None], "noise must have shape"),
        (np.full((2, longest, 2), np.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            cold.plan(START, GOAL, noise=wrong)
    with pytest.raises(ValueError, match="noise is for 1 legs, but there are 2"):
        cold.plan(START, GOAL, via=via, noise=drawn[None])
    with pytest.raises(ValueError, match="noise is for 1 plans, but there are 2"):
        cold.plan_many(np.array([START, START]), np.array([GOAL, GOAL]), noise=drawn[None])


WRONG = {
    "candidates": (0, 2.0, True, "3", None),
    "steps": (0, -1, False, "2"),
    "temperature": (-0.1, float("nan"), float("inf"), "cold", None),
    "warm_start": (0.0, 1.5, float("nan"), True),
    "pace": ((0.0, 1.0), (0.5,), (float("nan"), 1.0), 0.8, ("a", "b"), None),
    "gains": (None, 12.5),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_impossible_settings_are_refused_by_the_arguments_name(name, value, unchecked):
    with pytest.raises(ValueError, match=f"`{name}` must"):
        PlannerSettings(**{name: value})


@pytest.mark.parametrize("name", [f.name for f in fields(PursuitGains)])
def test_impossible_gains_are_refused_by_name(name, unchecked):
    for value in (-1.0, float("nan"), float("inf"), True, "1", None):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            PursuitGains(**{name: value})
    assert PlannerSettings(candidates=np.int64(2), pace=[0.5, 1], temperature=np.float32(1.0)).candidates == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.plan("start", GOAL), "start must be numbers"),
        (lambda p: p.plan(START, [[1.0], [1.0, 2.0]]), "goal must be"),
        (lambda p: p.plan(START, GOAL, horizon=True), "horizon must be a whole number"),
        (lambda p: p.plan(START, GOAL, horizon=40.0), "horizon must be a whole number"),
        (lambda p: p.plan(START, GOAL, budget_ms=float("nan")), "budget_ms must be"),
        (lambda p: p.plan(START, GOAL, via=[(3.0, 6.0)]), "index of via must be a whole number"),
        (lambda p: p.plan(START, GOAL, via=[3.0]), "via must be pairs"),
        (lambda p: p.plan_many(np.array(START), np.array(GOAL)), r"starts \(N, S\) and goals"),
        (lambda p: p.plan_many(np.array([START]), np.array([GOAL, GOAL])), "starts"),
        (lambda p: p.reset(np.zeros((1, 1, 2))), "a goal"),
        (lambda p: p.reset(np.zeros((0, 2))), "a goal"),
        (lambda p: p.reset(GOAL, via=[(None, (100.0, 1.0))]), "via .* lies outside"),
        (lambda p: (p.reset(GOAL), p.act("here")), "observation must be"),
        (lambda p: (p.reset(GOAL), p.act(np.zeros((1, 4)))), r"must be \(4,\)"),
        (lambda p: (p.reset(np.array([GOAL, GOAL])), p.act(np.zeros(4))), r"must be \(2, 4\)"),
        (lambda p: Planner(p.model, PlannerSettings(), seed=-1), "seed must be"),
        (lambda p: Planner("maze-large"), "model must be a PathModel"),
        (lambda p: Planner(p.model, {"steps": 2}), "settings must be a PlannerSettings"),
    ],
)
def test_other_things_say_what_is_needed(planner, call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(planner)


def test_planning_leaves_the_global_generator_alone(planner):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    planner.plan(START, GOAL)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)

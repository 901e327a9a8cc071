"""Diagnostics and references, on paths whose answers are known."""

import numpy as np
import pytest

from baselines.graph_search import DataGraph
from unveil.planning.evaluation.maze import MazeRollout, maze_metrics, roll, starting_states
from unveil.planning.evaluation.maze_references import (
    ShortestPaths,
    controller_reference,
    oracle_reference,
    pursued,
)
from unveil.planning.evaluation.plan_diagnostics import (
    crosses_wall,
    deviations,
    execution_diagnostics,
    plan_diagnostics,
    reference_metrics,
    touches_wall,
)
from unveil.planning.plan import Plan
from unveil.planning.worlds.maze.collect import collect
from unveil.planning.worlds.maze.episodes import MazeEpisodes
from unveil.planning.worlds.maze.layout import named_layout
from unveil.runs.statistics import mean_ci95

UMAZE = named_layout("umaze")
FREE, THROUGH = (
    np.array([[1.0, 1.0], [1.0, 2.9]]),
    np.array([[1.0, 1.0], [3.0, 1.0]]),
)  # the wall between rows 1 and 3 is at column 1


def plan_of(paths: list[np.ndarray], chosen: int, arrival: float = 10.0) -> Plan:
    lengths = np.array([len(p) for p in paths])
    padded = np.stack([np.concatenate([p, np.repeat(p[-1:], lengths.max() - len(p), axis=0)]) for p in paths])
    return Plan(
        paths[chosen],
        paths[chosen],
        np.arange(len(paths[chosen]), dtype=float),
        arrival,
        padded,
        lengths,
        np.zeros(len(paths)),
        chosen,
    )


def test_interval_of_three_numbers():
    mean, half = mean_ci95(np.array([1.0, 2.0, 6.0]))
    assert mean == pytest.approx(3.0)
    assert half == pytest.approx(4.30265 * 7**0.5 / 3**0.5, rel=1e-4)  # t(0.975, 2) s / sqrt(n), s^2 = 7


def test_walls():
    assert not crosses_wall(UMAZE, FREE)
    assert crosses_wall(UMAZE, THROUGH)
    graze = np.array(
        [[1.25, 1.0], [1.25, 2.0]]
    )  # 0.05 from the wall that begins at 1.3: the ball, 0.1, overlaps by 0.05
    assert not crosses_wall(UMAZE, graze)
    assert touches_wall(UMAZE, graze)
    assert not touches_wall(UMAZE, graze - [0.1, 0.0])


def test_plan_diagnostics_count_samples_and_choices():
    slow = np.stack([np.ones(20), np.linspace(1, 2.9, 20)], axis=1)
    metrics = plan_diagnostics(UMAZE, [plan_of([slow, THROUGH], 0), plan_of([slow, slow], 1)], stride=5)
    assert metrics["wall_crossing_rate"] == 0.25
    assert metrics["chosen_wall_crossing_rate"] == 0.0
    assert metrics["samples_n"] == 4
    assert metrics["dynamics_violation_rate"] == pytest.approx(
        1 / (3 * 19 + 1)
    )  # one leap of 2 cells in 5 steps
    assert metrics["diversity_mean"] > 0.2


def rollout_of(track: np.ndarray, goal: np.ndarray) -> MazeRollout:
    seen = np.concatenate([track, np.zeros_like(track)], axis=1)[:, None]
    reward = (np.linalg.norm(track[1:] - goal, axis=1) <= 0.5).astype(float)[:, None]
    return MazeRollout(seen, reward, goal[None])


def test_deviation_is_measured_until_arrival():
    goal = np.array([1.0, 3.0])
    track = np.stack(
        [np.full(30, 1.2), np.linspace(1.0, 3.9, 30)], axis=1
    )  # 0.2 beside the path, and on past the goal
    rollout = rollout_of(track, goal)
    plan = plan_of([np.array([[1.0, 1.0], [1.0, 3.0]])], 0, arrival=12.0)
    metrics = execution_diagnostics([plan], rollout)
    assert metrics["plan_deviation_mean"] == pytest.approx(0.2)
    assert metrics["plan_deviation_max_mean"] == pytest.approx(0.2)
    assert rollout.arrival[0] == 16  # the first step within 0.5: column 2.6
    assert metrics["arrival_error_mean"] == pytest.approx(4.0)
    assert deviations([plan.path + np.array([0.5, 0.0])], rollout)["plan_deviation_mean"] == pytest.approx(
        0.3
    )


def test_scores_count_every_step_and_latching_keeps_the_first_touch():
    rewards = np.array([[0, 1, 0, 0], [0, 0, 0, 0]], dtype=float).T
    metrics = maze_metrics(UMAZE, MazeRollout(np.zeros((5, 2, 4)), rewards, np.zeros((2, 2))))
    low, high = 23.85, 161.86
    assert metrics["score_mean"] == pytest.approx(100 * (0.5 - low) / (high - low))
    assert metrics["latched_score_mean"] == pytest.approx(100 * (1.5 - low) / (high - low))
    assert metrics["success_rate"] == 0.5
    assert metrics["arrival_step_mean"] == 3.0  # 2, and 4 where it never came
    assert metrics["n"] == 2


def test_shortest_paths_are_short_and_free():
    paths = ShortestPaths(UMAZE)
    path = paths.path(np.array([3.0, 1.0]), np.array([1.0, 1.0]))
    assert not touches_wall(UMAZE, path[1:-1])
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    # round the wall's two corners, 0.1 off each: sqrt(0.6^2 + 1.4^2), 1.2 along the wall, and the same again
    assert length == pytest.approx(2 * 1.523 + 1.2, rel=0.03)
    np.testing.assert_allclose(path[[0, -1]], [[3.0, 1.0], [1.0, 1.0]])


def test_references_report_what_a_planner_reports():
    world = starting_states(UMAZE, True, 6, 3)
    for make in (lambda w: controller_reference(w, 0), oracle_reference):
        metrics = reference_metrics(UMAZE, make(starting_states(UMAZE, True, 6, 3)))
        assert metrics["success_rate"] == 1.0
        assert metrics["wall_crossing_rate"] <= 0.4
        assert metrics["plan_deviation_mean"] < 0.3
        assert metrics["plans_per_second"] > 1
        assert metrics["act_ms_p95"] > 0
    assert world.count == 6


def test_a_path_into_a_wall_is_given_up_for_a_new_one():
    """As the planner itself does: a source whose first answers run into the wall is asked again once the body
    is stuck."""
    shortest, asked = ShortestPaths(UMAZE), []

    def path(start: np.ndarray, goal: np.ndarray) -> np.ndarray:
        asked.append(start)
        return np.array([start, goal]) if len(asked) <= 2 else shortest.path(start, goal)

    world = starting_states(UMAZE, True, 2, 3)
    world.state[:, :2], world.goal[:] = [3.0, 1.0], [1.0, 1.0]  # the wall is between them
    reference = pursued(world, path)
    metrics = reference_metrics(UMAZE, reference)
    assert metrics["success_rate"] == 1.0
    assert metrics["wall_crossing_rate"] == 1.0  # of the first paths
    assert reference.replans == len(asked) - 2 >= 2
    assert metrics["replans_mean"] == reference.replans / 2


def test_deviations_tell_the_worst_points_too():
    observations = np.zeros((3, 2, 4))
    observations[1:, :, 0] = [[0.5, 0.5], [1.0, 1.0]]
    observations[1, 0, 1], observations[1, 1, 1] = 0.2, 0.4  # beside a path along the first axis
    rewards = np.array([[0.0, 0.0], [1.0, 1.0]])
    found = deviations(
        [np.array([[0.0, 0.0], [1.0, 0.0]])] * 2,
        MazeRollout(observations, rewards, np.array([[1.0, 0.0]] * 2)),
    )
    assert found["plan_deviation_mean"] == pytest.approx(0.1)
    assert found["plan_deviation_max_mean"] == pytest.approx(0.3)
    assert found["plan_deviation_max_p95"] == pytest.approx(0.39)
    assert found["plan_deviation_over_0.3_rate"] == 0.5


def test_graph_search_goes_where_data_went():
    episodes = collect(UMAZE, 30_000, np.random.default_rng(0))
    path = DataGraph(episodes).path(np.array([3.0, 1.0]), np.array([1.0, 1.0]))
    assert not crosses_wall(UMAZE, path)
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.6


def test_every_row_of_a_table_sees_the_same_episodes():
    a, b = starting_states(UMAZE, True, 5, 1), starting_states(UMAZE, True, 5, 1)
    np.testing.assert_array_equal(a.state, b.state)
    np.testing.assert_array_equal(a.goal, b.goal)
    rollout = roll(a, lambda seen: np.zeros((5, 2)))
    assert rollout.rewards.shape == (300, 5)
    np.testing.assert_array_equal(rollout.observations[0], b.state)


@pytest.mark.parametrize("multi", [False, True])
def test_few_episodes_are_the_first_of_many(multi):
    """Starts, goals, and what the controller does on them; the first block is drawn as ever, the next from
    another seed."""
    many = starting_states(UMAZE, multi, 310, 3)
    for count in (1, 4, 300):
        few = starting_states(UMAZE, multi, count, 3)
        np.testing.assert_array_equal(few.state, many.state[:count])
        np.testing.assert_array_equal(few.goal, many.goal[:count])
    whole = MazeEpisodes(UMAZE, 300)
    whole.reset(np.random.default_rng(3), multi)
    np.testing.assert_array_equal(many.state[:300], whole.state)
    assert not np.isin(many.state[300:, 2], many.state[:300, 2]).any()
    one, three = (controller_reference(starting_states(UMAZE, multi, count, 3), 3) for count in (1, 3))
    np.testing.assert_array_equal(one.rollout.observations[:, 0], three.rollout.observations[:, 0])

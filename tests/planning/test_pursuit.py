"""Pursuit on a frictionless double integrator: it arrives, holds, and says when it is lost."""

import numpy as np

from unveil.planning.pursuit import Pursuit, PursuitGains

ACCELERATION = 100 / 4.18879 * 0.01  # of the ball, cells a second per step at full force


def drive(pursuit: Pursuit, state: np.ndarray, steps: int, wind: float = 0.0) -> np.ndarray:
    track = [state]
    for _ in range(steps):
        force = pursuit.act(state)
        assert np.abs(force).max() <= 1.0
        velocity = np.clip(state[:, 2:] + ACCELERATION * force + wind, -5, 5)
        state = np.concatenate([state[:, :2] + 0.01 * velocity, velocity], axis=1)
        track.append(state)
    return np.stack(track)


def test_bodies_follow_their_own_paths_and_stay_at_their_goals():
    goals = np.array([[0.0, 3.0], [2.0, 2.0], [-1.0, 0.0]])
    pursuit = Pursuit(goals, PursuitGains())
    assert pursuit.lost.all()  # no path yet
    pursuit.follow(0, np.array([[0.0, 0.0], [0.0, 3.0]]))
    pursuit.follow(1, np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]))
    pursuit.follow(2, np.array([[0.0, 0.0], [-1.0, 0.0]]))
    track = drive(pursuit, np.zeros((3, 4)), 400)
    np.testing.assert_allclose(track[-1, :, :2], goals, atol=0.03)
    np.testing.assert_allclose(track[-1, :, 2:], 0.0, atol=0.05)
    assert not pursuit.lost.any()
    corner = np.linalg.norm(track[:, 1, :2] - [2.0, 0.0], axis=1).min()
    assert corner < 0.5  # it went round the corner, not straight to the goal (distance 1.4)


def test_progress_only_moves_on_and_the_rest_of_the_path_shrinks():
    pursuit = Pursuit(np.array([[3.0, 0.0]]), PursuitGains())
    pursuit.follow(0, np.array([[0.0, 0.0], [3.0, 0.0]]))
    seen = []
    state = np.zeros((1, 4))
    for _ in range(6):
        state = drive(pursuit, state, 20)[-1]
        seen.append(float(pursuit.remaining(0)[0, 0]))
    assert seen == sorted(seen)
    assert seen[-1] > 1.5


def test_straying_and_sticking_are_noticed():
    for start, wind, steps in ((np.array([[0.0, 1.0, 0.0, 0.0]]), 0.0, 1), (np.zeros((1, 4)), -1.0, 60)):
        pursuit = Pursuit(np.array([[5.0, 0.0]]), PursuitGains())
        pursuit.follow(0, np.array([[0.0, 0.0], [5.0, 0.0]]))
        drive(pursuit, start, steps, wind)
        assert pursuit.lost.all()


def test_a_gate_is_touched_before_the_body_goes_on():
    """A detour of 0.8 up and back: without a gate the look-ahead leaps over it."""
    detour = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.8], [1.05, 0.0], [3.0, 0.0]])
    reached = {}
    for gates in ((), (2,)):
        pursuit = Pursuit(np.array([[3.0, 0.0]]), PursuitGains())
        pursuit.follow(0, detour, gates)
        track = drive(pursuit, np.zeros((1, 4)), 300)
        reached[gates] = np.linalg.norm(track[:, 0, :2] - [1.0, 0.8], axis=1).min()
        assert np.linalg.norm(track[-1, 0, :2] - [3.0, 0.0]) < 0.3  # and still arrives
    assert reached[(2,)] <= PursuitGains().touch
    assert reached[()] > 0.25

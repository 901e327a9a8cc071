"""The losses of trajectories and values, with networks whose errors are known, and what their batches are."""

import numpy as np
import pytest
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.trajectories import Trajectories
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel
from unveil.planning.trajectory_training import (
    TrajectoryBatch,
    trajectory_batches,
    trajectory_loss,
    value_loss,
)


class Zero(torch.nn.Module):
    """Says 0, so that the error is x_0 itself."""

    def forward(self, x, time, cond=None):
        return torch.zeros_like(x)


class Sum(torch.nn.Module):
    """The sum of what it sees."""

    def forward(self, x, time):
        return x.flatten(1).sum(1)


SHAPE = TrajectoryShape(4, 10, actions=1, observations=2)


def batch(seed: int = 0, t: float = 0.5) -> TrajectoryBatch:
    generator = torch.Generator(device="cpu").manual_seed(seed)
    rows, noise = torch.randn(3, 4, 3, generator=generator), torch.randn(3, 4, 3, generator=generator)
    times = torch.full((3,), t, dtype=torch.float64)
    return TrajectoryBatch(
        rows, torch.ones(3, 4, dtype=torch.bool), times, noise, torch.tensor([1.0, 2.0, 3.0])
    )


def test_the_first_action_weighs_ten_times_and_known_numbers_nothing():
    drawn = batch()
    error = drawn.rows**2
    error[:, 0, 1:] = 0.0  # the first observation is known
    plain = error.flatten(1).sum(1) / 10  # of 12 numbers 10 are unknown
    model = TrajectoryModel(SHAPE, Zero())
    torch.testing.assert_close(trajectory_loss(model, drawn)[0], plain.mean())
    more = plain + 9.0 * error[:, 0, 0] / 10
    torch.testing.assert_close(trajectory_loss(model, drawn, action_weight=10.0)[0], more.mean())


def test_a_discount_weighs_rows_with_mean_one():
    drawn = batch()
    error = drawn.rows**2
    error[:, 0] = 0.0  # known, and the action has a weight of its own
    weights = 0.5 ** torch.arange(4.0)
    expected = (error * (weights / weights.mean())[:, None]).flatten(1).sum(1).mean() / 10
    found = trajectory_loss(TrajectoryModel(SHAPE, Zero()), drawn, action_weight=0.0, discount=0.5)[0]
    torch.testing.assert_close(found, expected)


def test_the_inverse_dynamics_see_pairs_of_observations_and_no_padding():
    shape = TrajectoryShape(4, 10, actions=1, observations=2, inverse=True)
    model, drawn = TrajectoryModel(shape, Zero()), batch()
    drawn = drawn._replace(noise=drawn.noise[..., 1:])
    drawn.valid[0, 2:] = False
    for layer in model.inverse:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    error = drawn.rows[:, :-1, 0] ** 2 * drawn.valid[:, 1:]
    _, shown = trajectory_loss(model, drawn)
    assert shown["inverse_loss"] == pytest.approx(float(error.sum() / 7))  # 1 + 3 + 3 pairs


def test_the_inverse_dynamics_see_the_earlier_observation_first():
    """An inverse that says the earlier observation's first number is right where actions are that, and wrong
    where they are the later's."""
    shape = TrajectoryShape(4, 10, actions=1, observations=2, inverse=True)
    model, drawn = TrajectoryModel(shape, Zero()), batch()
    drawn = drawn._replace(noise=drawn.noise[..., 1:])
    model.inverse = torch.nn.Linear(4, 1)
    torch.nn.init.zeros_(model.inverse.bias)
    with torch.no_grad():
        model.inverse.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    drawn.rows[..., 0] = drawn.rows[..., 1]
    assert trajectory_loss(model, drawn)[1]["inverse_loss"] == pytest.approx(0.0, abs=1e-10)
    drawn.rows[:, :-1, 0] = drawn.rows[:, 1:, 1]
    assert trajectory_loss(model, drawn)[1]["inverse_loss"] > 0.01


def test_the_value_regresses_the_target_of_the_noisy_window_in_units_of_the_deviation():
    model, drawn = ValueModel(SHAPE, Sum()), batch()
    model.offset.fill_(0.5)
    model.scale.fill_(2.0)
    a, s = float(model.schedule.alpha(drawn.t[:1])), float(model.schedule.sigma(drawn.t[:1]))
    x = a * drawn.rows + s * drawn.noise
    x[:, 0, 1:] = drawn.rows[:, 0, 1:]  # the first observation is clean
    error = (0.5 + 2.0 * x.flatten(1).sum(1) - torch.tensor([1.0, 2.0, 3.0])) / 2.0
    loss, shown = value_loss(model, drawn)
    torch.testing.assert_close(loss, (error**2).mean())
    assert not shown
    loss, shown = value_loss(model, batch(t=0.0))
    assert shown["clean_loss"] == pytest.approx(float(loss))


def test_batches_hold_their_windows_times_targets_and_lengths():
    count = 50
    step = np.arange(count, dtype=np.float32)
    ends = np.zeros(count, bool)
    ends[24] = ends[49] = True
    episodes = Episodes(np.stack([step, step], axis=1), step[:, None], step, ends, np.zeros(count, bool))
    draw = trajectory_batches(
        Trajectories(episodes), SHAPE, 400, torch.from_numpy(10.0 * step), clean=0.3, horizons=(2, 4)
    )
    generator = torch.Generator(device="cpu").manual_seed(0)
    lengths = set()
    for _ in range(8):
        drawn = draw(generator)
        lengths.add(drawn.rows.shape[1])
        assert drawn.noise.shape == drawn.rows.shape
        torch.testing.assert_close(drawn.target, 10.0 * drawn.rows[:, 0, 0])
        assert set((10 * drawn.t).round().long().tolist()) == set(range(11))
        assert float((drawn.t == 0.0).float().mean()) == pytest.approx(0.3, abs=0.08)
    assert lengths == {2, 4}

"""What a path model learns from data beside its networks, and how it is told of known positions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.path_model import PathModel, PathModelShape, endpoint_known
from unveil.planning.planner import Planner


def walk(seed: int = 0, count: int = 4000) -> Episodes:
    """A particle of speed up to 0.1 on each axis, cut into episodes that jump."""
    rng = np.random.default_rng(seed)
    velocity = np.cumsum(rng.uniform(-0.01, 0.01, (count, 2)), axis=0).clip(-0.1, 0.1)
    position = np.cumsum(velocity, axis=0)
    ends = np.zeros(count, dtype=bool)
    ends[499::500] = True
    position += 50.0 * (np.cumsum(ends) - ends)[:, None]  # the jump between episodes is no speed
    obs = np.concatenate([position, velocity], axis=1).astype(np.float32)
    return Episodes(
        obs, np.zeros((count, 2), np.float32), np.zeros(count, np.float32), np.zeros(count, bool), ends
    )


def model_of(episodes: Episodes) -> PathModel:
    torch.manual_seed(0)
    model = PathModel(PathModelShape(width=32, depth=1, longest=40))
    model.learn_statistics(episodes)
    return model


def test_statistics_come_from_the_data_within_episodes():
    episodes = walk()
    model = model_of(episodes)
    position = torch.from_numpy(episodes.observations[:, :2])
    normal = model.normalized(position)
    torch.testing.assert_close(normal.std(0, unbiased=False), torch.ones(2), rtol=1e-3, atol=0)
    torch.testing.assert_close(model.denormalized(normal), position, rtol=1e-4, atol=1e-3)
    assert bool((model.speed_limit <= 0.1005).all())  # jumps of 50 between episodes are not speeds
    assert bool((model.speed_limit > 0.05).all())
    assert bool((model.acceleration_limit <= 0.0105).all())


def with_an_axis(values) -> Episodes:
    """The walk with its second axis replaced."""
    episodes = walk()
    observations = episodes.observations.copy()
    observations[:, 1] = values
    return replace(episodes, observations=observations)


@pytest.mark.parametrize("size", [0.0, 0.08, 2.0**25])
def test_an_axis_that_hardly_changes_becomes_zero_and_limits_nothing(size):
    noise = 5e-6 * np.random.default_rng(1).random(4000) if size == 0.08 else 0.0
    torch.manual_seed(0)
    model = PathModel(PathModelShape(width=32, depth=1, longest=40))
    assert model.learn_statistics(with_an_axis(size + noise)) == ((1,) if size == 0.08 else ())
    seen = torch.from_numpy(with_an_axis(size + noise).observations[::7, :2])
    normal = model.normalized(seen)
    assert float(normal[:, 1].abs().max()) < 1e-3 and float(normal[:, 0].abs().max()) > 1.0
    assert bool(model.supported(seen).all()) and not bool(
        model.supported(seen + 1e6 * torch.tensor([1.0, 0.0])).any()
    )
    assert (
        bool((model.speed_limit > 0).all())
        and bool((model.acceleration_limit > 0).all())
        and float(model.speed_limit[1]) >= 1.0
    )
    plan = Planner(model).plan(seen[3].numpy(), seen[50].numpy())
    assert np.isfinite(plan.path).all() and np.isfinite(plan.times).all()


def test_paths_that_stand_still_are_refused():
    episodes = walk()
    still = replace(episodes, observations=np.zeros_like(episodes.observations))
    with pytest.raises(ValueError, match="no position changes"):
        model_of(still)


def test_support_is_where_data_went():
    episodes = walk()
    model = model_of(episodes)
    visited = torch.from_numpy(episodes.observations[::7, :2])
    assert bool(model.supported(visited).all())
    low, high = visited.min(0).values, visited.max(0).values
    assert not bool(model.supported(torch.stack([low - 1.0, high + 1.0])).any())
    assert not bool(
        model.supported(torch.stack([low[0], high[1]])[None]).any()
    )  # a corner that the diagonal never saw


def test_both_ends_are_known_and_padding_counts_as_goal():
    known = endpoint_known(torch.tensor([3, 5]), 6, 2)
    assert known[0, :, 0].tolist() == [True, False, True, True, True, True]
    assert known[1, :, 1].tolist() == [True, False, False, False, True, True]


def test_the_anchor_is_the_straight_line_then_the_goal():
    model = model_of(walk())
    start, goal = torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, -1.0]])
    cond = model.condition(start, goal, torch.tensor([3]), 4, endpoint_known(torch.tensor([3]), 4, 2))
    assert cond.concat is not None
    assert cond.concat[0, :, :2].tolist() == [[0.0, 1.0], [1.0, 0.0], [2.0, -1.0], [2.0, -1.0]]
    assert cond.concat[0, :, 2].tolist() == [1.0, 0.0, 1.0, 1.0]
    assert cond.valid is not None
    assert cond.valid[0].tolist() == [True, True, True, False]


def test_travel_quantiles_rise():
    model = model_of(walk())
    steps = model.travel_steps(torch.randn(5, 2), torch.randn(5, 2))
    assert bool((steps.diff(dim=1) > 0).all())

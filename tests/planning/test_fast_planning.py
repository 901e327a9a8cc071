"""What a planner shows as its model is what acts: training, loading or scaling its weights changes the next
plan."""

import numpy as np
import pytest
import torch

from unveil.planning.diffuser import Diffuser, maze_shape
from unveil.planning.guided_planner import GuidedPlanner, GuidedSettings
from unveil.planning.trajectory_model import (
    TrajectoryModel,
    TrajectoryShape,
    ValueModel,
    fast_trajectories,
    fast_value,
)
from unveil.planning.trajectory_training import TrajectoryBatch, trajectory_loss
from unveil.planning.value_guidance import ascent

SHAPE = TrajectoryShape(horizon=4, diffusion_steps=5, actions=2, observations=3, width=16, multiples=(1, 2))
STATE = np.array([0.1, -0.4, 0.3])


def planner_of(model, value):
    form = ascent(value, model.denoiser.schedule, 5, 0.1)
    return GuidedPlanner(model, form, None, GuidedSettings(candidates=2, steps=5), seed=2)


def trained(model):
    """One step of training of a planner's own model."""
    generator = torch.Generator().manual_seed(0)
    rows, noise = (torch.randn((8, 4, 5), generator=generator) for _ in range(2))
    batch = TrajectoryBatch(
        rows, torch.ones(8, 4, dtype=torch.bool), torch.full((8,), 0.6, dtype=torch.float64), noise
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    trajectory_loss(model, batch)[0].backward()
    optimizer.step()
    optimizer.zero_grad()


def test_training_a_loaded_planners_model_trains_what_acts():
    torch.manual_seed(0)
    model, value = TrajectoryModel(SHAPE).eval(), ValueModel(SHAPE).eval()
    model.normalization.learn(np.random.default_rng(0).normal(size=(100, 5)), "gaussian")
    value.scale.fill_(20.0)
    fast, plain = planner_of(fast_trajectories(model), fast_value(value)), planner_of(model, value)
    before = fast.plan(STATE)
    np.testing.assert_allclose(before, plain.plan(STATE), atol=1e-4)
    trained(fast.model)
    after = planner_of(fast.model, value).plan(STATE)
    assert np.abs(after - before).max() > 1e-2
    np.testing.assert_allclose(
        after, planner_of(model, value).plan(STATE), atol=1e-4
    )  # the same weights, laid out or not
    fresh = TrajectoryModel(SHAPE)
    fresh.load_state_dict(
        fast.model.state_dict()
    )  # what was trained is saved under the names that training uses
    fresh.normalization.learn(np.random.default_rng(0).normal(size=(100, 5)), "gaussian")
    np.testing.assert_allclose(planner_of(fresh, value).plan(STATE), after, atol=1e-4)


def test_so_does_the_value_that_guides_and_the_published_maze_planner():
    torch.manual_seed(0)
    model, value = TrajectoryModel(SHAPE).eval(), ValueModel(SHAPE).eval()
    value.scale.fill_(20.0)
    model.normalization.learn(np.random.default_rng(0).normal(size=(100, 5)), "gaussian")
    quick = fast_value(value)
    before = planner_of(model, quick).plan(STATE)
    with torch.no_grad():
        for weight in quick.parameters():
            weight.mul_(1.5)
    after = planner_of(model, quick).plan(STATE)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, planner_of(model, value).plan(STATE), atol=1e-4)

    maze = TrajectoryModel(maze_shape(16, 4, width=16, multiples=(1, 2))).eval()
    maze.normalization.learn(np.random.default_rng(0).normal(size=(100, 6)), "limits")
    driver = Diffuser(fast_trajectories(maze), seed=0)
    start, goal = np.zeros(4), np.ones(2)
    before = driver.plan(start, goal).path
    for weight in driver.model.parameters():
        weight.data.mul_(0.5)
    after = Diffuser(driver.model, seed=0).plan(start, goal).path
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, Diffuser(maze, seed=0).plan(start, goal).path, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_trace_of_a_planners_network_that_has_planned_knows_all_times():
    torch.manual_seed(0)
    model = fast_trajectories(TrajectoryModel(SHAPE).eval())
    network, x = model.denoiser.network, torch.randn(1, 4, 5)
    with torch.no_grad():
        network(x, torch.tensor([3.0]))
        traced = torch.jit.trace(network, (x, torch.tensor([3.0])), check_trace=False)
        for t in (3.0, 0.0):
            torch.testing.assert_close(traced(x, torch.tensor([t])), network.plain(x, torch.tensor([t])))

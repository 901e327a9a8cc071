"""The model's condition, its loss, and plans."""

from functools import partial

import numpy as np
import pytest
import torch

from unveil.planning.data.stacking_states import PLACES, SIZE
from unveil.planning.stacking.model import TOLD, StackingModel, StackingShape, first_known
from unveil.planning.stacking.planner import StackingPlanner
from unveil.planning.stacking.settings import StackingSettings
from unveil.planning.stacking.training import JOINT_WEIGHT, StackingBatch, stacking_loss
from unveil.process.denoised import GaussianDenoised
from unveil.sampling.guidance import steered

SMALL = StackingShape(horizon=8, stride=2, width=16, depth=1, heads=2, patch=2)


def states(count, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(count, SIZE)) * 0.3
    angles = rng.uniform(-2.5, 2.5, (count, 4))
    found[:, PLACES] = np.stack([0.6 * np.cos(angles), 0.6 * np.sin(angles), np.full_like(angles, 0.035)], -1)
    return found


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = StackingModel(SMALL)
    made.normalization.learn(states(200), "gaussian")
    return made.eval()


def trained(model):
    """As if something were learned: the last layer is not zero."""
    torch.nn.init.normal_(model.denoiser.network.leave.weight, std=0.2)
    return model


def test_cubes_are_told_by_their_angles_in_the_units_of_joint_1(model):
    start = torch.from_numpy(states(3)).float()
    vector = model.condition(start, None).vector
    assert vector.shape == (3, TOLD)
    turned = start.clone()
    turned[:, 0] = torch.atan2(start[:, PLACES[2, 1]], start[:, PLACES[2, 0]])
    np.testing.assert_allclose(vector[:, 2], model.normalization.normalized(turned)[:, 0], atol=1e-5)


def test_a_goal_is_told_or_not(model):
    start = torch.from_numpy(states(2)).float()
    goals = start[:, PLACES] + torch.tensor([0.0, 0.0, 0.07])
    told = model.condition(start, goals, torch.tensor([True, False])).vector
    free = model.condition(start, None).vector
    torch.testing.assert_close(told[1], free[1])
    assert told[0, -1] == 1.0 and free[0, -1] == 0.0 and not torch.equal(told[0], free[0])
    torch.testing.assert_close(told[0, 4:8], free[0, :4])  # higher, at the same angles


def test_the_loss_is_the_weighted_error_of_unknown_rows(model):
    """An untrained network predicts 0 = c_out F; with x_0-prediction the loss is then |x_0|^2 by hand."""
    rows = torch.from_numpy(states(2 * 8)).float().reshape(2, 8, SIZE)
    batch = StackingBatch(
        rows,
        rows[:, -1][:, PLACES],
        torch.tensor([True, True]),
        torch.tensor([0.5, 1.0]),
        torch.zeros(2, 8, SIZE),
    )
    loss, _ = stacking_loss(model, batch)
    x = model.normalization.normalized(rows)[:, 1:]
    weight = torch.tensor([JOINT_WEIGHT] * 7 + [1.0] * 32)
    assert float(loss.detach()) == pytest.approx(float((x**2 * weight / weight.mean()).mean()), rel=1e-4)


def test_plans_begin_with_the_state_and_rows_do_not_depend_on_each_other(model):
    planner = StackingPlanner(trained(model), StackingSettings(candidates=3, sampling_steps=4), seed=5)
    begin = states(2)
    goals = begin[:, PLACES] + [0.0, 0.0, 0.01]
    plans = planner.plan(begin, goals)
    assert plans.shape == (2, 8, SIZE)
    np.testing.assert_allclose(plans[:, 0], begin, atol=1e-5)
    again = StackingPlanner(model, planner.settings, seed=5)
    np.testing.assert_allclose(again.plan(begin[0], goals[0]), plans[0], atol=1e-4)
    assert np.abs(again.plan(begin[0], goals[0]) - plans[0]).max() > 1e-3  # other noise in the next call
    longer = StackingPlanner(model, StackingSettings(candidates=1, sampling_steps=2, horizon=12))
    assert longer.plan(begin[0]).shape == (12, SIZE)


def test_the_best_candidate_ends_nearest_to_the_goal_or_by_a_score(model):
    planner = StackingPlanner(trained(model), StackingSettings(candidates=6, sampling_steps=4), seed=1)
    begin = states(1).astype(np.float32)
    goals = (begin[:, PLACES] + [0.0, 0.0, 0.07]).astype(np.float32)
    every = planner.candidates(begin, goals)[0]
    away = np.linalg.norm(every[:, -1][:, PLACES] - goals, axis=-1).max(-1)
    planner = StackingPlanner(model, planner.settings, seed=1)
    np.testing.assert_allclose(planner.plan(begin, goals)[0], every[away.argmin()], atol=1e-5)
    planner = StackingPlanner(model, planner.settings, seed=1)
    highest = planner.plan(begin, goals, score=lambda plans: plans[:, -1, 0])
    np.testing.assert_allclose(highest[0], every[every[:, -1, 0].argmax()], atol=1e-5)
    with pytest.raises(ValueError, match="one number per plan"):
        planner.plan(begin, goals, score=lambda plans: plans[:, 0])


def test_a_cost_of_ones_own_moves_plans(model):
    """The arm shall not turn to the right: joint 1 of plans becomes larger."""

    def cost(x, t):
        return -x[:, 1:, 0].sum(1)

    settings = StackingSettings(candidates=1, sampling_steps=6)
    free = StackingPlanner(trained(model), settings).plan(states(1))
    push = partial(steered, cost=cost, schedule=model.denoiser.schedule, scale=0.5)
    pushed = StackingPlanner(model, settings, steer=push).plan(states(1))
    assert pushed[0, 1:, 0].mean() > free[0, 1:, 0].mean()


def test_bad_input_and_plans_that_are_not_finite_are_one_line(model, monkeypatch, unchecked):
    planner = StackingPlanner(model)
    with pytest.raises(ValueError, match=r"states.*\(B, 39\)"):
        planner.plan(np.zeros((2, 38)))
    with pytest.raises(ValueError, match="goals"):
        planner.plan(states(2), np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match="states"):
        planner.plan(np.full((1, SIZE), np.nan))

    def broken(x_t, t, cond=None):
        return GaussianDenoised(x_t * torch.nan)

    monkeypatch.setattr(planner, "_denoise", lambda *_: broken)
    with pytest.raises(ValueError, match="not finite; lower the scale of the guidance"):
        planner.plan(states(1))


def test_the_first_row_alone_is_known():
    assert first_known(3)[0, :, 0].tolist() == [True, False, False]

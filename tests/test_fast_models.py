"""A planner with fast models makes the plans of the plain ones, and shares their weights."""

import copy
import pickle

import numpy as np
import pytest
import torch

from unveil.network.condition import Condition
from unveil.planning.guided_planner import GuidedPlanner, GuidedSettings
from unveil.planning.networks.temporal_unet_inference import FastUNet, FastValue
from unveil.planning.trajectory_model import (
    TrajectoryModel,
    TrajectoryShape,
    ValueModel,
    fast_trajectories,
    fast_value,
)
from unveil.planning.value_guidance import ascent, belief_shift
from unveil.policy.model import PolicyModel, PolicyShape, fast_policy
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.conditional_unet1d_inference import FastConditionalUNet
from unveil.policy.policy import Policy
from unveil.policy.training import PolicyBatch, policy_loss
from unveil.sampling.gaussian import DDIM

SHAPE = TrajectoryShape(
    horizon=8, diffusion_steps=10, actions=2, observations=3
)  # narrower, and GroupNorm of two numbers is a sign: no plan is stable


def models(**more):
    torch.manual_seed(0)
    shape = TrajectoryShape(**{**SHAPE.__dict__, **more})
    model, value = TrajectoryModel(shape).eval(), ValueModel(shape).eval()
    model.normalization.learn(np.random.default_rng(0).normal(size=(100, 5)), "gaussian")
    value.offset.fill_(3.0)
    value.scale.fill_(40.0)
    return model, value


def plans(model, value, form):
    settings = GuidedSettings(candidates=16, steps=10, temperature=0.5)
    return GuidedPlanner(model, form(model, value), None, settings, seed=2).plan(np.array([0.1, -0.4, 0.3]))


def released(model, value):
    return ascent(value, model.denoiser.schedule, 10, 0.1)


def tilted(model, value):
    return belief_shift(value, model.denoiser.schedule, DDIM(model.denoiser.schedule), 0.01)


def test_guided_plans_are_the_same():
    model, value = models()
    for form in (released, tilted):
        expected = plans(model, value, form)
        np.testing.assert_allclose(
            plans(fast_trajectories(model), fast_value(value), form), expected, atol=1e-4
        )
        near = plans(fast_trajectories(model, torch.bfloat16), fast_value(value, torch.bfloat16), form)
        assert 0.0 < np.abs(near - expected).mean() < 0.1
        value.scale.zero_()
        assert np.abs(plans(model, value, form) - expected).max() > 1e-2, "the value matters"
        value.scale.fill_(40.0)


def test_the_models_given_stay_as_they_are_and_share_weights():
    model, value = models(inverse=True)
    kinds = type(model.denoiser.network), type(value.network)
    fast, faster = fast_trajectories(model), fast_value(value)
    assert (type(model.denoiser.network), type(value.network)) == kinds
    assert isinstance(fast.denoiser.network, FastUNet) and isinstance(faster.network, FastValue)
    assert {id(p) for p in fast.parameters()} == {id(p) for p in model.parameters()}
    assert {id(p) for p in faster.parameters()} == {id(p) for p in value.parameters()}
    assert fast.normalization is model.normalization and faster.scale is value.scale


def test_other_networks_stay():
    network = torch.nn.Linear(5, 5)
    model, value = TrajectoryModel(SHAPE, network), ValueModel(SHAPE, network)
    assert fast_trajectories(model).denoiser.network is network and fast_value(value).network is network


def policies(predicts="v", told="film"):
    """A policy that acts by the fast layout, and one by the plain network of the same weights."""
    torch.manual_seed(0)
    shape = PolicyShape(4, 2, 2, 8, 4, 10, predicts, told)
    plain = PolicyModel(shape, ConditionalUNet(shape.row, 0 if told == "inpainting" else 8, (16, 32), 3, 16))
    return acting(fast_policy(plain)), acting(plain)


def acting(model):
    return Policy(model, DDIM(model.denoiser.schedule), 3, seed=1)


@pytest.mark.parametrize("told", ["film", "inpainting"])
def test_training_what_acts_changes_the_actions(told):
    """As after `unveil.load`: a step on the parameters that the policy's model shows, then the actions are
    the plain network's."""
    fast, plain = policies(told=told)
    assert isinstance(fast.model.denoiser.network, FastConditionalUNet)
    assert list(fast.model.state_dict()) == list(plain.model.state_dict())
    for rows in (1, 3):
        seen = np.random.default_rng(rows).normal(size=(rows, 2, 4)).clip(-1, 1)
        noise = np.random.default_rng(9).normal(size=(rows, 8, fast.model.shape.row))
        before = fast.predict(seen, noise=noise)
        np.testing.assert_allclose(before, plain.predict(seen, noise=noise), atol=1e-4)
        batch = PolicyBatch(
            torch.zeros(5, 8 if told == "inpainting" else 2, 4),
            torch.ones(5, 8, 2),
            torch.full((5,), 0.5, dtype=torch.float64),
            torch.zeros(5, 8, fast.model.shape.row),
            0,
            torch.zeros(5, dtype=torch.int64),
        )
        optimizer = torch.optim.SGD(fast.model.parameters(), 0.1)
        fast.model.train()
        policy_loss(fast.model, batch)[0].backward()
        optimizer.step()
        after = fast.predict(seen, noise=noise)
        assert fast.model.training and np.abs(after - before).max() > 1e-2
        np.testing.assert_allclose(after, plain.predict(seen, noise=noise), atol=1e-4)


def test_a_policys_model_is_copied_pickled_and_doubled():
    fast, _ = policies()
    seen = np.random.default_rng(0).normal(size=(2, 2, 4)).clip(-1, 1)
    wanted = acting(fast.model).predict(seen)
    for model in (
        copy.deepcopy(fast.model),
        pickle.loads(pickle.dumps(fast.model)),
        copy.deepcopy(fast.model).double(),
    ):
        np.testing.assert_allclose(acting(model).predict(seen), wanted, atol=1e-4)
    twin = copy.deepcopy(fast)
    np.testing.assert_array_equal(twin.predict(seen), fast.predict(seen))  # its generators are as far


@pytest.mark.parametrize("predicts", ["v", "flow"])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_no_time_is_frozen_in_a_recorded_denoiser(predicts):
    """Its coefficients are remembered by the time, too."""
    model = policies(predicts)[0].model

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.denoiser = model.denoiser

        def forward(self, x, t, vector):
            return self.denoiser(x, t, Condition(vector=vector)).mean

    x, vector = torch.randn(1, 8, 2, generator=torch.Generator().manual_seed(0)), torch.ones(1, 8)
    arguments = (x, torch.tensor([0.9], dtype=torch.float64), vector)
    Flat()(*arguments)
    for graph in (
        torch.jit.trace(Flat().eval(), arguments, check_trace=False),
        torch.export.export(Flat().eval(), arguments).module(),
    ):
        for time in (0.9, 0.4, 0.1):
            t = torch.tensor([time], dtype=torch.float64)
            torch.testing.assert_close(graph(x, t, vector), Flat()(x, t, vector), rtol=1e-4, atol=1e-5)

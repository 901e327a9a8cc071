"""A planner with fast models makes the plans of the plain ones, and shares their weights."""

import numpy as np
import torch

from unveil.apps.fast_models import fast_trajectories, fast_value
from unveil.apps.guidance_forms import ascent, belief_shift
from unveil.apps.guided import GuidedPlanner, GuidedSettings
from unveil.apps.trajectory_model import TrajectoryModel, TrajectoryShape, ValueModel
from unveil.network.fast_unet1d import FastUNet, FastValue
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
        np.testing.assert_allclose(plans(fast_trajectories(model), fast_value(value), form), expected, atol=1e-4)
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

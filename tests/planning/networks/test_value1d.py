"""The value network has the published parameters, takes every horizon, and reads every place, the rows
apart."""

import pytest
import torch

from unveil.planning.networks.temporal_unet import ValueNetwork


@pytest.mark.parametrize(
    ("features", "multiples", "parameters"),
    [(14, (1, 2, 4, 8), 2_294_817), (23, (1, 2, 4, 8), 2_296_545), (23, (1, 4, 8), 2_180_833)],
)
def test_the_released_networks_have_as_many_parameters(features, multiples, parameters):
    """Hopper, Walker2d and HalfCheetah of jannerm/diffuser."""
    assert sum(p.numel() for p in ValueNetwork(features, 32, multiples).parameters()) == parameters


def small() -> ValueNetwork:
    torch.manual_seed(0)
    return ValueNetwork(3, 16, (1, 2, 4)).eval()


@pytest.mark.parametrize("horizon", [1, 4, 31, 32, 64, 100])
def test_every_horizon_works(horizon):
    """The released network crashes from 64 on."""
    assert small()(torch.randn(2, horizon, 3), torch.zeros(2)).shape == (2,)


def test_every_place_and_the_time_step_matter_and_rows_do_not_see_each_other():
    network, x = small(), torch.randn(1, 48, 3, requires_grad=True)
    y = network(x, torch.tensor([3.0]))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert (gradient.abs().amax(-1) > 0).all()
    assert (network(x, torch.tensor([7.0])) - y).abs() > 1e-5
    both = network(torch.cat([torch.randn(1, 48, 3), x]), torch.tensor([7.0, 3.0]))
    torch.testing.assert_close(both[1:], y)


def test_beyond_one_place_the_head_reads_their_mean():
    """Features of 128 = 4 x 32 steps: the head sees the mean of four places, so the average of its linear
    inputs."""
    network = small()
    seen = []
    network.head[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    places = []
    network.halvings[-1].register_forward_hook(lambda module, inputs, output: places.append(output))
    network(torch.randn(1, 128, 3), torch.zeros(1))
    assert places[0].shape[2] == 4
    torch.testing.assert_close(seen[0][:, :-16], places[0].sum(2) / 4)

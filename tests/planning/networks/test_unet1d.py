"""The temporal U-Net has the published parameters, sees far in time, and treats all places alike."""

import pytest
import torch
from torch.nn import functional as F

from unveil.network.conv1d import LinearAttention1d, ResidualConv1d
from unveil.planning.networks.temporal_unet import TemporalUNet


@pytest.mark.parametrize(
    ("features", "multiples", "parameters"),
    [(14, (1, 2, 4, 8), 3_956_302), (23, (1, 2, 4, 8), 3_958_327), (6, (1, 4, 8), 3_682_118)],
)
def test_the_released_networks_have_as_many_parameters(features, multiples, parameters):
    """Hopper, Walker2d and Maze2D of jannerm/diffuser."""
    assert sum(p.numel() for p in TemporalUNet(features, 32, multiples).parameters()) == parameters


def test_halfcheetahs_network_with_attention_has_as_many_parameters():
    assert sum(p.numel() for p in TemporalUNet(23, 32, (1, 4, 8), attention=True).parameters()) == 4_114_423


def test_linear_attention_is_its_formula():
    torch.manual_seed(0)
    layer, x = LinearAttention1d(6, heads=2, width=5), torch.randn(1, 6, 7)
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    q, k, v = torch.einsum("oc,ch->oh", layer.qkv.weight[:, :, 0], normed[0]).chunk(3)
    read = torch.zeros(10, 7)
    for head in range(2):
        own = slice(5 * head, 5 * head + 5)
        for place in range(7):
            for e in range(5):
                share = sum(
                    q[own][d, place] / 5**0.5 * (k[own][d].softmax(0) * v[own][e]).sum() for d in range(5)
                )
                read[5 * head + e, place] = share
    expected = x[0] + layer.merge.weight[:, :, 0] @ read + layer.merge.bias[:, None]
    torch.testing.assert_close(layer(x)[0], expected, rtol=1e-5, atol=1e-5)


def test_attention_reaches_all_places_at_once():
    torch.manual_seed(0)
    x = torch.randn(1, 32, 3)
    network = TemporalUNet(3, 16, (1, 2), attention=True)
    moved = x.clone()
    moved[0, 0] += 1.0
    time = torch.zeros(1)
    plain = TemporalUNet(3, 16, (1, 2))
    assert (network(moved, time) - network(x, time))[0, -1].abs().max() > 1e-5
    assert network.state_dict().keys() - plain.state_dict().keys()
    assert not plain.state_dict().keys() - network.state_dict().keys()


def small() -> TemporalUNet:
    torch.manual_seed(0)
    return TemporalUNet(3, 16, (1, 2, 4)).eval()


def test_every_divisible_horizon_works_and_others_are_named():
    network, time = small(), torch.zeros(2)
    for horizon in (4, 16, 40):
        assert network(torch.randn(2, horizon, 3), time).shape == (2, horizon, 3)
    with pytest.raises(ValueError, match="30 cannot be halved 2 times"):
        network(torch.randn(2, 30, 3), time)


def test_rows_do_not_see_each_other():
    network, x, time = small(), torch.randn(3, 16, 3), torch.tensor([0.0, 5.0, 9.0])
    together = network(x, time)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1], time[i : i + 1])[0], together[i])


def test_the_time_step_and_far_places_matter():
    network, x = small(), torch.randn(1, 32, 3)
    y = network(x, torch.tensor([3.0]))
    assert (network(x, torch.tensor([4.0])) - y).abs().max() > 1e-4
    moved = x.clone()
    moved[0, 0] += 1.0
    assert (network(moved, torch.tensor([3.0])) - y)[0, -1].abs().max() > 1e-7


def test_skip_connections_carry_what_the_deepest_level_cannot():
    """With all that comes up from below silenced, the input still reaches the output, through the skip
    connection alone."""
    network = small()
    block = network.up[-1][0]
    below = block.first.conv.in_channels // 2
    with torch.no_grad():
        block.first.conv.weight[:, :below] = 0.0
        block.skip.weight[:, :below] = 0.0
    x = torch.randn(1, 16, 3)
    y = network(x, torch.zeros(1)) - network(-x, torch.zeros(1))
    assert y.abs().mean() > 1e-3


@pytest.mark.parametrize("outputs", [8, 16])
def test_the_gradient_has_a_path_that_no_activation_blocks(outputs):
    """docs/theory.md (15.1): dy/dx = S + dB_2/dx by the formula written out, and S alone where the last
    activation is shut."""
    block = ResidualConv1d(8, outputs, 4, kernel=5).double()
    for layer in (block.first.norm, block.second.norm):
        torch.nn.init.normal_(layer.weight)
    x, about = torch.randn(1, 8, 6, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)

    def branch(x):
        def one(part, x):
            y = F.group_norm(
                F.conv1d(x, part.conv.weight, part.conv.bias, padding=2), 8, part.norm.weight, part.norm.bias
            )
            return y * F.softplus(y).tanh()

        told = block.about.weight @ (about[0] * F.softplus(about[0]).tanh()) + block.about.bias
        return one(block.second, one(block.first, x) + told[None, :, None])

    def jacobian(function):
        return torch.autograd.functional.jacobian(function, x).reshape(outputs * 6, 8 * 6)

    places = torch.eye(6, dtype=torch.float64)
    skip = torch.kron(
        torch.eye(8, dtype=torch.float64) if outputs == 8 else block.skip.weight[:, :, 0], places
    ).detach()
    torch.testing.assert_close(jacobian(lambda x: block(x, about)), skip + jacobian(branch))
    assert jacobian(branch).abs().max() > 1e-3
    torch.nn.init.constant_(block.second.norm.bias, -60.0)
    torch.testing.assert_close(jacobian(lambda x: block(x, about)), skip)

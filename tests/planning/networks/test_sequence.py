"""Transformers over rows: any horizon, places and the first row matter, rows of a batch do not see each
other."""

import pytest
import torch
from torch import nn

from unveil.planning.networks.trajectory_transformer import SequenceTransformer, SequenceValue


def awake(network: nn.Module) -> nn.Module:
    """The same with all weights random: the layers that start at 0 too."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(0.2 * torch.randn(weights.shape, generator=generator))
    return network.eval()


def test_a_fresh_network_says_zero():
    x, time = torch.randn(2, 9, 5), torch.tensor([0.0, 3.0])
    assert SequenceTransformer(5, 16, 2, 2, 4)(x, time).abs().max() == 0.0
    assert SequenceValue(5, 16, 2, 2, 4)(x, time).abs().max() == 0.0


@pytest.mark.parametrize("horizon", [1, 4, 6, 13, 64])
def test_every_horizon_works(horizon):
    x, time = torch.randn(3, horizon, 5), torch.tensor([0.0, 3.0, 7.0])
    assert awake(SequenceTransformer(5, 16, 2, 2, 4))(x, time).shape == x.shape
    assert awake(SequenceValue(5, 16, 2, 2, 4))(x, time).shape == (3,)


@pytest.mark.parametrize("kind", [SequenceTransformer, SequenceValue])
def test_rows_stay_apart_and_every_place_and_the_time_matter(kind):
    network, x = awake(kind(5, 16, 2, 2, 3)), torch.randn(2, 10, 5)
    y = network(x, torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(network(x[1:], torch.tensor([4.0]))[0], y[1])
    assert (network(x, torch.tensor([2.0, 4.0]))[0] - y[0]).abs().max() > 1e-5
    for place in range(10):
        moved = x.clone()
        moved[0, place] += 1.0
        changed = (network(moved, torch.tensor([1.0, 4.0]))[0] - y[0]).abs()
        assert changed.max() > 1e-6
        if kind is SequenceTransformer:
            assert (changed.amax(1) > 1e-7).all()  # all places see it


def test_patches_know_their_places():
    """Two equal patches in other places give other outputs."""
    network = awake(SequenceTransformer(5, 16, 2, 2, 2))
    x = torch.randn(1, 2, 5).repeat(1, 3, 1)
    y = network(x, torch.zeros(1))
    assert (y[:, :2] - y[:, 2:4]).abs().max() > 1e-3

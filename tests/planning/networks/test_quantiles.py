"""Quantile regression finds quantiles."""

import pytest
import torch

from unveil.planning.networks.quantiles import QuantileMLP, pinball


def test_the_minimiser_of_the_pinball_loss_is_the_quantile():
    y = torch.distributions.Exponential(1.0).sample((20_000,))
    levels = (0.1, 0.5, 0.9)
    guess = torch.linspace(0.01, 4, 400)
    for level in levels:
        single = torch.stack([pinball(g.expand(len(y), 1), y, (level,)).mean() for g in guess])
        assert float(guess[single.argmin()]) == pytest.approx(float(y.quantile(level)), abs=0.03)


def test_it_learns_conditional_quantiles():
    """y ~ U(x, 3 x) for x in [1, 2]: quantile q of log y is log(x (1 + 2 q))."""
    torch.manual_seed(0)
    network = QuantileMLP(1, (0.1, 0.5, 0.9), width=32, depth=2, octaves=2)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(400):
        x = 1 + torch.rand(512, 1)
        y = x[:, 0] * (1 + 2 * torch.rand(512))
        loss = pinball(network(x), y.log(), network.levels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    out = network(torch.tensor([[1.5]])).exp()[0]
    assert out.tolist() == pytest.approx([1.8, 3.0, 4.2], abs=0.3)
    assert bool((network(torch.randn(50, 1)).diff(dim=1) >= 0).all())

"""The policy's U-Net laid out for acting is the plain one, to rounding, whatever is kept between calls."""

import pytest
import torch

from unveil.network.condition import Condition
from unveil.network.conditional_unet1d import ConditionalUNet
from unveil.network.fast_conditional_unet1d import FastConditionalUNet


@pytest.mark.parametrize(("batch", "horizon", "scale"), [(1, 16, True), (3, 8, True), (20, 16, False), (2, 4, True)])
def test_it_is_the_plain_network(batch, horizon, scale, generator):
    torch.manual_seed(0)
    plain = ConditionalUNet(3, 5, (16, 32, 128), 5, 16, scale=scale)
    fast = FastConditionalUNet(plain)
    for step in (7.0, 0.0, 7.0):  # kept the second time, with another vector
        x, vector = torch.randn(batch, horizon, 3, generator=generator), torch.randn(batch, 5, generator=generator)
        for time in (torch.full((batch,), step), torch.arange(batch) + step):
            cond = Condition(vector=vector)
            with torch.no_grad():
                torch.testing.assert_close(fast(x, time, cond), plain(x, time, cond), atol=2e-5, rtol=1e-4)


def test_gradients_and_refusals_are_the_plain_networks():
    fast = FastConditionalUNet(ConditionalUNet(2, 4, (8, 16), 3, 16))
    x = torch.randn(1, 8, 2, requires_grad=True)
    fast(x, torch.zeros(1), Condition(vector=torch.zeros(1, 4))).sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0
    with torch.no_grad(), pytest.raises(ValueError, match="needs a vector"):
        fast(x, torch.zeros(1))
    with torch.no_grad(), pytest.raises(ValueError, match="halved"):
        fast(torch.zeros(1, 7, 2), torch.zeros(1), Condition(vector=torch.zeros(1, 4)))


def test_without_a_vector():
    plain = ConditionalUNet(2, 0, (8, 16), 3, 16)
    x, time = torch.ones(1, 8, 2), torch.ones(1)
    with torch.no_grad():
        torch.testing.assert_close(FastConditionalUNet(plain)(x, time), plain(x, time), atol=1e-4, rtol=1e-3)

"""Fewer products, the same convolution: forwards, and back to the input."""

import pytest
import torch
from torch.nn import functional as F

from unveil.network.toom_cook import toom_cook


@pytest.mark.parametrize("places", [4, 8, 20])
def test_it_is_the_convolution_and_its_gradient(places):
    torch.manual_seed(places)
    weight, bias = torch.randn(6, 3, 5, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    x = torch.randn(2, places, 3, dtype=torch.float64, requires_grad=True)
    fast, g = toom_cook(weight, bias, places), torch.randn(2, places, 6, dtype=torch.float64)
    plain = F.conv1d(x.transpose(1, 2), weight, bias, padding=2).transpose(1, 2)
    torch.testing.assert_close(fast(x), plain, rtol=1e-12, atol=1e-12)
    (expected,) = torch.autograd.grad(plain, x, g)
    torch.testing.assert_close(fast.back(g), expected, rtol=1e-12, atol=1e-12)


def test_rounding_in_float32_is_small():
    torch.manual_seed(0)
    weight, x = torch.randn(128, 128, 5) / 640**0.5, torch.randn(8, 4, 128)
    exact = F.conv1d(x.transpose(1, 2).double(), weight.double(), padding=2).transpose(1, 2)
    assert (toom_cook(weight, torch.zeros(128), 4)(x) - exact).abs().max() < 2e-5

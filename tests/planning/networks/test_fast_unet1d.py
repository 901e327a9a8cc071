"""The networks laid out for planning are the published ones: outputs, values, and the value's gradient, at
every horizon and time."""

import pytest
import torch

from unveil.planning.networks.temporal_unet import TemporalUNet, ValueNetwork
from unveil.planning.networks.temporal_unet_inference import MANY_ROWS, FastUNet, FastValue


def stirred(network):
    """No norm at its first gain and shift, so that a lost one shows."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return network.eval()


def slope(value, x, time):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(value(x, time).sum(), x)[0]


UNETS = {
    attention: stirred(TemporalUNet(5, 16, (1, 4, 8), attention=attention)) for attention in (False, True)
}
VALUES = {multiples: stirred(ValueNetwork(5, 16, multiples)) for multiples in ((1, 2, 4, 8), (1, 4, 8))}


def inputs(rows, horizon, each):
    torch.manual_seed(rows + horizon)
    time = torch.arange(rows, dtype=torch.float32) % 20 if each else torch.full((rows,), 7.0)
    return torch.randn(rows, horizon, 5), time


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize(
    ("rows", "horizon"), [(1, 4), (2, 32), (MANY_ROWS, 4), (MANY_ROWS, 16), (MANY_ROWS + 1, 36)]
)
@pytest.mark.parametrize("each", [False, True], ids=["one time", "a time a row"])
def test_the_unet_is_the_same(attention, rows, horizon, each):
    plain = UNETS[attention]
    x, time = inputs(rows, horizon, each)
    with torch.no_grad():
        torch.testing.assert_close(FastUNet(plain)(x, time), plain(x, time), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("multiples", list(VALUES))
@pytest.mark.parametrize(
    ("rows", "horizon"), [(1, 4), (2, 7), (1, 32), (MANY_ROWS, 4), (MANY_ROWS, 32), (MANY_ROWS, 70)]
)
@pytest.mark.parametrize("each", [False, True], ids=["one time", "a time a row"])
def test_the_value_and_its_gradient_are_the_same(multiples, rows, horizon, each):
    plain, fast = VALUES[multiples], FastValue(VALUES[multiples])
    x, time = inputs(rows, horizon, each)
    with torch.no_grad():
        torch.testing.assert_close(fast(x, time), plain(x, time), rtol=1e-5, atol=1e-5)
    expected = slope(plain, x, time)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(
        slope(fast, x, time), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
    )


def test_bfloat16_is_near():
    x, time = inputs(MANY_ROWS, 32, False)
    plain, value = TemporalUNet(5).eval(), ValueNetwork(5).eval()  # as they begin
    with torch.no_grad():
        near, exact = FastUNet(plain, torch.bfloat16)(x, time), plain(x, time)
    assert near.dtype == torch.float32 and 0.0 < (near - exact).norm() < 5e-2 * exact.norm()
    near, exact = slope(FastValue(value, torch.bfloat16), x, time), slope(value, x, time)
    assert (near - exact).norm() < 0.15 * exact.norm()


def test_a_gradient_through_the_unet_is_the_plain_networks():
    x, time = inputs(2, 8, False)
    torch.testing.assert_close(slope(FastUNet(UNETS[True]), x, time), slope(UNETS[True], x, time))


def test_times_are_told_apart():
    fast = FastUNet(UNETS[False])
    x, time = inputs(2, 8, False)
    with torch.no_grad():
        for told in (time, time + 1.0, time):
            torch.testing.assert_close(fast(x, told), UNETS[False](x, told), rtol=1e-5, atol=2e-5)


def test_a_horizon_that_cannot_be_halved_is_named():
    with torch.no_grad(), pytest.raises(ValueError, match="cannot be halved"):
        FastUNet(UNETS[False])(torch.zeros(1, 6, 5), torch.zeros(1))


def test_no_weight_is_added_or_changed():
    plain = UNETS[True]
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    fast = FastUNet(plain)
    with torch.no_grad():
        fast(torch.zeros(MANY_ROWS, 8, 5), torch.zeros(MANY_ROWS))
    assert {name.removeprefix("plain.") for name in fast.state_dict()} == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in plain.state_dict().items())

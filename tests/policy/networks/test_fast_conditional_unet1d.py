"""The policy's U-Net laid out for acting is the plain one, to rounding, whatever is kept between calls."""

import copy
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from unveil.network.condition import Condition
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.conditional_unet1d_inference import FastConditionalUNet

sys.path.append(str(Path(__file__).resolve().parents[2] / "network"))
from test_fast_layout import CHANGES


@pytest.mark.parametrize(
    ("batch", "horizon", "scale"), [(1, 16, True), (3, 8, True), (20, 16, False), (2, 4, True)]
)
def test_it_is_the_plain_network(batch, horizon, scale, generator):
    torch.manual_seed(0)
    plain = ConditionalUNet(3, 5, (16, 32, 128), 5, 16, scale=scale)
    fast = FastConditionalUNet(plain)
    for step in (7.0, 0.0, 7.0):  # kept the second time, with another vector
        x, vector = (
            torch.randn(batch, horizon, 3, generator=generator),
            torch.randn(batch, 5, generator=generator),
        )
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


@pytest.mark.parametrize(
    ("kernel", "horizon", "widths", "scale"), [(5, 16, (64, 128, 224), True), (3, 8, (16, 24, 32), False)]
)
def test_one_row_alone_is_the_plain_network(kernel, horizon, widths, scale, generator):
    torch.manual_seed(1)
    plain = ConditionalUNet(2, 6, widths, kernel, 32, scale=scale)
    fast = FastConditionalUNet(plain)
    first = None
    for step in (99.0, 3.0, 99.0):
        x, cond = (
            torch.randn(1, horizon, 2, generator=generator),
            Condition(vector=torch.randn(1, 6, generator=generator)),
        )
        with torch.no_grad():
            here, there = (
                fast(x, torch.tensor([step]), fast.prefill(cond)),
                plain(x, torch.tensor([step]), cond),
            )
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)
        if first is not None:
            torch.testing.assert_close(*first, rtol=0, atol=0)  # what was given out is not written over
        first = first or (here, here.clone())


def test_what_the_vector_says_is_computed_once(generator):
    fast = FastConditionalUNet(ConditionalUNet(2, 4, (8, 16), 3, 16))
    x, cond = (
        torch.randn(3, 8, 2, generator=generator),
        Condition(vector=torch.randn(3, 4, generator=generator)),
    )
    with torch.no_grad():
        for rows in (1, 3):
            part, time = cond.rows(0, rows), torch.zeros(rows)
            torch.testing.assert_close(fast(x[:rows], time, fast.prefill(part)), fast(x[:rows], time, part))
        assert not torch.equal(
            fast(x, torch.zeros(3), fast.prefill(cond)),
            fast(x, torch.zeros(3), fast.prefill(cond.rows(0, 1).repeat(3))),
        )
    with pytest.raises(ValueError, match=r"a vector \(B, 4\), got \(3, 5\)"):
        fast.prefill(Condition(vector=torch.zeros(3, 5)))


def test_two_threads_do_not_share_memory(generator):
    fast = FastConditionalUNet(ConditionalUNet(2, 4, (16, 32), 3, 16))
    inputs = [
        (torch.randn(1, 8, 2, generator=generator), Condition(vector=torch.randn(1, 4, generator=generator)))
        for _ in range(4)
    ]

    def run(one: tuple[torch.Tensor, Condition]) -> torch.Tensor:
        with torch.no_grad():
            for _ in range(50):
                said = fast(one[0], torch.zeros(1), one[1])
        return said

    with ThreadPoolExecutor(4) as threads:
        for said, one in zip(threads.map(run, inputs), inputs, strict=True):
            torch.testing.assert_close(said, run(one), atol=1e-5, rtol=1e-5)


def pair():
    torch.manual_seed(0)
    plain = ConditionalUNet(2, 4, (16, 32), 3, 16)
    return plain.eval(), FastConditionalUNet(plain)


def asked(rows):
    generator = torch.Generator().manual_seed(3)
    x, vector = torch.randn(rows, 8, 2, generator=generator), torch.randn(rows, 4, generator=generator)
    return x, torch.full((rows,), 7.0), Condition(vector=vector)


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_changed_weights_act_at_once(change, rows):
    """Whatever is kept: the layouts for one row, for few and for many, the times, and what the vector
    says."""
    (plain, fast), (x, time, cond) = pair(), asked(rows)
    before = fast(x, time, fast.prefill(cond))
    change(plain)
    for told in (cond, fast.prefill(cond)):
        after = fast(x, time, told)
        torch.testing.assert_close(after, plain(x, time, cond), rtol=1e-4, atol=1e-4)
        assert (after - before).abs().max() > 1e-3


def test_training_what_acts_gives_the_plain_gradients():
    (plain, fast), (x, time, cond) = pair(), asked(1)
    with torch.no_grad():
        fast(x, time, fast.prefill(cond))
    for training in (True, False):
        fast.train(training)
        fast.zero_grad()
        fast(x, time, cond).square().sum().backward()
        wanted = [weight.grad.clone() for weight in plain.parameters()]
        plain.zero_grad()
        plain(x, time, cond).square().sum().backward()
        for weight, gradient in zip(plain.parameters(), wanted, strict=True):
            torch.testing.assert_close(weight.grad, gradient)


@torch.no_grad()
def test_copies_saved_files_and_names_are_those_of_the_plain_network():
    (plain, fast), (x, time, cond) = pair(), asked(1)
    before = fast(x, time, cond)
    assert list(fast.state_dict()) == list(plain.state_dict())
    twin = copy.deepcopy(fast)
    buffer = io.BytesIO()
    torch.save(fast, buffer)
    buffer.seek(0)
    read = torch.load(buffer, weights_only=False)
    for weight in fast.parameters():
        weight.mul_(1.3)
    torch.testing.assert_close(twin(x, time, cond), before)
    torch.testing.assert_close(read(x, time, cond), before)
    twin.load_state_dict(fast.state_dict())
    torch.testing.assert_close(twin(x, time, cond), plain(x, time, cond), rtol=1e-4, atol=1e-5)
    double = twin.double()  # not laid out
    wanted = copy.deepcopy(plain).double()(x.double(), time.double(), Condition(vector=cond.vector.double()))
    torch.testing.assert_close(
        double(x.double(), time.double(), Condition(vector=cond.vector.double())), wanted
    )


class Flat(torch.nn.Module):
    """Of tensors alone, as recording wants it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, time, vector):
        return self.network(x, time, Condition(vector=vector))


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_no_time_is_frozen_by_a_recorded_graph():
    (plain, fast), (x, time, cond) = pair(), asked(1)
    fast(x, time, cond)  # at the time that is recorded
    arguments = (x, time, cond.vector)
    graphs = [
        torch.jit.trace(Flat(fast), arguments, check_trace=False),
        torch.export.export(Flat(fast), arguments).module(),
    ]
    for graph in graphs:
        for other in (7.0, 0.0, 50.0):
            at = torch.tensor([other])
            torch.testing.assert_close(graph(x, at, cond.vector), plain(x, at, cond), rtol=1e-4, atol=1e-5)

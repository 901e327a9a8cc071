"""The memory of a step is counted before it is taken: by formula for layers that can be counted by hand, and
nothing is changed by it."""

import pytest
import torch
from test_trainer import draw, loss, network
from torch import nn

from unveil.training.memory import (
    BACKWARD,
    DRAWN,
    SLACK,
    counting,
    step_bytes,
    training_bytes,
    without_numbers,
)


def rows(width: int):
    return lambda count: lambda generator: torch.randn((count, width), generator=generator)


def squared(model: nn.Module, x: torch.Tensor):
    device = next(model.parameters()).device
    return model(x.to(device)).square().sum(), {}


def counted(layers: int, width: int, size: int) -> int:
    """x W_1 W_2 ... W_n, squared and summed: the input on the device and each layer's output are kept, and
    the square of the last."""
    kept = (layers + 2) * size * width * 4 + 4  # and the sum
    return 2 * size * width * 4 + round(SLACK * (kept + BACKWARD * size * width * 4))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_chain_of_products_is_counted_as_by_hand(layers, size):
    model = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(layers)))
    assert step_bytes(model, rows(16), squared, size) == counted(layers, 16, size)


@pytest.mark.parametrize("most", [2, 8])
def test_of_a_batch_that_is_not_drawn_two_smaller_ones_tell(monkeypatch, most):
    model, asked = nn.Linear(16, 16, bias=False), []

    def noted(count):
        asked.append(count)
        return rows(16)(count)

    monkeypatch.setattr("unveil.training.memory.DRAWN", most * 64)
    assert step_bytes(model, noted, squared, 1000) == pytest.approx(counted(1, 16, 1000), rel=1e-3)
    assert max(asked) == most and DRAWN == 64 * 2**20


def test_what_is_freed_does_not_count():
    with counting() as live:
        x = torch.empty(1000, device="meta")
        y = x + 1.0
        del x
        z = y + 1.0
        assert (live.now, live.peak, live.largest) == (8000, 8000, 4000)
        y.view(10, 100)
        z.mul_(2.0)
        assert live.peak == 8000
        del y, z
        assert live.now == 0


def test_without_gradient_nothing_is_kept():
    """A base that is not trained, as under LoRA, keeps no input of its layers."""
    model = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(6)))
    trained = step_bytes(model, rows(16), squared, 64)
    model[:5].requires_grad_(False)
    assert step_bytes(model, rows(16), squared, 64) < trained - 3 * SLACK * 64 * 16 * 4


def test_of_weights_their_average_moments_and_gradient_are_counted():
    model = nn.Linear(10, 10, bias=False)
    model.register_buffer("statistics", torch.zeros(5))
    weights = 400
    assert training_bytes(model, 10_000) == weights + 20 + 2 * weights + weights + 10_000
    assert (
        training_bytes(model, 100) == weights + 20 + 2 * weights + 2 * weights
    )  # written moments are larger than such a step
    model.weight.requires_grad_(False)
    assert training_bytes(model, 100) == weights + 20 + 100


def test_attention_over_many_places_is_fused_as_it_is_on_devices():
    """Its N x N scores are never there at once; over few places they are, as they are written out."""
    from unveil.network.layers import attention

    for places, most in ((1024, 6 * 1024 * 8 * 4), (256, 4 * 256 * 256 * 4)):
        with counting() as live:
            q, k, v = (torch.empty(1, 1, places, 8, device="meta", requires_grad=True) for _ in range(3))
            attention(q, k, v, None).sum().backward()
            assert (
                live.largest == (places * 8 * 4 if places > 256 else places * places * 4)
                and live.peak <= 2 * most
            )


def test_a_copy_without_numbers_shares_what_is_shared():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    empty = without_numbers(model)
    assert (
        empty["b"].weight is empty["a"].weight and empty["a"].weight.is_meta and not model["a"].weight.is_meta
    )
    assert isinstance(empty["a"].weight, nn.Parameter)


def test_questions_to_numbers_that_are_not_there():
    """No value is wrong, all are right, and what goes to the processor is zeros."""
    with counting():
        x = torch.empty(4, device="meta")
        assert not bool((x < 0.0).any()) and bool((x >= 0.0).all()) and float(x.sum()) == 0.0
        assert x.to("cpu", torch.float64).tolist() == [0.0] * 4


def test_counting_changes_nothing():
    """Torch's generator, what draws and losses remember, and the model."""
    memory, model, state = {"sum": torch.ones(())}, network().eval(), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def restless(model, x):
        memory["sum"].add_(1.0)
        return loss(model, x.to(next(model.parameters()).device) + torch.randn(x.shape).to("meta"))

    assert step_bytes(model, lambda count: draw, restless, 16, memory=memory) > 0
    assert float(memory["sum"]) == 1.0 and torch.equal(torch.get_rng_state(), state) and not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())

"""bfloat16 is taken where it is measured faster and finite, measuring changes nothing, and a resumed run
keeps the answer."""

import json

import pytest
import torch
from test_trainer import draw, loss, network
from torch import nn

from unveil.files.safetensors import read_tensors
from unveil.training import autocast
from unveil.training.autocast import faster_in_bfloat16
from unveil.training.trainer import Training, train

CPU = torch.device("cpu")


class Clock:
    """Goes on only as the test says."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch):
    now = Clock()
    monkeypatch.setattr(autocast, "perf_counter", now)
    monkeypatch.setattr(autocast, "has_bfloat16", lambda device: True)
    return now


def paced(clock: Clock, single: float, half: float, bad: bool = False):
    """A loss that takes so many seconds in float32 and in bfloat16, where its gradient may be NaN."""

    def timed(model: nn.Module, batch: torch.Tensor):
        reduced = torch.is_autocast_enabled("cpu")
        clock.at += half if reduced else single
        value, more = loss(model, batch)
        return (value * float("nan") if bad and reduced else value), more

    return timed


def test_the_faster_one_is_taken_if_its_gradient_is_finite(monkeypatch, clock):
    """Faster is by a tenth."""
    assert faster_in_bfloat16(network(), draw, paced(clock, 1.11, 1.0), CPU, turns=3)
    assert not faster_in_bfloat16(network(), draw, paced(clock, 1.09, 1.0), CPU, turns=3)
    assert not faster_in_bfloat16(network(), draw, paced(clock, 1.0, 6.0), CPU, turns=3)
    assert not faster_in_bfloat16(network(), draw, paced(clock, 6.0, 1.0, bad=True), CPU, turns=3)
    monkeypatch.setattr(autocast, "has_bfloat16", lambda device: False)
    assert not faster_in_bfloat16(network(), draw, paced(clock, 6.0, 1.0), CPU)


def test_the_shortest_turn_counts(clock):
    """A turn beside other work does not decide."""
    seconds = iter([9.0, 1.0, 2.0, 7.0, 9.0, 9.0])

    def uneven(model, batch):
        clock.at += next(seconds)
        return loss(model, batch)

    assert faster_in_bfloat16(network(), draw, uneven, CPU, turns=3, seconds=1e9) is (2.0 >= 1.1 * 1.0)


def test_its_time_is_bounded(clock):
    """Two turns of each at least, and no new one once so many seconds are over."""
    for single, calls in ((100.0, 4), (4.0, 4), (2.4, 6), (0.1, 10)):
        seen = []

        def counted(model, batch, seen=seen):
            seen.append(batch)
            return loss(model, batch)

        faster_in_bfloat16(
            network(),
            draw,
            lambda m, x, c=counted, s=single: (setattr(clock, "at", clock.at + s), c(m, x))[1],
            CPU,
            turns=5,
        )
        assert len(seen) == calls, single


def trained(folder, bfloat16, steps=8, **options):
    training = Training(
        steps=steps, learning_rate=1e-2, warmup=2, save_every=4, log_every=2, keep=0, bfloat16=bfloat16
    )
    return train(network(), draw, loss, training, folder, **options)


def test_measuring_changes_no_bit_of_the_training(monkeypatch, tmp_path):
    """Neither the model nor its batches."""
    monkeypatch.setattr(autocast, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(autocast, "GAIN", 0.0)  # bfloat16 always wins
    measured = trained(tmp_path / "measured", None)
    told, single = trained(tmp_path / "told", True), trained(tmp_path / "single", False)
    assert all(torch.equal(measured[name], told[name]) for name in told)
    assert not all(torch.equal(measured[name], single[name]) for name in single)


def test_measuring_leaves_nothing_changed(monkeypatch):
    """Torch's generator, buffers, what the loss remembers, gradients, and whether the model is in
    training."""
    monkeypatch.setattr(autocast, "has_bfloat16", lambda device: True)
    memory = {"sum": torch.ones(())}
    model = network().eval()
    model.register_buffer("calls", torch.tensor(0))

    def restless(model, batch):
        model.calls += 1
        memory["sum"].add_(1.0)
        return loss(model, batch + torch.randn(batch.shape))

    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    faster_in_bfloat16(model, draw, restless, CPU, memory, turns=2)
    assert torch.equal(torch.get_rng_state(), state) and not model.training and float(memory["sum"]) == 1.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("answer", [True, False])
def test_a_resumed_run_keeps_the_answer_without_measuring(monkeypatch, tmp_path, answer):
    monkeypatch.setattr("unveil.training.trainer.faster_in_bfloat16", lambda *_: answer)
    whole = trained(tmp_path / "whole", None)
    assert json.loads((tmp_path / "whole" / "checkpoint-4" / "state.json").read_text())["bfloat16"] is answer
    (tmp_path / "whole" / "checkpoint-8" / "manifest.json").unlink()

    def never(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("unveil.training.trainer.faster_in_bfloat16", never)
    again = trained(tmp_path / "whole", None, resume=True)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_run_in_bfloat16_resumes_bit_for_bit(tmp_path):
    whole = trained(tmp_path, True)
    optimizer = read_tensors(tmp_path / "checkpoint-8" / "optimizer.safetensors")
    (tmp_path / "checkpoint-8" / "manifest.json").unlink()
    again = trained(tmp_path, True, resume=True)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    after = read_tensors(tmp_path / "checkpoint-8" / "optimizer.safetensors")
    assert after.keys() == optimizer.keys() and all(
        torch.equal(after[name], optimizer[name]) for name in optimizer
    )

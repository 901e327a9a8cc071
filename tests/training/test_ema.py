"""Averages against their closed forms."""

import pytest
import torch
from torch import nn

from unveil.training.ema import EMA


def test_constant_decay_is_a_geometric_average():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decay=0.9, power=0.0)
    for step in range(1, 6):
        nn.init.ones_(model.weight)
        ema.update(model, step)
    assert float(ema.weights["weight"]) == pytest.approx(1 - 0.9**5)


def test_power_decay_is_diffusion_policys():
    """decay(k) = min(0.9999, 1 - (1 + k)^-0.75)."""
    model = nn.Linear(1, 1, bias=False)
    ema, expected = EMA(model, decay=0.9999, power=0.75), float(model.weight.detach())
    for step in range(1, 8):
        nn.init.constant_(model.weight, float(step))
        ema.update(model, step)
        decay = 1 - (1 + step) ** -0.75
        expected = decay * expected + (1 - decay) * step
    assert float(ema.weights["weight"]) == pytest.approx(expected, rel=1e-5)


def test_buffers_that_count_are_copied():
    model = nn.Linear(1, 1)
    model.register_buffer("count", torch.tensor(0))
    ema = EMA(model)
    model.count += 1
    ema.update(model, 1)
    assert int(ema.weights["count"]) == 1


def test_batch_norm_is_refused_and_group_norm_is_not():
    with pytest.raises(ValueError, match="1 is a BatchNorm"):
        EMA(nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)))
    EMA(
        nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(1, 16), nn.BatchNorm2d(16, track_running_stats=False))
    )


@pytest.mark.parametrize("arguments", [{"decay": 1.0}, {"decay": -0.1}, {"power": -1.0}])
def test_impossible_decays_are_refused(arguments):
    with pytest.raises(ValueError, match="EMA"):
        EMA(nn.Linear(1, 1), **arguments)

"""Settings that cannot be are one ValueError that names the argument; those at the edge of what can be are
taken."""

import math

import pytest
import torch
from torch import nn

from unveil.process.importance import LossHistory
from unveil.training.ema import EMA
from unveil.training.trainer import Training

NUMBERS = {
    "steps": (1, [0, -1, 2.0, True, "3", math.nan, None]),
    "accumulate": (1, [0, 0.5, None]),
    "save_every": (1, [0, -5, 1.5]),
    "log_every": (1, [0, math.inf]),
    "warmup": (0, [-1, 0.1, None]),
    "keep": (0, [-1, 1.0, True]),
    "seed": (0, [0.5, None, "1"]),
    "learning_rate": (1e-9, [0.0, -1e-3, math.nan, math.inf, "fast", True, None]),
    "weight_decay": (0.0, [-0.1, math.nan, math.inf]),
    "clip": (math.inf, [0.0, -1.0, math.nan]),
    "final_fraction": (1.0, [-0.1, 1.1, math.nan]),
    "ema": (0.0, [1.0, -0.1, math.nan]),
    "ema_power": (0.0, [-1.0, math.nan, math.inf]),
    "betas": ((0.0, 0.5), [(0.9,), (0.9, 1.0), (-0.1, 0.9), 0.9, (0.9, math.nan), ("a", 0.9)]),
    "bfloat16": (None, [1, "yes"]),
}


def test_every_field_of_a_training_is_checked():
    from dataclasses import fields

    assert {field.name for field in fields(Training)} == set(NUMBERS)


def made(name: str, value: object) -> None:
    """As `Training(...)` makes it outside of tests, which check types before."""
    training = object.__new__(Training)
    for key, other in (vars(Training(steps=5)) | {name: value}).items():
        object.__setattr__(training, key, other)
    training.__post_init__()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_training_names_what_cannot_be(name):
    good, bad = NUMBERS[name]
    Training(**({"steps": 5} | {name: good}))
    for value in bad:
        with pytest.raises(ValueError, match=rf"^`{name}` must be"):
            made(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("decay", math.nan), ("decay", 1.0), ("power", math.nan), ("power", -1.0), ("power", math.inf)],
)
def test_an_average_names_what_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"^EMA: {name} must be"):
        EMA(nn.Linear(1, 1), **{name: value})


def test_an_average_counts_from_one():
    """Step 0 would forget nothing of the first weights: 1 - 1^-0.75 = 0 keeps none of them."""
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="EMA: step must be a whole number of at least 1, got 0"):
        EMA(model).update(model, 0)


def test_a_history_of_losses_names_what_cannot_be():
    for arguments, name in (
        ({"steps": 0}, "steps"),
        ({"steps": 3, "even": 1.5}, "even"),
        ({"steps": 3, "even": math.nan}, "even"),
    ):
        with pytest.raises(ValueError, match=f"^LossHistory: {name} must"):
            LossHistory(**arguments)
    history = LossHistory(3)
    with pytest.raises(ValueError, match=r"^LossHistory: size must"):
        history.draw(0, torch.Generator(device="cpu"))
    with pytest.raises(ValueError, match=r"^LossHistory: places must lie in 0 \.\. 2, got -1 \.\. 1"):
        history.note(torch.tensor([-1, 1]), torch.ones(2))
    with pytest.raises(
        ValueError, match=r"^LossHistory: places and losses must be \(B,\), got \(2,\) and \(3,\)"
    ):
        history.note(torch.tensor([0, 1]), torch.ones(3))
    assert float(history.losses.abs().sum()) == 0.0

"""Schedules: closed forms, inverses, limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analytic import ALL, CONTINUOUS, NAMES, TABLE, VARIANCE_PRESERVING
from unveil.process.schedule import (
    Cosine,
    Flow,
    Karras,
    LinearBeta,
    ScaledLinearBeta,
    Tabulated,
    cosine_betas,
    linear_betas,
    log_snr,
    scaled_linear_betas,
    tabulated,
)


def at(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_time_inverts_log_snr(schedule):
    t = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(log_snr(schedule, t)), t, rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_signal_falls_and_the_clean_end_is_exact(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    ratio = schedule.sigma(t) / schedule.alpha(t)
    assert bool((ratio.diff() > 0).all())
    assert float(schedule.alpha(at(0.0))) == 1.0
    assert float(schedule.sigma(at(0.0))) == 0.0


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING)
def test_variance_is_preserved(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(
        schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=0, atol=1e-14
    )


def test_closed_forms():
    t = 0.37
    torch.testing.assert_close(
        LinearBeta().alpha(at(t)), at(math.exp(-0.5 * (0.1 * t + 0.5 * 19.9 * t * t))), rtol=1e-12, atol=0
    )
    ratio = math.cos(0.5 * math.pi * (t + 0.008) / 1.008) / math.cos(0.5 * math.pi * 0.008 / 1.008)
    torch.testing.assert_close(Cosine().alpha(at(t)), at(ratio), rtol=1e-12, atol=0)
    assert float(Flow().alpha(at(t))) == pytest.approx(1 - t)
    assert float(Flow().sigma(at(t))) == t
    assert float(Karras().sigma(at(1.0))) == pytest.approx(80.0)
    assert float(Karras().sigma(at(0.5))) == pytest.approx(((0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2) ** 7)


def test_log_snr_stays_within_its_limits():
    t = at(1e-9, 1.0)
    for schedule in (LinearBeta(), Cosine(), ScaledLinearBeta()):
        assert float(log_snr(schedule, t).abs().max()) <= 20.0 + 1e-9
    assert float(Cosine().alpha(at(1.0))) == pytest.approx(math.exp(-10), rel=1e-4)
    wide = at(-50.0, 50.0)
    for schedule in CONTINUOUS[:4]:
        torch.testing.assert_close(schedule.time(wide), schedule.time(wide.clamp(-20, 20)), rtol=0, atol=0)


def test_continuous_schedules_are_the_limits_of_their_tables():
    steps = 100_000
    t = at(0.2, 0.5, 0.8)
    fine = tabulated(linear_betas(steps, 0.1 / steps, 20 / steps))
    torch.testing.assert_close(LinearBeta().alpha(t), fine.alpha(t), rtol=1e-3, atol=0)
    fine = tabulated(scaled_linear_betas(steps, 0.85 / steps, 12 / steps))
    torch.testing.assert_close(ScaledLinearBeta().alpha(t), fine.alpha(t), rtol=1e-3, atol=0)
    torch.testing.assert_close(Cosine().alpha(t), tabulated(cosine_betas(steps)).alpha(t), rtol=1e-3, atol=0)


def test_tables_hold_their_entries_and_interpolate_log_snr():
    alpha_bar = (1 - linear_betas()).cumprod(0)
    i = torch.tensor([1, 2, 500, 1000])
    torch.testing.assert_close(TABLE.alpha(i.double() / 1000) ** 2, alpha_bar[i - 1], rtol=1e-12, atol=0)
    between = log_snr(TABLE, at(0.5005))
    torch.testing.assert_close(
        between, (log_snr(TABLE, at(0.5)) + log_snr(TABLE, at(0.501))) / 2, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("table", [[0.9, 0.95], [1.0, 0.5], [0.5, 0.0], []])
def test_bad_tables_are_refused(table):
    with pytest.raises(ValueError, match="alpha_bar must be strictly decreasing"):
        Tabulated(torch.tensor(table, dtype=torch.float64))


@given(st.floats(-19, 19))
def test_log_snr_inverts_time(value):
    for schedule in (Cosine(), Flow(), LinearBeta()):
        t = schedule.time(at(value))
        if 0 < float(t) <= 1:
            assert float(log_snr(schedule, t)) == pytest.approx(value, abs=1e-6)


def test_arithmetic_is_float64_on_the_cpu_whatever_comes_in():
    for schedule in ALL:
        out = schedule.sigma(torch.tensor([0.3], dtype=torch.float32))
        assert (out.dtype, out.device.type) == (torch.float64, "cpu")

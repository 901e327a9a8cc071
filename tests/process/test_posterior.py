"""The posterior against Bayes' rule, and its equalities with DDPM's formulas."""

import pytest
import torch

from analytic import ALL, NAMES, TABLE, VARIANCE_PRESERVING
from unveil.process.posterior import learned_log_variance, posterior, posterior_coefficients
from unveil.process.schedule import linear_betas


def pair(t, s):
    return torch.tensor([t], dtype=torch.float64), torch.tensor([s], dtype=torch.float64)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.5), (0.5, 0.45), (0.3, 0.01)])
def test_posterior_is_bayes_rule(schedule, t, s):
    t, s = pair(t, s)
    a_t, a_s, g_t, g_s = schedule.alpha(t), schedule.alpha(s), schedule.sigma(t), schedule.sigma(s)
    ratio, added = a_t / a_s, g_t**2 - (a_t / a_s * g_s) ** 2  # x_t = ratio x_s + N(0, added)
    x_t, x_0 = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    precision = 1 / g_s**2 + ratio**2 / added
    mean = (a_s * x_0 / g_s**2 + ratio * x_t / added) / precision
    got_mean, got_variance = posterior(schedule, x_t, x_0, t, s)
    torch.testing.assert_close(got_mean, mean[None, 0], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(got_variance[0], 1 / precision, rtol=1e-8, atol=0)
    torch.testing.assert_close(posterior_coefficients(schedule, t, s).large, added, rtol=1e-8, atol=0)


@pytest.mark.parametrize("i", [2, 10, 500, 1000])
def test_neighbours_in_a_table_give_ddpm_equation_7(i):
    beta = linear_betas()
    bar = (1 - beta).cumprod(0)
    c = posterior_coefficients(TABLE, *pair(i / 1000, (i - 1) / 1000))
    b, now, before = beta[i - 1], bar[i - 1], bar[i - 2]
    torch.testing.assert_close(c.large[0], b, rtol=1e-9, atol=0)
    torch.testing.assert_close(c.small[0], b * (1 - before) / (1 - now), rtol=1e-9, atol=0)
    torch.testing.assert_close(c.x_0_weight[0], before.sqrt() * b / (1 - now), rtol=1e-9, atol=0)
    torch.testing.assert_close(c.x_t_weight[0], (1 - b).sqrt() * (1 - before) / (1 - now), rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.5), (0.5, 0.45), (0.3, 0.01)])
def test_the_weight_of_the_bound_is_the_snr_that_a_step_wins(schedule, t, s):
    """docs/theory.md (6.2): w_0^2 / beta-tilde = SNR(s) - SNR(t)."""
    t, s = pair(t, s)
    c = posterior_coefficients(schedule, t, s)
    won = (schedule.alpha(s) / schedule.sigma(s)) ** 2 - (schedule.alpha(t) / schedule.sigma(t)) ** 2
    torch.testing.assert_close(c.x_0_weight**2 / c.small, won, rtol=1e-8, atol=0)


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING)
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.5), (0.5, 0.45), (0.3, 0.01)])
def test_beta_is_right_for_data_of_unit_variance(schedule, t, s):
    """docs/theory.md (8.1): beta-tilde + w_0^2 Var[x_0 | x_t] = beta, where Var[x_0 | x_t] = sigma_t^2."""
    t, s = pair(t, s)
    c = posterior_coefficients(schedule, t, s)
    torch.testing.assert_close(c.small + c.x_0_weight**2 * schedule.sigma(t) ** 2, c.large, rtol=1e-8, atol=0)


def test_into_zero_the_posterior_is_x_0_without_noise():
    c = posterior_coefficients(TABLE, *pair(0.4, 0.0))
    assert (float(c.x_t_weight), float(c.small)) == (0.0, 0.0)
    assert float(c.x_0_weight) == pytest.approx(1.0, abs=1e-12)


def test_learned_variance_runs_from_beta_tilde_to_beta():
    t, s = pair(0.5, 0.499)
    c = posterior_coefficients(TABLE, t, s)
    for fraction, expected in ((0.0, c.small), (1.0, c.large), (0.5, (c.small * c.large).sqrt())):
        got = learned_log_variance(TABLE, torch.full((1, 3), fraction, dtype=torch.float64), t, s).exp()
        torch.testing.assert_close(got, expected.expand(1, 3), rtol=1e-9, atol=0)
    t, s = pair(0.001, 0.0)  # improved-diffusion clips beta-tilde of the first step to that of the second
    second = posterior_coefficients(TABLE, *pair(0.002, 0.001)).small
    got = learned_log_variance(TABLE, torch.zeros((1, 1), dtype=torch.float64), t, s).exp()
    torch.testing.assert_close(got[0], second, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
@pytest.mark.parametrize("t", [0.3, 0.75, 1.0])
def test_learned_variance_is_finite_into_zero_from_anywhere(schedule, t):
    t, s = pair(t, 0.0)
    got = learned_log_variance(schedule, torch.full((1, 1), 0.5, dtype=torch.float64), t, s)
    assert bool(torch.isfinite(got).all())


def test_steps_must_go_down():
    with pytest.raises(ValueError, match="s < t"):
        posterior_coefficients(TABLE, *pair(0.4, 0.4))

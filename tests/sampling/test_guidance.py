"""Guidance: exact posteriors, intervals, thresholds, and the errors of wrong potentials."""

import pytest
import torch

from analytic import GaussianData, MixtureData
from unveil.network.condition import Condition
from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import uniform
from unveil.process.schedule import Cosine, Flow, Karras, LinearBeta
from unveil.sampling.gaussian import DDIM, Heun
from unveil.sampling.guidance import Branch, blend, cfg, clipped, dynamic_threshold, steered, tapped, tilted
from unveil.sampling.loop import sample

A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)  # measures 2 numbers of 3
Y, SPREAD = torch.tensor([0.8, -0.6], dtype=torch.float64), 0.3


def halves(t: float, count: int) -> torch.Tensor:
    return torch.full((count,), t, dtype=torch.float64)


def measurement_cost(schedule):
    """-log p(y | x_t) for y = A x_0 + N(0, SPREAD^2) and a unit-variance prior: the belief's variance
    enters."""

    def cost(x_0, t):
        r = schedule.sigma(t) ** 2 / (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2)
        covariance = SPREAD**2 * torch.eye(2, dtype=torch.float64) + r[:, None, None] * (A @ A.T)
        miss = Y - x_0 @ A.T
        return 0.5 * (miss * torch.linalg.solve(covariance, miss[..., None])[..., 0]).sum(1)

    return cost


@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta()])
def test_steered_solves_a_linear_inverse_problem(schedule, jacobian):
    """Samples match the known posterior N(S A^T y / r^2, S), S = (I + A^T A / r^2)^-1, in mean and
    covariance."""
    prior = GaussianData(schedule)
    guided = steered(prior, measurement_cost(schedule), schedule, jacobian=jacobian)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((6000, 3), generator=generator, dtype=torch.float64)
    out = sample(guided, Heun(schedule), x, uniform(40), generator=generator)
    covariance = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + A.T @ A / SPREAD**2)
    torch.testing.assert_close(out.mean(0), covariance @ A.T @ Y / SPREAD**2, rtol=0, atol=0.05)
    torch.testing.assert_close(torch.cov(out.T), covariance, rtol=0, atol=0.06)


def test_steered_is_exact_step_by_step():
    schedule = Cosine()
    prior = GaussianData(schedule)
    x, t = torch.tensor([[0.4, -1.0, 0.2]], dtype=torch.float64), halves(0.6, 1)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    # belief's prior N(mean, r I) updated by the measurement: mean + r A^T (A r A^T + SPREAD^2)^-1 (y - A
    # mean)
    mean, r = prior(x, t).mean[0], sigma**2 / (alpha**2 + sigma**2)
    gain = r * A.T @ torch.linalg.inv(r * A @ A.T + SPREAD**2 * torch.eye(2, dtype=torch.float64))
    expected = mean + gain @ (Y - A @ mean)
    for jacobian in (True, False):
        got = steered(prior, measurement_cost(schedule), schedule, jacobian=jacobian)(x, t).mean[0]
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


def test_a_cost_around_another_takes_its_gradient_through_the_network():
    """For the mean a x: m_1 = a x - g a c_1'(a x), m_2 = m_1 - g a c_2'(m_1), with g = sigma^2 / alpha."""
    schedule = Cosine()
    prior = GaussianData(schedule)
    x, t = torch.tensor([[0.4, -1.0, 0.2]], dtype=torch.float64), halves(0.6, 1)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    a, gain = alpha / (alpha**2 + sigma**2), sigma**2 / alpha
    first = prior(x, t).mean
    first = first - 0.3 * gain * a * (first - 1.0)
    expected = first - 0.2 * gain * a * 2.0 * (first + 2.0)
    inner = steered(prior, lambda m, _: 0.5 * (m - 1.0).square().sum(1), schedule, 0.3)
    outer = steered(inner, lambda m, _: (m + 2.0).square().sum(1), schedule, 0.2)
    got = outer(x, t).mean
    assert not got.requires_grad
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


def test_cfg_scale_0_1_and_interval(generator):
    schedule = Cosine()
    low, high = GaussianData(schedule, -1.0, 0.5), GaussianData(schedule, 1.0, 0.9)
    calls = []

    def denoiser(x_t, t, cond):
        calls.append(len(x_t))
        which = cond.label[:, None] == 1
        return GaussianDenoised(torch.where(which, high(x_t, t).mean, low(x_t, t).mean))

    x, t = torch.randn((3, 2), generator=generator, dtype=torch.float64), halves(0.5, 3)
    null, cond = Branch(Condition(label=torch.zeros(3))), Branch(Condition(label=torch.ones(3)))
    torch.testing.assert_close(cfg(denoiser, cond, null, 0.0)(x, t).mean, low(x, t).mean)
    torch.testing.assert_close(cfg(denoiser, cond, null, 1.0)(x, t).mean, high(x, t).mean)
    expected = low(x, t).mean + 3.0 * (high(x, t).mean - low(x, t).mean)
    torch.testing.assert_close(cfg(denoiser, cond, null, 3.0)(x, t).mean, expected)
    assert calls == [6, 6, 6]  # both branches in one call
    outside = cfg(denoiser, cond, null, 3.0, interval=(0.6, 0.9))(x, t).mean
    torch.testing.assert_close(outside, high(x, t).mean)
    assert calls[-1] == 3  # and the null branch is not even computed
    rescaled = cfg(denoiser, cond, null, 3.0, rescale=1.0)(x, t).mean
    torch.testing.assert_close(rescaled.std(1), high(x, t).mean.std(1))
    with pytest.raises(ValueError, match="both branches"):
        cfg(denoiser, cond, Branch(), 3.0)(x, t)


def test_the_conditional_sides_variance_is_taken_at_every_scale(generator):
    x, t = torch.randn((3, 2), generator=generator), torch.full((3,), 0.5)

    def denoiser(x_t, t, cond):
        return GaussianDenoised(cond.label[:, None] * x_t, cond.label[:, None].expand_as(x_t))

    null, cond = (
        Branch(Condition(label=torch.full((3,), 0.25))),
        Branch(Condition(label=torch.full((3,), 0.75))),
    )
    for scale in (0.0, 1.0, 3.0):
        fraction = cfg(denoiser, cond, null, scale)(x, t).variance_fraction
        assert fraction is not None
        torch.testing.assert_close(fraction, torch.full((3, 2), 0.75), rtol=0, atol=0)


def test_blend_extrapolates_from_the_weaker_network(generator):
    a, b = GaussianData(Flow(), 0.0, 1.0), GaussianData(Flow(), 1.0, 0.5)
    x, t = torch.randn((3, 2), generator=generator, dtype=torch.float64), halves(0.5, 3)
    torch.testing.assert_close(blend(a, b, 2.0)(x, t).mean, 2 * b(x, t).mean - a(x, t).mean)


def test_tilting_pulls_samples_uphill_and_scale_0_leaves_them():
    schedule = Cosine()
    belief = MixtureData(schedule)
    x = torch.randn((2000, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def run(scale):
        guided = tilted(belief, lambda x_t, t: x_t.sum(1), schedule, scale=scale, interval=(0.0, 0.95))
        return float(sample(guided, DDIM(schedule), x, uniform(100)).mean())

    plain = float(sample(belief, DDIM(schedule), x, uniform(100)).mean())
    assert run(0.0) == plain
    assert run(0.5) > plain + 0.2
    assert run(-0.5) < plain - 0.2


def test_wrong_potentials_and_infinite_gain_are_refused():
    schedule = Flow()
    belief = GaussianData(schedule)
    x = torch.zeros((2, 3), dtype=torch.float64)
    for make in (tilted, steered):
        with pytest.raises(ValueError, match="one number per sample"):
            make(belief, lambda x_t, t: x_t, schedule)(x, halves(0.5, 2))
        with pytest.raises(ValueError, match="infinite gain"):
            make(belief, lambda x_t, t: x_t.sum(1), schedule)(x, halves(1.0, 2))
    fine = tilted(belief, lambda x_t, t: x_t.sum(1), schedule, interval=(0.0, 0.99))(x, halves(1.0, 2))
    torch.testing.assert_close(fine.mean, belief(x, halves(1.0, 2)).mean)


def test_clipping_really_clips_and_keeps_the_variance_fraction():
    def wild(x_t, t):
        return GaussianDenoised(3.0 * x_t, torch.full_like(x_t, 0.25))

    x = torch.tensor([[-1.0, 0.1, 1.0]])
    out = clipped(wild, -1.0, torch.tensor([1.0, 1.0, 0.5]))(x, torch.tensor([0.5]))
    torch.testing.assert_close(out.mean, torch.tensor([[-1.0, 0.3, 0.5]]))
    assert out.variance_fraction is not None
    torch.testing.assert_close(out.variance_fraction, torch.full((1, 3), 0.25))


def test_dynamic_threshold_divides_by_the_quantile_only_when_it_exceeds_1():
    values = torch.linspace(-2, 2, 401)[None]
    out = dynamic_threshold(lambda x_t, t: GaussianDenoised(x_t), 0.9)(values, torch.tensor([0.5])).mean
    q = float(values.abs().quantile(0.9))
    torch.testing.assert_close(out, values.clamp(-q, q) / q)
    small = 0.3 * values
    torch.testing.assert_close(
        dynamic_threshold(lambda x_t, t: GaussianDenoised(x_t), 0.9)(small, torch.tensor([0.5])).mean, small
    )


def test_tapped_shows_every_belief_and_changes_nothing():
    schedule, seen = Cosine(), []
    belief = MixtureData(schedule)
    x = torch.randn((4, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    watched = sample(
        tapped(belief, lambda d, t: seen.append((d, float(t[0])))), DDIM(schedule), x, uniform(5)
    )
    torch.testing.assert_close(watched, sample(belief, DDIM(schedule), x, uniform(5)), rtol=0, atol=0)
    assert [t for _, t in seen] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_guidance_acts_where_churn_lifts_t_above_1():
    schedule, guided = Karras(), []
    belief = GaussianData(schedule)

    def log_h(x_t, t):
        guided.append(float(t[0]))
        return x_t.sum(1)

    x = 80.0 * torch.randn((4, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = uniform(3)
    sample(
        tilted(belief, log_h, schedule, 0.01),
        Heun(schedule, churn=0.4),
        x,
        times,
        generator=torch.Generator().manual_seed(0),
    )
    assert guided[0] > 1.0
    assert len(guided) == 5

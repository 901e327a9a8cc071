"""Losses: targets, weights, divergences and the variational bound against closed forms."""

import math

import pytest
import torch
from torch import nn

from analytic import ALL, NAMES, TABLE, VARIANCE_PRESERVING
from unveil.process.corrupt import corrupt
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.objective import (
    bound_loss,
    bound_term,
    denoising_loss,
    discretized_nll,
    gaussian_kl,
    hybrid_loss,
    min_snr,
)
from unveil.process.parameterization import EDM, eps, flow, v, x0
from unveil.process.schedule import Cosine, Flow, cosine_betas, linear_betas, tabulated

PARAMETERIZATIONS = [eps, x0, v, flow, EDM(0.7)]


class Constant(nn.Module):
    """A network that returns one number everywhere, `channels` times as many channels."""

    def __init__(self, value: float = 0.0, channels: int = 1) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))
        self.channels = channels

    def forward(self, x, time, cond):
        return self.value.expand(x.shape[0], self.channels * x.shape[1], *x.shape[2:])


def draws(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("parameterization", "target"),
    [
        (eps, lambda x, e, a, g: e),
        (x0, lambda x, e, a, g: x),
        (v, lambda x, e, a, g: a * e - g * x),
        (flow, lambda x, e, a, g: e - x),
        (
            EDM(0.7),
            lambda x, e, a, g: (
                (x - 0.49 / (0.49 + (g / a) ** 2) * (x + g / a * e))
                * (0.49 + (g / a) ** 2) ** 0.5
                / (0.7 * g / a)
            ),
        ),
    ],
)
@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_targets_are_the_published_ones(parameterization, target, schedule, generator):
    x_0, noise, t = draws(generator, 1, 3), draws(generator, 1, 3), torch.tensor([0.43], dtype=torch.float64)
    expected = target(x_0, noise, schedule.alpha(t)[0], schedule.sigma(t)[0])
    loss = denoising_loss(GaussianDenoiser(Constant(0.3), schedule, parameterization), x_0, t, noise)
    torch.testing.assert_close(loss, ((0.3 - expected) ** 2).mean(1), rtol=1e-8, atol=0)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_the_output_that_has_no_loss_gives_x_0_back(parameterization, generator):
    """Target and belief are inverse to each other: a flipped sign in either shows."""
    schedule, t = Cosine(), torch.tensor([0.6, 0.2], dtype=torch.float64)
    x_0, noise = draws(generator, 2, 3), draws(generator, 2, 3)
    skip, out, scale = GaussianDenoiser(Constant(), schedule, parameterization).coefficients(t)
    x_t = corrupt(schedule, x_0, t, noise)
    perfect = (x_0 - skip[:, None] * x_t) / out[:, None]

    class Perfect(nn.Module):
        def forward(self, x, time, cond):
            torch.testing.assert_close(x, scale[:, None] * x_t)
            return perfect

    denoiser = GaussianDenoiser(Perfect(), schedule, parameterization)
    torch.testing.assert_close(
        denoising_loss(denoiser, x_0, t, noise), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-16
    )
    torch.testing.assert_close(denoiser(x_t, t).mean, x_0)


def test_known_positions_are_clean_and_without_loss(generator):
    x_0, noise, t = (
        draws(generator, 2, 4),
        draws(generator, 2, 4),
        torch.tensor([0.9, 0.5], dtype=torch.float64),
    )
    known = torch.tensor([[True, False, False, True]])
    seen = []

    class Watch(Constant):
        def forward(self, x, time, cond):
            seen.append(x)
            return super().forward(x, time, cond)

    loss = denoising_loss(GaussianDenoiser(Watch(), Cosine(), x0), x_0, t, noise, known=known)
    torch.testing.assert_close(seen[0][:, [0, 3]], x_0[:, [0, 3]], rtol=0, atol=0)
    torch.testing.assert_close(loss, (x_0[:, 1:3] ** 2).mean(1))


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING)
def test_min_snr_weights(schedule):
    t = torch.tensor([0.05, 0.3, 0.9], dtype=torch.float64)
    snr = (schedule.alpha(t) / schedule.sigma(t)) ** 2
    torch.testing.assert_close(min_snr(schedule, eps)(t), snr.clamp(max=5) / snr, rtol=1e-9, atol=0)
    torch.testing.assert_close(min_snr(schedule, v)(t), snr.clamp(max=5) / (snr + 1), rtol=1e-9, atol=0)
    torch.testing.assert_close(min_snr(schedule, x0, gamma=2.0)(t), snr.clamp(max=2), rtol=1e-9, atol=0)


def test_weighting_in_output_space_is_weighting_of_x_0(generator):
    """weight * c_out^2 on the output error is weight on the error of x_0, for every parameterization."""
    x_0, noise, t = (
        draws(generator, 3, 5),
        draws(generator, 3, 5),
        torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64),
    )
    schedule = Cosine()
    snr = (schedule.alpha(t) / schedule.sigma(t)) ** 2
    for parameterization in PARAMETERIZATIONS:
        denoiser = GaussianDenoiser(Constant(0.3), schedule, parameterization)
        error = (denoiser(corrupt(schedule, x_0, t, noise), t).mean - x_0).square().mean(1)
        loss = denoising_loss(denoiser, x_0, t, noise, weight=min_snr(schedule, parameterization))
        torch.testing.assert_close(loss, snr.clamp(max=5) * error, rtol=1e-8, atol=0)


def test_kl_is_torchs(generator):
    a, b, c, d = (draws(generator, 50) for _ in range(4))
    p, q = torch.distributions.Normal(a, (0.5 * b).exp()), torch.distributions.Normal(c, (0.5 * d).exp())
    torch.testing.assert_close(gaussian_kl(a, b, c, d), torch.distributions.kl_divergence(p, q))


def test_discretized_likelihood_is_a_distribution_over_the_256_levels():
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, scale in ((0.0, 0.1), (-0.9, 0.3), (1.2, 0.05)):
        nll = discretized_nll(
            levels, torch.full_like(levels, mean), torch.full_like(levels, math.log(scale)), 2 / 255
        )
        assert float((-nll).exp().sum()) == pytest.approx(1.0, abs=1e-8)
    narrow = discretized_nll(
        levels[100:101], levels[100:101], torch.full((1,), -8.0, dtype=torch.float64), 2 / 255
    )
    assert float(narrow) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_a_term_of_the_bound_is_a_weighted_error_of_x_0(schedule, generator):
    """docs/theory.md (6.3): with variance beta-tilde a term is (SNR(s) - SNR(t)) / 2 (x_0 - m)^2, here in
    bits."""
    t, s = torch.tensor([0.9, 0.5], dtype=torch.float64), torch.tensor([0.4, 0.45], dtype=torch.float64)
    x_0, x_t, belief = (draws(generator, 2, 3) for _ in range(3))
    snr_t, snr_s = ((schedule.alpha(u) / schedule.sigma(u)) ** 2 for u in (t, s))
    expected = 0.5 * (snr_s - snr_t) * ((x_0 - belief) ** 2).mean(1) / math.log(2.0)
    got = bound_term(schedule, x_0, x_t, belief, torch.zeros_like(x_0), t, s)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=0)


def bound_of_a_perfect_denoiser(steps: int, deviation: float, width: float, generator) -> float:
    """Sum of all terms in bits, for Gaussian data and its exact denoiser."""
    count, table = 4000, tabulated(linear_betas(steps, 0.1 / steps, 20 / steps))
    x_0 = (deviation * draws(generator, count, 1)).clamp(-0.98, 0.98)
    total = torch.zeros(count, dtype=torch.float64)
    for i in range(steps, 0, -1):
        t = torch.full((count,), i / steps, dtype=torch.float64)
        s = torch.full((count,), (i - 1) / steps, dtype=torch.float64)
        x_t = corrupt(table, x_0, t, draws(generator, count, 1))
        alpha, sigma = table.alpha(t)[:, None], table.sigma(t)[:, None]
        belief = alpha * deviation**2 / ((alpha * deviation) ** 2 + sigma**2) * x_t
        total += bound_term(table, x_0, x_t, belief, torch.ones_like(x_t), t, s, bin_width=width)
    return float(total.mean())


def test_the_bound_of_a_perfect_denoiser_approaches_the_entropy(generator):
    """Sum of bound_term -> -log p(x_0) from above, its gap shrinking as 1 / T. Any wrong mean, variance or
    index leaves a gap."""
    deviation, width = 0.2, 2 / 255
    entropy = 0.5 * math.log2(2 * math.pi * math.e * deviation**2) - math.log2(width)
    coarse, fine = (bound_of_a_perfect_denoiser(n, deviation, width, generator) - entropy for n in (75, 300))
    assert 0.0 < fine < 0.15
    assert coarse / fine == pytest.approx(4.0, abs=1.2)


def noisy_end(schedule, x_0: float) -> float:
    """L_T = KL(q(x_1 | x_0) || N(0, 1)) in nats."""
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return float(gaussian_kl(schedule.alpha(one) * x_0, 2.0 * schedule.sigma(one).log(), zero, zero))


def test_the_noisy_end_costs_what_the_papers_say():
    """L_T: about 1e-5 bits a dimension with DDPM's table (Ho et al. 2020, section 4), and less with a cosine
    of as many steps.

    For x_0^2 = 1 the two parts in alpha cancel and -log(1 - alpha^2) / 2 is left; 0.27 is about the mean
    square of CIFAR-10's pixels.
    """
    linear = tabulated(linear_betas())
    alpha_bar = float(sum(torch.log1p(-torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))).exp())
    assert (
        noisy_end(linear, 1.0)
        == pytest.approx(-0.5 * math.log1p(-alpha_bar), rel=1e-6)
        == pytest.approx(2.018e-5, rel=1e-3)
    )
    assert noisy_end(linear, 0.27**0.5) / math.log(2.0) == pytest.approx(1e-5, rel=0.5)
    angle = (
        0.5 * math.pi * (0.999 + 0.008) / 1.008
    )  # the last but one entry; the last beta is clipped to 0.999
    alpha_bar = 0.001 * (math.cos(angle) / math.cos(0.5 * math.pi * 0.008 / 1.008)) ** 2
    assert noisy_end(tabulated(cosine_betas(1000)), 1.0) == pytest.approx(
        -0.5 * math.log1p(-alpha_bar), rel=1e-4
    )
    assert noisy_end(Cosine(), 1.0) == pytest.approx(1.03e-9, rel=0.01) and noisy_end(Flow(), 1.0) == 0.0


def test_hybrid_loss_teaches_the_mean_by_l_simple_alone(generator):
    x_0, noise = 0.3 * draws(generator, 4, 2), draws(generator, 4, 2)
    t = torch.tensor([0.3, 0.5, 0.001, 1.0], dtype=torch.float64)
    s = t - 0.001
    s[2] = 0.0
    mean, fraction = (
        nn.Parameter(torch.tensor(0.1, dtype=torch.float64)),
        nn.Parameter(torch.tensor(0.2, dtype=torch.float64)),
    )

    class Two(nn.Module):
        def forward(self, x, time, cond):
            return torch.cat([mean.expand_as(x), fraction.expand_as(x)], dim=1)

    denoiser = GaussianDenoiser(Two(), TABLE, eps, learned_variance=True)
    hybrid = hybrid_loss(denoiser, x_0, t, s, noise)
    simple = denoising_loss(denoiser, x_0, t, noise)
    (from_hybrid,) = torch.autograd.grad(hybrid.sum(), mean, retain_graph=True)
    (from_simple,) = torch.autograd.grad(simple.sum(), mean)
    torch.testing.assert_close(from_hybrid, from_simple)
    (to_variance,) = torch.autograd.grad(hybrid.sum(), fraction)
    assert float(to_variance.abs()) > 1e-6
    assert bool((hybrid >= simple).all())
    with pytest.raises(ValueError, match="learned_variance"):
        hybrid_loss(GaussianDenoiser(Constant(), TABLE, eps), x_0, t, s, noise)


def test_times_may_differ_along_the_event(generator):
    """Block diffusion: t of shape (B, L)."""
    x_0, noise = draws(generator, 2, 3), draws(generator, 2, 3)
    t = torch.tensor([[0.1, 0.5, 0.9], [0.2, 0.2, 0.7]], dtype=torch.float64)
    x_t = corrupt(Flow(), x_0, t, noise)
    torch.testing.assert_close(x_t, (1 - t) * x_0 + t * noise)


def test_a_parameterization_without_meaning_is_refused_instead_of_nan():
    t = torch.tensor([1.0], dtype=torch.float64)
    for parameterization in (eps, EDM(0.5)):
        with pytest.raises(ValueError, match="undefined where alpha"):
            GaussianDenoiser(Constant(), Flow(), parameterization)(torch.ones((1, 1), dtype=torch.float64), t)
    assert bool(
        torch.isfinite(
            GaussianDenoiser(Constant(), Flow(), v)(torch.ones((1, 1), dtype=torch.float64), t).mean
        ).all()
    )


def test_the_bound_alone_teaches_mean_and_variance_and_is_the_hybrids_second_term(generator):
    """Value: the difference of L_hybrid and L_simple. Gradient: along the mean too, and downhill."""
    x_0, noise, t = (
        draws(generator, 6, 2, 3),
        draws(generator, 6, 2, 3),
        torch.linspace(0.1, 1.0, 6, dtype=torch.float64),
    )
    s, schedule = t - 0.1, tabulated(linear_betas(10, 0.01, 0.9))
    model = GaussianDenoiser(Constant(0.2, 2), schedule, eps, learned_variance=True)
    bound = bound_loss(model, x_0, t, s, noise)
    hybrid = hybrid_loss(model, x_0, t, s, noise)
    simple = ((0.2 - noise) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(bound, hybrid - simple, rtol=1e-9, atol=1e-9)
    fixed = GaussianDenoiser(Constant(0.2), schedule, eps)
    (slope,) = torch.autograd.grad(bound_loss(fixed, x_0, t, s, noise)[1:].sum(), fixed.network.value)
    # beta fixed: d/dF of sum (x_0 weight)^2 (belief - x_0)^2 / (2 beta) = weight * sum (F - noise), weight >
    # 0
    share = [float((0.2 - noise[i]).mean()) * bound_weight(schedule, t[i], s[i]) for i in range(1, 6)]
    assert float(slope) == pytest.approx(sum(share), rel=1e-6)


def bound_weight(schedule, t, s) -> float:
    """beta^2 / (beta_variance alpha_ts^2 sigma_t^2) / ln 2: the weight of the eps error in the bound. Ho et
    al. 2020, eq. 12, times 2."""
    ratio = float(schedule.alpha(t) / schedule.alpha(s))
    beta = 1.0 - ratio**2
    return beta**2 / (beta * ratio**2 * float(schedule.sigma(t)) ** 2) / math.log(2.0)

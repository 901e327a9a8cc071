"""The facts that make one core possible, each proved again; docs/theory.md derives them.

1: prediction types (section 9). 2: flow matching and DDIM (10). 3: DDIM and DDPM (10). 4: both families (13,
16). 5: guidance (12, 13). 7: the three forms of guidance by a potential (12).
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analytic import ALL, NAMES, TABLE, VARIANCE_PRESERVING, GaussianData, MixtureData
from unveil.process.denoised import GaussianDenoised, MaskedDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.grid import uniform
from unveil.process.parameterization import EDM, eps, flow, v, x0
from unveil.process.posterior import posterior, posterior_coefficients
from unveil.process.schedule import Flow, Karras, cosine_betas, tabulated
from unveil.sampling.edit import Ascend
from unveil.sampling.gaussian import (
    DDIM,
    LCM,
    PNDM,
    Ancestral,
    DPMpp2M,
    DPMpp2MSDE,
    DPMppSDE,
    Euler,
    EulerAncestral,
    Heun,
    UniPC,
)
from unveil.sampling.guidance import Branch, cfg, tilted
from unveil.sampling.loop import sample
from unveil.sampling.noise import Recorded


class Speaks(nn.Module):
    """Says what a known belief would be in some parameterization."""

    def __init__(self, belief, denoiser_of) -> None:
        super().__init__()
        self.belief, self.denoiser_of = belief, denoiser_of

    def forward(self, x, time, cond):
        skip, out, scale = (c.to(x.dtype)[:, None] for c in self.denoiser_of().coefficients(time))
        x_t = x / scale
        return (self.belief(x_t, time).mean - skip * x_t) / out


def speaking(belief, schedule, parameterization) -> GaussianDenoiser:
    box: list[GaussianDenoiser] = []
    box.append(GaussianDenoiser(Speaks(belief, lambda: box[0]), schedule, parameterization))
    return box[0]


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
@pytest.mark.parametrize(
    "solver",
    [
        DDIM,
        lambda s: DDIM(s, 1.0),
        Ancestral,
        Heun,
        DPMpp2M,
        DPMpp2MSDE,
        DPMppSDE,
        PNDM,
        lambda s: PNDM(s, "v"),
        UniPC,
        LCM,
    ],
)
def test_1_prediction_types_are_coefficients(schedule, solver, generator):
    """The same belief, spoken in every parameterization, gives the same sample."""
    belief = MixtureData(schedule)
    times = uniform(8, start=0.95)
    x = float(schedule.sigma(times[:1])) * torch.randn((16, 1), generator=generator, dtype=torch.float64)
    plain = sample(belief, solver(schedule), x, times, generator=torch.Generator().manual_seed(1))
    for parameterization in (eps, x0, v, flow, EDM(0.6)):
        denoiser = speaking(belief, schedule, parameterization)
        spoken = sample(denoiser, solver(schedule), x, times, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(spoken, plain, rtol=1e-8, atol=1e-9)


@given(st.floats(0.05, 1.0), st.floats(0.01, 0.99), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_2_the_euler_step_of_flow_matching_is_ddim(t, share, seed):
    x = torch.randn((3, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    now, after = torch.tensor(t, dtype=torch.float64), torch.tensor(t * share, dtype=torch.float64)
    belief = GaussianData(Flow(), 0.4, 0.8)
    velocity = (x - belief(x, now.expand(3)).mean) / now  # dx/dt = eps - x_0
    euler = x + (after - now) * velocity
    torch.testing.assert_close(
        DDIM(Flow()).step(belief, x, now, after, None, None)[0], euler, rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_3_k_diffusions_euler_steps_are_ddim(schedule, generator):
    """Its formulas, for x / alpha as a function of r = sigma / alpha: without noise, ancestral, with churn."""
    belief = MixtureData(schedule)
    x = torch.randn((16, 1), generator=generator, dtype=torch.float64)
    noise = torch.randn((16, 1), generator=generator, dtype=torch.float64)
    for t, s in ((0.9, 0.6), (0.3, 0.1)):
        t, s = torch.tensor(t, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
        alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
        r_t, r_s = schedule.sigma(t) / alpha_t, schedule.sigma(s) / alpha_s
        y = x / alpha_t

        def slope(y, r):
            time = schedule.time(-2.0 * r.log())
            return (y - belief(schedule.alpha(time) * y, time.expand(16)).mean) / r

        plain = alpha_s * (y + slope(y, r_t) * (r_s - r_t))
        for solver in (Euler(schedule), DDIM(schedule)):
            torch.testing.assert_close(solver.step(belief, x, t, s, None, None)[0], plain)
        for eta in (0.5, 1.0):
            up = torch.minimum(r_s, eta * (r_s**2 * (r_t**2 - r_s**2) / r_t**2).sqrt())
            down = (r_s**2 - up**2).sqrt()
            ancestral = alpha_s * (y + slope(y, r_t) * (down - r_t) + up * noise)
            solvers = [EulerAncestral(schedule, eta), DDIM(schedule, eta)]
            for solver in solvers + [Ancestral(schedule)] * (eta == 1.0):
                got, _ = solver.step(belief, x, t, s, None, Recorded([noise]))
                torch.testing.assert_close(got, ancestral)
        higher = 1.05 * r_t
        raised = y + 1.003 * noise * (higher**2 - r_t**2).sqrt()
        churned = alpha_s * (raised + slope(raised, higher) * (r_s - higher))
        got, _ = Euler(schedule, 0.05, 1.003).step(belief, x, t, s, None, Recorded([noise]))
        torch.testing.assert_close(got, churned, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING)
def test_3_ddim_with_eta_1_is_ddpm_with_beta_tilde(schedule, generator):
    x = torch.randn((64, 3), generator=generator, dtype=torch.float64)
    belief = GaussianData(schedule, 0.2, 0.5)
    for t, s in ((1.0, 0.7), (0.5, 0.49), (0.1, 0.0)):
        t, s = torch.tensor(t, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
        mean, variance = posterior(schedule, x, belief(x, t.expand(64)).mean, t, s)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        expected = mean + variance.sqrt() * noise
        for solver in (DDIM(schedule, 1.0), Ancestral(schedule)):
            got, _ = solver.step(belief, x, t, s, None, torch.Generator().manual_seed(3))
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9)


def test_3_larger_variances_keep_the_mean_and_are_no_other_eta():
    t, s = torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    x = torch.ones((1, 1), dtype=torch.float64)

    def belief(x_t, time):
        return GaussianDenoised(0.3 * x_t, torch.full_like(x_t, 0.5))

    means = {
        kind: Ancestral(TABLE, kind, temperature=0.0).step(belief, x, t, s, None, None)[0]
        for kind in ("small", "large", "learned")
    }
    assert means["small"] == means["large"] == means["learned"]
    c = posterior_coefficients(TABLE, t, s)
    eta = (c.large / c.small).sqrt()  # the eta that would have beta's variance
    with_eta, _ = DDIM(TABLE, float(eta)).step(belief, x, t, s, None, torch.Generator().manual_seed(0))
    large, _ = Ancestral(TABLE, "large").step(belief, x, t, s, None, torch.Generator().manual_seed(0))
    assert abs(float(with_eta - large)) > 1e-2


def test_4_cfg_moves_the_natural_parameter_of_both_families(generator):
    a, b = torch.randn((2, 5, 7), generator=generator), torch.randn((2, 5, 7), generator=generator)
    w = 1.7  # published w: guided = (1 + w) cond - w null
    gaussian = GaussianDenoised(b).toward(GaussianDenoised(a), 1 + w)
    torch.testing.assert_close(gaussian.mean, (1 + w) * a - w * b)
    logits = MaskedDenoised(b).toward(MaskedDenoised(a), 1 + w)
    torch.testing.assert_close(
        logits.logits, b + (w + 1) * (a - b)
    )  # LLaDA: un_logits + (cfg_scale + 1) * (logits - un_logits)


def test_4_cfg_serves_tokens_with_a_view_in_place_of_a_condition(generator):
    table = torch.randn((4, 6), generator=generator)
    calls = []

    def denoiser(x, t, cond):
        calls.append(x)
        return MaskedDenoised(table[x])

    x, t = torch.tensor([[1, 2, 3]]), torch.tensor([0.5])
    guided = cfg(denoiser, Branch(), Branch(view=lambda tokens: torch.where(tokens == 1, 0, tokens)), 3.0)(
        x, t
    )
    hidden = torch.tensor([[0, 2, 3]])
    torch.testing.assert_close(guided.logits, table[hidden] + 3.0 * (table[x] - table[hidden]))
    assert len(calls) == 1
    assert calls[0].shape == (2, 3)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_5_guidance_by_a_log_potential_is_exact_on_conjugate_gaussians(schedule, generator):
    """Prior N(m, d^2), likelihood N(y; x_0, r^2): tilting by log p(y | x_t) gives the exact posterior's
    denoiser."""
    mean, deviation, y, spread = 0.3, 0.8, -0.5, 0.4
    prior = GaussianData(schedule, mean, deviation)
    precision = 1 / deviation**2 + 1 / spread**2
    exact = GaussianData(schedule, (mean / deviation**2 + y / spread**2) / precision, precision**-0.5)

    def log_likelihood(x_t, t):
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        variance = deviation**2 * sigma**2 / ((alpha * deviation) ** 2 + sigma**2)  # of x_0 given x_t
        return -0.5 * ((y - prior(x_t, t).mean) ** 2 / (spread**2 + variance)).sum(1)

    x = torch.randn((5, 3), generator=generator, dtype=torch.float64)
    for t in (0.9, 0.5, 0.1):
        time = torch.full((5,), t, dtype=torch.float64)
        guided = tilted(prior, log_likelihood, schedule)(x, time).mean
        torch.testing.assert_close(guided, exact(x, time).mean, rtol=1e-7, atol=1e-9)


def test_5_cfg_is_tilting_by_the_implicit_classifier(generator):
    schedule, w = TABLE, 2.5
    null, cond = GaussianData(schedule, 0.0, 1.0), GaussianData(schedule, 0.8, 0.4)

    def log_ratio(x_t, t):
        """log p(x_t | c) - log p(x_t), the implicit classifier up to a constant."""
        terms = []
        for data in (cond, null):
            alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
            terms.append(-0.5 * (x_t - alpha * data.mean) ** 2 / ((alpha * data.deviation) ** 2 + sigma**2))
        return (terms[0] - terms[1]).sum(1)

    x, t = (
        torch.randn((4, 2), generator=generator, dtype=torch.float64),
        torch.full((4,), 0.4, dtype=torch.float64),
    )
    by_tilt = tilted(null, log_ratio, schedule, scale=w)(x, t).mean
    torch.testing.assert_close(by_tilt, null(x, t).toward(cond(x, t), w).mean, rtol=1e-8, atol=1e-10)


def test_7_the_mean_shift_is_a_belief_shift_with_gain_sigma_s2_over_alpha_s(generator):
    x = torch.randn((4, 2), generator=generator, dtype=torch.float64)
    t, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.45, dtype=torch.float64)
    belief = GaussianData(TABLE, 0.1, 0.6)

    def log_h(x_t, time):
        return -(x_t**2).sum(1)

    shifted, _ = Ancestral(TABLE, temperature=0.0, log_h=log_h, scale=0.3).step(belief, x, t, s, None, None)
    gain = 0.3 * TABLE.sigma(s) ** 2 / TABLE.alpha(s)

    def moved(x_t, time):
        return GaussianDenoised(belief(x_t, time).mean + gain * (-2 * x_t))

    by_belief, _ = Ancestral(TABLE, temperature=0.0).step(moved, x, t, s, None, None)
    torch.testing.assert_close(shifted, by_belief, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("s", [0.45, 0.0])
def test_7_what_one_gradient_does_in_each_form(s, generator):
    """The table of docs/theory.md, section 12: shifts of x_s by one constant gradient g, in a step with
    beta-tilde; (c) is exact here."""
    x, g = (
        torch.randn((4, 2), generator=generator, dtype=torch.float64),
        torch.tensor([0.4, -1.1], dtype=torch.float64),
    )
    t, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
    belief, w, gain = GaussianData(TABLE, 0.1, 0.6), 0.3, 0.02
    alpha, sigma = TABLE.alpha(t), TABLE.sigma(t)
    c = posterior_coefficients(TABLE, t, s)
    slope = alpha * 0.36 / (0.36 * alpha**2 + sigma**2)  # of the belief's mean in x_t

    def log_h(x_t, time):
        return (g * x_t).sum(1)

    def moved(solver, denoise=belief, x_t=x):
        plain, _ = Ancestral(TABLE, temperature=0.0).step(belief, x, t, s, None, None)
        return solver.step(denoise, x_t, t, s, None, None)[0] - plain

    still = Ancestral(TABLE, temperature=0.0)
    by_belief = moved(still, tilted(belief, log_h, TABLE, w))
    torch.testing.assert_close(
        by_belief, (w * c.large / (alpha / TABLE.alpha(s)) * g).expand(4, 2), rtol=1e-8, atol=1e-12
    )
    by_mean = moved(Ancestral(TABLE, temperature=0.0, log_h=log_h, scale=w))
    torch.testing.assert_close(by_mean, (w * c.small * g).expand(4, 2), rtol=1e-8, atol=1e-12)
    by_state = moved(still, x_t=Ascend(log_h, gain=lambda time: gain)(x, t, None))
    torch.testing.assert_close(
        by_state, (gain * (c.x_t_weight + c.x_0_weight * slope) * g).expand(4, 2), rtol=1e-8, atol=1e-12
    )


def test_7_at_diffusers_first_step_the_belief_shift_is_32_times_the_mean_shift():
    table = tabulated(cosine_betas(20))
    t, s = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.95, dtype=torch.float64)
    belief_gain = table.sigma(t) ** 2 / table.alpha(t)
    mean_gain = table.sigma(s) ** 2 / table.alpha(s)
    assert float(belief_gain / mean_gain) == pytest.approx(32, rel=0.02)


def test_7_ascent_on_the_state_is_a_third_thing(generator):
    x, t = (
        torch.randn((2, 3), generator=generator, dtype=torch.float64),
        torch.tensor(0.5, dtype=torch.float64),
    )
    twice = Ascend(lambda x_t, time: -0.5 * (x_t**2).sum(1), gain=lambda time: 0.25, steps=2)(x, t, None)
    torch.testing.assert_close(twice, x * 0.75**2)


def test_heun_is_edms_with_alpha_1_and_the_trapezoid_of_the_velocity_with_flow(generator):
    x = torch.randn((3, 1), generator=generator, dtype=torch.float64)
    t, s = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    for schedule, slope in (
        (Karras(), lambda x, mean, u: (x - mean) / Karras().sigma(u)),  # dx / d sigma
        (Flow(), lambda x, mean, u: (x - mean) / u),  # dx / dt
    ):
        belief = MixtureData(schedule)
        clock = schedule.sigma
        y = x * clock(t)
        first = slope(y, belief(y, t.expand(3)).mean, t)
        euler = y + (clock(s) - clock(t)) * first
        second = slope(euler, belief(euler, s.expand(3)).mean, s)
        expected = y + (clock(s) - clock(t)) * 0.5 * (first + second)
        torch.testing.assert_close(
            Heun(schedule).step(belief, y, t, s, None, None)[0], expected, rtol=1e-9, atol=1e-12
        )

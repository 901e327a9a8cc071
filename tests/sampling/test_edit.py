"""Known positions never change; ascent goes uphill, between the right bounds."""

import pytest
import torch

from analytic import ALL, NAMES, GaussianData, MixtureData
from unveil.process.grid import jumping, uniform
from unveil.process.schedule import Cosine
from unveil.sampling.edit import Ascend, Inpaint, Replace, chain, identity
from unveil.sampling.gaussian import DDIM, Ancestral, DPMpp2M, Heun, Renoise
from unveil.sampling.loop import sample

KNOWN = torch.tensor([[True, False, False, True]])
VALUE = torch.tensor([[0.7, 0.0, 0.0, -1.1]], dtype=torch.float64)


@pytest.mark.parametrize("solver", [DDIM, lambda s: DDIM(s, 1.0), Ancestral, Heun, DPMpp2M])
@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_known_positions_are_untouched_in_every_state_that_is_shown(solver, schedule, generator):
    shown = []
    belief = GaussianData(schedule, 0.3, 0.5)
    x = torch.randn((3, 4), generator=generator, dtype=torch.float64)
    times = uniform(5, start=0.95)
    sample(
        belief,
        solver(schedule),
        x,
        times,
        edit=Inpaint(KNOWN, VALUE),
        generator=generator,
        on_step=lambda x, s: shown.append(x),
    )
    assert len(shown) == 5
    for state in shown:
        torch.testing.assert_close(state[:, [0, 3]], VALUE[:, [0, 3]].expand(3, 2), rtol=0, atol=0)


def test_the_denoiser_sees_them_known_from_the_first_call(generator):
    seen = []

    def belief(x_t, t):
        seen.append(x_t)
        return GaussianData(Cosine())(x_t, t)

    x = torch.randn((3, 4), generator=generator, dtype=torch.float64)
    sample(belief, DDIM(Cosine()), x, uniform(3), edit=Inpaint(KNOWN, VALUE))
    for state in seen:
        torch.testing.assert_close(state[:, [0, 3]], VALUE[:, [0, 3]].expand(3, 2), rtol=0, atol=0)


def test_replace_puts_values_back_noised_to_their_time():
    schedule = Cosine()
    value = torch.full((1, 2), 0.5, dtype=torch.float64)
    edit = Replace(torch.tensor([[True, False]]), value, schedule)
    t = torch.tensor(0.4, dtype=torch.float64)
    x = torch.zeros((20_000, 2), dtype=torch.float64)
    out = edit(x, t, torch.Generator().manual_seed(0))
    assert bool((out[:, 1] == 0).all())
    assert float(out[:, 0].mean()) == pytest.approx(0.5 * float(schedule.alpha(t)), abs=0.01)
    assert float(out[:, 0].std()) == pytest.approx(float(schedule.sigma(t)), rel=0.02)
    clean = edit(x, torch.tensor(0.0, dtype=torch.float64), torch.Generator().manual_seed(0))
    torch.testing.assert_close(clean[:, 0], x[:, 0] + 0.5)


def test_replace_with_jumps_infers_the_unknown_from_the_known():
    """RePaint on a correlated pair: x_1 given x_0 = 1.2 under a mixture whose numbers agree."""
    schedule = Cosine()
    single = MixtureData(schedule, means=(-1.2, 1.2), weights=(0.5, 0.5), deviation=0.2)

    def belief(x_t, t):
        joint = single(x_t.mean(1, keepdim=True) * 1.0, t).mean  # both numbers are the same hidden one
        return type(single(x_t[:, :1], t))(joint.expand_as(x_t))

    times = jumping(uniform(40), 1, 3)
    x = torch.randn((400, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    edit = Replace(torch.tensor([[True, False]]), torch.tensor([[1.2, 0.0]], dtype=torch.float64), schedule)
    out = sample(
        belief,
        Renoise(DDIM(schedule, 1.0), schedule),
        x,
        times,
        edit=edit,
        generator=torch.Generator().manual_seed(1),
    )
    assert float((out[:, 1] > 0).double().mean()) > 0.95


def test_ascend_stops_where_its_gain_is_zero_and_keeps_what_is_put_between():
    x = torch.ones((2, 4), dtype=torch.float64)
    ascend = Ascend(lambda x_t, t: 3.0 * x_t.sum(1), gain=lambda t: 0.1 if float(t) > 0.5 else 0.0, steps=2)
    torch.testing.assert_close(ascend(x, torch.tensor(0.9), None), x + 0.6)
    torch.testing.assert_close(ascend(x, torch.tensor(0.4), None), x, rtol=0, atol=0)
    kept = chain(
        Ascend(lambda x_t, t: x_t.sum(1), lambda t: 1.0, 3, between=Inpaint(KNOWN, VALUE)), identity
    )(x, torch.tensor(0.9), None)
    torch.testing.assert_close(kept[:, [0, 3]], VALUE[:, [0, 3]].expand(2, 2), rtol=0, atol=0)
    torch.testing.assert_close(kept[:, 1:3], torch.full((2, 2), 4.0, dtype=torch.float64))


def test_chain_applies_from_left_to_right():
    both = chain(lambda x, t, g: x + 1.0, lambda x, t, g: x * 10.0)
    assert float(both(torch.tensor(1.0), torch.tensor(0.5), None)) == 20.0


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_going_up_keeps_the_marginals(schedule):
    """From x_t of N(0.3, 0.5^2) data up to s: mean alpha_s 0.3, variance alpha_s^2 0.25 + sigma_s^2; down it
    is the solver's own step."""
    t, s = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    data = GaussianData(schedule, 0.3, 0.5)
    mean, deviation = data.marginal(t)
    x_t = mean + deviation * torch.randn((40_000, 1), generator=generator, dtype=torch.float64)
    solver = Renoise(DDIM(schedule), schedule)
    x_s, carry = solver.step(data, x_t, t, s, "forgotten", generator)
    assert carry is None
    assert float(x_s.mean()) == pytest.approx(data.marginal(s)[0], abs=0.02 * data.marginal(s)[1])
    assert float(x_s.std()) == pytest.approx(data.marginal(s)[1], rel=0.015)
    kept = float(schedule.alpha(s) / schedule.alpha(t)) * deviation / data.marginal(s)[1]
    assert float(torch.corrcoef(torch.cat([x_t, x_s], 1).T)[0, 1]) == pytest.approx(kept, abs=0.02)
    torch.testing.assert_close(
        solver.step(data, x_s, s, t, None, None)[0], DDIM(schedule).step(data, x_s, s, t, None, None)[0]
    )

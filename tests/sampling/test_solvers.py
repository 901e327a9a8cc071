"""What the solvers of text-to-image models do at the ends of a schedule, how often they call the network, and
that a sample does not depend on its batch or lose an edit."""

import pytest
import torch

from analytic import ALL, NAMES, GaussianData, MixtureData
from unveil.process.grid import karras, leading, uniform
from unveil.process.schedule import Cosine, Flow
from unveil.sampling.edit import Inpaint, identity
from unveil.sampling.gaussian import (
    LCM,
    PNDM,
    Consistency,
    DPMpp2M,
    DPMpp2MSDE,
    DPMppSDE,
    Euler,
    EulerAncestral,
    UniPC,
)
from unveil.sampling.loop import sample
from unveil.sampling.noise import generators

SOLVERS = {
    "Euler": Euler,
    "EulerAncestral": EulerAncestral,
    "DPMpp2MSDE": DPMpp2MSDE,
    "DPMppSDE": DPMppSDE,
    "PNDM": PNDM,
    "UniPC": UniPC,
    "LCM": LCM,
}
CALLS = {"DPMppSDE": 15, "PNDM": 9}  # of 8 steps: two each but the last, and one more


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_solvers_reach_clean_samples_on_every_schedule(name, schedule):
    """Of data without spread every solver makes the datum, from any state; and each number of calls."""
    belief, calls = GaussianData(schedule, 0.4, 1e-6), []

    def counted(x_t, t):
        calls.append(float(t[0]))
        return belief(x_t, t)

    x = torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    out = sample(counted, SOLVERS[name](schedule), x, uniform(8, 0.95), generator=torch.Generator())
    torch.testing.assert_close(out, torch.full_like(x, 0.4), rtol=0, atol=1e-5)
    assert len(calls) == CALLS.get(name, 8)
    if name == "PNDM":
        assert calls[1] == calls[2] < calls[0]


@pytest.mark.parametrize("name", SOLVERS)
def test_pure_noise_is_a_start_or_is_refused_in_one_line(name):
    """Flow matching begins where alpha is 0."""
    schedule = Flow()
    belief, x = GaussianData(schedule, 0.4, 0.5), torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    solver, times = SOLVERS[name](schedule), uniform(40)
    if name in ("DPMppSDE", "PNDM", "UniPC"):
        with pytest.raises(ValueError, match=r"alpha\(t\) = 0; start the time grid below 1"):
            sample(belief, solver, x, times, generator=torch.Generator())
    else:
        assert bool(sample(belief, solver, x, times, generator=torch.Generator()).isfinite().all())


def test_steps_from_pure_noise_have_their_limits():
    """Of DPM++ 2M SDE: with eta > 0 the first state is forgotten, with eta 0 it is DPM++ 2M."""
    schedule, x = Flow(), torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    belief = GaussianData(schedule, 0.4, 0.5)
    t, s = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    kept, _ = DPMpp2M(schedule).step(belief, x, t, s, None, None)
    got, _ = DPMpp2MSDE(schedule, 0.0).step(belief, x, t, s, None, None)
    torch.testing.assert_close(got, kept)
    noise = torch.randn((2, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fresh, _ = DPMpp2MSDE(schedule).step(belief, x, t, s, None, torch.Generator().manual_seed(0))
    mean = belief(x, t.expand(2)).mean
    torch.testing.assert_close(fresh, 0.3 * mean + 0.7 * noise)


@pytest.mark.parametrize("name", ["EulerAncestral", "DPMpp2MSDE", "DPMppSDE", "LCM"])
def test_a_sample_has_noise_of_its_own(name):
    schedule = Cosine()
    belief, times, solver = MixtureData(schedule), uniform(6, 0.9), SOLVERS[name](schedule)
    x = torch.linspace(-1, 1, 3, dtype=torch.float64)[:, None]
    whole = sample(belief, solver, x, times, generator=generators(5, 3))
    alone = sample(belief, solver, x[1:2], times, generator=generators(5, 1, first=1))
    torch.testing.assert_close(whole[1:2], alone, rtol=0, atol=0)
    assert not torch.equal(whole, sample(belief, solver, x, times, generator=generators(6, 3)))


def test_unipc_keeps_edits_between_steps():
    """Its corrector adds to the state that the edit left, by what it adds without an edit; known positions end
    at their values."""
    schedule = Cosine()
    times, x = uniform(6, 0.9), torch.linspace(-1, 1, 5, dtype=torch.float64)[None]
    known = torch.tensor([True, False, False, False, False])
    edit = Inpaint(known, torch.tensor(0.7, dtype=torch.float64))
    belief = GaussianData(schedule, 0.2, 0.6)
    free, tied = (sample(belief, UniPC(schedule), x, times, edit=change) for change in (identity, edit))
    torch.testing.assert_close(free[:, 1:], tied[:, 1:], rtol=0, atol=0)  # each number has its own belief
    assert float(tied[0, 0]) == 0.7
    state, carry = UniPC(schedule).step(belief, x, times[0], times[1], None, None)
    plain, _ = UniPC(schedule).step(belief, state, times[1], times[2], carry, None)
    moved, _ = UniPC(schedule).step(
        lambda y, t: belief(y - 100.0, t), state + 100.0, times[1], times[2], carry, None
    )
    kept = float(schedule.sigma(times[2]) / schedule.sigma(times[1]))
    torch.testing.assert_close(moved - plain, torch.full_like(x, 100.0 * kept))


def test_lcm_is_multistep_consistency_away_from_the_clean_end():
    schedule, times = Cosine(), leading(1000, 4, end=0)[:-1]
    belief, x = MixtureData(schedule), torch.linspace(-1, 1, 3, dtype=torch.float64)[:, None]
    got, wanted = (
        sample(belief, solver(schedule), x, times, generator=torch.Generator().manual_seed(0))
        for solver in (LCM, Consistency)
    )
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)
    t, s = torch.tensor(0.001, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    clean, _ = LCM(schedule).step(belief, x, t, s, None, None)
    torch.testing.assert_close(clean, x)  # at the first entry f is the identity


def test_dpmpp_sde_steps_by_the_belief_in_the_middle():
    """With eta 0 DPM-Solver++ (2S): to the middle of the log-SNR by the mean at t, then by the mean there."""
    schedule = Cosine()
    belief, x = MixtureData(schedule), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    low, high = karras(schedule, 2, 0.3, 2.7)[:2]
    middle = schedule.time(-2.0 * torch.tensor(0.9, dtype=torch.float64).log())  # 0.9^2 = 0.3 * 2.7
    y, r = x / schedule.alpha(low), torch.tensor([2.7, 0.9, 0.3], dtype=torch.float64)
    mean = belief(x, low.expand(5)).mean
    y_m = r[1] / r[0] * y + (1.0 - r[1] / r[0]) * mean
    mean_m = belief(schedule.alpha(middle) * y_m, middle.expand(5)).mean
    wanted = schedule.alpha(high) * (r[2] / r[0] * y + (1.0 - r[2] / r[0]) * mean_m)
    got, _ = DPMppSDE(schedule, 0.0).step(belief, x, low, high, None, None)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)

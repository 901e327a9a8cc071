"""The loop: determinism, early stop, carry, both families, and no tensor made where it does not belong."""

import pytest
import torch
from torch import Tensor, nn

from analytic import ALL, NAMES, GaussianData
from unveil.network.condition import Condition
from unveil.process.denoised import MaskedDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.grid import (
    exponential,
    karras,
    latent_consistency,
    leading,
    linspace,
    respaced,
    sgm_uniform,
    trailing,
    uniform,
)
from unveil.process.objective import denoising_loss, hybrid_loss, min_snr
from unveil.process.parameterization import eps, v
from unveil.process.schedule import (
    Cosine,
    Flow,
    Karras,
    LinearBeta,
    ScaledLinearBeta,
    linear_betas,
    tabulated,
)
from unveil.sampling.edit import Ascend, Inpaint, Replace, chain
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
from unveil.sampling.guidance import Branch, cfg, clipped, dynamic_threshold, steered, tilted
from unveil.sampling.loop import sample

STOCHASTIC = [
    lambda s: DDIM(s, 0.7),
    Ancestral,
    lambda s: Heun(s, churn=0.2),
    lambda s: Euler(s, churn=0.2),
    EulerAncestral,
    DPMpp2MSDE,
    DPMppSDE,
    LCM,
]


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_the_generator_decides_everything(solver, schedule):
    belief, times = GaussianData(schedule, 0.2, 0.6), uniform(6, start=0.9)
    x = torch.ones((2, 3), dtype=torch.float64)

    def run(seed):
        torch.manual_seed(torch.randint(1 << 30, ()).item())  # the global generator plays no part
        return sample(belief, solver(schedule), x, times, generator=torch.Generator().manual_seed(seed))

    torch.testing.assert_close(run(1), run(1), rtol=0, atol=0)
    assert not torch.equal(run(1), run(2))


def test_on_step_sees_each_state_and_may_stop():
    schedule, seen = Cosine(), []
    x = torch.ones((2, 3), dtype=torch.float64)

    def watch(state: Tensor, s: Tensor) -> bool:
        seen.append((state, float(s)))
        return len(seen) == 3

    out = sample(GaussianData(schedule), DDIM(schedule), x, uniform(10), on_step=watch)
    assert [s for _, s in seen] == pytest.approx([0.9, 0.8, 0.7])
    torch.testing.assert_close(out, seen[-1][0], rtol=0, atol=0)


def test_the_loop_serves_tokens_and_carries_a_clock():
    """A masked family made here: reveal the surest token each step; the number of steps taken travels in
    carry."""
    table = torch.eye(5)[[1, 2, 3, 4]] * 4.0

    class RevealOne:
        def step(self, denoise, x_t, t, s, carry, generator):
            logits = denoise(x_t, t.expand(len(x_t))).logits
            sure, token = logits.softmax(-1).max(-1)
            place = torch.where(x_t == 0, sure + torch.arange(4) * 1e-3, -1.0).argmax(1)
            return x_t.scatter(1, place[:, None], token.gather(1, place[:, None])), (carry or 0) + 1

    out = sample(
        lambda x_t, t: MaskedDenoised(table.expand(len(x_t), 4, 5)),
        RevealOne(),
        torch.zeros((2, 4), dtype=torch.long),
        uniform(4),
    )
    assert out.tolist() == [[1, 2, 3, 4]] * 2


class Tiny(nn.Module):
    """A network with one weight on a given device."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1, device="cpu"))
        self.channels = channels

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None) -> Tensor:
        return torch.cat([self.weight * x] * self.channels, dim=1)


def test_no_tensor_is_made_without_a_device():
    """With meta as torch's default device, whatever is made without one has no values and breaks the
    result."""
    x = torch.randn((2, 4), generator=torch.Generator(device="cpu").manual_seed(0), device="cpu")
    known = torch.zeros((2, 4), dtype=torch.bool, device="cpu")
    known[:, 0] = True
    label = torch.zeros(2, device="cpu")
    t = torch.tensor([0.3, 0.6], device="cpu")
    torch.set_default_device("meta")
    try:
        schedules = [
            LinearBeta(),
            Cosine(),
            ScaledLinearBeta(),
            Flow(),
            Karras(),
            tabulated(linear_betas(50)),
        ]
        for schedule in schedules:
            denoiser = GaussianDenoiser(Tiny(), schedule, v)
            edit = chain(
                Replace(known, x, schedule),
                Ascend(lambda y, u: -(y**2).sum(1), lambda u: 0.01),
                Inpaint(known, x),
            )
            guided = cfg(
                denoiser, Branch(Condition(label=label)), Branch(Condition(label=label)), 2.0, rescale=0.5
            )
            guided = tilted(
                clipped(guided, -1.0, 1.0), lambda y, u: -(y**2).sum(1), schedule, 0.1, (0.0, 0.9)
            )
            guided = steered(dynamic_threshold(guided), lambda y, u: (y**2).sum(1), schedule, 0.1, False)
            for solver in (
                DDIM(schedule, 0.5),
                Ancestral(schedule),
                Heun(schedule, churn=0.1),
                DPMpp2M(schedule),
                Euler(schedule, churn=0.1),
                EulerAncestral(schedule),
                DPMpp2MSDE(schedule),
                DPMppSDE(schedule),
                PNDM(schedule),
                UniPC(schedule, 3),
                LCM(schedule),
            ):
                for times in (
                    uniform(3, 0.9),
                    karras(schedule, 3, 0.05, 0.5),
                    trailing(50, 4)[1:],
                    respaced(50, (2, 2))[1:],
                    exponential(schedule, 3, 0.05, 0.5),
                    sgm_uniform(50, 4)[1:],
                    linspace(50, 4)[1:],
                    leading(50, 4),
                    latent_consistency(50, 4)[1:],
                ):
                    out = sample(guided, solver, x, times, edit=edit)
                    assert out.device.type == "cpu"
                    assert bool(torch.isfinite(out).all())
            loss = denoising_loss(denoiser, x, t, x, known=known, weight=min_snr(schedule, v))
            assert loss.device.type == "cpu"
            learned = GaussianDenoiser(Tiny(2), schedule, eps, learned_variance=True)
            assert hybrid_loss(learned, x, t, t - 0.02, x).device.type == "cpu"
    finally:
        torch.set_default_device("cpu")


def test_edits_are_told_the_time_of_the_state_they_change():
    times, told = uniform(4), []

    def edit(x, t, generator):
        told.append(float(t))
        return x

    sample(GaussianData(Cosine()), DDIM(Cosine()), torch.ones((1, 2), dtype=torch.float64), times, edit=edit)
    assert told == times.tolist()

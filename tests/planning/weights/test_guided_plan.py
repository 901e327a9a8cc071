"""A whole guided plan of the original under its own noise, through `sample`, `Ancestral`, `Ascend` and
`Inpaint`."""

import pytest
import torch
from torch import Tensor

from originals import DATASET, PLAIN, VALUE, golden, load_original, unpacked
from tolerance import golden_close
from unveil.planning.trajectory_model import TrajectoryModel, ValueModel
from unveil.process.corrupt import like
from unveil.process.grid import uniform
from unveil.process.posterior import posterior_coefficients
from unveil.sampling.edit import Ascend, Inpaint, chain
from unveil.sampling.gaussian import Ancestral
from unveil.sampling.loop import sample

STEPS = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[TrajectoryModel, ValueModel]:
    logs = unpacked(tmp_path_factory.mktemp("logs")) / DATASET
    plain, value = load_original(logs / PLAIN), load_original(logs / VALUE)
    assert isinstance(plain, TrajectoryModel) and isinstance(value, ValueModel)
    return plain, value


def variance(model: TrajectoryModel, t: Tensor) -> Tensor:
    """The original's `posterior_variance` at index T t - 1: beta-tilde of the step from t."""
    return posterior_coefficients(model.denoiser.schedule, t, t - 1.0 / STEPS).small


def recorded(model: TrajectoryModel, noise: Tensor):
    """An edit that adds, after the step into s, what the original added there; a solver of temperature 0 adds
    none."""

    def add(x: Tensor, s: Tensor, generator: torch.Generator | None) -> Tensor:
        index = round(float(s) * STEPS)  # of the step that ended at s
        if index in (0, STEPS):  # no noise into s = 0; x_T is the noise
            return x
        return x + like(variance(model, s + 1.0 / STEPS).sqrt(), x) * noise[index]

    return add


def states(model: TrajectoryModel, guide, wanted: dict[str, Tensor]) -> list[Tensor]:
    """x before each step, as the original's chain has it, and after the last."""
    noise = wanted["noise"]
    value = torch.zeros_like(noise[0])
    value[:, 0, 2:] = wanted["start"]
    inpaint = Inpaint(model.shape.first_known(value.shape[1]), value)
    seen: list[Tensor] = []

    def keep(x: Tensor, t: Tensor, generator: torch.Generator | None) -> Tensor:
        seen.append(x.clone())
        return x

    edit = chain(recorded(model, noise), inpaint, keep, guide(inpaint))
    x = sample(
        model.denoiser,
        Ancestral(model.denoiser.schedule, temperature=0.0),
        noise[STEPS].clone(),
        uniform(STEPS),
        edit=edit,
    )
    torch.testing.assert_close(x, seen[-1], rtol=0, atol=0)  # no ascent at t = 0
    return seen


def ascend(model: TrajectoryModel, value, scale: float, stop: int, steps: int, by_variance: bool):
    """n_step_guided_p_sample: at index i = T t - 1 nothing below `t_stopgrad`, else scale, times the
    posterior variance."""

    def gain(t: Tensor) -> float:
        if round(float(t) * STEPS) - 1 < max(stop, 0):
            return 0.0
        return scale * float(variance(model, t)) if by_variance else scale

    return lambda inpaint: Ascend(value, gain, steps, between=inpaint)


STEPWISE = 1024  # roundings of float32: twenty steps, each the next one's input
RUNS = {"by_variance": (3.0, 2, 2, True), "plain_scale": (0.1, 4, 1, False)}


@pytest.mark.parametrize("name", RUNS)
def test_a_guided_plan_is_the_originals(models, name):
    model, value = models
    wanted = golden("plans")
    scale, stop, steps, by_variance = RUNS[name]
    seen = states(model, ascend(model, value, scale, stop, steps, by_variance), wanted)
    golden_close(seen[-1], wanted[f"{name}_x"], STEPWISE)
    if f"{name}_chain" in wanted:
        golden_close(torch.stack(seen, 1), wanted[f"{name}_chain"], STEPWISE)
    assert (seen[-1] - wanted["unguided_x"]).abs().max() > 0.1  # the guide did something
    # the original sorts by the value of the state before its last step, which is not that of the plan
    last = value(seen[-2], torch.full((len(seen[-2]),), 1.0 / STEPS, dtype=torch.float64)).detach()
    order = last.argsort(descending=True)
    golden_close(last[order], wanted[f"{name}_values"], STEPWISE)
    golden_close(seen[-1][order], wanted[f"{name}_best"], STEPWISE)


def test_an_unguided_plan_is_the_originals(models):
    wanted = golden("plans")
    seen = states(models[0], lambda inpaint: inpaint, wanted)
    golden_close(seen[-1], wanted["unguided_x"], STEPWISE)


def test_the_golden_plan_tells_wrong_guides_apart(models):
    model, value = models
    wanted = golden("plans")
    for scale, stop, steps, by_variance in ((3.0, 3, 2, True), (3.0, 2, 1, True)):
        seen = states(model, ascend(model, value, scale, stop, steps, by_variance), wanted)
        assert not (seen[-1] - wanted["by_variance_x"]).abs().max() < 1e-3

"""docs/extend.md: its blocks are short, run, and have the properties that their sections promise."""

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analytic import CONTINUOUS, GaussianData, MixtureData
from unveil.planning.data.d4rl import read_d4rl
from unveil.planning.pursuit import Pursuit, PursuitGains
from unveil.process.corrupt import corrupt
from unveil.process.grid import karras, uniform
from unveil.process.schedule import Cosine, Flow, Schedule, log_snr
from unveil.sampling.edit import chain
from unveil.sampling.gaussian import DDIM, Heun
from unveil.sampling.guidance import blend
from unveil.sampling.loop import Solver, sample

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "extend.md"
FENCE = re.compile(r"<!-- block: (\w+) -->\n```python\n(.*?)```", re.DOTALL)
BLOCKS = dict(FENCE.findall(DOCUMENT.read_text()))
START, END = 0.9, 0.2  # away from the ends, where schedules are singular


@cache
def run(name: str) -> dict[str, Any]:
    """The names that a block defines, executed by itself."""
    namespace: dict[str, Any] = {"__name__": f"extend_{name}"}
    exec(compile(BLOCKS[name], f"extend.md: {name}", "exec"), namespace)
    return namespace


def at(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_there_are_five_blocks_of_fewer_than_60_lines():
    assert list(BLOCKS) == ["schedule", "solver", "guidance", "edit", "world"]
    assert DOCUMENT.read_text().count("```python") == 5
    for name, block in BLOCKS.items():
        assert len(block.splitlines()) < 60, name
        assert max(map(len, block.splitlines())) <= 140, name


# A schedule


def test_schedule_has_its_closed_form():
    shifted = run("schedule")["ShiftedCosine"]
    t = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    assert isinstance(shifted(), Schedule)
    torch.testing.assert_close(shifted(64, 64).alpha(t), (0.5 * torch.pi * t).cos(), rtol=1e-12, atol=0)
    torch.testing.assert_close(shifted(64, 64).sigma(t), (0.5 * torch.pi * t).sin(), rtol=1e-12, atol=0)
    ends = at(0.0, 1.0)
    for schedule in (shifted(), shifted(32), shifted(256)):
        torch.testing.assert_close(schedule.time(log_snr(schedule, t)), t, rtol=0, atol=1e-9)
        torch.testing.assert_close(
            schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=0, atol=1e-14
        )
        assert schedule.alpha(ends.float()).dtype == torch.float64
        assert (float(schedule.alpha(ends)[0]), float(schedule.sigma(ends)[0])) == (1.0, 0.0)
        assert float(log_snr(schedule, ends)[1]) == pytest.approx(-20.0)


def test_schedule_makes_averaged_pixels_as_noisy_as_a_small_image():
    large, small = run("schedule")["ShiftedCosine"](128, 64), Cosine(offset=0.0)
    t = at(0.37)
    torch.testing.assert_close(log_snr(large, t) + 2.0 * math.log(2.0), log_snr(small, t))
    x_t = corrupt(large, torch.ones((1, 8, 128, 128), dtype=torch.float64), t, normal(1, 8, 128, 128))
    averaged = torch.nn.functional.avg_pool2d(x_t, 2)
    assert float(averaged.mean() / averaged.std()) == pytest.approx(
        float(small.alpha(t) / small.sigma(t)), rel=0.03
    )


def test_schedule_serves_grids_and_solvers():
    namespace = run("schedule")
    assert float(namespace["samples"].std()) == pytest.approx(0.5, rel=0.03)
    schedule = namespace["ShiftedCosine"]()
    belief, times = GaussianData(schedule, 0.7, 0.3), karras(schedule, 40, sigma_max=50.0)
    x = normal(3, 1) * 2.0
    torch.testing.assert_close(
        sample(belief, Heun(schedule), x, times), belief.flowed(x, times[0], times[-1]), rtol=0, atol=0.01
    )


# A solver


def errors(solver: Any, belief: Any, x: torch.Tensor, exact: torch.Tensor, steps: list[int]) -> list[float]:
    return [float((sample(belief, solver, x, uniform(n, START, END)) - exact).abs().max()) for n in steps]


def order(found: list[float], steps: list[int]) -> float:
    return -float(np.polyfit(np.log(steps), np.log(found), 1)[0])


@pytest.mark.parametrize("schedule", CONTINUOUS, ids=lambda s: type(s).__name__)
def test_solver_has_order_2_on_gaussian_data(schedule):
    solver = run("solver")["AdamsBashforth"](schedule)
    assert isinstance(solver, Solver)
    belief = GaussianData(schedule, 0.7, 0.3)
    x = at(-1.3, 0.2, 2.0)[:, None] * float(schedule.sigma(at(START)))
    exact = belief.flowed(x, at(START)[0], at(END)[0])
    steps = [32, 64, 128]
    assert order(errors(solver, belief, x, exact, steps), steps) == pytest.approx(2.0, abs=0.2)


def test_solver_has_order_2_on_a_nonlinear_denoiser():
    belief, x = MixtureData(Cosine()), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = sample(belief, Heun(Cosine()), x, uniform(400, START, END))
    steps = [32, 64, 128]
    found = errors(run("solver")["AdamsBashforth"](Cosine()), belief, x, exact, steps)
    assert order(found, steps) == pytest.approx(2.0, abs=0.25), found
    assert found[0] < 0.2 * errors(DDIM(Cosine()), belief, x, exact, steps[:1])[0]


def test_solver_starts_with_ddim_and_reaches_the_data():
    namespace = run("solver")
    assert float(namespace["samples"].std()) == pytest.approx(0.5, rel=0.03)
    for schedule in (Cosine(), Flow()):  # Flow begins at alpha = 0
        belief, solver, x = (
            GaussianData(schedule, 0.7, 0.3),
            namespace["AdamsBashforth"](schedule),
            normal(4, 2),
        )
        assert sample(belief, solver, x, uniform(1)).equal(sample(belief, DDIM(schedule), x, uniform(1)))
        exact = belief.flowed(x, at(1.0)[0], at(0.0)[0])
        torch.testing.assert_close(sample(belief, solver, x, uniform(100)), exact, rtol=0, atol=0.01)


# Guidance


def test_guidance_is_blend_turned():
    projected, schedule = run("guidance")["projected"], Cosine()
    cond, null = (
        GaussianData(schedule, at(2.0, 0.0, 0.5), 0.4),
        GaussianData(schedule, at(1.0, 1.0, 0.0), 0.9),
    )
    x, t = normal(5, 3), at(0.3, 0.5, 0.6, 0.7, 0.9)
    mean, other = cond(x, t).mean, null(x, t).mean
    assert projected(cond, null, 1.0)(x, t).mean.equal(mean)
    torch.testing.assert_close(
        projected(cond, null, 3.0, parallel=1.0)(x, t).mean, blend(null, cond, 3.0)(x, t).mean
    )
    turned = projected(cond, null, 3.0)(x, t).mean
    torch.testing.assert_close((turned * mean).sum(1), (mean**2).sum(1))  # not stretched
    across = (mean - other) - ((mean - other) * mean).sum(1, keepdim=True) / (mean**2).sum(
        1, keepdim=True
    ) * mean
    torch.testing.assert_close(turned - mean, 2.0 * across)
    moved = projected(cond, null, 3.0, parallel=1.0, largest=0.05)(x, t).mean - mean
    torch.testing.assert_close(
        torch.linalg.vector_norm(moved, dim=1), torch.full((5,), 0.1, dtype=torch.float64)
    )


def test_guidance_turns_samples_away_from_null_without_stretching_them():
    """Where null is shorter, scale 3 trebles the difference; projected guidance keeps the length."""
    namespace, schedule = run("guidance"), Cosine()
    angle = torch.atan2(namespace["samples"][:, 1], namespace["samples"][:, 0])
    assert float(angle.mean()) < -0.3  # null lies at +45 degrees, the conditional data at 0
    cond, null = GaussianData(schedule, at(2.0, 0.0), 0.2), GaussianData(schedule, at(1.0, 0.0), 0.2)
    x = normal(1000, 2)
    stretched = sample(blend(null, cond, 3.0), Heun(schedule), x, uniform(30))
    kept = sample(namespace["projected"](cond, null, 3.0), Heun(schedule), x, uniform(30))
    assert float(stretched[:, 0].mean()) == pytest.approx(
        4.0, abs=0.05
    )  # 1 + 3 (2 - 1): exactly the data N(4, 0.2^2)
    assert float(kept[:, 0].mean()) == pytest.approx(2.0, abs=0.1)


# An edit


def test_edit_sets_the_average_and_leaves_the_rest():
    hold, schedule = run("edit")["HoldAverage"](at(0.7, float("nan")), Cosine()), Cosine()
    x, generator = normal(20_000, 5, 2), torch.Generator().manual_seed(1)
    clean = hold(x, at(0.0)[0], generator)
    torch.testing.assert_close(clean[..., 0].mean(1), torch.full((20_000,), 0.7, dtype=torch.float64))
    torch.testing.assert_close(clean - clean.mean(1, keepdim=True), x - x.mean(1, keepdim=True))
    assert clean[..., 1].equal(x[..., 1])
    t = at(0.4)[0]
    average = hold(x, t, generator)[..., 0].mean(1)
    assert float(average.mean()) == pytest.approx(0.7 * float(schedule.alpha(t)), abs=0.01)
    assert float(average.std()) == pytest.approx(float(schedule.sigma(t)) / 5**0.5, rel=0.02)
    image = run("edit")["HoldAverage"](at(0.5).reshape(1, 1, 1, 1), schedule, (2, 3))(
        normal(2, 3, 4, 4), at(0.0)[0], generator
    )
    torch.testing.assert_close(image.mean((2, 3)), torch.full((2, 3), 0.5, dtype=torch.float64))


def test_edit_makes_samples_of_the_posterior():
    """For data N(0, s^2) given their average: N(value, s^2 (1 - 1/n)); the free channel keeps N(0, s^2)."""
    namespace = run("edit")
    samples = namespace["samples"]
    assert samples[..., 0].mean(1).sub(0.7).abs().max() < 1e-5
    assert float(samples[..., 0].std()) == pytest.approx(0.5 * (1 - 1 / 8) ** 0.5, rel=0.03)
    assert float(samples[..., 1].std()) == pytest.approx(0.5, rel=0.03)
    assert float(samples[..., 1].mean(1).std()) == pytest.approx(0.5 / 8**0.5, rel=0.08)
    both = chain(namespace["centred"], lambda x, t, g: x + 1.0)
    torch.testing.assert_close(both(samples, at(0.0)[0], None)[..., 0].mean(1), torch.full((1024,), 1.7))


# A world


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ring"))
        yield run("world")


def test_world_physics_have_closed_forms(ring):
    state = np.array([[2.0, 0.0, 0.0, 0.0], [2.99, 0.0, 3.0, 1.0], [1.51, 0.0, -3.0, 1.0]])
    free = state[:1]
    for _ in range(4):
        free = ring["step"](free, np.array([[0.0, 5.0]]))
    assert free[0, 3] == pytest.approx(4.0 * (1 - 0.95**4))  # a force is clipped to 1; friction 1
    assert free[0, 1] == pytest.approx(0.05 * sum(4.0 * (1 - 0.95**k) for k in range(1, 5)))
    after = ring["step"](state, np.zeros((3, 2)))
    radius = np.linalg.norm(after[:, :2], axis=1)
    np.testing.assert_allclose(radius, [2.0, 3.0, 1.5])
    normal = after[:, :2] / radius[:, None]
    along = np.stack([-normal[:, 1], normal[:, 0]], axis=1)
    np.testing.assert_allclose((after[:, 2:] * normal).sum(1), 0.0, atol=1e-12)  # the wall takes this
    np.testing.assert_allclose(
        (after[:, 2:] * along).sum(1), (0.95 * state[:, 2:] * along).sum(1), atol=1e-12
    )  # and leaves that


def test_world_data_are_trips_of_the_physics(ring):
    episodes, stored = ring["collect"](100, 1000, np.random.default_rng(0)), read_d4rl("ring.hdf5")
    np.testing.assert_array_equal(stored.observations, episodes.observations.astype(np.float32))
    np.testing.assert_array_equal(stored.actions, episodes.actions.astype(np.float32))
    np.testing.assert_array_equal(stored.ends, episodes.ends)
    inside = np.setdiff1d(np.arange(len(episodes)), episodes.ends - 1)
    following = ring["step"](episodes.observations[inside], episodes.actions[inside])
    np.testing.assert_allclose(episodes.observations[inside + 1], following, atol=1e-12)
    assert 20 < np.diff(episodes.ends).mean() < 50
    angle = np.angle(episodes.observations[:, :2] @ [1, 1j])
    turns = np.angle(np.exp(1j * np.diff(angle)))
    trips = [abs(turns[a : b - 1].sum()) for a, b in zip(episodes.starts, episodes.ends, strict=True)]
    assert max(trips) < np.pi + 0.5  # the shorter way, but for noise at the start
    assert np.quantile(trips, 0.9) > 1.5


def test_world_is_learned_a_little(ring):
    """200 steps: the loss falls, fewer plans than straight lines cross the pillar, and more bodies arrive."""
    losses = [json.loads(line)["loss"] for line in Path("runs/ring/metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.7 * losses[0]
    rng = np.random.default_rng(1)
    starts, goals = ring["random_points"](100, rng), ring["random_points"](100, rng)
    planner = ring["planner"]

    def cut(path: np.ndarray) -> bool:
        return bool(np.linalg.norm(path, axis=1).min() < ring["PILLAR"] - 0.1)

    straight = [np.linspace(a, b, 100) for a, b in zip(starts, goals, strict=True)]
    share = np.mean([cut(plan.followed) for plan in planner.plan_many(starts, goals)])
    assert share < 0.6 * np.mean([cut(path) for path in straight])

    def arrived(act: Any) -> float:
        state, touched = np.concatenate([starts, np.zeros((100, 2))], axis=1), np.zeros(100, dtype=bool)
        for _ in range(120):
            state = ring["step"](state, act(state))
            touched |= np.linalg.norm(state[:, :2] - goals, axis=1) < 0.5
        return float(touched.mean())

    pursuit = Pursuit(goals, PursuitGains())
    for i, path in enumerate(straight):
        pursuit.follow(i, path)
    planner.reset(goals)
    found, control = arrived(planner.act), arrived(pursuit.act)
    assert found > max(0.9, control), (found, control)

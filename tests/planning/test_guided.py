"""Planning with a value: the three forms against their formulas, known first states, selection, warm
starts."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from unveil.errors import UnveilError
from unveil.planning.guided_planner import GuidedPlanner, GuidedSettings, chosen, value_at
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape
from unveil.planning.value_guidance import ascent, belief_shift, mean_shift, unguided
from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import uniform
from unveil.process.posterior import posterior_coefficients
from unveil.process.schedule import cosine_betas, tabulated
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import DDIM, Ancestral
from unveil.sampling.guidance import costing
from unveil.sampling.loop import sample
from unveil.sampling.noise import generators

STEPS = 20
SCHEDULE = tabulated(cosine_betas(STEPS))


class Analytic(torch.nn.Module):
    """Network of the exact belief about x_0 ~ N(m, 1): mean = m + alpha (x_t - alpha m), as alpha^2 + sigma^2
    = 1."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = mean
        self.seen: list[float] = []

    def forward(self, x, time, cond=None):
        t = (time.double() + 1.0) / STEPS
        self.seen.append(float(t[0]))
        alpha = SCHEDULE.alpha(t).float()[:, None, None]
        return self.mean + alpha * (x - alpha * self.mean)


def model(mean: float = 0.0, inverse: bool = False) -> TrajectoryModel:
    torch.manual_seed(0)
    made = TrajectoryModel(
        TrajectoryShape(4, STEPS, actions=1, observations=2, inverse=inverse), Analytic(mean)
    )
    made.normalization.low.copy_(torch.tensor([-2.0, 0.0, 10.0]))
    made.normalization.high.copy_(torch.tensor([2.0, 4.0, 30.0]))
    made.normalization.least.fill_(-1e3)
    made.normalization.most.fill_(1e3)
    return made


def linear(x, t):
    """log h = 0.5 * sum x: a Gaussian N(m, 1) tilted by it is N(m + 0.5, 1)."""
    return 0.5 * alpha_of(t, x) * x.flatten(1).sum(1)


def alpha_of(t, x):
    """E[exp(w x_0) | x_t] has the gradient w * alpha in x_t, for prior N(m, 1) on this schedule."""
    return SCHEDULE.alpha(t).to(x)


NOTHING = Inpaint(torch.zeros(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 1))


def drawn(form) -> float:
    """The mean of many samples."""
    generator = torch.Generator(device="cpu").manual_seed(1)
    x = torch.randn((20_000, 1, 1), generator=generator)
    denoise = form.guide(model().denoiser)
    return float(
        sample(denoise, form.solver, x, uniform(STEPS), edit=form.edit(NOTHING), generator=generator).mean()
    )


def test_a_shift_of_the_belief_is_bayes_rule():
    """N(0, 1) times exp(0.5 x) is N(0.5, 1)."""
    assert drawn(belief_shift(linear, SCHEDULE, DDIM(SCHEDULE, eta=1.0), 1.0, until=1.0)) == pytest.approx(
        0.5, abs=0.03
    )
    assert drawn(belief_shift(linear, SCHEDULE, DDIM(SCHEDULE, eta=1.0), 0.0)) == pytest.approx(0.0, abs=0.03)


def test_the_belief_is_shifted_up_to_its_time_and_not_above():
    """By default not near t = 1, where its gain sigma^2 / alpha is hundreds."""
    x = torch.zeros(1, 1, 1)
    guided = belief_shift(linear, SCHEDULE, DDIM(SCHEDULE), 1.0).guide(model().denoiser)
    for t, expected in ((0.95, 0.0), (0.9, 0.5), (0.3, 0.5)):
        time = torch.tensor([t], dtype=torch.float64)
        assert float(guided(x, time).mean) == pytest.approx(
            expected * float(SCHEDULE.sigma(time)) ** 2, rel=1e-4
        )


def test_a_shift_of_each_steps_mean_adds_its_variance_times_the_gradient():
    """The expectation of x obeys E[x_s] = (w_t + w_0 alpha_t) E[x_t] + variance * 0.5 alpha_t, which falls
    short of Bayes' 0.5."""
    expected = 0.0
    times = uniform(STEPS)
    for t, s in pairwise(times):
        c = posterior_coefficients(SCHEDULE, t, s)
        alpha = float(SCHEDULE.alpha(t))
        expected = (float(c.x_t_weight) + float(c.x_0_weight) * alpha) * expected + float(
            c.small
        ) * 0.5 * alpha
    assert 0.3 < expected < 0.45
    assert drawn(mean_shift(linear, SCHEDULE, 1.0)) == pytest.approx(expected, abs=0.03)


def test_ascent_adds_the_scaled_gradient_before_each_step_where_it_may():
    """x moves by scale * variance(i) * gradient, `steps` times, at each step number i >= stop, and nowhere
    else."""
    moved = []

    def slope(x, t):
        return 3.0 * x.flatten(1).sum(1)

    form = ascent(slope, SCHEDULE, STEPS, scale=0.1, steps=2, stop=4)
    edit = form.edit(NOTHING)
    times = uniform(STEPS)
    for t in times:
        moved.append(float(edit(torch.zeros(1, 1, 1), t, None)[0, 0, 0]))
    for k, t in enumerate(times):
        i = STEPS - k - 1
        expected = 0.0
        if i >= 4:
            before = torch.tensor(i / STEPS, dtype=torch.float64)
            expected = 2 * 0.1 * 3.0 * float(posterior_coefficients(SCHEDULE, t, before).small)
        assert moved[k] == pytest.approx(expected, rel=1e-5), i
    plain = ascent(slope, SCHEDULE, STEPS, scale=0.1, steps=1, stop=0, by_variance=False).edit(NOTHING)
    assert float(plain(torch.zeros(1, 1, 1), times[-2], None)[0, 0, 0]) == pytest.approx(0.3)
    assert float(plain(torch.zeros(1, 1, 1), times[-1], None)[0, 0, 0]) == 0.0


def test_an_ascent_puts_known_numbers_back_after_each_of_its_steps():
    """The slope of x_0 x_1 is the other number: with x_0 known to be 2, x_1 rises by 0.1 * 2 each time and
    x_0 stays, seen and left."""
    seen = []

    def product(x, t):
        seen.append(x[0, 0, 0].item())
        return x[:, 0, 0] * x[:, 1, 0]

    known = torch.tensor([True, False])[None, :, None]
    form = ascent(product, SCHEDULE, STEPS, scale=0.1, steps=3, stop=0, by_variance=False)
    moved = form.edit(Inpaint(known, torch.full((1, 2, 1), 2.0)))(
        torch.ones(1, 2, 1), uniform(STEPS)[0], None
    )
    assert moved[0, :, 0].tolist() == pytest.approx([2.0, 1.0 + 3 * 0.1 * 2.0])
    assert seen == [2.0, 2.0, 2.0]


def planner(settings: GuidedSettings, score=None, **more) -> GuidedPlanner:
    return GuidedPlanner(model(**more), unguided(DDIM(SCHEDULE)), score, settings, seed=4)


def test_plans_begin_at_the_observation_and_the_action_is_the_plans_first_in_raw_units():
    made = planner(GuidedSettings(candidates=3, steps=5))
    observation = np.array([1.0, 25.0])
    plans = made.plan(observation)
    assert plans.shape == (3, 4, 3)
    np.testing.assert_allclose(plans[:, 0, 1:], np.tile(observation, (3, 1)), rtol=1e-5)
    made = planner(GuidedSettings(candidates=1, steps=5))
    again = planner(GuidedSettings(candidates=1, steps=5))
    action = made.act(observation[None])
    np.testing.assert_allclose(action[0], np.clip(again.plan(observation)[0, 0, :1], -1, 1), rtol=1e-5)


def test_the_best_candidate_of_each_episode_acts():
    """By the score "first action": the largest of each episode's own candidates."""

    def first_action(x):
        return x[:, 0, 0]

    observations = np.array([[1.0, 25.0], [3.0, 12.0], [2.0, 20.0]])
    settings = GuidedSettings(candidates=6, steps=5, rows=12)  # two episodes a batch
    made = planner(settings, first_action)
    made.model.normalization.high[0], made.model.normalization.low[0] = (
        0.2,
        -0.2,
    )  # so that nothing is clipped
    actions = made.act(observations)
    free = planner(settings)
    free.model.normalization.high[0], free.model.normalization.low[0] = 0.2, -0.2
    known = free._known(observations)
    both = free._candidates(known, 6, None, generators(4, 3)).reshape(
        3, 6, 4, 3
    )  # episode i draws with seed + i
    np.testing.assert_allclose(actions[:, 0], 0.2 * both[:, :, 0, 0].amax(1), rtol=1e-5)


def test_a_weighted_mean_goes_from_the_plain_mean_to_the_best():
    x = torch.arange(8.0).reshape(1, 4, 2, 1)
    scores = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    torch.testing.assert_close(chosen(x, scores, 0.0), x.mean(1))
    torch.testing.assert_close(chosen(x, scores, None), x[:, 1])
    torch.testing.assert_close(chosen(x, scores, 60.0), x[:, 1], rtol=1e-4, atol=1e-4)
    weights = (torch.tensor([-0.5, 1.5, 0.5, -1.5]) / 1.25**0.5).exp()
    torch.testing.assert_close(
        chosen(x, scores, 1.0), ((weights / weights.sum())[None, :, None, None] * x).sum(1)
    )
    torch.testing.assert_close(
        chosen(x, 7.0 * scores + 3.0, 1.0), chosen(x, scores, 1.0)
    )  # units of the value do not matter


def test_an_anchored_mean_is_the_beliefs_where_values_say_nothing_and_has_less_variance_where_they_do():
    """By the score "first action" x_0 ~ N(0.3, 1); the weighted mean lies above it, anchored or not, but
    anchored it varies less."""
    observations = np.tile([1.0, 25.0], (3000, 1))

    def first_actions(sharpness: float, anchored: bool) -> torch.Tensor:
        settings = GuidedSettings(candidates=8, steps=5, sharpness=sharpness, anchored=anchored)
        made = GuidedPlanner(model(0.3), unguided(DDIM(SCHEDULE)), lambda x: x[:, 0, 0], settings, seed=2)
        return made.best(observations)[:, 0, 0]

    torch.testing.assert_close(first_actions(0.0, True), torch.full((3000,), 0.3), atol=2e-3, rtol=0.0)
    plain, anchored = first_actions(1.0, False), first_actions(1.0, True)
    assert float(plain.mean()) == pytest.approx(float(anchored.mean()), abs=0.03)
    assert float(anchored.mean()) > 0.3 + 0.5
    assert float(anchored.std()) < 0.75 * float(plain.std())


def test_warm_starts_take_fewer_steps_from_the_last_plan_and_reset_forgets_it():
    made = planner(GuidedSettings(candidates=2, steps=10, warm_steps=3))
    network = made.model.denoiser.network
    observation = np.array([[1.0, 25.0]])
    made.act(observation)
    assert network.seen == pytest.approx([1.0 - 0.1 * k for k in range(10)])
    network.seen.clear()
    made.act(observation)
    assert network.seen == pytest.approx([0.3, 0.2, 0.1])
    with pytest.raises(ValueError, match="1 episodes before, 2 now"):
        made.act(np.repeat(observation, 2, axis=0))
    network.seen.clear()
    made.reset()
    made.act(observation)
    assert len(network.seen) == 10


def test_a_warm_start_without_noise_left_is_the_last_plan_moved_on():
    """At the smallest noise level the new plan is near the old one, one row on; rows after the first keep
    their order."""
    made = planner(GuidedSettings(candidates=1, steps=200, warm_steps=1))
    observation = np.array([[1.0, 25.0]])
    made.act(observation)
    last = made._last[0].clone()
    made.act(observation)
    np.testing.assert_allclose(made._last[0][1:3], last[2:4], atol=0.2)


def test_a_warm_start_begins_from_the_last_plan_moved_on_and_noised_to_its_own_level():
    """Without noise (temperature 0) the first state of three steps of ten is alpha(0.3) times the last plan,
    of each episode its own, one row on with its last row repeated; with noise it has the deviation
    sigma(0.3)."""
    observations = np.array([[1.0, 25.0], [3.0, 12.0]])
    t = torch.tensor(0.3, dtype=torch.float64)
    alpha, sigma = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
    last = torch.arange(2 * 4 * 3.0).reshape(2, 4, 3)
    moved = alpha * last[:, [1, 2, 3, 3]]
    for temperature, candidates in ((0.0, 2), (1.0, 2000)):
        made = planner(
            GuidedSettings(
                candidates=candidates,
                steps=10,
                warm_steps=3,
                temperature=temperature,
                clip=False,
                rows=10_000,
            )
        )
        states = []
        made.steer = lambda denoise, states=states: lambda x, t: states.append(x) or denoise(x, t)
        made._last = dict(enumerate(last))
        made.act(observations)
        first = states[0].reshape(2, candidates, 4, 3)
        known = made._known(observations)
        torch.testing.assert_close(first[:, :, 0, 1:], known[:, None].expand(2, candidates, 2))
        if temperature == 0.0:
            torch.testing.assert_close(first[:, :, 1:], moved[:, None, 1:].expand(2, 2, 3, 3))
        else:
            assert (first[:, :, 1:] - moved[:, None, 1:]).std() == pytest.approx(sigma, rel=0.03)


def test_plans_come_best_first():
    def last_number(x):
        return x[:, -1, -1]

    plans = planner(GuidedSettings(candidates=9, steps=5), last_number).plan(np.array([1.0, 25.0]))
    assert (np.diff(plans[:, -1, -1]) < 0.0).all()


def test_clipping_really_clips_every_number_of_a_plan():
    made = planner(GuidedSettings(candidates=50, steps=3))
    made.model.normalization.least.fill_(-0.3)
    made.model.normalization.most.fill_(0.1)
    x = made._candidates(made._known(np.array([[2.0, 20.0]])), 50, None, generators(4, 1))
    assert x.min() >= -0.3001 and x.max() <= 0.1001
    loose = planner(GuidedSettings(candidates=50, steps=3, clip=False))
    x = loose._candidates(loose._known(np.array([[2.0, 20.0]])), 50, None, generators(4, 1))
    assert x.max() > 0.5


def test_observation_plans_get_their_action_from_the_inverse_dynamics():
    made = planner(GuidedSettings(candidates=1, steps=5), inverse=True)
    with torch.no_grad():
        for layer in made.model.inverse:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.zero_()
                layer.bias.zero_()
        made.model.inverse[-1].bias.fill_(0.25)
    assert made.plan(np.array([1.0, 25.0])).shape == (1, 4, 2)
    assert made.act(np.array([[1.0, 25.0]]))[0, 0] == pytest.approx(0.5)  # 0.25 of 2 per unit


def test_the_inverse_dynamics_are_given_the_first_observation_and_then_the_second():
    made = model(inverse=True)
    made.inverse = torch.nn.Flatten()  # says what it is given
    x = torch.arange(8.0).reshape(1, 4, 2)
    assert made.first_action(x)[0].tolist() == [2.0 * n for n in (0.0, 1.0, 2.0, 3.0)]  # 2 raw units for one


def test_without_statistics_plans_are_normalised_and_raw_units_say_what_is_missing():
    made = planner(GuidedSettings(candidates=2, steps=5))
    made.model.normalization.least.fill_(-torch.inf)
    with pytest.raises(UnveilError, match="statistics of their data"):
        made.act(np.array([[1.0, 25.0]]))
    plans = made.plan(np.array([0.5, -0.25]), normalized=True)
    np.testing.assert_allclose(plans[:, 0, 1:], [[0.5, -0.25]] * 2)


def test_a_steering_cost_moves_the_plans():
    """Costs of one's own compose: here every number but the known ones is pushed up."""

    def steer(denoise):
        def moved(x_t, t):
            belief = denoise(x_t, t)
            return GaussianDenoised(belief.mean + 5.0)

        return moved

    plain = planner(GuidedSettings(candidates=4, steps=5)).plan(np.array([1.0, 25.0]))
    made = GuidedPlanner(
        model(), unguided(DDIM(SCHEDULE)), None, GuidedSettings(candidates=4, steps=5), steer=steer, seed=4
    )
    pushed = made.plan(np.array([1.0, 25.0]))
    assert (pushed[:, 1:] > plain[:, 1:]).all()


def test_value_at_tells_the_time():
    seen = []

    def value(x, t):
        seen.append(t)
        return x.flatten(1).sum(1)

    x = torch.ones(3, 2, 2)
    assert value_at(value, 0.05)(x).tolist() == [4.0] * 3
    assert seen[0].tolist() == [0.05] * 3 and seen[0].dtype == torch.float64


WRONG = {
    "candidates": (0, -1, 2.0, True, "3", None),
    "steps": (0, 1.5, False),
    "rows": (0, "many"),
    "plan_horizon": (0, -4, 8.0, True),
    "warm_steps": (0, True, 1.0),
    "temperature": (-1.0, float("nan"), float("inf"), "1", None, True),
    "sharpness": (float("nan"), "much", False),
    "ask": (-0.1, 1.1, float("nan"), "best", True),
    "ask_scale": (float("inf"), None),
    "clip": (1, "yes", None),
    "anchored": (1, "no"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_impossible_settings_are_refused_by_the_arguments_name(name, value, unchecked):
    with pytest.raises(ValueError, match=rf"`{name}` must be") as caught:
        GuidedSettings(**({"steps": 5} | {name: value}))
    assert "--" not in str(caught.value)


def test_numpys_numbers_are_numbers_and_settings_that_need_each_other_say_so(unchecked):
    assert (
        GuidedSettings(candidates=np.int64(3), temperature=np.float32(0.5), plan_horizon=None).candidates == 3
    )
    with pytest.raises(ValueError, match="`anchored` needs `sharpness`"):
        GuidedSettings(anchored=True)
    with pytest.raises(ValueError, match="not conditional on returns"):
        planner(GuidedSettings(ask=0.5))
    with pytest.raises(ValueError, match="at least 2 rows: its first two observations"):
        planner(GuidedSettings(plan_horizon=1), inverse=True)
    with pytest.raises(ValueError, match=r"`warm_steps` must be a whole number in 1 \.\. 5, got 6"):
        planner(GuidedSettings(steps=5, warm_steps=6))
    for seed in (-1, 1.0, "0"):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            GuidedPlanner(model(), unguided(DDIM(SCHEDULE)), seed=seed)
    for make in (
        lambda n: belief_shift(linear, SCHEDULE, DDIM(SCHEDULE), n),
        lambda n: mean_shift(linear, SCHEDULE, n),
    ):
        for scale in (float("nan"), float("inf"), "1"):
            with pytest.raises(ValueError, match="guidance: scale must be a finite number"):
                make(scale)
    with pytest.raises(ValueError, match="guidance: steps must be a whole number"):
        ascent(linear, SCHEDULE, STEPS, 1.0, steps=-1)


@pytest.mark.parametrize("shape", [(3,), (1,), (), (1, 1), (1, 3), (0, 2), (2, 1, 2)])
def test_observations_of_another_shape_are_refused_and_the_size_is_told(shape, unchecked):
    made = planner(GuidedSettings(candidates=2, steps=2))
    for call in (made.act, made.best):
        made.reset()
        with pytest.raises(ValueError, match=r"\(2,\) of one episode or \(B, 2\)"):
            call(np.full(shape, 0.1))
    with pytest.raises(ValueError, match=r"plan's observation must have shape \(2,\)"):
        made.plan(np.full(shape, 0.1))


def test_other_things_than_numbers_are_refused(unchecked):
    made = planner(GuidedSettings(candidates=1, steps=1))
    for wrong in (
        None,
        "state",
        {"observation": [1.0, 2.0]},
        [[1.0], [1.0, 2.0]],
        np.array([["a", "b"]]),
        np.array([[np.nan, 0.0]]),
    ):
        for call in (made.act, made.best, made.plan):
            with pytest.raises(ValueError, match="guided planner"):
                call(wrong)


def test_one_observation_is_one_episode(unchecked):
    """As a list, a tensor, whole numbers or numbers of the other byte order, too."""
    expected = planner(GuidedSettings(candidates=2, steps=4)).act(np.array([[1.0, 25.0]]))
    assert expected.shape == (1, 1)
    kinds = (
        [1.0, 25.0],
        torch.tensor([1.0, 25.0]),
        np.array([1, 25]),
        np.array([1.0, 25.0], ">f4"),
        np.array([1.0, 25.0]),
    )
    for observation in kinds:
        np.testing.assert_array_equal(
            planner(GuidedSettings(candidates=2, steps=4)).act(observation), expected[0]
        )
    single = planner(GuidedSettings(candidates=2, steps=4)).best(np.array([1.0, 25.0]))
    torch.testing.assert_close(
        single, planner(GuidedSettings(candidates=2, steps=4)).best(np.array([[1.0, 25.0]]))[0]
    )


STATES = np.array([[1.0, 25.0], [3.0, 12.0], [2.0, 20.0]])
NOISY = {"ancestral": lambda: unguided(Ancestral(SCHEDULE)), "ddim": lambda: unguided(DDIM(SCHEDULE))}


def streams(form: str, warm: int | None = None, rows: int = 1024) -> GuidedPlanner:
    settings = GuidedSettings(candidates=3, steps=4, warm_steps=warm, rows=rows)
    made = GuidedPlanner(model(), NOISY[form](), lambda x: x[:, 0, 0], settings, seed=4)
    made.model.normalization.high[0], made.model.normalization.low[0] = (
        0.2,
        -0.2,
    )  # so that no action is clipped
    return made


@pytest.mark.parametrize("form", NOISY)
@pytest.mark.parametrize("warm", [None, 2])
def test_an_episodes_actions_do_not_depend_on_those_beside_it(form, warm):
    """Three decisions of three episodes: together, in batches of one, one after the other, and with one that
    is left out."""
    together = streams(form, warm)
    expected = np.stack([together.act(STATES + step) for step in range(3)])
    assert len({*expected.ravel().round(4)}) > 3, "all noise is not the same"
    small = streams(form, warm, rows=1)
    np.testing.assert_allclose(np.stack([small.act(STATES + step) for step in range(3)]), expected, atol=1e-6)
    alone = streams(form, warm)
    for i, state in enumerate(STATES):
        np.testing.assert_allclose([alone.act(state + step) for step in range(3)], expected[:, i], atol=1e-6)
        alone.reset()
        alone.reset()  # counts no episode that was never met
    left_out = streams(form, warm)
    np.testing.assert_allclose(left_out.act(STATES), expected[0], atol=1e-6)
    for step in (1, 2):
        np.testing.assert_allclose(
            left_out.act(STATES[[2, 0]] + step, episodes=[2, 0]), expected[step, [2, 0]], atol=1e-6
        )


def test_the_number_of_episodes_does_not_change_without_a_word(unchecked):
    made = streams("ddim")
    made.act(STATES)
    with pytest.raises(ValueError, match=r"3 episodes before, 2 now; call reset\(\)"):
        made.act(STATES[:2])
    with pytest.raises(ValueError, match="3 episodes before, 1 now"):
        made.act(STATES[0])
    for episodes in ([0], [0, 0], [0, 3], [-1, 0], [0.5, 1]):
        with pytest.raises(
            ValueError, match=r"guided planner: (episodes must be 2 different|a number of episodes)"
        ):
            made.act(STATES[:2], episodes=episodes)
    made.reset()
    assert made.act(STATES[:2]).shape == (2, 1)


def test_recorded_noise_takes_the_place_of_what_is_drawn():
    """The numbers that the generators would draw, given: to begin with, and for each step."""
    each = [
        torch.stack([torch.randn((3, 4, 3), generator=own) for _ in range(5)]) for own in generators(4, 3)
    ]
    drawn = torch.stack(each, dim=1)  # (1 + S, B, K, H, F)
    plain, given = streams("ancestral"), streams("ancestral")
    expected = plain.act(STATES)
    np.testing.assert_allclose(given.act(STATES, noise=drawn), expected, atol=1e-6)
    given.reset()
    assert np.abs(given.act(STATES, noise=-drawn) - expected).max() > 1e-2
    np.testing.assert_allclose(
        streams("ddim").act(STATES, noise=drawn[0]), streams("ddim").act(STATES), atol=1e-6
    )
    own = each[0]
    np.testing.assert_allclose(
        streams("ancestral").plan(STATES[0], noise=own), streams("ancestral").plan(STATES[0]), atol=1e-6
    )
    assert (
        np.abs(
            streams("ancestral").plan(STATES[0], noise=own.flip(2)) - streams("ancestral").plan(STATES[0])
        ).max()
        > 1e-2
    )
    torch.testing.assert_close(
        streams("ddim").best(STATES[0], noise=drawn[0, :1]), streams("ddim").best(STATES[0])
    )


def test_recorded_noise_is_not_scaled_and_what_does_not_fit_is_refused(unchecked):
    cold = GuidedPlanner(
        model(),
        unguided(DDIM(SCHEDULE)),
        None,
        GuidedSettings(candidates=3, steps=4, temperature=0.0),
        seed=4,
    )
    noise = torch.randn((3, 4, 3), generator=torch.Generator().manual_seed(0)).numpy()
    warm = GuidedPlanner(
        model(), unguided(DDIM(SCHEDULE)), None, GuidedSettings(candidates=3, steps=4), seed=4
    )
    np.testing.assert_array_equal(cold.plan(STATES[0], noise=noise), warm.plan(STATES[0], noise=noise))
    for wrong in (noise[:2], noise[:, :3], noise[None, None], np.full_like(noise, np.nan), "noise"):
        with pytest.raises(ValueError, match="guided planner: noise must"):
            cold.plan(STATES[0], noise=wrong)
    with pytest.raises(ValueError, match="this solver draws none"):
        cold.plan(STATES[0], noise=np.stack([noise] * 5))
    with pytest.raises(ValueError, match="2 draws were given"):
        streams("ancestral").plan(STATES[0], noise=np.stack([noise] * 3))


HUGE = {
    "tilted": lambda scale: belief_shift(steep, SCHEDULE, DDIM(SCHEDULE), scale),
    "mean": lambda scale: mean_shift(steep, SCHEDULE, scale),
    "ascend": lambda scale: ascent(steep, SCHEDULE, STEPS, scale),
}


def steep(x, t):
    return (x**4).flatten(1).sum(1)


@pytest.mark.parametrize("form", HUGE)
@pytest.mark.parametrize("clip", [False, True])
def test_guidance_that_is_too_strong_is_named(form, clip):
    made = GuidedPlanner(
        model(), HUGE[form](1e30), None, GuidedSettings(candidates=2, steps=5, clip=clip), seed=4
    )
    for call in (made.act, made.plan, made.best):
        with pytest.raises(ValueError, match=r"the value's guidance of scale 1e\+30 is too strong"):
            call(STATES[0])
    assert np.isfinite(
        GuidedPlanner(model(), HUGE[form](1e-3), None, GuidedSettings(candidates=2, steps=5), seed=4).act(
            STATES
        )
    ).all()


@pytest.mark.parametrize("jacobian", [False, True])
def test_a_steering_cost_that_is_too_strong_or_not_finite_is_named(jacobian):
    made = planner(GuidedSettings(candidates=2, steps=5, clip=False))
    for cost, scale in (
        (lambda plan: (plan**4).flatten(1).sum(1), 1e30),
        (lambda plan: plan.sum((1, 2)) * torch.nan, 1.0),
    ):
        made.steer = costing(made.model, cost, scale, jacobian=jacobian)
        with pytest.raises(ValueError, match=r"the steering cost \(steer\) is too strong"):
            made.act(STATES)
        made.reset()
    made.steer = None
    broken = planner(GuidedSettings(candidates=2, steps=5), mean=float("nan"))
    with pytest.raises(ValueError, match="weights are damaged"):
        broken.act(STATES)
    scored = planner(GuidedSettings(candidates=2, steps=5), lambda x: torch.full((len(x),), torch.nan))
    with pytest.raises(ValueError, match="one finite number per plan"):
        scored.act(STATES)


def test_a_cost_in_raw_units_moves_the_plans_it_costs_and_composes_with_any_form():
    """0.5 (x - c)^2 / v of one raw number: the exact posterior of a Gaussian, N(0, 1) normalised, where the
    belief is exact."""
    made = model()
    half = 10.0  # the second observation's: 10 .. 30 in raw units is -1 .. 1

    def cost(plan):
        seen.append(plan)
        return 0.5 * ((plan[:, -1, 2] - 26.0) / half).square()

    seen: list[torch.Tensor] = []
    settings = GuidedSettings(candidates=500, steps=20, clip=False)
    for scale, low, high in ((0.0, 19.0, 21.0), (1.0, 21.5, 25.0), (20.0, 24.5, 26.5)):
        for jacobian in (True, False):
            planner = GuidedPlanner(made, unguided(DDIM(SCHEDULE, eta=1.0)), None, settings, seed=4)
            planner.steer = costing(made, cost, scale, jacobian=jacobian, until=0.95)
            plans = planner.plan(np.array([1.0, 25.0]))
            assert low < plans[:, -1, 2].mean() < high, (scale, jacobian)
            np.testing.assert_allclose(plans[:, 0, 1:], np.tile([1.0, 25.0], (500, 1)), rtol=1e-5)
            assert plans[:, 1:3, 2].mean() == pytest.approx(20.0, abs=1.5)
    assert seen and all(plan.shape == (500, 4, 3) for plan in seen)

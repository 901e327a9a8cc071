"""A policy's queue, its histories, what it executes of a chunk, and its samples against a conjugate
Gaussian."""

import numpy as np
import pytest
import torch
from torch import nn

from unveil.checks import flag, kind, number, whole
from unveil.policy.model import PolicyModel, PolicyShape, policy_schedule
from unveil.policy.networks.observation import Part
from unveil.policy.policy import Policy, marks
from unveil.policy.realtime import RealTimePolicy
from unveil.process.schedule import Flow
from unveil.sampling.gaussian import DDIM, Ancestral, Heun
from unveil.sampling.guidance import costing


class Counting(nn.Module):
    """Says x_0 = (what was seen last, or mean of all seen, plus the row's number) in a way that shows which
    rows were executed."""

    def __init__(self) -> None:
        super().__init__()
        self.conditions: list[torch.Tensor] = []

    def forward(self, x, time, cond=None):
        self.conditions.append(cond.vector.clone())
        rows = torch.arange(x.shape[1], dtype=x.dtype)[None, :, None]
        return (0.01 * rows + 0.1 * cond.vector[:, -1, None, None]).expand_as(x)


def counting(n_obs=2, horizon=16, n_action=8, **more):
    shape = PolicyShape(1, 1, n_obs, horizon, n_action, diffusion_steps=10, predicts="x0")
    network = Counting()
    model = PolicyModel(shape, network)
    return Policy(model, DDIM(model.denoiser.schedule), 2, **more), network


def test_the_rows_from_the_newest_observation_on_are_executed_then_it_sees_again():
    policy, network = counting()
    said = [float(policy.act(np.array([[k / 100]]))[0, 0]) for k in range(20)]
    seen = [0] * 8 + [8] * 8 + [16] * 4
    np.testing.assert_allclose(
        said, [0.01 * (1 + k % 8) + 0.001 * now for k, now in enumerate(seen)], atol=1e-6
    )
    assert policy.decisions == 3 and len(network.conditions) == 6
    np.testing.assert_allclose(
        network.conditions[0], [[0.0, 0.0]]
    )  # the first observation stands for those before it
    np.testing.assert_allclose(network.conditions[2], [[0.07, 0.08]], atol=1e-7)  # oldest first


def test_environments_that_begin_anew_decide_at_once_while_others_go_on():
    policy, network = counting(n_action=4)
    for k in range(3):
        policy.act(np.full((2, 1), k / 100))
    policy.reset(np.array([True, False]))
    both = policy.act(np.array([[0.5], [0.03]]))
    np.testing.assert_allclose(both[:, 0], [0.01 + 0.05, 0.04], atol=1e-6)
    np.testing.assert_allclose(
        network.conditions[-1], [[0.5, 0.5]]
    )  # nothing of the last episode; the other row is not asked
    both = policy.act(np.array([[0.6], [0.04]]))
    np.testing.assert_allclose(both[:, 0], [0.02 + 0.05, 0.01 + 0.004], atol=1e-6)


@pytest.mark.parametrize(("n_obs", "horizon", "n_action"), [(1, 1, 1), (3, 5, 3), (2, 8, 1)])
def test_any_window(n_obs, horizon, n_action):
    policy, _ = counting(n_obs, horizon, n_action)
    said = [float(policy.act(np.zeros((1, 1)))[0, 0]) for _ in range(2 * n_action)]
    np.testing.assert_allclose(said, [0.01 * (n_obs - 1 + k) for k in range(n_action)] * 2, atol=1e-6)


def test_fewer_actions_of_the_same_chunk_can_be_executed():
    policy, _ = counting(n_action=8)
    short = Policy(policy.model, policy.solver, 2, n_action=2)
    for _ in range(4):
        short.act(np.zeros((1, 1)))
    assert short.decisions == 2
    with pytest.raises(ValueError, match="horizon"):
        Policy(policy.model, policy.solver, 2, n_action=16)


def test_units_are_the_datas_and_beliefs_stay_within_its_limits():
    policy, network = counting(1, 2, 2)
    policy.model.acted.learn(np.array([[100.0], [300.0]], np.float32), "limits")
    policy.model.observed.learn(np.array([[10.0], [20.0]], np.float32), "limits")
    np.testing.assert_allclose(policy.act(np.array([[20.0]])), [[200.0 + 100.0 * 0.1]], rtol=1e-5)
    np.testing.assert_allclose(network.conditions[0], [[1.0]])
    policy.reset()
    np.testing.assert_allclose(
        policy.act(np.array([[1000.0]])), [[300.0]], rtol=1e-5
    )  # 19.8 in [-1, 1] units, clipped


class Conjugate(nn.Module):
    """The exact belief for actions N(o, s^2) given the observation o, as noise or as velocity."""

    def __init__(self, shape: PolicyShape, deviation: float) -> None:
        super().__init__()
        self.shape, self.schedule, self.deviation = shape, policy_schedule(shape), deviation

    def forward(self, x, time, cond=None):
        t = (time.double() + 1.0) / self.shape.diffusion_steps
        alpha, sigma = (
            self.schedule.alpha(t).float()[:, None, None],
            self.schedule.sigma(t).float()[:, None, None],
        )
        mean, power = cond.vector[:, -1, None, None], self.deviation**2
        x_0 = mean + alpha * power / (alpha**2 * power + sigma**2) * (x - alpha * mean)
        noise = (x - alpha * x_0) / sigma
        return noise if self.shape.predicts == "eps" else noise - x_0


@pytest.mark.parametrize(
    ("predicts", "solver", "steps"),
    [("eps", Ancestral, 100), ("eps", DDIM, 50), ("flow", DDIM, 60), ("flow", Heun, 30)],
)
def test_samples_have_the_conditional_mean_and_deviation(predicts, solver, steps):
    shape = PolicyShape(1, 1, 1, 4, 4, predicts=predicts)
    model = PolicyModel(shape, Conjugate(shape, 0.25))
    assert isinstance(model.denoiser.schedule, Flow) == (predicts == "flow")
    policy = Policy(model, solver(model.denoiser.schedule), steps, seed=1)
    chunks = policy.predict(np.repeat(np.array([[[-0.2]], [[0.2]]], np.float32), 600, 0)).reshape(2, -1)
    np.testing.assert_allclose(chunks.mean(1), [-0.2, 0.2], atol=0.025)
    np.testing.assert_allclose(chunks.std(1), 0.25, rtol=0.1)


class Joint(nn.Module):
    """The exact belief about rows (a_i, o_i), where all a_i are N(o, s^2) and later o_i N(-o, s^2), given the
    newest known o, read where it is inpainted. What it says of known rows is nonsense, and every x is
    kept."""

    def __init__(self, shape: PolicyShape, deviation: float) -> None:
        super().__init__()
        self.shape, self.schedule, self.deviation, self.xs = shape, policy_schedule(shape), deviation, []

    def forward(self, x, time, cond=None):
        self.xs.append(x.clone())
        t = (time.double() + 1.0) / self.shape.diffusion_steps
        alpha, sigma = (
            self.schedule.alpha(t).float()[:, None, None],
            self.schedule.sigma(t).float()[:, None, None],
        )
        mean, power = x[:, self.shape.n_obs - 1, 1:, None] * torch.tensor([1.0, -1.0]), self.deviation**2
        x_0 = mean + alpha * power / (alpha**2 * power + sigma**2) * (x - alpha * mean)
        x_0[:, : self.shape.n_obs, 1] = 0.77
        return x_0


def test_inpainted_observations_are_kept_and_actions_have_the_mean_given_them():
    """In the data's units: an observation of 10 +- 5 is 0 +- 1, an action of 100 +- 50 likewise."""
    shape = PolicyShape(1, 1, 2, 4, 2, predicts="x0", condition="inpainting", prefix=2)
    network = Joint(shape, 0.25)
    model = PolicyModel(shape, network)
    model.observed.learn(np.array([[5.0], [15.0]], np.float32), "limits")
    model.acted.learn(np.array([[50.0], [150.0]], np.float32), "limits")
    policy = Policy(model, Ancestral(model.denoiser.schedule), 100, seed=1)
    seen = np.repeat(np.array([[[13.0], [9.0]], [[7.0], [11.0]]], np.float32), 600, 0)
    chunks = policy.predict(seen).reshape(2, 600, 4)
    np.testing.assert_allclose(chunks.mean((1, 2)), [90.0, 110.0], atol=1.0)
    np.testing.assert_allclose(chunks.std((1, 2)), 12.5, rtol=0.1)
    assert len(network.xs) == 100
    for x in network.xs:
        np.testing.assert_allclose(
            x[:, :2, 1], (seen[..., 0] - 10.0) / 5.0, atol=1e-6
        )  # exactly, at every step
    known = np.array([[[60.0], [70.0]]] * 1200)
    assert (policy.predict(seen, known)[:, 1:3] == known).all()
    np.testing.assert_allclose(network.xs[-1][:, 1:3, 0], [[-0.8, -0.6]] * 1200, atol=1e-6)
    free = torch.ones(4, 2, dtype=torch.bool)
    free[:2, 1] = free[1:3, 0] = False
    assert (network.xs[-100][:, free].std(0) > 0.8).all()  # all else begins as noise
    with pytest.raises(ValueError, match="images cannot be inpainted"):
        PolicyShape(12, 1, condition="inpainting", parts=(Part("picture", (3, 2, 2), 0),))


def test_the_seed_decides_and_wrong_observations_are_refused():
    shape = PolicyShape(1, 1, 1, 4, 4)
    model = PolicyModel(shape, Conjugate(shape, 0.1))
    first, second, other = (Policy(model, DDIM(model.denoiser.schedule), 3, seed=s) for s in (0, 0, 1))
    see = np.zeros((2, 1))
    np.testing.assert_array_equal(first.act(see), second.act(see))
    assert not np.allclose(first.act(see), other.act(see))
    with pytest.raises(ValueError, match=r"shape \(B, 1\)"):
        first.act(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        first.act(np.full((2, 1), np.nan))
    with pytest.raises(ValueError, match="2 environments before, 3 now"):
        first.act(np.zeros((3, 1)))
    first.reset()
    assert first.act(np.zeros((3, 1))).shape == (3, 1)


class Continues(nn.Module):
    """Exact for constant chunks whose first actions are known: says in all rows what it is told is known, and
    there sees in x; else 0."""

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x, time, cond=None):
        told = (
            cond.tokens[:, -1, -self.shape.prefix :]
            if self.shape.condition == "tokens"
            else cond.vector[:, -self.shape.prefix :]
        )
        first = self.shape.n_obs - 1
        known = x[:, first : first + self.shape.prefix, 0] * told
        return (known.sum(1) / told.sum(1).clamp(min=1))[:, None, None].expand_as(x)


@pytest.mark.parametrize("tokens", [False, True])
def test_known_actions_stay_and_the_others_are_drawn_given_them(tokens):
    """Rows one too early or late would average the noise of an unknown row in; noised known rows (`Replace`)
    would, too."""
    shape = PolicyShape(3, 1, 2, 8, 4, predicts="x0", condition="tokens" if tokens else "film", prefix=3)
    model = PolicyModel(shape, Continues(shape))
    model.acted.learn(np.array([[100.0], [300.0]], np.float32), "limits")
    policy = Policy(model, Ancestral(model.denoiser.schedule), 5)
    see = np.zeros((2, 2, 3), np.float32)
    prefix = np.array([[[120.1]] * 2, [[250.7]] * 2])
    chunks = policy.predict(see, prefix)
    np.testing.assert_array_equal(chunks[:, 1:3], prefix)  # to the last bit
    np.testing.assert_allclose(chunks[:, 3:], np.repeat(prefix[:, :1], 5, 1), rtol=1e-5)
    np.testing.assert_allclose(policy.predict(see), 200.0, rtol=1e-5)
    with pytest.raises(ValueError, match="prefixes of up to 3 actions, got 4"):
        policy.predict(see, np.full((2, 4, 1), 200.0))
    with pytest.raises(ValueError, match=r"0 \.\. horizon - n_obs = 6"):
        PolicyShape(3, 1, 2, 8, 4, prefix=7)


@pytest.mark.parametrize("jacobian", [True, False])
def test_a_cost_in_the_datas_units_moves_the_actions_down_its_gradient(jacobian):
    """N(o, 1 / 4^2) with the cost k/2 (a - goal)^2: at a small scale the mean moves by variance * k * (goal -
    o) to first order."""
    shape = PolicyShape(1, 1, 1, 4, 4, predicts="eps")
    model = PolicyModel(shape, Conjugate(shape, 0.25))
    model.acted.learn(np.array([[0.0], [10.0]], np.float32), "limits")
    policy = Policy(model, DDIM(model.denoiser.schedule), 50, seed=2)
    see = np.zeros((400, 1, 1), np.float32)
    free = policy.predict(see).mean()
    policy.steer = costing(
        model, lambda chunk: 0.5 * (chunk - 9.0).square().sum((1, 2)), scale=0.1, jacobian=jacobian
    )
    moved = policy.predict(see).mean() - free
    assert free == pytest.approx(5.0, abs=0.1)
    if jacobian:  # in pixels: variance 1.25^2, gradient 0.1 * 4, lessened by what has moved already
        assert moved == pytest.approx(1.25**2 * 0.1 * 4.0, rel=0.25)
    assert 0.2 < moved < 4.5


def drawing(count=1, **more):
    """A policy whose chunks are N(o, 0.25^2) and show their noise; DDPM also draws on the way."""
    shape = PolicyShape(1, 1, 1, 4, 2, diffusion_steps=10)
    model = PolicyModel(shape, Conjugate(shape, 0.25))
    return Policy(model, more.pop("solver", Ancestral(model.denoiser.schedule)), 3, **more)


@pytest.mark.parametrize("real_time", [False, True])
def test_an_environments_actions_do_not_depend_on_those_beside_it(real_time):
    """Environment i has the seed of the first + i, whoever else is there and whoever else decides in the same
    call."""

    def acted(seed, count, anew=()):
        policy = drawing(seed=seed)
        policy = RealTimePolicy(policy, 1, "naive", execute=2) if real_time else policy
        done = []
        for k in range(9):
            if k in anew:
                policy.reset(
                    np.arange(count) == count - 1
                )  # which then decides at other steps than the others
            done.append(policy.act(np.full((count, 1), 0.1))[:, 0])
        return np.stack(done, axis=1)

    three = acted(5, 3)
    np.testing.assert_allclose(acted(5, 1)[0], three[0], atol=1e-6)
    np.testing.assert_allclose(acted(7, 1)[0], three[2], atol=1e-6)
    np.testing.assert_allclose(acted(5, 3, anew=(3,))[:2], three[:2], atol=1e-6)
    assert np.abs(three[0] - three[1]).min() > 1e-4


def test_a_longer_episode_beside_goes_on_with_its_own_noise():
    """`predict` for some environments alone takes theirs, not the first ones'."""
    both, alone = drawing(seed=3), drawing(seed=4)
    seen = np.zeros((2, 1, 1), np.float32)
    np.testing.assert_allclose(
        both.predict(seen[:1], environments=np.array([1])), alone.predict(seen[:1]), atol=1e-6
    )
    np.testing.assert_allclose(
        both.predict(seen)[1:], alone.predict(seen[:1]), atol=1e-6
    )  # the second chunk of each
    with pytest.raises(ValueError, match="2 different numbers"):
        both.predict(seen, environments=np.array([1, 1]))


@pytest.mark.parametrize("real_time", [False, True])
def test_recorded_noise_is_where_a_decision_begins_whatever_the_temperature(real_time):
    """DDIM is a function of its noise: as (mean + deviation * noise), since the belief of a Gaussian is exact
    in many steps."""
    shape = PolicyShape(1, 1, 1, 4, 4)
    model = PolicyModel(shape, Conjugate(shape, 0.25))
    noise = np.random.default_rng(0).standard_normal((3, 4, 1)).clip(-2, 2)
    policy = Policy(model, DDIM(model.denoiser.schedule), 100, temperature=0.1)
    act = (RealTimePolicy(policy, 0, "naive") if real_time else policy).act
    seen = np.array([[-0.1], [0.0], [0.1]])
    done = np.stack([act(seen, noise=noise)[:, 0] for _ in range(4)], axis=1)
    np.testing.assert_allclose(done, seen + 0.25 * noise[..., 0], atol=0.02)
    np.testing.assert_allclose(policy.predict(seen[:, None], noise=noise)[..., 0], done, atol=1e-6)
    for wrong in (noise[:2], noise[..., None], np.full_like(noise, np.nan)):
        with pytest.raises(ValueError, match=r"policy: noise must"):
            policy.predict(seen[:, None], noise=wrong)


@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_guidance_that_overflows_is_an_error_and_never_an_action(jacobian, clip):
    def cost(chunk):
        return (chunk - 9.0).square().sum((1, 2))

    policy = drawing(clip=clip)
    policy.steer = costing(policy.model, cost, scale=1e40, jacobian=jacobian)
    with pytest.raises(
        ValueError,
        match=r"guidance \(policy.steer\) made actions that are not finite at t = 0\.\d+; give a smaller scale",
    ):
        policy.act(np.zeros((2, 1)))
    policy.steer = None
    with pytest.raises(ValueError, match=r"guidance \(steer=\)"):
        policy.predict(
            np.zeros((2, 1, 1)),
            steer=costing(policy.model, lambda chunk: (chunk - chunk).sqrt().sum((1, 2)), 1.0),
        )
    with pytest.raises(ValueError, match=r"the edit .* made actions that are not finite"):
        policy.predict(np.zeros((2, 1, 1)), edit=lambda x, t, generator: x / (x - x))
    assert np.isfinite(policy.act(np.zeros((2, 1)))).all()
    for parameter in (policy.model.acted.low,):
        parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match="the network made actions that are not finite; its weights"):
        policy.predict(np.zeros((2, 1, 1)))


def test_one_observation_and_other_things_are_refused_by_name():
    policy = drawing()
    for wrong, said in (
        (
            np.zeros(2),
            r"policy: observations must have shape \(B, 1\), or \(1,\) for one environment, got \(2,\)",
        ),
        (np.zeros((0, 1)), r"shape \(B, 1\), or .*, got \(0, 1\)"),
        ({"state": np.zeros((1, 1))}, r"got a dict with \['state'\]"),
        (np.array([["a"]]), "must be numbers"),
        ([[0.0], [0.0, 1.0]], "must be an array"),
        (np.full((1, 1), 1e300), "finite"),
    ):
        with pytest.raises(ValueError, match=said):
            policy.check(wrong)
    np.testing.assert_array_equal(policy.check(torch.tensor([[0.5]])), [[0.5]])
    policy.act(np.zeros((2, 1)))
    for wrong in ([1, 0], np.array([True]), np.array([0, 1])):  # numbers would be taken for rows
        with pytest.raises(ValueError, match=r"one bool for each environment, shape \(2,\)"):
            marks(wrong, 2)
    with pytest.raises(ValueError, match=r"shape \(2,\), got bool of shape \(3,\)"):
        policy.reset(np.ones(3, bool))
    with pytest.raises(
        ValueError, match=r"policy: observations must have shape \(B, 1, 1\), got \(2, 2, 1\)"
    ):
        policy.predict(np.zeros((2, 2, 1)))
    with pytest.raises(ValueError, match=r"policy: prefix must have shape \(2, d, 1\)"):
        policy.predict(np.zeros((2, 1, 1)), np.zeros((2, 1, 2)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "policy: steps must be a whole number in 1 .. 10, got 0"),
        ({"steps": 11}, "policy: steps .* got 11"),
        ({"steps": True}, "policy: steps .* got True"),
        ({"temperature": float("nan")}, "policy: temperature must be a finite number of at least 0, got nan"),
        ({"temperature": -1.0}, "policy: temperature .* got -1"),
        ({"temperature": float("inf")}, "policy: temperature .* got inf"),
        ({"n_action": 0}, "policy: n_action .* got 0"),
        ({"seed": -1}, "policy: seed .* got -1"),
    ],
)
def test_settings_out_of_range_are_named(settings, said):
    policy = drawing()
    with pytest.raises(ValueError, match=said):
        Policy(policy.model, policy.solver, **({"steps": 2} | settings))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"observations": 0}, "`observations` must be a whole number of at least 1, got 0"),
        ({"n_obs": True}, "`n_obs` .* got True"),
        ({"prefix": -1}, "`prefix` must be a whole number of at least 0, got -1"),
    ],
)
def test_shapes_that_cannot_be_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        PolicyShape(**({"observations": 1, "actions": 1} | settings))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scale": float("nan")}, "costing: scale must be a finite number, got nan"),
        ({"until": 2.0}, "costing: until must lie in"),
    ],
)
def test_a_cost_is_checked_when_it_is_given(settings, said):
    given = {"model": drawing().model, "cost": lambda chunk: chunk.sum((1, 2)), "scale": 1.0} | settings
    with pytest.raises(ValueError, match=said):
        costing(**given)


@pytest.mark.parametrize(
    ("check", "wrong", "said"),
    [
        (whole, 2.5, "x must be a whole number of at least 1, got 2.5"),
        (whole, True, "x must be a whole number of at least 1, got True"),
        (whole, "2", "got '2'"),
        (whole, None, "got None"),
        (number, "hot", "x must be a finite number, got 'hot'"),
        (number, float("inf"), "got inf"),
        (number, True, "got True"),
        (number, [1.0], "got list"),
        (flag, 1, "x must be True or False, got 1"),
        (
            lambda name, value: kind(name, value, Policy, ", such as this"),
            "ddim",
            "x must be a Policy, such as this, got 'ddim'",
        ),
    ],
)
def test_values_of_other_types_are_named(check, wrong, said):
    with pytest.raises(ValueError, match=said):
        check("x", wrong)


def test_numpys_numbers_are_numbers():
    assert (
        whole("x", np.int64(3)) == 3
        and number("x", np.float32(0.5)) == 0.5
        and number("x", 2) == 2.0
        and flag("x", np.bool_(True))
    )

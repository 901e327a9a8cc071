"""Who carries out what and when under a delay, what the next chunk knows of it, and the pull of real-time
chunking against its formula."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from analytic import GaussianData
from unveil.policy.data.chunks import Chunks
from unveil.policy.model import PolicyModel, PolicyShape
from unveil.policy.policy import Policy
from unveil.policy.realtime import RealTimePolicy, pulled, soft_weights
from unveil.policy.training import policy_batches, policy_loss
from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import uniform
from unveil.process.schedule import Cosine, Flow
from unveil.sampling.gaussian import DDIM
from unveil.sampling.loop import sample

METHODS = ("wait", "naive", "prefix", "soft", "hard")


class Clock(nn.Module):
    """Says 0.01 (the step seen last + the row - first), so that an action says for which step it was
    meant."""

    def forward(self, x, time, cond=None):
        rows = torch.arange(x.shape[1], dtype=x.dtype)[None, :, None]
        return (0.01 * (rows - 1) + cond.vector[:, 1, None, None]).expand_as(x)


class Tired(nn.Module):
    """Says the number of its call / 100, whatever it sees: an action says which chunk it is of."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.threads = 0, set[str]()

    def forward(self, x, time, cond=None):
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        return torch.full_like(x, self.calls / 100)


class Follows(nn.Module):
    """A belief that depends on the state and on what is seen: half of both."""

    def forward(self, x, time, cond=None):
        return 0.5 * x + 0.3 * torch.roll(x, 1, dims=1) + 0.5 * cond.vector[:, 1, None, None]


def policy_of(network, horizon=16, n_action=6, prefix=8, steps=1, seed=0):
    shape = PolicyShape(1, 1, 2, horizon, n_action, diffusion_steps=10, predicts="x0", prefix=prefix)
    model = PolicyModel(shape, network)
    return Policy(model, DDIM(model.denoiser.schedule), steps, seed=seed)


def acted(policy, steps, count=1, see=lambda k: k / 100):
    return np.stack([policy.act(np.full((count, 1), see(k)))[:, 0] for k in range(steps)])


@pytest.mark.parametrize("delay", [0, 1, 3, 6])
@pytest.mark.parametrize("method", ["naive", "prefix", "hard"])
def test_a_policy_that_keeps_its_plan_is_not_disturbed_by_delay(method, delay):
    """Actions for step k are done at step k: rows that are skipped too few or too many would shift them."""
    policy = RealTimePolicy(policy_of(Clock()), delay, method)
    np.testing.assert_allclose(acted(policy, 30)[:, 0], np.arange(30) / 100, atol=1e-6)
    assert policy.decisions == 5  # begun at steps 0, 6, 12, 18 and 24


def test_a_decision_takes_over_as_many_steps_after_it_began_as_the_delay():
    said = {
        method: acted(RealTimePolicy(policy_of(Tired()), 3, method), 24)[:, 0] for method in ("naive", "wait")
    }
    np.testing.assert_allclose(100 * said["naive"], [1] * 9 + [2] * 6 + [3] * 6 + [4] * 3, atol=1e-4)
    held = [1] * 6 + [1] * 3 + [2] * 6 + [2] * 3 + [3] * 6
    np.testing.assert_allclose(100 * said["wait"], held, atol=1e-4)


def test_waiting_holds_the_last_target_then_begins_with_the_first_action():
    """It decides from what it saw when it began: at steps 6 and 15."""
    said = acted(RealTimePolicy(policy_of(Clock()), 3, "wait"), 18)[:, 0]
    np.testing.assert_allclose(100 * said, [*range(6), 5, 5, 5, *range(6, 12), 11, 11, 11], atol=1e-4)


@pytest.mark.parametrize("method", ["wait", "naive", "prefix", "hard"])
def test_without_delay_it_is_the_plain_policy(method):
    plain, real = policy_of(Follows(), steps=3), RealTimePolicy(policy_of(Follows(), steps=3), 0, method)
    np.testing.assert_array_equal(acted(plain, 20, 3), acted(real, 20, 3))


def test_what_is_carried_out_meanwhile_stands_in_the_next_chunk():
    """`prefix`: to the last bit, whatever the network says; `naive`: it does not."""
    chunks = {}
    for method in ("prefix", "naive"):
        policy = RealTimePolicy(policy_of(Follows(), steps=3), 4, method)
        done = acted(policy, 11, 2)
        assert policy.chunks is not None
        chunks[method] = (
            policy.chunks[:, 1:5, 0],
            done[6:10].T,
        )  # of the chunk that was begun at step 6, and what was done until it came
    np.testing.assert_array_equal(*chunks["prefix"])
    assert np.abs(chunks["naive"][0] - chunks["naive"][1]).min() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_a_thread_does_the_same_as_the_simulated_delay(method):
    """With episodes that begin anew while chunks are computed for them, and at different times."""
    said = []
    for background in (False, True):
        network = Follows()
        policy = RealTimePolicy(policy_of(network, steps=3), 3, method, background=background)
        actions = []
        for k in range(24):
            if k in (8, 13):
                policy.reset(np.array([k == 8, False, k == 13]))
            actions.append(policy.act(np.array([[0.1], [0.2], [0.01 * k]])))
        policy.reset()
        actions.append(policy.act(np.zeros((3, 1))))
        policy.close()
        said.append(np.stack(actions))
    np.testing.assert_array_equal(*said)


def test_the_thread_is_another_and_is_waited_for_only_when_due():
    gate = threading.Event()

    class Slow(Tired):
        def forward(self, x, time, cond=None):
            if self.calls:
                assert gate.wait(20)
            return super().forward(x, time, cond)

    network = Slow()
    policy = RealTimePolicy(policy_of(network), 3, "naive", background=True)
    said = acted(policy, 9)  # the second decision began at step 6 and is due at step 9: nobody waits before
    assert network.calls == 1 and (said == said[0]).all()
    gate.set()
    assert acted(policy, 1)[0, 0] == pytest.approx(0.02)
    assert threading.current_thread().name not in network.threads
    policy.close()


def test_a_new_episode_does_not_carry_out_what_was_computed_for_the_last():
    policy = RealTimePolicy(policy_of(Tired()), 3, "naive")
    acted(policy, 8, 2)  # the second chunk began at step 6
    policy.reset(np.array([True, False]))
    said = acted(policy, 4, 2)
    np.testing.assert_allclose(100 * said[:, 0], [3, 3, 3, 3], atol=1e-4)
    np.testing.assert_allclose(100 * said[:, 1], [1, 2, 2, 2], atol=1e-4)


def test_soft_weights_are_the_published_ones():
    """Black et al. 2025, eq. 5: 1 during the delay, a decay to the last common action, 0 where the last chunk
    has ended."""
    weights = soft_weights(15, 3, 6)
    c = np.array([(9 - i) / 7 for i in range(3, 9)])
    np.testing.assert_allclose(weights[:3], 1.0)
    np.testing.assert_allclose(weights[3:9], c * np.expm1(c) / (np.e - 1), rtol=1e-12)
    np.testing.assert_allclose(weights[9:], 0.0)
    assert bool((weights[2:10].diff() < 0).all())
    np.testing.assert_allclose(soft_weights(4, 2, 2), [1, 1, 0, 0])


@pytest.mark.parametrize("most", [5.0, 0.3])
def test_with_flow_matching_the_pull_is_real_time_chunkings(most, generator):
    """v + min(beta, (1 - tau) / (tau r^2)) J^T W (target - mean), for a belief with a full Jacobian; `most`
    small is its cap."""
    matrix = 0.3 * torch.randn((5, 5), generator=generator, dtype=torch.float64)

    def belief(x, t):
        return GaussianDenoised(torch.tanh(x.transpose(1, 2) @ matrix).transpose(1, 2))

    x, target = torch.randn((2, 3, 5, 1), generator=generator, dtype=torch.float64)
    weights = soft_weights(5, 1, 1)
    for tau in (0.2, 0.5, 0.8):
        t = torch.full((3,), 1 - tau, dtype=torch.float64)
        mean = belief(x, t).mean
        velocity = (mean - x) / (1 - tau)
        r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        error = weights[:, None] * (target - mean)
        jacobian = (1 - mean**2) * error  # J^T error = matrix (tanh' * error)
        pull = (matrix @ jacobian.squeeze(2).T).T[..., None]
        expected = x + (1 - tau) * (velocity + min(most, (1 - tau) / (tau * r2)) * pull)
        got = pulled(target, weights, Flow(), most)(belief)(x, t).mean
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("schedule", [Flow(), Cosine()])
def test_with_independent_normal_actions_full_weight_is_exact_and_none_leaves_them(schedule, generator):
    """N(0, 1): mean' = target where w = 1, the posterior of an exact measurement; (1 - w) mean + w target in
    between."""
    x, target = torch.randn((2, 3, 4, 2), generator=generator, dtype=torch.float64)
    weights, t = (
        torch.tensor([1.0, 0.4, 0.0, 0.0], dtype=torch.float64),
        torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64),
    )
    data = GaussianData(schedule)
    got, mean, w = (
        pulled(target, weights, schedule, most=1e9)(data)(x, t).mean,
        data(x, t).mean,
        weights[:, None],
    )
    torch.testing.assert_close(got, (1 - w) * mean + w * target, rtol=1e-9, atol=1e-10)


def test_actions_after_the_delay_are_pulled_towards_their_conditional_mean(generator):
    """A correlated Gaussian: what is not weighted moves with what is. A pull that forgot the Jacobian would
    leave it; the sign shows."""
    schedule, rows = Cosine(), torch.arange(6)
    covariance = 0.9 ** (rows[:, None] - rows).abs().double()

    def belief(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        gain = torch.stack(
            [
                a * covariance @ torch.linalg.inv(a**2 * covariance + s**2 * torch.eye(6))
                for a, s in zip(alpha, sigma, strict=True)
            ]
        )
        return GaussianDenoised(gain @ x)

    target, weights = (
        torch.full((400, 6, 1), 1.5, dtype=torch.float64),
        torch.tensor([1.0, 1, 0, 0, 0, 0], dtype=torch.float64),
    )
    noise = torch.randn((400, 6, 1), generator=generator, dtype=torch.float64)

    def drawn(denoise):
        return sample(denoise, DDIM(schedule), noise, uniform(30, start=0.99))[..., 0]

    free, soft = drawn(belief), drawn(pulled(target, weights, schedule)(belief))
    exact = 1.5 * 0.9 ** torch.arange(1, 5)  # E[x_i | x_0 = x_1 = 1.5]: a Markov chain
    assert float(free.mean().abs()) < 0.15
    assert float((soft[:, :2] - 1.5).abs().mean()) < 0.15
    assert float((soft[:, 2:].mean(0) - exact).abs().max()) < 0.2


def test_soft_and_hard_come_nearer_to_the_last_chunk_than_naive():
    jumps = {}
    for method in ("naive", "soft", "hard"):
        policy = RealTimePolicy(policy_of(Follows(), steps=8), 4, method)
        said = acted(policy, 60, 16, see=lambda k: 0.0)
        jumps[method] = np.abs(np.diff(said, axis=0))[
            9::6
        ].mean()  # from action 9 + 6 j to the first of the new chunk
    assert jumps["soft"] < 0.8 * jumps["naive"] and jumps["hard"] < jumps["naive"]


class Small(nn.Module):
    """Two layers over all that there is."""

    def __init__(self, rows: int, told: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(rows + told + 1, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, rows)
        )

    def forward(self, x, time, cond=None):
        return self.layers(torch.cat([x.flatten(1), cond.vector, time[:, None] / 20], dim=1))[..., None]


def test_a_trained_prefix_commits_where_two_ways_are_equally_good():
    """Episodes go left or right, which no observation tells: an uninformed chunk changes its mind half the
    time, an informed one not."""
    rng = np.random.default_rng(0)
    actions = np.repeat(rng.choice([-1.0, 1.0], 40), 20)[:, None].astype(np.float32)
    chunks = Chunks(np.zeros_like(actions), actions, 20 * np.arange(1, 41), 1, 8, 4)
    torch.manual_seed(0)
    shape = PolicyShape(1, 1, 1, 8, 4, 20, "x0", prefix=4)
    model = PolicyModel(shape, Small(8, 1 + 4))
    model.acted.learn(actions, "limits")
    draw, generator = policy_batches(chunks, shape, 128), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        policy_loss(model, draw(generator))[0].backward()
        optimizer.step()
    changed = {}
    for method in ("naive", "soft", "prefix"):
        policy = RealTimePolicy(Policy(model, DDIM(model.denoiser.schedule), 10), 3, method)
        said = np.sign(acted(policy, 31, 64, see=lambda k: 0.0))
        changed[method] = (said[1:] != said[:-1])[
            6::4
        ].mean()  # from action 6 + 4 j to the first of the new chunk
    assert changed["naive"] > 0.3 and changed["prefix"] < 0.02 and changed["soft"] < 0.5 * changed["naive"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delay": 7, "execute": 6}, "delay <= execute"),
        (
            {"delay": 8, "execute": 8},
            r"n_obs - 1 \+ delay \+ execute <= horizon are needed, got delay 8, execute 8",
        ),
        ({"delay": -1}, "at least 0"),
        ({"delay": 5, "method": "prefix"}, "prefixes of up to 4 actions, the delay is 5"),
    ],
)
def test_impossible_delays_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RealTimePolicy(policy_of(Clock(), prefix=4), **({"method": "naive"} | settings))


def test_waiting_has_no_limit_of_delay_and_other_environments_need_a_reset():
    policy = RealTimePolicy(policy_of(Clock()), 40, "wait", execute=8)
    assert acted(policy, 50, 2).shape == (50, 2)
    with pytest.raises(ValueError, match="2 environments before, 1 now"):
        acted(policy, 1)
    with pytest.raises(ValueError, match=r"shape \(B, 1\)"):
        policy.act(np.zeros((2, 3)))


@pytest.mark.parametrize("background", [False, True])
def test_actions_that_are_not_finite_never_leave_and_a_reset_goes_on(background):
    """The error names the guidance and its scale, wherever the chunk is computed; nothing stays behind."""
    policy = policy_of(Clock())
    acting = RealTimePolicy(policy, 2, "naive", execute=4, background=background)
    assert np.isfinite(acting.act(np.zeros((1, 1)))).all()
    policy.steer = lambda denoise: lambda x, t: GaussianDenoised(denoise(x, t).mean / (x - x))
    with pytest.raises(
        ValueError, match=r"guidance \(policy.steer\) made actions that are not finite .*scale"
    ):
        acted(acting, 12)
    policy.steer = None
    acting.reset()
    assert acting.act(np.zeros(1)).shape == (1,)
    acting.close()

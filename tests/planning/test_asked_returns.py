"""Plans asked for by their return: ranks, what the network is told, classifier-free guidance, and a toy whose
answer is known."""

from statistics import NormalDist

import numpy as np
import pytest
import torch

from unveil.planning.data.episodes import Episodes
from unveil.planning.data.trajectories import Trajectories, ranks
from unveil.planning.guided_planner import GuidedPlanner, GuidedSettings, conditioned
from unveil.planning.networks.trajectory_transformer import SequenceTransformer
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape, return_condition
from unveil.planning.trajectory_training import trajectory_batches, trajectory_loss
from unveil.planning.value_guidance import surprise, unguided
from unveil.sampling.gaussian import DDIM

SHAPE = TrajectoryShape(1, 10, actions=1, observations=1, returns=True)


class Told(torch.nn.Module):
    """Says 3 where it is told nothing, 3 + 2 (2 rank - 1) else."""

    def forward(self, x, time, cond):
        return (3.0 + 2.0 * cond.vector[:, :1] * cond.vector[:, 1:])[:, None].expand_as(x)


def test_ranks_are_the_share_below_and_ties_share_theirs():
    np.testing.assert_allclose(ranks(np.array([30.0, 10.0, 20.0])), [1.0, 0.0, 0.5])
    np.testing.assert_allclose(ranks(np.array([5.0, 5.0, 9.0])), [0.25, 0.25, 1.0])
    np.testing.assert_allclose(ranks(np.array([7.0])), [0.0])


def test_a_rank_is_told_and_nan_is_silence():
    torch.testing.assert_close(
        return_condition(torch.tensor([0.0, 0.75, torch.nan])).vector,
        torch.tensor([[-1.0, 1.0], [0.5, 1.0], [0.0, 0.0]]),
    )


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 4.0), (3.0, 6.0), (0.0, 3.0)])
def test_guidance_goes_from_plans_of_any_return_towards_the_asked(scale, expected):
    belief = conditioned(TrajectoryModel(SHAPE, Told()), 0.75, scale)(
        torch.zeros(2, 1, 2), torch.full((2,), 0.5, dtype=torch.float64)
    )
    torch.testing.assert_close(belief.mean, torch.full((2, 1, 2), expected))


def test_a_planner_that_asks_for_nothing_says_so():
    """A network that is told returns learned silence as (0, 0), never as no condition at all; a scale's rule
    listens to the same."""
    model = TrajectoryModel(SHAPE, Told())
    model.normalization.least.fill_(-1e3)
    model.normalization.most.fill_(1e3)
    planner = GuidedPlanner(
        model, unguided(DDIM(model.denoiser.schedule)), None, GuidedSettings(1, 2, clip=False)
    )
    torch.testing.assert_close(planner.best(np.zeros((2, 1)))[:, 0, 0], torch.full((2,), 3.0))
    x = torch.full((4, 1, 2), 5.0)
    torch.testing.assert_close(
        surprise(model, x), torch.full((4,), 0.5 * (5.0 - 3.0) ** 2)
    )  # of two numbers one is the known state


def test_asked_plans_are_those_that_followed_such_returns():
    """Actions are standard normal and the return is the action: of rank u it is the normal quantile of u, and
    untold its mean is 0."""
    generator = np.random.default_rng(0)
    actions = generator.normal(size=(4096, 1)).astype(np.float32)
    episodes = Episodes(
        np.zeros((4096, 1), np.float32), actions, actions[:, 0], np.ones(4096, bool), np.zeros(4096, bool)
    )
    torch.manual_seed(0)
    model = TrajectoryModel(SHAPE, SequenceTransformer(2, 32, 1, 2, 1, condition=2))
    model.normalization.least.fill_(-1e3)
    model.normalization.most.fill_(1e3)
    told = torch.from_numpy(ranks(actions[:, 0]))
    draw = trajectory_batches(Trajectories(episodes), SHAPE, 256, told, drop=0.25)
    optimizer, source = (
        torch.optim.Adam(model.parameters(), 3e-3),
        torch.Generator(device="cpu").manual_seed(0),
    )
    for step in range(300):
        loss, _ = trajectory_loss(model, draw(source))
        optimizer.param_groups[0]["lr"] = 3e-3 * (1.0 - step / 300)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for ask in (0.1, 0.5, 0.9):
        planner = GuidedPlanner(
            model,
            unguided(DDIM(model.denoiser.schedule)),
            None,
            GuidedSettings(1, 1, temperature=0.0, ask=ask, clip=False),
        )
        assert float(planner.best(np.zeros((1, 1)))[0, 0, 0]) == pytest.approx(
            NormalDist().inv_cdf(ask), abs=0.2
        )
    untold = GuidedPlanner(
        model,
        unguided(DDIM(model.denoiser.schedule)),
        None,
        GuidedSettings(1, 1, temperature=0.0, clip=False),
    )
    assert float(untold.best(np.zeros((1, 1)))[0, 0, 0]) == pytest.approx(0.0, abs=0.35)


def test_a_share_of_targets_is_hidden():
    episodes = Episodes(
        np.zeros((8, 1), np.float32),
        np.zeros((8, 1), np.float32),
        np.zeros(8, np.float32),
        np.zeros(8, bool),
        np.zeros(8, bool),
    )
    draw = trajectory_batches(Trajectories(episodes), SHAPE, 4000, torch.arange(8.0), drop=0.3)
    target = draw(torch.Generator(device="cpu").manual_seed(0)).target
    assert target is not None
    assert float(target.isnan().double().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(target[~target.isnan()].mean()) == pytest.approx(3.5, abs=0.15)


def test_what_cannot_be_asked_is_refused():
    silent = TrajectoryModel(TrajectoryShape(1, 10, 1, 1), Told())
    form = unguided(DDIM(silent.denoiser.schedule))
    with pytest.raises(ValueError, match="with `returns`"):
        GuidedPlanner(silent, form, None, GuidedSettings(1, ask=0.9))
    with pytest.raises(
        ValueError, match="`ask` must be a number of at least 0 and at most 1 or None, got 90"
    ):
        GuidedPlanner(TrajectoryModel(SHAPE, Told()), form, None, GuidedSettings(1, ask=90.0))

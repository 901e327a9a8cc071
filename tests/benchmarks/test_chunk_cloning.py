"""Baselines of chunks against closed forms: a mean's middle, a mixture's modes, bins' error, the nearest
chunk itself."""

import numpy as np
import pytest
import torch

from baselines.chunk_actor import ChunkActor, Nearest
from baselines.chunk_cloning import Bins, ChunkClone, Mean, Mixture, chunk_loss
from pusht_recorded import recorded
from unveil.policy.data.chunks import Chunks
from unveil.policy.model import PolicyModel, PolicyShape
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.training import PolicyBatch
from unveil.sampling.noise import generators


def clone(head, horizon=4, actions=1):
    torch.manual_seed(0)
    shape = PolicyShape(1, actions, 1, horizon, horizon)
    outputs = head.outputs(actions)
    return ChunkClone(ConditionalUNet(outputs, 1, (16,), 3, 4), head, PolicyModel(shape, torch.nn.Identity()))


def fitted(head, steps=80):
    """From one observation half of all people go left (-0.5 throughout), half right."""
    model = clone(head)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    seen = torch.zeros(8, 1, 1)
    chunks = torch.where(torch.arange(8) % 2 == 0, 0.5, -0.5)[:, None, None].expand(8, 4, 1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss, _ = chunk_loss(
            model, PolicyBatch(seen, chunks, torch.zeros(8), chunks, 0, torch.zeros(8, dtype=torch.long))
        )
        loss.backward()
        optimizer.step()
    return model.predict(torch.zeros(256, 1, 1), torch.Generator().manual_seed(0))[..., 0]


def test_a_mean_goes_down_the_middle():
    torch.testing.assert_close(fitted(Mean()), torch.zeros(256, 4), atol=0.03, rtol=0)


def test_a_mixture_finds_both_ways_and_keeps_to_one():
    chunks = fitted(Mixture(2))
    torch.testing.assert_close(chunks.abs(), torch.full((256, 4), 0.5), atol=0.08, rtol=0)
    assert bool((chunks.sign() == chunks[:, :1].sign()).all())
    assert 0.35 < float((chunks[:, 0] > 0).float().mean()) < 0.65


def test_independent_bins_find_both_ways_and_mix_them():
    """One of the two ways is kept in all H numbers with probability 2^(1 - H): here 1/8."""
    chunks = fitted(Bins(8))
    right = chunks > 0
    assert float(((chunks.abs() - 0.5).abs() < 0.2).float().mean()) > 0.98
    kept = float((right.all(1) | ~right.any(1)).float().mean())
    assert kept == pytest.approx(2.0**-3, abs=0.08)


@pytest.mark.parametrize("count", [4, 16, 64])
@pytest.mark.parametrize(("horizon", "actions"), [(1, 1), (4, 2), (16, 2)])
def test_the_squared_error_of_bins_is_the_numbers_of_a_chunk_by_w2_over_12(count, horizon, actions):
    bins = Bins(count)
    x = 2.0 * torch.rand(20_000, horizon, actions, generator=torch.Generator().manual_seed(0)) - 1.0
    error = (bins.middles(bins.binned(x)) - x).square().sum((1, 2)).mean()
    assert float(error) == pytest.approx(horizon * actions * (2.0 / count) ** 2 / 12.0, rel=0.03)
    assert bins.binned(torch.tensor([-9.0, -1.0, 1.0, 9.0])).tolist() == [0, 0, count - 1, count - 1]


def test_a_mixtures_loss_is_the_gaussians_density():
    """K = 1: (1/2) ((x - mu)^2 / sigma^2 + log 2 pi sigma^2) for each number; two equal parts are as good as
    one."""
    mixture, chunks = Mixture(1), torch.tensor([[[0.3], [-0.2]]])
    said = torch.tensor([[[7.0, 0.1, 0.4], [-3.0, 0.2, -1.0]]])
    normal = torch.distributions.Normal(said[..., 1:2], torch.nn.functional.softplus(said[..., 2:]) + 0.01)
    torch.testing.assert_close(mixture.loss(said, chunks), -normal.log_prob(chunks).mean()[None])
    twice = torch.cat([said, said], dim=-1)
    torch.testing.assert_close(Mixture(2).loss(twice, chunks), mixture.loss(said, chunks))


def test_the_nearest_chunk_of_a_recorded_place_is_the_recorded_one():
    two = recorded()
    chunks = Chunks(two.observed("state"), two.actions, two.episode_ends, 2, 16, 8)
    seen, done = chunks.windows(torch.arange(len(chunks)))
    np.testing.assert_array_equal(Nearest(chunks).predict(seen.numpy()), done.numpy())
    several = Nearest(chunks, 3).predict(seen.numpy())
    assert np.abs(several - done.numpy()).max() > 1.0
    with pytest.raises(ValueError, match="k must lie in"):
        Nearest(chunks, 0)


def test_nearest_of_two_equally_far_is_their_mean():
    observations, actions = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[0.0], [10.0], [20.0], [30.0]])
    chunks = Chunks(observations, actions, np.array([4]), 1, 1, 1)
    np.testing.assert_allclose(Nearest(chunks, 2).predict(np.array([[[1.5]]])), [[[15.0]]])


def test_an_actor_executes_from_the_newest_observation_on():
    """As `Policy`: the first observation stands for those before it, rows n_obs - 1 .. n_obs - 2 + n_action
    are executed."""
    asked = []

    def predict(histories):
        asked.append(histories.copy())
        return np.arange(6.0)[None, :, None] + 100 * len(asked) + np.zeros((len(histories), 1, 1))

    actor = ChunkActor(predict, n_obs=2, n_action=3)
    said = [float(actor.act(np.array([[float(k)]]))[0, 0]) for k in range(7)]
    assert said == [101, 102, 103, 201, 202, 203, 301] and actor.decisions == 3
    assert [history.ravel().tolist() for history in asked] == [[0, 0], [2, 3], [5, 6]]
    actor.reset()
    actor.act(np.array([[9.0]]))
    assert asked[-1].ravel().tolist() == [9, 9]


@pytest.mark.parametrize("head", [Bins(8), Mixture(2)])
def test_a_rows_draw_does_not_depend_on_the_rows_beside_it(head):
    model, seen = clone(head), torch.linspace(-1, 1, 5)[:, None, None]
    five = model.predict(seen, generators(3, 5))
    torch.testing.assert_close(model.predict(seen[3:], generators(3, 2, first=3)), five[3:])
    assert (
        len(model.predict(seen[:1].expand(64, -1, -1), generators(0, 64)).round(decimals=4).unique(dim=0)) > 1
    )
    with pytest.raises(ValueError, match="2 generators cannot serve 5 rows"):
        model.predict(seen, generators(3, 2))

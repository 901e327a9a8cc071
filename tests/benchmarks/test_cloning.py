"""Cloning learns a known policy; the best episodes are the best."""

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.locomotion_cloning import Clone, best_episodes, cloning_loss, pairs
from unveil.planning.data.episodes import Episodes
from unveil.training.trainer import Training, train


def recording(returns: list[float], length: int = 10) -> Episodes:
    count = len(returns) * length
    observations = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    actions = np.stack([0.5 * observations[:, 0], -observations[:, 1] + 0.3], axis=1)
    ends = np.zeros(count, bool)
    ends[length - 1 :: length] = True
    return Episodes(
        observations,
        actions,
        np.repeat(returns, length).astype(np.float32) / length,
        np.zeros(count, bool),
        ends,
    )


def test_a_linear_policy_is_learned(tmp_path: Path):
    episodes = recording([0.0] * 200)
    torch.manual_seed(0)
    model = Clone(episodes)
    model.load_state_dict(
        train(model, pairs(episodes, 256), cloning_loss, Training(300, save_every=300), tmp_path)
    )
    observations = np.array([[0.5, -0.4, 1.0], [4.0, 0.0, 0.0]])
    actions = model.act(observations)
    np.testing.assert_allclose(actions[0], [0.25, 0.7], atol=0.08)
    assert actions[1, 0] == 1.0  # clipped


def test_the_best_episodes_hold_the_share_that_is_asked():
    episodes = recording([1.0, 5.0, 3.0, 4.0, 2.0])
    for share, expected in ((0.1, [5.0]), (0.2, [5.0]), (0.3, [5.0, 4.0]), (1.0, [1.0, 5.0, 3.0, 4.0, 2.0])):
        found = best_episodes(episodes, share)
        returns = np.add.reduceat(found.rewards, found.starts)
        np.testing.assert_allclose(
            returns, [r for r in [1.0, 5.0, 3.0, 4.0, 2.0] if r in expected], rtol=1e-5
        )
    with pytest.raises(ValueError, match="share"):
        best_episodes(episodes, 0.0)

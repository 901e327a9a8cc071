"""Episodes of any environment: each from its own seed, in whatever environment is free."""

import gymnasium
import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.policy.evaluation.rollouts import roll, rollout_metrics
from unveil.policy.worlds.environments.spaces import Reader


class Counting(gymnasium.Env):
    """An episode ends after 1 + seed % 3 steps; the reward is the action, which is clipped to 1."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        self.left, self.seed = 1 + seed % 3, seed
        return {"seed": np.array([float(seed)])}, {}

    def step(self, action):
        self.left -= 1
        told = {"is_success": self.seed % 2 == 0} if self.seed else {}
        return {"seed": np.array([float(self.seed)])}, float(action[0]), self.left == 0, False, told


class Echo:
    """Acts with the observed seed / 10, and remembers which rows were reset."""

    def __init__(self):
        self.resets = []

    def reset(self, rows=None):
        self.resets.append(None if rows is None else rows.tolist())

    def act(self, observations):
        return observations["seed"] / 10.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_episode_has_its_seed_whatever_the_number_of_environments(count):
    policy = Echo()
    done = roll([Counting() for _ in range(count)], Reader({"seed": "seed"}), policy, 5, 8, 100)
    assert done.lengths.tolist() == [3, 1, 2, 3, 1]  # seeds 8 .. 12
    np.testing.assert_allclose(done.returns, [2.4, 0.9, 2.0, 3.0, 1.0], rtol=1e-6)
    assert done.solved.tolist() == [True, False, True, False, True] and done.reported
    assert (done.acted, done.clipped) == (10, 4)  # 1.1 and 1.2 are beyond the limit
    assert policy.resets[0] is None and len(policy.resets) == 1 + {1: 4, 2: 2, 5: 0}[count]
    metrics = rollout_metrics(done)
    assert metrics["success_rate"] == 0.6 and metrics["success_low"] < 0.6 < metrics["success_high"] < 1.0
    assert metrics["clipped_share"] == 0.4 and metrics["n"] == 5


def test_an_episode_without_an_end_is_cut_and_no_success_is_no_rate():
    done = roll([Counting()], Reader({"seed": "seed"}), Echo(), 1, 0, 0 + 1)
    assert done.lengths.tolist() == [1] and "success_rate" not in rollout_metrics(done)


def test_observations_that_do_not_fit_are_one_error_with_the_flag():
    class Strict(Echo):
        def act(self, observations):
            raise ValueError("policy: observation 'joints' must have shape (B, 7)")

    with pytest.raises(UnveilError, match=r"'joints' must have shape .*assigned to names by `mapping`"):
        roll([Counting()], Reader({"seed": "seed"}), Strict(), 1, 0, 5)

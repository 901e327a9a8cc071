"""From arrays of your own robot (observations, actions, ends of episodes) to a policy that acts."""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from unveil import DDIM, Policy
from unveil.policy.data.chunks import Chunks
from unveil.policy.model import PolicyModel, PolicyShape
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.training import policy_batches, policy_loss
from unveil.training.trainer import Training, train


def trained(observations: np.ndarray, actions: np.ndarray, ends: np.ndarray, run: Path, steps: int) -> Policy:
    shape = PolicyShape(observations.shape[1], actions.shape[1], n_obs=2, horizon=8, n_action=4)
    chunks = Chunks(observations, actions, ends, shape.n_obs, shape.horizon, shape.n_action)
    network = ConditionalUNet(shape.actions, 2 * shape.observations, (32, 64), kernel=3, step=32)
    model = PolicyModel(shape, network)
    model.observed.learn(observations, "limits")
    model.acted.learn(actions, "limits")
    settings = Training(steps, learning_rate=2e-3, warmup=20, save_every=steps)
    model.load_state_dict(train(model, policy_batches(chunks, shape, 64), policy_loss, settings, run))
    return Policy(model, DDIM(model.denoiser.schedule), steps=8)


def main(steps: int = 300) -> np.ndarray:
    starts = np.random.default_rng(0).random((50, 2))  # here: a hand that moves towards (0.5, 0.5)
    seen = np.concatenate([0.5 + (start - 0.5) * 0.8 ** np.arange(20)[:, None] for start in starts])
    policy = trained(seen, 0.5 + 0.8 * (seen - 0.5), 20 * np.arange(1, 51), Path(mkdtemp()), steps)
    place = np.array([[0.1, 0.9], [0.8, 0.2]])
    for _ in range(20):
        place = policy.act(place)
    return place


if __name__ == "__main__":
    print("after 20 actions:", main().round(3).tolist())

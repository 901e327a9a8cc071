"""From arrays of your own robot (observations, actions, ends of episodes) to a policy that acts.   python examples/own_demonstrations.py"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import unveil
from unveil.apps.policy_model import PolicyModel, PolicyShape
from unveil.apps.policy_training import policy_batches, policy_loss
from unveil.data.chunks import Chunks
from unveil.network.conditional_unet1d import ConditionalUNet
from unveil.training.trainer import Training, train


def trained(observations: np.ndarray, actions: np.ndarray, episode_ends: np.ndarray, run: Path, steps: int = 300) -> unveil.Policy:
    shape = PolicyShape(observations.shape[1], actions.shape[1], n_obs=2, horizon=8, n_action=4)
    chunks = Chunks(observations, actions, episode_ends, shape.n_obs, shape.horizon, shape.n_action)
    model = PolicyModel(shape, ConditionalUNet(shape.actions, shape.n_obs * shape.observations, (32, 64), kernel=3, step=32))
    model.observed.learn(observations, "limits")
    model.acted.learn(actions, "limits")
    training = Training(steps, learning_rate=2e-3, warmup=20, save_every=steps)
    model.load_state_dict(train(model, policy_batches(chunks, shape, 64), policy_loss, training, run))
    return unveil.Policy(model, unveil.DDIM(model.denoiser.schedule), steps=8)


def main(steps: int = 300) -> float:
    starts = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)).numpy()  # here: a hand that is drawn to (0.5, 0.5)
    paths = [0.5 + (start - 0.5) * 0.8 ** np.arange(20)[:, None] for start in starts]  # what it saw: where it is
    targets = [0.5 + 0.8 * (path - 0.5) for path in paths]  # what it did: where to be next
    with TemporaryDirectory() as run:
        policy = trained(np.concatenate(paths), np.concatenate(targets), 20 * np.arange(1, 51), Path(run), steps)
    place = np.array([[0.1, 0.9], [0.8, 0.2]])
    for _ in range(20):
        place = policy.act(place)
    print("after 20 actions:", place.round(3).tolist())
    return float(np.abs(place - 0.5).max())


if __name__ == "__main__":
    main()

"""The loss of a policy against its formula, batches that depend on the generator alone, and a policy that
learns to follow a rule."""

import numpy as np
import pytest
import torch
from torch import nn

from unveil.policy.data.chunks import Chunks
from unveil.policy.model import PolicyModel, PolicyShape
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.observation import ObservationEncoder, Part
from unveil.policy.networks.transformer import PolicyTransformer
from unveil.policy.policy import Policy
from unveil.policy.training import policy_batches, policy_loss
from unveil.sampling.gaussian import DDIM
from unveil.training.trainer import Training, train


class Nothing(nn.Module):
    """Says 0, so that the loss is the mean square of the target."""

    def __init__(self) -> None:
        super().__init__()
        self.time: torch.Tensor | None = None

    def forward(self, x, time, cond=None):
        self.x, self.time, self.cond = x, time, cond
        return torch.zeros_like(x)


def wave(episodes=12, length=40, seed=0):
    """Two observations o, and the action 100 + 50 (o_0 - o_1) of the same row; episodes are slow random
    waves."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)[:, None]
    seen = np.concatenate([np.sin(0.1 * time + rng.uniform(0, 6, 2)) for _ in range(episodes)]).astype(
        np.float32
    )
    actions = (100.0 + 50.0 * (seen[:, :1] - seen[:, 1:])).astype(np.float32)
    return Chunks(seen, actions, length * np.arange(1, episodes + 1), 2, 8, 4), seen, actions


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "flow"])
def test_loss_is_the_mean_square_of_what_the_network_should_say(predicts, generator):
    chunks, seen, actions = wave()
    shape = PolicyShape(2, 1, 2, 8, 4, 50, predicts)
    model = PolicyModel(shape, Nothing())
    model.observed.learn(seen, "limits")
    model.acted.learn(actions, "limits")
    batch = policy_batches(chunks, shape, 32)(generator)
    loss, _ = policy_loss(model, batch)
    x_0 = 2 * (batch.actions - actions.min()) / float(actions.max() - actions.min()) - 1
    schedule = model.denoiser.schedule
    alpha, sigma = (f(batch.t).float()[:, None, None] for f in (schedule.alpha, schedule.sigma))
    target = {
        "eps": batch.noise,
        "x0": x_0,
        "v": alpha * batch.noise - sigma * x_0,
        "flow": batch.noise - x_0,
    }[predicts]
    assert float(loss) == pytest.approx(float(target.square().mean()), rel=1e-4)
    network = model.denoiser.network
    torch.testing.assert_close(network.time, (50 * batch.t - 1).float())
    assert network.cond.vector.shape == (32, 4) and network.cond.vector.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("tokens", [False, True])
def test_known_actions_are_clean_told_and_left_out_of_the_loss(tokens, generator):
    """How many are known is uniform in 0 .. prefix; the first known row is that of the newest observation."""
    chunks, seen, actions = wave()
    shape = PolicyShape(2, 1, 2, 8, 4, 50, "eps", "tokens" if tokens else "film", prefix=3)
    model = PolicyModel(shape, Nothing())
    model.observed.learn(seen, "limits")
    model.acted.learn(actions, "limits")
    batch = policy_batches(chunks, shape, 400)(generator)
    share = torch.bincount(batch.known) / 400
    assert len(share) == 4 and float((share - 0.25).abs().max()) < 0.08
    loss, _ = policy_loss(model, batch)
    unknown = torch.ones(400, 8)
    for row, count in enumerate(batch.known.tolist()):
        unknown[row, 1 : 1 + count] = 0.0
    each = (batch.noise[..., 0].square() * unknown).sum(1) / unknown.sum(1)
    assert float(loss) == pytest.approx(float(each.mean()), rel=1e-5)
    network = model.denoiser.network
    told = network.cond.tokens[..., 2:] if tokens else network.cond.vector[:, 4:]
    expected = (torch.arange(3) < batch.known[:, None]).float()
    torch.testing.assert_close(told, expected[:, None].expand(-1, 2, -1) if tokens else expected)
    x_0 = model.acted.normalized(batch.actions)[..., 0]
    assert torch.equal(network.x[..., 0][unknown == 0], x_0[unknown == 0])
    assert not torch.isclose(network.x[..., 0], x_0)[unknown == 1].float().mean() > 0.1


def test_inpainted_observations_are_clean_and_left_out_and_later_ones_are_learned(generator):
    chunks, seen, actions = wave()
    chunks = Chunks(seen, actions, np.array([len(seen)]), 2, 8, 4, whole=True)
    shape = PolicyShape(2, 1, 2, 8, 4, 50, "eps", "inpainting", prefix=3)
    model = PolicyModel(shape, Nothing())
    model.observed.learn(seen, "limits")
    model.acted.learn(actions, "limits")
    batch = policy_batches(chunks, shape, 100)(generator)
    loss, _ = policy_loss(model, batch)
    unknown = torch.ones(100, 8, 3)
    unknown[:, :2, 1:] = 0.0
    for row, count in enumerate(batch.known.tolist()):
        unknown[row, 1 : 1 + count, 0] = 0.0
    each = (batch.noise.square() * unknown).sum((1, 2)) / unknown.sum((1, 2))
    assert float(loss) == pytest.approx(float(each.mean()), rel=1e-5)
    x_0 = torch.cat([model.acted.normalized(batch.actions), model.observed.normalized(batch.observations)], 2)
    network = model.denoiser.network
    assert torch.equal(network.x[unknown == 0], x_0[unknown == 0])
    assert not torch.isclose(network.x, x_0)[unknown == 1].float().mean() > 0.1
    assert network.cond.vector.shape == (100, 3)  # which actions are known, nothing else


def test_batches_depend_on_the_generator_alone():
    chunks, _, _ = wave()
    draw = policy_batches(chunks, PolicyShape(2, 1, 2, 8, 4), 8)
    first, second = (draw(torch.Generator(device="cpu").manual_seed(3)) for _ in range(2))
    assert (
        all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
        and first.seed == second.seed
    )
    assert float(first.t.min()) >= 0.01 and float(first.t.max()) <= 1.0


def test_pictures_stay_bytes_follow_the_numbers_and_are_cut_by_the_seed_alone(generator):
    """Channels before rows and columns, scaled to [-1, 1]; without crops, as when acting, the middle is
    cut."""
    _, seen, actions = wave(2, 40)
    pixels = torch.randint(256, (80, 40, 44, 3), generator=generator, dtype=torch.uint8).numpy()
    chunks = Chunks(seen, actions, np.array([40, 80]), 2, 8, 4, pixels)
    parts = (Part("numbers", (2,)), Part("picture", (3, 40, 44), 0, (36, 40)))
    shape = PolicyShape(2 + 3 * 40 * 44, 1, 2, 8, 4, parts=parts)
    encoder = ObservationEncoder(parts, 4, width=16)
    model = PolicyModel(shape, Nothing(), encoder)
    model.observed.learn(seen, "limits")
    assert chunks.pictures is not None and chunks.pictures.dtype == torch.uint8
    batch = policy_batches(chunks, shape, 3)(generator)
    told = []
    for b in (batch, batch, batch._replace(seed=batch.seed + 1)):
        policy_loss(model, b)
        told.append(model.denoiser.network.cond.vector)
    assert torch.equal(told[0], told[1]) and not torch.equal(told[0], told[2])
    observations, _ = chunks.windows(torch.tensor([5]))
    row = 5 - 1 + 1  # window 5 begins one step before the episode's fifth
    middle = torch.from_numpy(pixels[row, 2:38, 2:42]).permute(2, 0, 1)[None] / 127.5 - 1.0
    acting = model.condition(observations).vector
    torch.testing.assert_close(acting[:, 12:], encoder.encoders[0](middle), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        acting[:, 10:12], model.observed.normalized(torch.from_numpy(seen[row : row + 1]))
    )
    with pytest.raises(ValueError, match=r"\(2,\) and \(3, 40, 44\) do not add up to 20 observed numbers"):
        PolicyShape(20, 1, parts=parts)


def test_dropout_depends_on_the_batch_alone(generator):
    chunks, _, _ = wave()
    shape = PolicyShape(2, 1, 2, 8, 4, condition="tokens")
    model = PolicyModel(shape, PolicyTransformer(1, 8, 2, 2, width=32, depth=2, heads=2, dropout=0.3)).train()
    batch = policy_batches(chunks, shape, 8)(generator)
    first, second, other = (
        float(policy_loss(model, b)[0].detach()) for b in (batch, batch, batch._replace(seed=batch.seed + 1))
    )
    assert first == second != other


@pytest.mark.parametrize("network", ["cnn", "transformer"])
def test_it_learns_what_to_do_from_what_it_sees(network, tmp_path):
    """Told another row's observation, or the actions in other units, its error would be that of a guess,
    41."""
    chunks, seen, actions = wave()
    torch.manual_seed(0)
    shape = PolicyShape(2, 1, 2, 8, 4, 20, "x0", condition="tokens" if network == "transformer" else "film")
    made = (
        ConditionalUNet(1, 4, (16, 32), 3, 32)
        if network == "cnn"
        else PolicyTransformer(1, 8, 2, 2, width=32, depth=2, heads=2, dropout=0.0)
    )
    model = PolicyModel(shape, made)
    model.observed.learn(seen, "limits")
    model.acted.learn(actions, "limits")
    options = Training(120, 6e-3, warmup=10, ema=0.95, ema_power=0.0, save_every=1000, log_every=250)
    model.load_state_dict(
        train(model, policy_batches(chunks, shape, 64), policy_loss, options, tmp_path / "run")
    )
    policy = Policy(model, DDIM(model.denoiser.schedule), 4)
    held, _, done = wave(6, 40, seed=9)
    windows, wanted = held.windows(torch.arange(0, len(held), 3))
    chunk = policy.predict(windows.numpy())[:, policy.executed]
    error = np.abs(chunk - wanted.numpy()[:, policy.executed]).mean()
    assert error < 12.0 < np.abs(done - 100.0).mean() / 3

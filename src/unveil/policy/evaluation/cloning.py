"""Cloning of chunks without diffusion: what a policy of the same trunk can do by a mean, by bins, or by a mixture of Gaussians.

All three see what a diffusion policy sees and say a chunk at once. They differ in what they take the chunk's distribution to be:

    Mean       one point; its best is the mean of all that was done, which nobody may have done
    Bins       each number by itself, in `count` bins; what belongs together is drawn apart
    Mixture    `count` chunks with their weights and deviations, all numbers of one chunk together

Chi et al. 2023, section IV, argue by these for diffusion: a mean cannot choose, and the others grow with the numbers of a chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.policy.model import PolicyModel, PolicyShape
from unveil.policy.networks.transformer import PolicyTransformer
from unveil.policy.training import PolicyBatch
from unveil.sampling.noise import Noise, Recorded


@runtime_checkable
class Head(Protocol):
    """What a network's outputs mean. All chunks are normalised, (B, H, A) about [-1, 1]."""

    def outputs(self, actions: int) -> int:
        """Channels that the network must have for A actions."""
        ...

    def loss(self, said: Tensor, chunks: Tensor) -> Tensor:
        """(B,) of outputs (B, H, C) and what was done."""
        ...

    def drawn(self, said: Tensor, generator: Noise) -> Tensor:
        """A chunk of each row's distribution; with a generator for each row none depends on the others."""
        ...


@dataclass(frozen=True)
class Mean:
    """mean over H, A of (said - chunk)^2; drawn is the mean itself."""

    def outputs(self, actions: int) -> int:
        return actions

    def loss(self, said: Tensor, chunks: Tensor) -> Tensor:
        return (said - chunks).square().flatten(1).mean(1)

    def drawn(self, said: Tensor, generator: Noise) -> Tensor:
        return said


@dataclass(frozen=True)
class Bins:
    """Every number is one of `count` equal bins of [-1, 1], independent of the others; loss: mean of -log p; drawn: the bins' middles.

    The middle of a bin of width w = 2 / count is off by w^2 / 12 in the mean square where numbers are even in it, so the squared error
    of a chunk is H A w^2 / 12: it falls with the square of the bins and grows with the numbers of a chunk. And of two chunks that are
    equally likely and differ in all numbers, independent draws make one of the two only with probability 2^(1 - H A).
    """

    count: int = 64

    def outputs(self, actions: int) -> int:
        return actions * self.count

    def loss(self, said: Tensor, chunks: Tensor) -> Tensor:
        scores = said.unflatten(-1, (-1, self.count))
        return (
            F.cross_entropy(scores.movedim(-1, 1), self.binned(chunks), reduction="none").flatten(1).mean(1)
        )

    def drawn(self, said: Tensor, generator: Noise) -> Tensor:
        return self.middles(_picked(said.unflatten(-1, (-1, self.count)).softmax(-1).cpu(), generator)).to(
            said
        )

    def binned(self, x: Tensor) -> Tensor:
        """The bin of each number; what lies outside [-1, 1] is in the outer ones."""
        return ((x + 1.0) * (0.5 * self.count)).floor().long().clamp(0, self.count - 1)

    def middles(self, which: Tensor) -> Tensor:
        """The middle of each bin."""
        return (which + 0.5) * (2.0 / self.count) - 1.0


@dataclass(frozen=True)
class Mixture:
    """sum_k w_k N(chunk; mu_k, sigma_k^2 of each number), w of the mean over H of its scores; loss: -log of it by the numbers of a chunk.

    Drawn is the mean of a drawn k, as robomimic acts by its mixtures (with almost no noise). sigma is at least `least`. Bishop 1994.
    """

    count: int = 5
    least: float = 0.01

    def outputs(self, actions: int) -> int:
        return self.count * (2 * actions + 1)

    def loss(self, said: Tensor, chunks: Tensor) -> Tensor:
        scores, mean, deviation = self._read(said)
        far = ((chunks[:, :, None] - mean) / deviation).square() + 2.0 * deviation.log() + log(2.0 * pi)
        together = scores.log_softmax(-1) - 0.5 * far.sum((1, 3))
        return -together.logsumexp(-1) / chunks[0].numel()

    def drawn(self, said: Tensor, generator: Noise) -> Tensor:
        scores, mean, _ = self._read(said)
        which = _picked(scores.softmax(-1).cpu(), generator).to(said.device)
        return mean[torch.arange(len(mean), device=said.device), :, which]

    def _read(self, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B, K), means and deviations (B, H, K, A)."""
        parts = said.unflatten(-1, (self.count, -1))
        actions = (parts.shape[-1] - 1) // 2
        return (
            parts[..., 0].mean(1),
            parts[..., 1 : 1 + actions],
            F.softplus(parts[..., 1 + actions :]) + self.least,
        )


def _picked(shares: Tensor, generator: Noise) -> Tensor:
    """A number below K by shares (B, ..., K): (B, ...)."""
    if isinstance(generator, Recorded):
        raise ValueError("recorded noise is normal, and this picks by shares")
    if not isinstance(generator, Sequence):
        return torch.multinomial(shares.flatten(0, -2), 1, generator=generator).reshape(shares.shape[:-1])
    if len(generator) != len(shares):
        raise ValueError(f"{len(generator)} generators cannot serve {len(shares)} rows; give one for each")
    return torch.cat([_picked(row[None], own) for row, own in zip(shares, generator, strict=True)])


class ChunkClone(nn.Module):
    """A network of a diffusion policy that says outputs (B, H, C) of a head, from a learned start instead of a noisy chunk, at time 0.

    Args:
        network: (x (B, H, C), time, condition) -> (B, H, C), C = head.outputs(A).
        model: whose limits of observations and actions it takes, and whose shape.
    """

    def __init__(self, network: nn.Module, head: Head, model: PolicyModel) -> None:
        super().__init__()
        self.shape: PolicyShape = model.shape
        self.head, self.network = head, network
        self.start = nn.Parameter(torch.zeros(model.shape.horizon, head.outputs(model.shape.actions)))
        nn.init.normal_(self.start, std=1.0)
        self.model = model
        for parameter in model.denoiser.parameters():
            parameter.requires_grad_(False)

    def forward(self, observations: Tensor) -> Tensor:
        """Outputs of what was observed, (B, n_obs, D) in the data's units."""
        count = len(observations)
        time = torch.zeros(count, device=observations.device)
        return self.network(self.start.expand(count, -1, -1), time, self.model.condition(observations))

    @torch.no_grad()
    def predict(self, observations: Tensor, generator: Noise) -> Tensor:
        """A chunk (B, H, A) in the data's units."""
        drawn = self.head.drawn(self(observations), generator).clamp(-1.0, 1.0)
        return self.model.acted.denormalized(drawn)


def chunk_loss(model: nn.Module, batch: PolicyBatch) -> tuple[Tensor, dict[str, float]]:
    """Mean of the head's loss over a policy's batch; its times and noise are not used."""
    assert isinstance(model, ChunkClone)
    if isinstance(model.network, PolicyTransformer):
        model.network.generator = torch.Generator(device=batch.actions.device).manual_seed(batch.seed)
    return model.head.loss(model(batch.observations), model.model.acted.normalized(batch.actions)).mean(), {}

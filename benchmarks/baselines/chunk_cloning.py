"""Behavioural cloning of chunks without diffusion: the same network with a mean, bins, or a mixture of Gaussians as its output.

All three have the observations of a diffusion policy and predict a chunk at once. They differ in their model
of its distribution:

    Mean       one point; the optimum is the mean of all demonstrations, which may not be one of them
    Bins       each number independently, in `count` bins; dependent numbers are drawn independently
    Mixture    `count` chunks with weights and deviations, all numbers of one chunk jointly

Chi et al. 2023, section IV, argue with these for diffusion: a mean cannot choose between modes, and the
others need more outputs for longer chunks.
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
    """The distribution that a network's outputs describe. Chunks (B, H, A) are normalised to about [-1, 1]."""

    def outputs(self, actions: int) -> int:
        """The number of output channels for A numbers of an action."""
        ...

    def loss(self, output: Tensor, chunks: Tensor) -> Tensor:
        """The loss (B,) of outputs (B, H, C) for recorded chunks."""
        ...

    def drawn(self, output: Tensor, generator: Noise) -> Tensor:
        """Sample a chunk for each row; with one generator per row, rows are independent of each other."""
        ...


@dataclass(frozen=True)
class Mean:
    """Loss: mean over H, A of (output - chunk)^2; the sample is the output itself."""

    def outputs(self, actions: int) -> int:
        return actions

    def loss(self, output: Tensor, chunks: Tensor) -> Tensor:
        return (output - chunks).square().flatten(1).mean(1)

    def drawn(self, output: Tensor, generator: Noise) -> Tensor:
        return output


@dataclass(frozen=True)
class Bins:
    """Each number is one of `count` equal bins of [-1, 1], independent of the others; loss: mean of -log p; samples: centres of bins.

    The centre of a bin of width w = 2 / count has the mean squared error w^2 / 12 for numbers that are
    uniform in it, so that of a chunk is H A w^2 / 12: it decreases with the square of the number of bins and
    grows with the numbers of a chunk. And of two chunks that are equally likely and differ in all numbers,
    independent draws give one of the two only with probability 2^(1 - H A).
    """

    count: int = 64

    def outputs(self, actions: int) -> int:
        return actions * self.count

    def loss(self, output: Tensor, chunks: Tensor) -> Tensor:
        scores = output.unflatten(-1, (-1, self.count))
        return (
            F.cross_entropy(scores.movedim(-1, 1), self.binned(chunks), reduction="none").flatten(1).mean(1)
        )

    def drawn(self, output: Tensor, generator: Noise) -> Tensor:
        return self.middles(_picked(output.unflatten(-1, (-1, self.count)).softmax(-1).cpu(), generator)).to(
            output
        )

    def binned(self, x: Tensor) -> Tensor:
        """The bin of each number; numbers outside [-1, 1] are in the outer bins."""
        return ((x + 1.0) * (0.5 * self.count)).floor().long().clamp(0, self.count - 1)

    def middles(self, which: Tensor) -> Tensor:
        """The centre of each bin."""
        return (which + 0.5) * (2.0 / self.count) - 1.0


@dataclass(frozen=True)
class Mixture:
    """p = sum_k w_k N(chunk; mu_k, sigma_k^2 of each number), w the softmax of mean scores over H; loss: -log p / (H A).

    The sample is the mean of a random component k, as robomimic acts with its mixtures (almost without
    noise). sigma is at least `least`. Bishop 1994.
    """

    count: int = 5
    least: float = 0.01

    def outputs(self, actions: int) -> int:
        return self.count * (2 * actions + 1)

    def loss(self, output: Tensor, chunks: Tensor) -> Tensor:
        scores, mean, deviation = self._read(output)
        far = ((chunks[:, :, None] - mean) / deviation).square() + 2.0 * deviation.log() + log(2.0 * pi)
        together = scores.log_softmax(-1) - 0.5 * far.sum((1, 3))
        return -together.logsumexp(-1) / chunks[0].numel()

    def drawn(self, output: Tensor, generator: Noise) -> Tensor:
        scores, mean, _ = self._read(output)
        which = _picked(scores.softmax(-1).cpu(), generator).to(output.device)
        return mean[torch.arange(len(mean), device=output.device), :, which]

    def _read(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B, K), means and deviations (B, H, K, A)."""
        parts = output.unflatten(-1, (self.count, -1))
        actions = (parts.shape[-1] - 1) // 2
        return (
            parts[..., 0].mean(1),
            parts[..., 1 : 1 + actions],
            F.softplus(parts[..., 1 + actions :]) + self.least,
        )


def _picked(probabilities: Tensor, generator: Noise) -> Tensor:
    """Random indices (B, ...) with the probabilities (B, ..., K)."""
    if isinstance(generator, Recorded):
        raise ValueError("recorded noise is normal, but indices are drawn by probabilities")
    if not isinstance(generator, Sequence):
        return torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator).reshape(
            probabilities.shape[:-1]
        )
    if len(generator) != len(probabilities):
        raise ValueError(
            f"{len(generator)} generators cannot serve {len(probabilities)} rows; give one for each"
        )
    return torch.cat([_picked(row[None], own) for row, own in zip(probabilities, generator, strict=True)])


class ChunkClone(nn.Module):
    """A diffusion policy's network with the outputs (B, H, C) of a head; its input is a learned start instead of a noisy chunk.

    Args:
        network: (x (B, H, C), time, condition) -> (B, H, C), C = head.outputs(A); the time is 0.
        model: diffusion policy whose shape and limits of observations and actions are used.
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
        """The outputs for observations (B, n_obs, D) in the data's units."""
        count = len(observations)
        time = torch.zeros(count, device=observations.device)
        return self.network(self.start.expand(count, -1, -1), time, self.model.condition(observations))

    @torch.no_grad()
    def predict(self, observations: Tensor, generator: Noise) -> Tensor:
        """Sample a chunk (B, H, A) in the data's units."""
        drawn = self.head.drawn(self(observations), generator).clamp(-1.0, 1.0)
        return self.model.acted.denormalized(drawn)


def chunk_loss(model: nn.Module, batch: PolicyBatch) -> tuple[Tensor, dict[str, float]]:
    """The head's mean loss over a batch; the batch's times and noise are not used."""
    assert isinstance(model, ChunkClone)
    if isinstance(model.network, PolicyTransformer):
        model.network.generator = torch.Generator(device=batch.actions.device).manual_seed(batch.seed)
    return model.head.loss(model(batch.observations), model.model.acted.normalized(batch.actions)).mean(), {}

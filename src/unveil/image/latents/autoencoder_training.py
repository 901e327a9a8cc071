"""Training of autoencoders: batches with all random numbers of their loss, and the loss of a batch.

Esser et al. 2021, section 3.1; Rombach et al. 2022, appendix G, whose released code decides these points:

- It sums errors over the pixels and channels of an image and adds 1e-6 times the KL divergence, summed over
  the code; the perceptual loss is added to the error of every number, so it is counted as often. Here all
  terms are divided by the number of pixels and channels: weights keep their meaning, and gradients do not
  grow with the size of the images.
- It divides the reconstruction loss by exp(logvar), a number that it declares as learned, but gives to no
  optimizer, so it stays exp(0) = 1. Here there is none.
- The discriminator takes part from a step on; its first step sees a decoder that has converged.
- Autoencoder and discriminator take their steps at the same time, from the same reconstructions. One
  optimizer (Adam) serves both: their gradients do not mix, since each loss treats the other's weights as
  constants. The norm that is clipped is that of both together, and the discriminator's, about 20 times as
  large, would throttle the autoencoder. So the discriminator's loss is multiplied by 1e-3, which changes
  none of Adam's steps.
- The scale of the codes is 1 / their standard deviation over a first batch; here over all batches, the last
  hundred weighing most, and averaged (EMA) like the weights that it belongs to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log10
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.image.data.images import RandomImages
from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
from unveil.image.networks.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    adversarial_loss,
    hinge_loss,
)

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(made, true), images in -1 .. 1, -> losses (B,)."""
QUIET = 1e-3  # factor of the discriminator's loss
RECENT = 100  # batches over which the variance of the codes is averaged


class AutoencoderBatch(NamedTuple):
    """Images, and all random numbers of their loss.

    Args:
        pixels: (B, C, S, S), 0 .. 255.
        noise: (B, Z, S / f, S / f), standard normal.
    """

    pixels: Tensor
    noise: Tensor


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses of an autoencoder, relative to the mean absolute error of pixels in -1 .. 1.

    Args:
        perceptual: of the perceptual loss.
        kl: of the KL divergence, against sums over pixels as in the released code.
        adversarial: of the adversarial loss, in addition to its adaptive weight.
        adversarial_from: number of batches after which the discriminator takes part.
    """

    perceptual: float = 1.0
    kl: float = 1e-6
    adversarial: float = 0.5
    adversarial_from: int = 0


class TrainedAutoencoder(nn.Module):
    """An autoencoder with what its training changes besides: the scale of its codes, the discriminator, and
    the number of batches so far. The names of the first two are those of `Latents`."""

    scale: Tensor
    batches: Tensor

    def __init__(self, network: Autoencoder, discriminator: PatchDiscriminator | None = None) -> None:
        super().__init__()
        self.network = network
        self.discriminator = discriminator
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def note(self, z: Tensor) -> None:
        """Count a batch, and average the variance of its codes z into the scale, variance^(-1/2)."""
        share = torch.clamp(1.0 / (self.batches + 1), min=1.0 / RECENT)
        variance = torch.lerp(self.scale**-2, z.detach().float().var(correction=0), share)
        self.scale.copy_(variance.rsqrt())
        self.batches += 1


def autoencoder_batches(
    images: RandomImages, shape: AutoencoderShape, size: int
) -> Callable[[torch.Generator], AutoencoderBatch]:
    """A function from a generator to a random batch of `size` images."""

    def draw(generator: torch.Generator) -> AutoencoderBatch:
        pixels, _ = images.draw(size, generator)
        sides = [side // shape.factor for side in pixels.shape[2:]]
        noise = torch.randn((size, shape.latent, *sides), generator=generator, device="cpu")
        return AutoencoderBatch(pixels, noise)

    return draw


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each code, in nats, summed over it: (B, ...) to (B,)."""
    each = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    return each.flatten(1).sum(1)


def autoencoder_loss(
    model: nn.Module, batch: AutoencoderBatch, weights: LossWeights, perceptual: Perceptual | None = None
) -> tuple[Tensor, Mapping[str, float]]:
    """The loss of autoencoder and discriminator together, and the parts of it.

        r = mean |x - y| + w_perceptual perceptual(y, x)
        loss = r + w_kl KL / (C S S) + w_adversarial a mean(-D(y)) + 1e-3 hinge loss of D

    y is the reconstruction of x, D the discriminator, a its `adaptive_weight`. The last two terms join after
    `adversarial_from` batches.

    Args:
        perceptual: None: no perceptual loss.
    Returns:
        The loss; l1, psnr (decibels, of the mean error of the batch), kl (nats per image), perceptual,
        adaptive_weight and discriminator (hinge loss: 1 without knowledge, 0 if all is told apart).
    """
    assert isinstance(model, TrainedAutoencoder)
    device = model.scale.device
    x = batch.pixels.to(device, torch.float32) / 127.5 - 1.0
    made = model.network(x, batch.noise.to(device))
    y = made.x.float()
    # on `meta`, where memory is counted, there are no values: count all parts
    adversarial = model.batches.is_meta or int(model.batches) >= weights.adversarial_from
    model.note(made.z)
    l1 = (x - y).abs().mean()
    divergence = kl_divergence(made.mean.float(), made.log_variance.float()).mean()
    reconstruction = l1
    error = float((x - y.detach()).square().mean())
    numbers = {"l1": float(l1.detach()), "psnr": 10.0 * log10(4.0 / max(error, 1e-12))}
    if perceptual is not None and weights.perceptual:
        distance = perceptual(y, x).mean()
        reconstruction = reconstruction + weights.perceptual * distance
        numbers["perceptual"] = float(distance.detach())
    loss = reconstruction + weights.kl * divergence / x[0].numel()
    numbers["kl"] = float(divergence.detach())
    if model.discriminator is not None and adversarial:
        against = adversarial_loss(model.discriminator, y)
        last = [model.network.decoder.leave.weight]
        adaptive = adaptive_weight(reconstruction, against, last)
        told = hinge_loss(model.discriminator(x), model.discriminator(y.detach()))
        loss = loss + weights.adversarial * adaptive * against + QUIET * told
        numbers |= {"adaptive_weight": float(adaptive), "discriminator": float(told.detach())}
    return loss, numbers

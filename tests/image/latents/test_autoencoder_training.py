"""The loss of an autoencoder is its formula, each of the two networks learns from its own part alone, and the
scale follows the codes."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from unveil.image.data.images import ImageSet, RandomImages
from unveil.image.latents.autoencoder_training import (
    QUIET,
    AutoencoderBatch,
    LossWeights,
    TrainedAutoencoder,
    autoencoder_batches,
    autoencoder_loss,
    kl_divergence,
)
from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
from unveil.image.networks.discriminator import PatchDiscriminator
from unveil.training.memory import step_bytes

SHAPE = AutoencoderShape(1, 4, (1, 2), 1, 3, groups=2)


def made(discriminator: bool = True) -> TrainedAutoencoder:
    torch.manual_seed(0)
    network = Autoencoder(SHAPE)
    return TrainedAutoencoder(network, PatchDiscriminator(1, 4, 1, groups=2) if discriminator else None)


def pixels(count: int = 6) -> RandomImages:
    rng = np.random.default_rng(0)
    return RandomImages(ImageSet(rng.integers(0, 256, (count, 1, 16, 16), dtype=np.uint8)))


def drawn(size: int = 3) -> AutoencoderBatch:
    return autoencoder_batches(pixels(), SHAPE, size)(torch.Generator().manual_seed(0))


def squared(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (y - x).square().mean((1, 2, 3))


def test_the_divergence_is_that_of_torchs_normal_distributions(generator):
    mean, log_variance = (torch.randn((2, 3, 4, 4), generator=generator) for _ in range(2))
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected.sum((1, 2, 3)))


def test_the_loss_is_that_of_the_released_code_divided_by_the_number_of_pixels():
    """Sums over each image, means over the batch, a perceptual loss broadcast over all pixels: the formula of
    LDM's `LPIPSWithDiscriminator`, with logvar at its constant 0."""
    model, batch = made(False), drawn()
    x = batch.pixels / 127.5 - 1.0
    with torch.no_grad():
        y, _, mean, log_variance = model.network(x, batch.noise)
    rec = (x - y).abs() + 0.7 * squared(y, x)[:, None, None, None]
    variance = log_variance.exp()
    kl = 0.5 * torch.sum(mean.pow(2) + variance - 1.0 - log_variance, dim=[1, 2, 3])
    nll, kl = rec.sum() / len(x), kl.sum() / len(x)
    loss, numbers = autoencoder_loss(model, batch, LossWeights(0.7, 0.1, 0.5), squared)
    torch.testing.assert_close(loss.detach(), (nll + 0.1 * kl) / 256)
    assert numbers["l1"] == pytest.approx(float((x - y).abs().mean()), rel=1e-5)
    assert numbers["kl"] == pytest.approx(float(kl), rel=1e-5)
    assert numbers["psnr"] == pytest.approx(10.0 * math.log10(4.0 / float((x - y).square().mean())), rel=1e-4)
    assert set(numbers) == {"l1", "psnr", "kl", "perceptual"}


def test_each_network_learns_from_its_own_loss_alone():
    """The autoencoder's gradient is that of reconstruction and adversarial loss, the discriminator's that of
    the hinge loss, scaled down; the adversarial one pushes the last layer half as strongly as the reconstruction."""
    batch, weights = drawn(), LossWeights(0.0, 0.0, 0.5)
    model = made()
    autoencoder_loss(model, batch, weights)[0].backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    x = batch.pixels / 127.5 - 1.0
    y = model.network(x, batch.noise).x
    scores = model.discriminator(y.detach())
    hinge = (1.0 - model.discriminator(x)).clamp(min=0.0).mean() + (1.0 + scores).clamp(min=0.0).mean()
    (QUIET * 0.5 * hinge).backward()
    for name, p in model.discriminator.named_parameters():
        torch.testing.assert_close(ours[f"discriminator.{name}"], p.grad)
    last = model.network.decoder.leave.weight
    plain = torch.autograd.grad((x - y).abs().mean(), last, retain_graph=True)[0]
    fooling = torch.autograd.grad(-model.discriminator(y).mean(), last)[0]
    pushed = ours["network.decoder.leave.weight"] - plain
    torch.testing.assert_close(
        pushed, 0.5 * fooling * plain.norm() / (fooling.norm() + 1e-4), rtol=1e-4, atol=1e-6
    )


def test_the_discriminator_begins_after_its_number_of_batches():
    model, weights = made(), LossWeights(0.0, 1e-6, 0.5, adversarial_from=2)
    seen = []
    for _ in range(3):
        model.zero_grad(set_to_none=True)
        loss, numbers = autoencoder_loss(model, drawn(), weights)
        loss.backward()
        seen.append(("discriminator" in numbers, next(model.discriminator.parameters()).grad is not None))
    assert seen == [(False, False), (False, False), (True, True)] and int(model.batches) == 3


def test_the_scale_is_one_over_the_deviation_of_the_codes(generator):
    model = made(False)
    first = 3.0 * torch.randn((4, 3, 8, 8), generator=generator) + 1.0
    model.note(first)
    assert float(model.scale) == pytest.approx(1.0 / float(first.std(correction=0)))
    second = torch.randn((4, 3, 8, 8), generator=generator)
    model.note(second)
    mean = (float(first.var(correction=0)) + float(second.var(correction=0))) / 2.0
    assert float(model.scale) == pytest.approx(mean**-0.5)
    for _ in range(600):  # the last hundred batches weigh most
        model.note(second)
    assert float(model.scale) == pytest.approx(float(second.std(correction=0)) ** -1, rel=0.02)


def test_the_memory_of_a_step_can_be_counted_with_all_its_parts():
    loss = partial(autoencoder_loss, weights=LossWeights(adversarial_from=9), perceptual=squared)

    def counted(model: TrainedAutoencoder, size: int) -> int:
        return step_bytes(model, lambda count: autoencoder_batches(pixels(), SHAPE, count), loss, size)

    model = made()
    assert counted(made(False), 4) < counted(model, 4) < counted(model, 8)
    assert int(model.batches) == 0

"""Training of image models: batches with all random numbers of their loss, and the loss of a batch."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.image.concat import Beside
from unveil.image.data.images import Drawn, RandomImages
from unveil.image.data.masks import random_masks
from unveil.image.latents.random_latents import RandomLatents
from unveil.image.model import ImageModel
from unveil.image.networks.unet2d import UNet2d
from unveil.image.shape import TABLES, ImageShape
from unveil.image.shape_parts import image_schedule
from unveil.network.condition import Condition
from unveil.network.layers import seeded
from unveil.process.importance import LossHistory
from unveil.process.objective import bound_loss, denoising_loss, hybrid_loss, min_snr

RandomData = RandomImages | RandomLatents
"""Training data: pictures, or their codes in a latent space."""


class ImageBatch(NamedTuple):
    """Images, and all random numbers of their loss.

    Args:
        pixels: (B, C, S, S), 0 .. 255; or codes of a latent space, floating-point numbers.
        labels: (B,) classes, or None.
        dropped: (B,) bool, samples whose class is dropped.
        t: (B,) in (0, 1].
        noise: standard normal, like the images.
        seed: seed of the network's dropout.
        weights: (B,) weights of the losses; None: all equal.
        prompts: B captions, "" where they are dropped; None for a model without text.
        beside: what the model sees beside the images, for a shape with `beside`.
        embeddings: (B, E) of the images, for a shape with `embedding`.
        unseen: (B,) bool, samples whose embedding is dropped.
    """

    pixels: Tensor
    labels: Tensor | None
    dropped: Tensor
    t: Tensor
    noise: Tensor
    seed: int
    weights: Tensor | None = None
    prompts: tuple[str, ...] | None = None
    beside: Beside | None = None
    embeddings: Tensor | None = None
    unseen: Tensor | None = None


def image_batches(
    images: RandomData,
    shape: ImageShape,
    size: int,
    label_drop: float = 0.1,
    history: LossHistory | None = None,
    embeddings: Tensor | None = None,
    embedding_drop: float = 0.1,
) -> Callable[[torch.Generator], ImageBatch]:
    """A function from a generator to a random batch.

    Times: i / T with i uniform in 1 .. T for a table (Ho et al. 2020, Alg. 1); logit-normal for flow matching
    (Esser et al. 2024, section 3.1); ln sigma ~ N(-1.2, 1.2^2) for EDM (Karras et al. 2022, table 1).

    Args:
        label_drop: probability of dropping class and caption of a sample (Ho & Salimans 2022, Alg. 1).
        history: draws the times of a table by their past losses instead.
        embeddings: (N, E) of all images, for a shape with `embedding`; or (2 N, E) with those of their mirror
            images behind.
        embedding_drop: probability of dropping the embedding.
    """
    schedule = image_schedule(shape)

    def times(generator: torch.Generator) -> Tensor:
        if shape.schedule in TABLES:
            return (
                1.0 + torch.randint(shape.diffusion_steps, (size,), generator=generator, device="cpu")
            ).double() / shape.diffusion_steps
        normal = torch.randn(size, generator=generator, device="cpu", dtype=torch.float64)
        return normal.sigmoid() if shape.schedule == "flow" else schedule.time(-2.0 * (1.2 * normal - 1.2))

    def draw(generator: torch.Generator) -> ImageBatch:
        drawn = images.drawn(size, generator)
        pixels, rows = drawn.x, drawn.rows
        dropped = torch.rand(size, generator=generator, device="cpu") < label_drop
        noise = torch.randn(pixels.shape, generator=generator, device="cpu")
        seed = int(torch.randint(2**31, (), generator=generator, device="cpu"))
        classes = images.labels[rows] if shape.classes and images.labels is not None else None
        if history is None:
            t, weights = times(generator), None
        else:
            entries, weights = history.draw(size, generator)
            t = (1.0 + entries).double() / shape.diffusion_steps
        prompts = None
        if shape.context and images.captions is not None:
            each = zip(images.captions(rows, generator), dropped.tolist(), strict=True)
            prompts = tuple("" if empty else text for text, empty in each)
        beside = seen_beside(images, drawn, shape, generator) if shape.beside else None
        seen, unseen = None, None
        if embeddings is not None:
            unseen = torch.rand(size, generator=generator, device="cpu") < embedding_drop
            images_before = 0 if drawn.mirrored is None else len(embeddings) // 2 * drawn.mirrored
            seen = embeddings[rows + images_before]
        return ImageBatch(pixels, classes, dropped, t, noise, seed, weights, prompts, beside, seen, unseen)

    return draw


def seen_beside(images: RandomData, drawn: Drawn, shape: ImageShape, generator: torch.Generator) -> Beside:
    """What a model with `beside` sees of a batch of images: random masks (see `random_masks`), noise of a
    level that is uniform in 0 .. `noise_levels`, or the images' semantic maps."""
    if shape.beside == "map":
        assert images.maps is not None
        return Beside(labels=drawn.of(images.maps))
    pictures = drawn.of(images.pixels)
    count, colours, height, width = pictures.shape
    if shape.beside == "inpaint":
        return Beside(pictures, random_masks(count, height, width, generator))
    level = torch.randint(shape.noise_levels + 1, (count,), generator=generator, device="cpu")
    small = (count, colours, height // shape.upsample, width // shape.upsample)
    return Beside(pictures, level=level, noise=torch.randn(small, generator=generator, device="cpu"))


def image_loss(
    model: nn.Module,
    batch: ImageBatch,
    gamma: float = 0.0,
    bound: bool = False,
    history: LossHistory | None = None,
) -> tuple[Tensor, Mapping[str, float]]:
    """L_simple, L_hybrid for a model that learns its variance, or L_vlb, averaged over the batch.

    L_hybrid adds the bound's term, in bits per dimension, times T / 1000 to the squared error: lambda = 0.001
    on all T terms (Nichol & Dhariwal 2021, section 3.1). L_vlb is T times that term alone: the recorded loss
    is an estimate of the bound in bits per dimension.

    Args:
        gamma: of the min-SNR weights; 0 disables them, and EDM then has Karras et al.'s weight, 1 in output
            space.
        bound: L_vlb, for a model with a table.
        history: records the loss of each sample.
    """
    assert isinstance(model, ImageModel)
    device, denoiser, shape = model.device, model.denoiser, model.shape
    if isinstance(denoiser.network, UNet2d) and shape.dropout:
        denoiser.network.generator = seeded(device, batch.seed)
    x_0 = model.normalized(batch.pixels) if model.latent is None else batch.pixels.to(device)
    noise = batch.noise.to(device)
    classes = None
    if shape.classes:
        assert batch.labels is not None
        classes = Condition(label=torch.where(batch.dropped, shape.classes, batch.labels).to(device))
    cond = model.worded(classes, len(x_0), batch.prompts)
    cond = model.embedded(cond, len(x_0), batch.embeddings, batch.unseen)
    if batch.beside is None:
        cond = model.beside(cond, model.reduced(x_0))
    else:
        cond = model.seeing(cond, batch.beside)
    weight = min_snr(denoiser.schedule, denoiser.parameterization, gamma) if gamma else None
    steps = shape.diffusion_steps
    before = ((batch.t * steps).round() - 1.0) / steps
    if bound:
        losses = steps * bound_loss(denoiser, x_0, batch.t, before, noise, cond=cond)
    elif shape.learned_variance:
        losses = hybrid_loss(
            denoiser, x_0, batch.t, before, noise, cond=cond, weight=weight, bound_weight=steps / 1000.0
        )
    else:
        losses = denoising_loss(denoiser, x_0, batch.t, noise, cond=cond, weight=weight)
    if history is not None:
        history.note((batch.t * steps).round().long() - 1, losses)
    return (losses if batch.weights is None else losses * batch.weights.to(losses)).mean(), {}

"""Classifiers of noisy images, for guidance; and of clean images, to count samples of the requested class."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.classifier2d import Classifier2d, Classifier2dShape
from unveil.image.shape import ImageShape
from unveil.image.shape_parts import image_schedule
from unveil.image.training import ImageBatch
from unveil.network.layers import seeded
from unveil.process.corrupt import corrupt, like
from unveil.process.schedule import Schedule
from unveil.sampling.edit import LogPotential


class ImageClassifier(nn.Module):
    """p(class | x_t), for images (B, C, S, S) in -1 .. 1 and the noise of one schedule.

    Args:
        shape: as of an `ImageModel`; null, predicts, learned_variance and sigma_data are not used.
        clean: trained on clean images only; inputs are taken to be clean.
        network: replaces the `Classifier2d` that the shape describes.
        counted_from: index of the table's first entry; the time input is T t - 1 + counted_from; 1 for ours,
            0 for openai's.
    Raises:
        ValueError: fewer than two classes.
    """

    def __init__(
        self,
        shape: ImageShape,
        clean: bool = False,
        network: Classifier2d | None = None,
        counted_from: int = 1,
    ) -> None:
        super().__init__()
        if shape.classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, got {shape.classes}")
        self.shape, self.clean, self.counted_from = shape, clean, counted_from
        self.schedule = image_schedule(shape)
        self.network = classifier_network(shape) if network is None else network

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels 0 .. 255 as -1 .. 1, on the classifier's device."""
        return pixels.to(self.device, torch.float32) / 127.5 - 1.0

    def logits(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Logits (B, K) of x_t (B, C, S, S) at t (B,), from x_t / sqrt(alpha^2 + sigma^2) and the time."""
        return self.network(*self._seen(x_t, t))

    def features(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The features whose linear function the logits are."""
        return self.network.features(*self._seen(x_t, t))

    def log_probability(self, labels: Tensor) -> LogPotential:
        """(x_t, t) -> log p(class | x_t), (B,), for classes (B,), as `tilted` and `Ancestral` expect it."""

        def log_h(x_t: Tensor, t: Tensor) -> Tensor:
            chosen = labels.to(x_t.device, torch.long)[:, None]
            return self.logits(x_t, t).log_softmax(dim=1).gather(1, chosen)[:, 0]

        return log_h

    @torch.no_grad()
    def predicted(self, pixels: Tensor, batch: int = 256) -> Tensor:
        """The most probable class of each clean image (N, C, S, S), 0 .. 255."""
        self.eval()
        parts = (self.normalized(pixels[i : i + batch]) for i in range(0, len(pixels), batch))
        return torch.cat([self.logits(x, self._cleanest(len(x))).argmax(1).cpu() for x in parts])

    @torch.no_grad()
    def described(self, pixels: Tensor, batch: int = 256) -> Tensor:
        """Features of clean images (N, C, S, S), 0 .. 255."""
        self.eval()
        parts = (self.normalized(pixels[i : i + batch]) for i in range(0, len(pixels), batch))
        return torch.cat([self.features(x, self._cleanest(len(x))).cpu() for x in parts])

    def _cleanest(self, count: int) -> Tensor:
        least = 0.0 if self.clean else 1.0 / self.shape.diffusion_steps
        return torch.full((count,), least, dtype=torch.float64, device="cpu")

    def _seen(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return noisy_input(self.schedule, self.shape, x_t, t, self.clean, self.counted_from)


def noisy_input(
    schedule: Schedule, shape: ImageShape, x_t: Tensor, t: Tensor, clean: bool, counted_from: int = 1
) -> tuple[Tensor, Tensor]:
    """What a network of noisy images sees: x_t / sqrt(alpha^2 + sigma^2), and the time input (B,).

    Args:
        clean: the network was trained on clean images only; its time input is 0.
        counted_from: index of the table's first entry; the time input is T t - 1 + counted_from.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    entry = shape.diffusion_steps * t - (1 - counted_from)
    time = torch.zeros_like(t) if clean else shape.time_scale * entry
    return like((alpha**2 + sigma**2).rsqrt(), x_t) * x_t, time.to(x_t.device, x_t.dtype)


def classifier_network(shape: ImageShape, **options: object) -> Classifier2d:
    """The untrained network of a shape.

    Args:
        options: fields of `Classifier2dShape` in which classifiers of other releases differ.
    """
    network = Classifier2dShape(
        shape.size,
        shape.channels,
        shape.classes,
        shape.width,
        shape.multiples,
        shape.blocks,
        shape.levels,
        shape.head_width,
        shape.scale_shift,
        shape.big_gan,
        shape.dropout,
        shape.stem,
        shape.groups,
    )
    return Classifier2d(replace(network, **options))


def classifier_loss(model: nn.Module, batch: ImageBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Cross-entropy -log p(class | x_t), averaged over the batch, and the accuracy."""
    assert isinstance(model, ImageClassifier) and batch.labels is not None
    if model.shape.dropout:
        model.network.generator = seeded(model.device, batch.seed)
    x, t = model.normalized(batch.pixels), torch.zeros_like(batch.t) if model.clean else batch.t
    if not model.clean:
        x = corrupt(model.schedule, x, t, batch.noise.to(model.device))
    logits, labels = model.logits(x, t), batch.labels.to(model.device)
    accuracy = (logits.argmax(1) == labels).double().mean()
    return F.cross_entropy(logits, labels), {"accuracy": float(accuracy)}

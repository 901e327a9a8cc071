"""Priors of unCLIP: image embeddings for texts, by diffusion."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.clip_model import ClipModel
from unveil.image.generation import noise_by_sample
from unveil.image.networks.prior import PriorShape, PriorTransformer
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.network.condition import Condition
from unveil.network.layers import by_eights
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.grid import respaced, uniform
from unveil.process.objective import denoising_loss
from unveil.process.parameterization import x0
from unveil.process.schedule import cosine_betas, tabulated
from unveil.sampling.ancestral import Ancestral
from unveil.sampling.guidance import Branch, cfg, clipped
from unveil.sampling.loop import sample
from unveil.sampling.noise import Noise, normal_like

USUAL = PriorSettings()
LEAST_STD = 1e-4  # of a number of an embedding, relative to the largest


class ClipPrompts(nn.Module):
    """Prompts -> `Condition` of a frozen CLIP: its text tokens, and as `vector` sqrt(E) times its unit text
    embedding, whose numbers have variance 1.

    Args:
        clip: is frozen.
    """

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(False).eval()
        clip.text.freeze()

    @torch.no_grad()
    def forward(self, prompts: Sequence[str], device: torch.device) -> Condition:
        """The condition (B rows) of B prompts; each different prompt is encoded once."""
        encoded = self.clip.text(prompts, device)
        assert encoded.vector is not None
        width = self.clip.width
        if device.type == "meta":  # memory is counted
            return replace(encoded, vector=torch.empty((len(prompts), width), device=device))
        embedding = F.normalize(by_eights(self.clip.projection, encoded.vector), dim=-1)
        return replace(encoded, vector=width**0.5 * embedding)


class PriorModel(nn.Module):
    """The diffusion prior p(z_i | y): denoises image embeddings (B, E), conditional on a text y.

    Embeddings are standardized, x_0 = (z_i - mean) / std elementwise, since the numbers of a unit vector are
    far smaller than noise of variance 1. The network predicts x_0 on the cosine schedule. The null condition
    of classifier-free guidance is the encoded empty prompt on the whole text side; it sees x_t as the other
    branch does. Ramesh et al. 2022, section 2.2.

    Args:
        text: prompts, device -> `Condition` with `tokens`, `token_valid` and `vector`, the text's embedding,
            as `ClipPrompts`; no part of the model's weights.
        diffusion_steps: T of the cosine table.
        clamp: predictions of x_0 lie in -clamp .. clamp, in standard deviations; 10 in Karlo, 5 in diffusers.
        unit: embeddings have norm 1, and so have those that are drawn.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: PriorShape,
        text: nn.Module,
        diffusion_steps: int = 1000,
        clamp: float = 5.0,
        unit: bool = True,
    ) -> None:
        super().__init__()
        self.shape, self.steps, self.clamp, self.unit = shape, diffusion_steps, clamp, unit
        schedule = tabulated(cosine_betas(diffusion_steps))
        self.denoiser = GaussianDenoiser(PriorTransformer(shape), schedule, x0, self._time_input)
        self.register_buffer("mean", torch.zeros(shape.embedding))
        self.register_buffer("std", torch.ones(shape.embedding))
        self._apart = (text,)  # in a tuple, it is no submodule

    def _time_input(self, t: Tensor) -> Tensor:
        return self.steps * t - 1.0

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PriorModel":
        self._apart[0]._apply(fn)  # moves to a device with the model
        return super()._apply(fn, recurse)

    @property
    def text(self) -> nn.Module:
        """What reads prompts."""
        return self._apart[0]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.mean.device

    def standardized(self, embeddings: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        """x_0 of embeddings."""
        return (embeddings.to(self.mean) - self.mean) / self.std

    def embeddings(self, x_0: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        """Embeddings of clean samples: the inverse of `standardized`; of norm 1 with `unit`."""
        made = x_0 * self.std + self.mean
        return F.normalize(made, dim=-1) if self.unit else made

    def condition(self, prompts: Sequence[str]) -> Condition:
        """The condition of B prompts."""
        return self.text(prompts, self.device)

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[str],
        settings: PriorSettings = USUAL,
        generator: Noise | int = None,
        noise: Float[Tensor, "M E"] | None = None,
    ) -> Float[Tensor, "B E"]:
        """Draw an image embedding for each of B prompts. None depends on the others.

        Args:
            generator: as of `generate`: with a seed, prompt i uses `seed + i`.
            noise: (B * candidates, E) initial noise; None draws it.
        Raises:
            ValueError: more steps than the table has.
        """
        count, each, scale = len(prompts), settings.candidates, settings.prior_scale
        self.eval()
        own = noise_by_sample(generator, count)(slice(0, count))
        cond = self.condition(prompts).repeat(each)
        denoise = partial(self.denoiser, cond=cond)
        if scale != 1.0:
            null = self.condition([""] * count).repeat(each)
            denoise = cfg(self.denoiser, Branch(cond), Branch(null), scale)
        first = torch.empty((count * each, self.shape.embedding), device=self.device)
        x = normal_like(first, own) if noise is None else noise.to(first)
        x = sample(
            clipped(denoise, -self.clamp, self.clamp),
            Ancestral(self.denoiser.schedule, "small"),
            x,
            prior_times(self.steps, settings.prior_steps),
            generator=own,
        )
        return best_of(self.embeddings(x), cond.vector, each)


def prior_times(entries: int, steps: int) -> Tensor:
    """Evenly spaced entries of a table, with its first and its last: diffusers' `UnCLIPScheduler`."""
    return respaced(entries, (steps,)) if steps > 1 else uniform(1)


def best_of(
    embeddings: Float[Tensor, "M E"], texts: Float[Tensor, "M E"] | None, each: int
) -> Float[Tensor, "B E"]:
    """Of each successive candidates, `each` in number, that of the largest product with its text's embedding.
    Ramesh et al. 2022, section 2.2."""
    if each == 1:
        return embeddings
    assert texts is not None
    scores = (embeddings * texts.to(embeddings)).sum(1).unflatten(0, (-1, each))  # (B, each)
    grouped = embeddings.unflatten(0, (-1, each))
    return grouped[torch.arange(len(scores), device=grouped.device), scores.argmax(1)]


def moments(embeddings: Float[Tensor, "N E"]) -> tuple[Float[Tensor, " E"], Float[Tensor, " E"]]:
    """Elementwise mean and standard deviation; a number that hardly varies has not less than a 10,000th of
    the largest deviation."""
    std = embeddings.std(0, correction=0)
    return embeddings.mean(0), std.clamp(min=max(LEAST_STD * float(std.max()), 1e-12))


class EmbeddedImages(NamedTuple):
    """Training data of a prior.

    Args:
        embeddings: (N, E), or (2 N, E) with those of the mirrored images behind.
        captions: (rows, generator) -> a caption for each row.
        fixed: (N,) bool, images that are not mirrored, since their captions say left or right; None: all are
            mirrored with probability 1/2, if there are mirrored ones.
        images: N.
    """

    embeddings: Tensor
    captions: Callable[[Tensor, torch.Generator], Sequence[str]]
    fixed: Tensor | None
    images: int


class PriorBatch(NamedTuple):
    """Embeddings, and all random numbers of their loss.

    Args:
        embeddings: (B, E).
        prompts: B captions, "" where they are dropped.
        t: (B,) in (0, 1].
        noise: standard normal, like the embeddings.
    """

    embeddings: Tensor
    prompts: tuple[str, ...]
    t: Tensor
    noise: Tensor


def prior_batches(
    data: EmbeddedImages, diffusion_steps: int, size: int, drop: float
) -> Callable[[torch.Generator], PriorBatch]:
    """A function from a generator to a random batch, with i / T as times, i uniform in 1 .. T.

    Args:
        drop: probability of an empty caption.
    """

    def draw(generator: torch.Generator) -> PriorBatch:
        embeddings, prompts = captioned(data, size, drop, generator)
        entries = 1.0 + torch.randint(diffusion_steps, (size,), generator=generator, device="cpu")
        noise = torch.randn(embeddings.shape, generator=generator, device="cpu")
        return PriorBatch(embeddings, prompts, entries.double() / diffusion_steps, noise)

    return draw


def captioned(
    data: EmbeddedImages, size: int, drop: float, generator: torch.Generator
) -> tuple[Tensor, tuple[str, ...]]:
    """Random embeddings (B, E) and their captions, each "" with probability `drop`."""
    rows = torch.randint(data.images, (size,), generator=generator, device="cpu")
    places = rows
    if len(data.embeddings) > data.images:
        mirrored = torch.rand(size, generator=generator, device="cpu") < 0.5
        if data.fixed is not None:
            mirrored &= ~data.fixed[rows]
        places = rows + data.images * mirrored
    dropped = torch.rand(size, generator=generator, device="cpu") < drop
    captions = zip(data.captions(rows, generator), dropped.tolist(), strict=True)
    return data.embeddings[places], tuple("" if empty else text for text, empty in captions)


def prior_loss(model: nn.Module, batch: PriorBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Mean squared error of the predicted x_0. Ramesh et al. 2022, eq. 2."""
    assert isinstance(model, PriorModel)
    x_0 = model.standardized(batch.embeddings)
    cond = model.condition(batch.prompts)
    return denoising_loss(model.denoiser, x_0, batch.t, batch.noise.to(x_0), cond=cond).mean(), {}

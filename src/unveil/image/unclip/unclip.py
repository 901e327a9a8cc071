"""unCLIP as a whole: texts to embeddings by a prior, embeddings to images by a decoder, enlarged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.generation import Given, generate, noise_by_sample
from unveil.image.model import ImageModel
from unveil.image.settings import ImageSettings
from unveil.image.unclip.prior_model import USUAL, PriorModel
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.network.condition import Condition
from unveil.sampling.noise import Noise

DECODER = ImageSettings("ddpm", steps=25, scale=8.0)
"""Usual settings of Karlo's decoder; those of its prior are 25 steps and scale 4."""
UPSAMPLER = ImageSettings("ddpm", steps=7)


class LastStep(nn.Module):
    """Two networks of an upsampler: the second in the last step, at the first entry of the table.

    Calls have one time for all rows, as those of sampling.
    """

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        return (self.last if float(time.max()) < 0.5 else self.first)(x, time, cond)


@dataclass(frozen=True, eq=False)
class Unclip:
    """A prior, a decoder, and perhaps an upsampler, which sees the small image as `given.beside`."""

    prior: PriorModel
    decoder: ImageModel
    upsampler: ImageModel | None = None

    def sample(
        self,
        prompts: Sequence[str],
        prior: PriorSettings = USUAL,
        decoder: ImageSettings = DECODER,
        generator: Noise | int = None,
        batch: int = 64,
    ) -> "UnclipImages":
        """Images for B prompts; none depends on the others.

        Args:
            generator: as of `generate`; each image's generator serves all three models in turn.
            batch: images per batch.
        Raises:
            ValueError: as `generate`.
        """
        count = len(prompts)
        own = noise_by_sample(generator, count)(slice(0, count))
        embeddings = torch.cat(
            [
                self.prior.sample(prompts[i : i + batch], prior, own[i : i + batch])
                for i in range(0, count, batch)
            ]
        )
        given = Given(prompts=prompts, embeddings=embeddings)
        small = generate(self.decoder, None, count, decoder, own, batch, given=given, finish=_kept).pixels
        if self.upsampler is None:
            return UnclipImages(self.decoder.pixels(small), embeddings)
        beside = enlarged(small, self.upsampler.shape.size)
        large = generate(
            self.upsampler, None, count, UPSAMPLER, own, batch, given=Given(beside=beside)
        ).pixels
        return UnclipImages(large, embeddings)


class UnclipImages(NamedTuple):
    """Pixels (B, C, S, S) uint8, and the embeddings (B, E) that they show."""

    pixels: Tensor
    embeddings: Tensor


def enlarged(small: Tensor, side: int) -> Tensor:
    """Images (B, C, s, s) in -1 .. 1 as Karlo's upsampler sees them: bicubic, with antialiasing."""
    return F.interpolate(
        small.clamp(-1.0, 1.0), size=(side, side), mode="bicubic", align_corners=False, antialias=True
    )


def _kept(x_0: Tensor) -> Tensor:
    return x_0

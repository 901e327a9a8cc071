"""Training data of a latent model: the cached codes of images, with their classes and captions."""

import torch
from torch import Tensor

from unveil.image.data.images import Drawn, RandomImages
from unveil.image.latents.cached_latents import CachedLatents


class RandomLatents:
    """Random batches of codes; a part of them of mirror images, if the cache has these.

    Args:
        codes: of all images.
        images: what the codes are of; those whose captions say left or right are not mirrored.
    """

    def __init__(self, codes: CachedLatents, images: RandomImages) -> None:
        self.codes, self.sided = codes, images.sided
        self.pixels, self.labels, self.captions = images.pixels, images.labels, images.captions
        self.maps = images.maps

    def draw_rows(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw codes (count, Z, h, w), and the rows (count,) of the images that they are of."""
        return self.drawn(count, generator)[:2]

    def drawn(self, count: int, generator: torch.Generator) -> Drawn:
        """Draw a batch."""
        images = torch.randint(len(self.codes), (count,), generator=generator, device="cpu")
        rows, mirrored = images, None
        if self.codes.mirrored:
            mirrored = torch.rand(count, generator=generator, device="cpu") < 0.5
            if self.sided is not None:
                mirrored &= ~self.sided[images]
            rows = images + len(self.codes) * mirrored
        return Drawn(self.codes.codes(rows, generator), images, mirrored)

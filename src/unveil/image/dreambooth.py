"""DreamBooth: batches whose second half keeps what the base knows of the class. Ruiz et al. 2023, eq. 2."""

from collections.abc import Callable

import torch
from torch import Tensor

from unveil.image.training import ImageBatch


def dreambooth_batches(
    instance: Callable[[torch.Generator], ImageBatch],
    prior: Callable[[torch.Generator], ImageBatch],
    weight: float = 1.0,
) -> Callable[[torch.Generator], ImageBatch]:
    """A function from a generator to a batch of pictures of the instance, then pictures of its class.

    Its `weights` make the mean of all losses that of the first half plus `weight` times that of the second:

        loss = mean_i l_i + weight * mean_j l_j,    i of the instance, j of the class

    Args:
        instance, prior: generator -> batch, without weights.
        weight: of the loss of prior preservation.
    """

    def draw(generator: torch.Generator) -> ImageBatch:
        first, second = instance(generator), prior(generator)
        sizes = len(first.t), len(second.t)
        factors = [sum(sizes) / sizes[0], weight * sum(sizes) / sizes[1]]
        weights = torch.tensor(factors).repeat_interleave(torch.tensor(sizes))

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(first, name), getattr(second, name)])

        return ImageBatch(
            joined("pixels"),
            None,
            joined("dropped"),
            joined("t"),
            joined("noise"),
            first.seed,
            weights,
            (*(first.prompts or ()), *(second.prompts or ())),
        )

    return draw

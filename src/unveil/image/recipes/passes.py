"""The passes of `unveil sample image`: one, or with `--hires` two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.generation import Generated
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.given_pictures import Prepared, Sides
    from unveil.image.settings import ImageSettings


@runtime_checkable
class Watch(Protocol):
    """What is told of each batch, and of the belief about x_0 at each network call; such as `Watched`."""

    def begin(self, rows: slice) -> object:
        """The next beliefs are about these images."""
        ...

    def __call__(self, belief: Tensor, t: Tensor) -> object: ...


def made_by(
    config: SampleImage,
    model: ImageModel,
    labels: Tensor | None,
    settings: ImageSettings,
    ready: Prepared,
    watched: Watch | None,
) -> tuple[Generated, Sides]:
    """Sample the images of a config; returns them and the height and width of the first pass, in pixels."""
    from unveil.image.generation import generate
    from unveil.image.second_pass import generate_twice, larger_size

    size = ready.size or ((config.size[1], config.size[0]) if config.size else None)
    sides = size or (model.picture[1], model.picture[2])
    begin = None if watched is None else watched.begin
    count, seed, batch, given = config.n, config.job.seed, config.batch_size, ready.given
    noise = varied(config, model, size) if config.variation else ready.noise
    if config.high.hires == 1.0:
        made = generate(
            model, labels, count, settings, seed, batch, watched, noise, given, on_batch=begin, size=size
        )
        return made, sides
    larger = larger_size(model, size, config.high.hires)
    noises = (noise, varied(config, model, larger) if config.variation else None)
    made = generate_twice(
        model,
        labels,
        count,
        settings,
        config.high,
        seed,
        batch,
        watched,
        noises,
        given,
        on_batch=begin,
        size=size,
    )
    return made, sides


def varied(config: SampleImage, model: ImageModel, size: tuple[int, int] | None) -> Tensor:
    """Noise (n, C, h, w) between that of `seed`, the same for all images, and those of `variation_seed` + i:
    spherical interpolation, which keeps its norm. As AUTOMATIC1111's variation seed."""
    import torch

    from unveil.image.inversion import slerp
    from unveil.sampling.noise import generators, normal_like

    shape = model.sides_of(size)
    one = normal_like(torch.empty((1, *shape), device="cpu"), generators(config.job.seed, 1))
    others = normal_like(
        torch.empty((config.n, *shape), device="cpu"), generators(config.variation_seed, config.n)
    )
    return slerp(one.expand(config.n, *shape), others, config.variation)

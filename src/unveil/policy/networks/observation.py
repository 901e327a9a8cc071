"""Encoder of observations with several parts, images among them: one vector per step."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.policy.networks.resnet18 import RESNET18, ImageEncoder, centre_crop, random_crop


@dataclass(frozen=True)
class Part:
    """One part of an observation.

    Args:
        key: name of the part.
        shape: (C, h, w) of an image, (D,) of a state.
        encoder: number of an image's encoder; None for a state.
        crop: (h, w) of the crop that an image's encoder reads; None for the whole image.
        resize: (h, w) to which an image is resized before the crop (bilinear, antialiased); None: as it is.
    """

    key: str
    shape: tuple[int, ...]
    encoder: int | None = None
    crop: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None


def parts_text(parts: tuple[Part, ...]) -> str:
    """The parts of an observation in their order, for messages: "agent_pos 2, image 3x96x96"."""
    return ", ".join(f"{part.key} {'x'.join(map(str, part.shape))}" for part in parts)


class ObservationEncoder(nn.Module):
    """{key: (B, n, *shape)}, normalised, to (B, n, V): the parts in order, images encoded, states unchanged.

    Crops of images are central, or with a generator random, the same for all images of one row of the batch.

    Args:
        keypoints, outputs, width, blocks, batch_norm: as in `ImageEncoder`.
    Raises:
        ValueError: encoders that are shared by images of several sizes or not numbered 0, 1, ..., or a part
            that is missing or has another shape.
    """

    def __init__(
        self,
        parts: tuple[Part, ...],
        keypoints: int | None = 32,
        outputs: int | None = None,
        width: int = 64,
        blocks: tuple[int, ...] = RESNET18,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.parts = parts
        sizes: dict[int, tuple[int, int, int]] = {}
        for part in parts:
            if part.encoder is not None:
                channels, height, wide = part.shape
                size = (channels, *(part.crop or part.resize or (height, wide)))
                if sizes.setdefault(part.encoder, size) != size:
                    other = "has another size than the other images of its encoder"
                    raise ValueError(f"ObservationEncoder: {part.key} {other}")
        if sorted(sizes) != list(range(len(sizes))):
            raise ValueError(f"ObservationEncoder: encoders must be numbered from 0, got {sorted(sizes)}")
        self.encoders = nn.ModuleList(
            ImageEncoder((h, w), c, keypoints, outputs, width, blocks, batch_norm)
            for _, (c, h, w) in sorted(sizes.items())
        )
        self.size = sum(
            part.shape[0] if part.encoder is None else self._encoder(part.encoder).outputs for part in parts
        )

    def forward(self, observations: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        return torch.cat([self._read(part, observations, generator) for part in self.parts], dim=-1)

    def _read(
        self, part: Part, observations: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> Tensor:
        if part.key not in observations or observations[part.key].shape[2:] != part.shape:
            shape = tuple(observations[part.key].shape) if part.key in observations else "nothing"
            needed = f"(B, n, {', '.join(map(str, part.shape))})"
            raise ValueError(f"ObservationEncoder: {part.key} must be {needed}, got {shape}")
        x = observations[part.key]
        if part.encoder is None:
            return x
        if part.resize is not None:
            shape = (*x.shape[:3], *part.resize)
            x = F.interpolate(x.flatten(0, 1), part.resize, mode="bilinear", antialias=True).reshape(shape)
        if part.crop is not None:
            x = centre_crop(x, part.crop) if generator is None else random_crop(x, part.crop, generator)
        return self._encoder(part.encoder)(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _encoder(self, number: int) -> ImageEncoder:
        encoder = self.encoders[number]
        assert isinstance(encoder, ImageEncoder)
        return encoder

"""Random masks for training models that fill in parts of images."""

from __future__ import annotations

import torch
from torch import Tensor

RECTANGLES, POINTS = 3, 5  # at most, of one mask


def random_masks(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Masks (count, 1, H, W) of bool on the CPU, True where the image is generated.

    A quarter each: the whole image, as in the training of Stable Diffusion's inpainting models, so that the
    model also makes images from nothing; 1 to 3 rectangles; a brush stroke, a path of 2 to 5 points with a
    random thickness (as in LaMa, Suvorov et al. 2022); and everything outside of one rectangle (outpainting).
    Every mask has at least one pixel.
    """

    def uniform(*sizes: int) -> Tensor:
        return torch.rand(sizes, generator=generator, device="cpu")

    kind = torch.randint(4, (count,), generator=generator, device="cpu")[:, None, None]
    y = (torch.arange(height, device="cpu") + 0.5)[:, None] / height  # centres of the pixels
    x = (torch.arange(width, device="cpu") + 0.5)[None, :] / width
    boxes = _boxes(uniform(count, RECTANGLES, 4), uniform(count), y, x)
    stroke = _stroke(uniform(count, POINTS, 2), uniform(count), uniform(count), y, x)
    outside = ~_box(uniform(count, 4), y, x)
    chosen = torch.where(kind == 1, boxes, torch.where(kind == 2, stroke, outside)) | (kind == 0)
    some = (torch.rand(count, generator=generator, device="cpu") * height * width).long()
    at_least = torch.arange(height * width, device="cpu").view(1, height, width) == some[:, None, None]
    empty = ~chosen.flatten(1).any(1)
    return (chosen | (at_least & empty[:, None, None]))[:, None]


def _box(drawn: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Rectangles (..., H, W) with a random centre, and sides between 1/6 and 3/4 of the image's.

    Args:
        drawn: (..., 4) uniform numbers.
    """
    down, across, tall, wide = (part[..., None, None] for part in drawn.unbind(-1))
    half = 1.0 / 12.0 + (7.0 / 24.0) * torch.cat([tall, wide], dim=-1)
    return ((y - down).abs() <= half[..., :1]) & ((x - across).abs() <= half[..., 1:])


def _boxes(drawn: Tensor, many: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The union of the first 1 .. `RECTANGLES` rectangles (count, H, W)."""
    used = torch.arange(RECTANGLES, device="cpu") <= (many * RECTANGLES).long()[:, None]
    return (_box(drawn, y, x) & used[..., None, None]).any(1)


def _stroke(points: Tensor, many: Tensor, thick: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Pixels (count, H, W) within 1/24 .. 1/6 of the image's side of a path of 2 .. `POINTS` points."""
    radius = (1.0 / 24.0 + thick / 8.0)[:, None, None]
    segments = 1 + (many * (POINTS - 1)).long()[:, None, None]
    covered = torch.zeros((len(points), y.shape[0], x.shape[1]), dtype=torch.bool, device="cpu")
    for k in range(POINTS - 1):
        (ay, ax), (by, bx) = (points[:, i, :, None, None].unbind(1) for i in (k, k + 1))
        along = ((y - ay) * (by - ay) + (x - ax) * (bx - ax)) / ((by - ay) ** 2 + (bx - ax) ** 2 + 1e-12)
        along = along.clamp(0.0, 1.0)  # of the nearest point of the segment
        far = (y - ay - along * (by - ay)) ** 2 + (x - ax - along * (bx - ax)) ** 2
        covered |= (far <= radius**2) & (k < segments)
    return covered

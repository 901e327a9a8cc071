"""Embeddings of images, and their change by texts."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unveil.image.clip_model import ClipModel
from unveil.image.inversion import slerp


def image_embeddings(
    clip: ClipModel, pixels: Tensor, batch: int = 256, on_done: Callable[[int, int], object] | None = None
) -> Float[Tensor, "N E"]:
    """Unit embeddings, on the CPU, of images (N, C, H, W) in 0 .. 255.

    Images whose side is a multiple of that of CLIP's are shrunk first, by means over squares.

    Args:
        on_done: called with the number of images that are done, and their total.
    Raises:
        ValueError: images of another number of channels or another size.
    """
    check_embeddable(clip, pixels.shape[1:])
    side = clip.shape.size
    parts: list[Tensor] = []
    for start in range(0, len(pixels), batch):
        some = pixels[start : start + batch]
        if some.shape[-1] != side:
            some = F.avg_pool2d(some.to(torch.float32), some.shape[-1] // side)
        parts.append(clip.described(some, batch))
        if on_done is not None:
            on_done(min(len(pixels), start + batch), len(pixels))
    return torch.cat(parts)


def check_embeddable(clip: ClipModel, image: Sequence[int]) -> None:
    """Refuse images (channels, height, width) that a CLIP cannot read.

    Raises:
        ValueError: with the sizes that it reads.
    """
    channels, height, width = image
    colours, side = clip.shape.channels, clip.shape.size
    if channels != colours or height != width or height % side:
        raise ValueError(
            f"this CLIP reads images of {colours} channels, of {side} pixels or a multiple of them, got "
            f"{channels} channels and {width} x {height}"
        )


@torch.no_grad()
def edited(
    clip: ClipModel, embeddings: Float[Tensor, "B E"], before: str, after: str, share: float | Tensor
) -> Float[Tensor, "B E"]:
    """Image embeddings turned towards what text `after` says and text `before` does not: text differences.

        slerp(z_i, d, share),    d = (z_after - z_before) / |z_after - z_before|

    Ramesh et al. 2022, section 3.3.

    Args:
        share: of the angle between both, a number or (B,), in 0 .. 1; up to 0.25 .. 0.5 in the paper.
    Raises:
        ValueError: texts of the same embedding.
    """
    first, second = clip.read([before, after])
    difference = (second - first).to(embeddings)
    if float(difference.norm()) < 1e-6:
        raise ValueError(
            f"the texts {before[:60]!r} and {after[:60]!r} have the same embedding, so that nothing changes"
        )
    return slerp(embeddings, F.normalize(difference, dim=0).expand_as(embeddings), share)

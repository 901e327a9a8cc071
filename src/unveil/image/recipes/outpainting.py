"""Outpainting: images in a larger canvas, whose new part is generated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage
    from unveil.image.recipes.given_pictures import Prepared

LARGEST = 8192  # pixels of a side


class Margins(NamedTuple):
    """Pixels that are added on each side."""

    left: int
    top: int
    right: int
    bottom: int


def margins_for(wanted: Margins, sides: tuple[int, int], unit: int) -> Margins:
    """The margins with which the canvas has sides that are multiples of `unit`, the same or a little larger:
    the right and the bottom grow, or, where only the left or the top is enlarged, these.

    Args:
        sides: height and width of the image.
    Raises:
        ValueError: nothing is added, or the canvas is too large.
    """
    if not any(wanted):
        raise ValueError("`outpaint` 0 0 0 0 adds nothing; give the pixels to add on each side")
    height, width = sides
    left, top, right, bottom = wanted
    more_wide, more_high = -(left + width + right) % unit, -(top + height + bottom) % unit
    if left and not right:
        left += more_wide
    else:
        right += more_wide
    if top and not bottom:
        top += more_high
    else:
        bottom += more_high
    if max(left + width + right, top + height + bottom) > LARGEST:
        raise ValueError(f"`outpaint`: the canvas would have more than {LARGEST} pixels on a side")
    return Margins(left, top, right, bottom)


def canvas(pixels: Tensor, margins: Margins) -> tuple[Tensor, Tensor]:
    """Images (n, C, H, W) in the canvas, with the colours of their edges around them, and where they lie in
    it, (1, 1, H', W') bool."""
    import torch
    from torch.nn import functional as F

    left, top, right, bottom = margins
    around = (left, right, top, bottom)
    large = F.pad(pixels.float(), around, mode="replicate").to(pixels.dtype)
    known = torch.ones((1, 1, *pixels.shape[2:]), dtype=torch.bool, device="cpu")
    return large, F.pad(known, around, value=False)


def outpainted(config: SampleImage, model: ImageModel) -> Prepared:
    """Read the images of --from and prepare what is to be generated around them; their own pixels are put
    back in the end.

    Raises:
        ValueError: settings that exclude each other.
        UnveilError: images that cannot be read.
    """
    import numpy as np
    import torch

    from unveil.image.recipes.given_pictures import Kept, Prepared, filled_in, read_given, read_own

    colours, side, _ = model.picture
    if config.fit == "exact":
        inputs = read_own(config, config.given, colours)
    else:
        inputs = read_given(config, config.given, side, colours)
    pixels = torch.from_numpy(inputs[np.arange(config.n) % len(inputs)])
    wanted = Margins(*config.outpaint)
    margins = margins_for(wanted, (pixels.shape[2], pixels.shape[3]), model.unit)
    large, known = canvas(pixels, margins)
    note = ""
    if margins != wanted:
        said = " ".join(map(str, margins))
        note = f"--outpaint {said} was taken, because sides are multiples of {model.unit} pixels"
    return Prepared(
        filled_in(model, large, known),
        inputs=len(inputs),
        size=(large.shape[2], large.shape[3]),
        kept=Kept(large, known),
        note=note,
    )

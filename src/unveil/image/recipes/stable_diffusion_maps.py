"""What Stable Diffusion's models see beside the latent: a mask, depth, or a small picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.model import ImageModel
    from unveil.sampling.noise import Noise

Map = Literal["", "inpainting", "depth", "small picture", "other"]
INPAINTING, DEPTH = 5, 1  # channels beside the latent: a mask and a masked image's code; depth
ENTRIES = 1000  # of the upscaler's table of noise levels


def map_of(model: ImageModel) -> Map:
    """What a model sees beside the image; "": nothing, or another condition of our own (`shape.beside`)."""
    from unveil.image.networks.unet2d import UNet2d

    network, concat = model.denoiser.network, model.shape.concat
    if model.shape.beside in ("inpaint", "known"):
        return "inpainting"
    if not concat or model.shape.beside or model.shape.upsample > 1:
        return ""
    if model.latent is not None and isinstance(network, UNet2d) and network.shape.cross == "transformer":
        if model.levels and concat == model.latent.colours:
            return "small picture"
        known: dict[int, Map] = {INPAINTING: "inpainting", DEPTH: "depth"}
        return known.get(concat, "other")
    return "other"


def depth_map(depth: Tensor, sides: tuple[int, int]) -> Tensor:
    """What a depth model sees: (n, 1, h, w), bicubic, from -1 for each map's farthest place to 1 for its
    nearest.

    Args:
        depth: (n, 1, H, W), larger where nearer, of any range.
        sides: h and w, those of the latent.
    Raises:
        UnveilError: a map that is the same everywhere.
    """
    from torch.nn import functional as F

    small = F.interpolate(depth.float(), sides, mode="bicubic", align_corners=False)
    low, high = (small.amin((1, 2, 3), keepdim=True), small.amax((1, 2, 3), keepdim=True))
    if bool((low == high).any()):
        raise UnveilError("a depth map is the same everywhere; give one that shows what is near")
    return 2.0 * (small - low) / (high - low) - 1.0


def noised(small: Tensor, level: int, generator: Noise | int) -> Tensor:
    """Small pictures (n, C, h, w) in -1 .. 1 as the x4 upscaler sees them: alpha x + sigma noise, at entry
    `level` (from 0) of the table whose betas' square roots go evenly from 0.01 to sqrt(0.02).

    Args:
        generator: of the noise, as of `generate`; each image has noise of its own.
    """
    import torch

    from unveil.image.generation import noise_by_sample
    from unveil.image.weights.stable_diffusion_description import UPSCALER_BETAS
    from unveil.process.corrupt import corrupt
    from unveil.process.schedule import scaled_linear_betas, tabulated
    from unveil.sampling.noise import normal_like

    schedule = tabulated(scaled_linear_betas(ENTRIES, *UPSCALER_BETAS))
    noise = normal_like(small, noise_by_sample(generator, len(small))(slice(0, len(small))))
    t = torch.tensor((level + 1) / ENTRIES, dtype=torch.float64, device="cpu")
    return corrupt(schedule, small, t, noise)

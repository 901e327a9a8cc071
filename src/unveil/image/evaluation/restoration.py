"""PSNR of restored images, and baselines without learning: medians and bicubic interpolation."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional as F

Pixels4 = UInt8[np.ndarray, "_ C H W"]


def psnr(true: Pixels4, made: Pixels4) -> Float[np.ndarray, " _"]:
    """Peak signal-to-noise ratio 10 log10(255^2 / mean squared error) of each image, in decibels."""
    error = ((true.astype(np.float64) - made.astype(np.float64)) ** 2).reshape(len(true), -1).mean(1)
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / error)


def median_filtered(pixels: Pixels4) -> Pixels4:
    """The median of the 3 x 3 neighbourhood of each pixel, with mirrored edges."""
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    height, width = pixels.shape[-2:]
    around = np.stack([padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)])
    return np.median(around, axis=0).round().astype(np.uint8)


def median_filled(pixels: Pixels4, known: np.ndarray) -> Pixels4:
    """Fill unknown pixels, where bool `known` (N, 1, H, W) is false, with the median of their known 3 x 3
    neighbours, from the rim inwards.

    An image without known pixels becomes grey, 128.
    """
    height, width = pixels.shape[-2:]
    value = np.where(known, pixels.astype(np.float64), np.nan)
    while np.isnan(value).any():
        padded = np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        around = np.stack([padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)])
        reached = ~np.isnan(around).all(0)
        around[:, ~reached] = 0.0
        filled = np.where(np.isnan(value) & reached, np.nanmedian(around, axis=0), value)
        if np.isnan(filled).sum() == np.isnan(value).sum():
            filled = np.where(np.isnan(filled), 128.0, filled)
        value = filled
    return value.round().astype(np.uint8)


def bicubic(pixels: Pixels4, factor: int) -> UInt8[np.ndarray, "_ C Y X"]:
    """Bicubic interpolation by a whole factor."""
    large = F.interpolate(
        torch.from_numpy(pixels.astype(np.float32)), scale_factor=factor, mode="bicubic", align_corners=False
    )
    return large.round().clamp(0.0, 255.0).to(torch.uint8).numpy()

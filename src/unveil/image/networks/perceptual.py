"""The perceptual loss LPIPS with features of SqueezeNet v1.0, without learned weights of the channels.

Zhang et al. 2018, eq. 1. Their linear heads are trained for SqueezeNet v1.1, whose layers differ, so all
channels of a layer count alike here (their baseline without heads). Reconstructions by TAEF2, noise, blur
and shifts of emoji have gradients between 50 and 115 times that of the mean absolute error at 64 pixels, and
between 7 and 21 times at 32; hence the scales.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from unveil.image.networks.squeezenet import activations, caffe_input

LAYERS = ("conv1", "fire3", "fire4", "fire5", "fire7", "fire8", "fire9")
SMALL_LAYERS = LAYERS[:4]  # the sides of later ones are below 4 for images below 48 pixels
SMALL = 48
LEAST = 16  # smallest side in pixels: the second pooling needs two rows
SCALE, SMALL_SCALE = 1.0 / 80.0, 1.0 / 14.0  # of all layers, and of the first four
EPSILON = 1e-10


class PerceptualLoss:
    """sum over layers of the mean over positions of |f(x) / |f(x)| - f(y) / |f(y)||^2, times a scale.

    f are the features of a layer, and |.| is over its channels. Images below 48 pixels use the first four
    layers. The scale makes the norm of the gradient, at reconstructions, about that of the mean absolute
    error of pixels in -1 .. 1, so that a weight of 1 balances the two.

    Args:
        weights: of SqueezeNet, see `activations`. They are not part of any model's state.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = {name: value.float() for name, value in weights.items()}
        self._on: dict[torch.device, dict[str, Tensor]] = {}

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss (B,) of images x against y, each (B, 1 or 3, H, W) in -1 .. 1.

        Raises:
            ValueError: a side below 16 pixels.
        """
        side = min(x.shape[-2:])
        return (SCALE if side >= SMALL else SMALL_SCALE) * self.distance(x, y)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss without its scale."""
        side = min(x.shape[-2:])
        if side < LEAST:
            raise ValueError(f"PerceptualLoss: images need sides of at least {LEAST} pixels, got {side}")
        layers = LAYERS if side >= SMALL else SMALL_LAYERS
        if x.device not in self._on:
            self._on[x.device] = {name: value.to(x.device) for name, value in self.weights.items()}
        weights = self._on[x.device]
        total = torch.zeros(len(x), device=x.device)
        seen = [activations(caffe_input(127.5 * images + 127.5), weights, layers[-1]) for images in (x, y)]
        for layer in layers:
            a, b = (_unit(features[layer].float()) for features in seen)
            total = total + (a - b).square().sum(1).mean((1, 2))
        return total


def _unit(features: Tensor) -> Tensor:
    """Features divided by their norm over channels, which has a gradient also where all are 0."""
    return features / (features.square().sum(1, keepdim=True) + EPSILON**2).sqrt().add(EPSILON)

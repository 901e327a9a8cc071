"""SqueezeNet v1.0, without its classifier: features of images for scores and for a perceptual loss.

Iandola et al. 2016, table 1.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

CAFFE_MEAN = (104.0, 117.0, 123.0)  # blue, green, red
LAYERS = ("conv1", *(f"fire{number}" for number in range(2, 10)))


def caffe_input(pixels: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) in 0 .. 255, red first, as the network reads them: blue, green, red, minus
    Caffe's mean. Grey images get three equal channels."""
    x = pixels.float().expand(-1, 3, -1, -1).flip(1)
    return x - torch.tensor(CAFFE_MEAN, device=x.device)[:, None, None]


def activations(x: Tensor, weights: Mapping[str, Tensor], last: str = "fire9") -> dict[str, Tensor]:
    """The outputs of `LAYERS` up to `last`, after their ReLU.

    conv1 is 7 x 7 with stride 2 and no padding; 3 x 3 pooling with stride 2, whose sides are rounded up,
    follows conv1, fire4 and fire8.

    Args:
        x: of `caffe_input`.
        weights: `<layer>.weight` and `.bias`, where a fire module has the layers squeeze, expand1x1 and
            expand3x3.
    """

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return F.relu(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding))

    found = {"conv1": conv(x, "conv1", stride=2)}
    for before, name in pairwise(LAYERS):
        if before == last:
            break
        h = found[before]
        if before in ("conv1", "fire4", "fire8"):
            h = F.max_pool2d(h, 3, 2, ceil_mode=True)
        squeezed = conv(h, f"{name}.squeeze")
        wide = (conv(squeezed, f"{name}.expand1x1"), conv(squeezed, f"{name}.expand3x3", padding=1))
        found[name] = torch.cat(wide, dim=1)
    return found

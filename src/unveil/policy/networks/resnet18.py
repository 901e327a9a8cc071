"""Image encoder of policies: a ResNet-18 or -34 with GroupNorm, followed by a spatial softmax.

He et al. 2016, table 1, without the last pooling; Finn et al. 2016 for the spatial softmax. It is the
function of the image encoders of Diffusion Policy (robomimic's `VisualCore` followed by ReLU) and of LeRobot
(`DiffusionRgbEncoder`), which differ in names only; the other one of Diffusion Policy (torchvision's
ResNet-18 in `MultiImageObsEncoder`) has mean pooling instead. BatchNorm does not work with averaged weights
(Chi et al. 2023, section IV-B), hence GroupNorm, with 16 channels per group. Policies that were trained with
BatchNorm, as LeRobot's defaults since 2026, keep the statistics of that training.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RESNET18, RESNET34 = (2, 2, 2, 2), (3, 4, 6, 3)


class ImageEncoder(nn.Module):
    """(B, C, h, w), values of order 1, to (B, outputs): relu(W keypoints + b), for images of one size.

    Without keypoints it is the mean of the last level's features over all positions, (B, 8 width), as in
    classifiers.

    Args:
        size: h, w of the input, after cropping; the spatial softmax gets a 32nd of each, rounded up.
        channels: C.
        keypoints: K of the spatial softmax; None for mean pooling.
        outputs: size of the output, by default twice the keypoints, 64 as published; with mean pooling always
            8 width.
        width: channels of the first of four levels, a multiple of 16; each level has twice as many as the one
            before.
        blocks: residual blocks of each level: (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) is ResNet-34.
        batch_norm: `RecordedBatchNorm` in place of GroupNorm.
    Raises:
        ValueError: another width, images so small that one position is left for the spatial softmax, or
            images of another size.
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int = 3,
        keypoints: int | None = 32,
        outputs: int | None = None,
        width: int = 64,
        blocks: tuple[int, ...] = RESNET18,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if width % 16 or min(size) < 1 or (keypoints is not None and max(size) <= 32):
            raise ValueError(
                "ImageEncoder: the width must be a multiple of 16 and an image longer than 32 pixels, got "
                f"{width} and {size}"
            )
        self.size, self.channels = size, channels
        self.outputs = 8 * width if keypoints is None else outputs or 2 * keypoints
        self.stem = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.norm = _norm(width, batch_norm)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.levels = nn.ModuleList(
            nn.ModuleList(
                ResidualConv2d(b if i else a, b, 2 if k and not i else 1, batch_norm)
                for i in range(blocks[k])
            )
            for k, (a, b) in enumerate(pairwise(widths))
        )
        self.pool = None if keypoints is None else SpatialSoftmax(8 * width, keypoints)
        self.leave = None if keypoints is None else nn.Linear(2 * keypoints, self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (self.channels, *self.size):
            raise ValueError(
                f"ImageEncoder: images must be {(self.channels, *self.size)}, got {tuple(x.shape[1:])}"
            )
        h = F.max_pool2d(F.relu(self.norm(self.stem(x))), 3, stride=2, padding=1)
        for blocks in self.levels:
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h)
        if self.pool is None or self.leave is None:
            return h.mean((2, 3))
        return F.relu(self.leave(self.pool(h).flatten(1)))


class ResidualConv2d(nn.Module):
    """relu(x' + norm(conv(relu(norm(conv(x)))))) with 3 x 3 convolutions. He et al. 2016.

    x' is x, or norm(1 x 1 conv(x)) where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, batch_norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = (_norm(outputs, batch_norm) for _ in range(2))
        changes = stride != 1 or inputs != outputs
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if changes else nn.Identity()
        self.skip_norm = _norm(outputs, batch_norm) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(h + self.skip_norm(self.skip(x)))


class SpatialSoftmax(nn.Module):
    """(B, C, h, w) to (B, K, 2): expected positions x, y in [-1, 1] of K mixtures of the features.

    (-1, -1) is the first pixel, and keypoint k = sum over pixels of softmax(feature k) * position. Along an
    axis of one pixel the position is -1, as published.
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.mix(x).flatten(2).softmax(dim=-1).unflatten(2, x.shape[2:])  # (B, K, h, w)
        across, down = (
            torch.linspace(-1.0, 1.0, n, device=x.device, dtype=x.dtype) for n in (x.shape[3], x.shape[2])
        )
        return torch.stack([weight.sum(2) @ across, weight.sum(3) @ down], dim=-1)


def random_crop(images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Uniformly random crops (B, ..., h, w) to (B, ..., *size), one for each row of the batch; for training.

    All images of a row have the same crop: the observations of one window in time, or several synchronous
    cameras.

    Raises:
        ValueError: the crop is larger than the images.
    """
    (height, width), spare = size, _spare(images, size)
    corners = [
        torch.randint(n + 1, (len(images),), generator=generator, device=generator.device).tolist()
        for n in spare
    ]
    return torch.stack(
        [row[..., y : y + height, x : x + width] for row, y, x in zip(images, *corners, strict=True)]
    )


def centre_crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Central crop (..., h, w) to (..., *size), for evaluation; half pixels round to even, as in torchvision.

    Raises:
        ValueError: the crop is larger than the images.
    """
    y, x = (round(n / 2) for n in _spare(images, size))
    return images[..., y : y + size[0], x : x + size[1]]


def _spare(images: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    height, width = images.shape[-2] - size[0], images.shape[-1] - size[1]
    if min(height, width) < 0 or min(size) < 1:
        raise ValueError(f"crop: {size} is larger than images of {tuple(images.shape[-2:])}")
    return height, width


class RecordedBatchNorm(nn.Module):
    """gain (x - mean) / sqrt(variance + 1e-5) + shift over (B, C, h, w), with recorded means and variances.

    In training, too: statistics of small batches would change those that the weights were trained with.
    Ioffe & Szegedy 2015, for inference.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def _norm(channels: int, batch: bool = False) -> nn.Module:
    return RecordedBatchNorm(channels) if batch else nn.GroupNorm(channels // 16, channels)

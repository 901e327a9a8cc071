"""Feature extractors: SqueezeNet trained on ImageNet, a classifier trained on the same data, or the pixels.

Every result names its extractor.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from unveil.errors import UnveilError
from unveil.files.places import found
from unveil.image.classifier import ImageClassifier

SQUEEZENET = Path("models") / "squeezenet1_0_imagenet.npz"
SIDE = 227
CAFFE_MEAN = (104.0, 117.0, 123.0)  # blue, green, red


@dataclass(frozen=True)
class Pixels:
    """The pixels of an image, in 0 .. 1."""

    name: str = "pixels"

    def __call__(self, pixels: UInt8[np.ndarray, "N C H W"]) -> Float[np.ndarray, "N D"]:
        return pixels.reshape(len(pixels), -1).astype(np.float32) / 255.0


class SqueezeNet:
    """The mean over positions of the last fire module: 512 numbers. Iandola et al. 2016; weights of
    songhan/SqueezeNet-Deep-Compression.

    Images are enlarged to 227 x 227 (bilinear), in the order blue, green, red, minus Caffe's mean; grey
    images get three equal channels.

    Args:
        weights: `<layer>.weight` and `.bias`, as in the .npz.
    """

    name = "squeezenet1_0-imagenet-fire9"

    def __init__(
        self, weights: dict[str, Tensor], device: torch.device | str = "cpu", batch: int = 32
    ) -> None:
        self.weights = {name: w.to(device, torch.float32) for name, w in weights.items()}
        self.device, self.batch = device, batch

    @torch.no_grad()
    def __call__(self, pixels: UInt8[np.ndarray, "N C H W"]) -> Float[np.ndarray, "N D"]:
        parts = (
            torch.from_numpy(np.array(pixels[i : i + self.batch])) for i in range(0, len(pixels), self.batch)
        )
        return np.concatenate(
            [self.features(part.to(self.device)).mean((2, 3)).cpu().numpy() for part in parts]
        )

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) to (B, 512, 13, 13)."""
        x = pixels.float().expand(-1, 3, -1, -1).flip(1)
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=x.shape[-1] > SIDE)
        x = x - torch.tensor(CAFFE_MEAN, device=x.device)[:, None, None]
        x = self._pooled(self._conv(x, "conv1", stride=2))
        for number in range(2, 10):
            squeezed = self._conv(x, f"fire{number}.squeeze")
            x = torch.cat(
                [
                    self._conv(squeezed, f"fire{number}.expand1x1"),
                    self._conv(squeezed, f"fire{number}.expand3x3", 1, 1),
                ],
                dim=1,
            )
            if number in (4, 8):
                x = self._pooled(x)
        return x

    def _conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return F.relu(
            F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], stride, padding)
        )

    @staticmethod
    def _pooled(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)


class Judged:
    """The last features, before the logits, of a classifier trained on the same data."""

    def __init__(self, classifier: ImageClassifier, name: str) -> None:
        self.classifier, self.name = classifier, f"classifier {name}, trained on the same data"

    def __call__(self, pixels: UInt8[np.ndarray, "N C H W"]) -> Float[np.ndarray, "N D"]:
        return self.classifier.described(torch.from_numpy(np.array(pixels))).numpy()


def extractor(name: str, device: torch.device | str = "cpu") -> Pixels | SqueezeNet:
    """The extractor with this name; auto takes SqueezeNet if its weights are found.

    Raises:
        UnveilError: its weights are not found.
    """
    file = found(SQUEEZENET)
    if name == "pixels" or (name == "auto" and not file.is_file()):
        return Pixels()
    try:
        with np.load(file, allow_pickle=False) as stored:
            return SqueezeNet({n: torch.from_numpy(stored[n]) for n in stored.files}, device)
    except (OSError, ValueError) as error:
        raise UnveilError(
            f"no SqueezeNet at {file}, below $UNVEIL_DATA or in the cache ({error}); or take "
            "`extractor=pixels`"
        ) from error

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
from unveil.image.networks.squeezenet import activations, caffe_input

SQUEEZENET = Path("models") / "squeezenet1_0_imagenet.npz"
SIDE = 227


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
        x = F.interpolate(pixels.float(), (SIDE, SIDE), mode="bilinear", antialias=pixels.shape[-1] > SIDE)
        return activations(caffe_input(x), self.weights)["fire9"]


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
        return SqueezeNet(squeezenet_weights(), device)
    except (OSError, ValueError) as error:
        raise UnveilError(
            f"no SqueezeNet at {file}, below $UNVEIL_DATA or in the cache ({error}); or take "
            "`extractor=pixels`"
        ) from error


def squeezenet_weights() -> dict[str, Tensor]:
    """The weights of SqueezeNet by name, from `SQUEEZENET` here, below $UNVEIL_DATA or in the cache.

    Raises:
        OSError, ValueError: missing or damaged.
    """
    with np.load(found(SQUEEZENET), allow_pickle=False) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}

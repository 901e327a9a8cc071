"""Image models of others under our names: what they are, their networks' shapes, and their tensors in our
places.

Three releases are known: diffusers' `UNet2DModel`, openai's improved-diffusion and guided-diffusion, and
denoising-diffusion-pytorch. The U-Nets of the first two are one function with options, `UNet2d`; the third is
its own, `LinearUNet2d`. Openai's classifiers of noisy images are `Classifier2d`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unveil.image.networks.classifier2d import Classifier2d, Classifier2dShape
from unveil.image.networks.linear_unet2d import LinearUNet2d
from unveil.image.networks.unet2d import UNet2d, UNet2dShape

LARGEST_SIZE = 8192


@dataclass(frozen=True)
class LinearUNet2dShape:
    """The arguments of a `LinearUNet2d`."""

    channels: int
    width: int
    sizes: tuple[int, ...]
    heads: tuple[int, ...]
    head_width: tuple[int, ...]
    full: tuple[bool, ...]
    learned_variance: bool

    @property
    def labels(self) -> int:
        """It is told no class."""
        return 0


NetworkShape = UNet2dShape | LinearUNet2dShape | Classifier2dShape


@dataclass(frozen=True)
class DescribedImages:
    """What an image model of others is, or a classifier; the network fixes the tensors.

    Args:
        size: side of its images in pixels.
        betas: of its table of T steps.
        predicts: what the network's output means.
        time_scale: what the network is told of entry i, counted from 0, is i * time_scale.
        sampler: for people: its sampler there.
        upsample: it enlarges pictures so many times; 1: it makes them of nothing.
    """

    release: str
    network: NetworkShape
    size: int
    betas: tuple[float, ...]
    predicts: Literal["eps", "x0", "v", "class"]
    time_scale: float
    sampler: str
    upsample: int = 1


@dataclass(frozen=True, eq=False)
class ImageWeights:
    """An image model of others under our names.

    Args:
        averaged: the EMA of the weights; None if it is not told apart.
        notes: of the file, for people: step.
    """

    described: DescribedImages
    raw: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor] | None
    notes: Mapping[str, int]


def network_of(shape: NetworkShape) -> UNet2d | LinearUNet2d | Classifier2d:
    """Our network of this shape.

    Raises:
        ValueError: there is no such network.
    """
    try:
        if isinstance(shape, Classifier2dShape):
            return Classifier2d(shape)
        return UNet2d(shape) if isinstance(shape, UNet2dShape) else LinearUNet2d(**asdict(shape))
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"its network cannot be ({error})") from error


def placed(tensors: Mapping[str, Tensor], table: Mapping[str, str], shape: NetworkShape) -> dict[str, Tensor]:
    """All parameters under our names, float32.

    Args:
        table: our modules to theirs; a parameter `theirs` itself where ours has no weight and bias.
    Raises:
        ValueError: a tensor is missing, foreign, of another shape or not finite.
    """
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in network_of(shape).state_dict().items()}
    names: dict[str, str] = {}
    for name in ours:
        module, _, end = name.rpartition(".")
        if name not in table and module not in table:
            raise ValueError(f"no name there for {name}")
        names[name] = table[name] if name in table else f"{table[module]}.{end}"
    missing, foreign = (
        sorted(set(names.values()) - tensors.keys()),
        sorted(tensors.keys() - set(names.values())),
    )
    if missing or foreign:
        raise ValueError(
            f"{len(missing)} tensors are missing {[name[:80] for name in missing[:2]]}, "
            f"{len(foreign)} are foreign {[name[:80] for name in foreign[:2]]}"
        )
    found: dict[str, Tensor] = {}
    for name, theirs in names.items():
        value = tensors[theirs]
        if tuple(value.shape) != ours[name]:
            raise ValueError(f"{theirs} has shape {tuple(value.shape)}, needed is {ours[name]}")
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise ValueError(f"{theirs} holds numbers that are not finite, or whole ones")
        found[name] = value.to(torch.float32)
    return found


def check_images(described: DescribedImages) -> None:
    """Refuse what `ImageModel` and `ImageClassifier` cannot be.

    Raises:
        ValueError: the images' size or channels, or the table.
    """
    it = described.network
    levels = len(it.sizes) - 1 if isinstance(it, LinearUNet2dShape) else len(it.multiples)
    if it.channels not in (1, 3):
        raise ValueError(
            f"it is of {it.channels} channels, not the 1 or 3 of pixels: a model of latents, or of something else"
        )
    if not 0 < described.size <= LARGEST_SIZE or described.size % 2 ** (levels - 1):
        raise ValueError(
            f"images of {described.size} pixels, which {levels} levels cannot halve {levels - 1} times"
        )
    if not 0 < len(described.betas) <= 100_000 or not all(0.0 < beta < 1.0 for beta in described.betas):
        raise ValueError(
            "a table whose betas are not all between 0 and 1, such as one with no signal left at its end (zero terminal SNR)"
        )


def axes(tensors: Mapping[str, Tensor], name: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there.

    Raises:
        ValueError: it is missing, empty, or has another number of axes.
    """
    if name not in tensors or tensors[name].ndim != count or not tensors[name].numel():
        raise ValueError(f"{name} is missing, or has not {count} axes")
    return tuple(tensors[name].shape)


def state_dict(name: str, value: Any) -> dict[str, Tensor]:
    """A dict of tensors by their names.

    Raises:
        ValueError: it is something else.
    """
    if (
        not isinstance(value, dict)
        or not value
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    ):
        raise ValueError(f"{name} is no dict of tensors")
    return {str(key): tensor for key, tensor in value.items()}

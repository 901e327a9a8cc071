"""Image models of other programs: what they are, their networks' shapes, and their tensors.

Three releases are known: diffusers' `UNet2DModel`, openai's improved-diffusion and guided-diffusion, and
denoising-diffusion-pytorch. The U-Nets of the first two are one function with options, `UNet2d`; the third is
its own, `LinearUNet2d`. Openai's classifiers of noisy images are `Classifier2d`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

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
        """It is unconditional."""
        return 0


NetworkShape = UNet2dShape | LinearUNet2dShape | Classifier2dShape


@dataclass(frozen=True)
class DescribedImages:
    """What an image model or a classifier of another program is; the network fixes the tensors.

    Args:
        size: side of its images in pixels.
        betas: of its table of T steps.
        predicts: what the network's output means.
        time_scale: factor of the time input: that of entry i, counted from 0, is i * time_scale.
        sampler: its sampler in that program, for people.
        upsample: enlargement of an upsampler; 1: no upsampler.
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
    """An image model of another program under our names.

    Args:
        averaged: the average (EMA) of the weights; None if the file has only one of both.
        notes: remarks of the file, for people: the step.
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
        raise ValueError(f"its network cannot be made ({error})") from error


def placed(tensors: Mapping[str, Tensor], table: Mapping[str, str], shape: NetworkShape) -> dict[str, Tensor]:
    """All parameters under our names, float32.

    Args:
        table: names of our modules to those in the file; also of single parameters.
    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not finite.
    """
    with torch.device("meta"):
        return renamed(tensors, table, network_of(shape), torch.float32)


def renamed(
    tensors: Mapping[str, Tensor], table: Mapping[str, str], network: nn.Module, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """All parameters of a network under our names.

    Args:
        table: names of our modules to those in the file; also of single parameters.
        network: which parameters and shapes are needed; it may be on `meta`.
        dtype: dtype of the parameters; None keeps those of the file.
    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not finite.
    """
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    names: dict[str, str] = {}
    for name in ours:
        module, _, end = name.rpartition(".")
        if name not in table and module not in table:
            raise ValueError(f"no name there for {name}")
        names[name] = table[name] if name in table else f"{table[module]}.{end}"
    expected = set(names.values())
    missing, foreign = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
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
        if not value.is_floating_point() or not (value.is_meta or bool(torch.isfinite(value).all())):
            raise ValueError(f"{theirs} holds numbers that are not finite, or whole ones")
        found[name] = value.to(dtype or value.dtype)
    return found


def checked(described: DescribedImages) -> DescribedImages:
    """The description, if `ImageModel` or `ImageClassifier` can be such a model.

    Raises:
        ValueError: the images' size or channels, or the table.
    """
    it = described.network
    levels = len(it.sizes) - 1 if isinstance(it, LinearUNet2dShape) else len(it.multiples)
    size, betas = described.size, described.betas
    if it.channels not in (1, 3):
        raise ValueError(
            f"it is of {it.channels} channels, not the 1 or 3 of pixels: a model of latents, or of something "
            "else"
        )
    if not 0 < size <= LARGEST_SIZE or size % 2 ** (levels - 1):
        raise ValueError(f"images of {size} pixels, which {levels} levels cannot halve {levels - 1} times")
    if not 0 < len(betas) <= 100_000 or not all(0.0 < beta < 1.0 for beta in betas):
        raise ValueError(
            "a table whose betas are not all between 0 and 1, such as one with no signal left at its end "
            "(zero terminal SNR)"
        )
    return described


def under(ours: str, theirs: str, modules: Mapping[str, str]) -> dict[str, str]:
    """The modules inside one of our modules, to those inside one of theirs, by full names."""
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in modules.items()}


def axes(tensors: Mapping[str, Tensor], name: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there.

    Raises:
        ValueError: it is missing, empty, or has another number of axes.
    """
    if name not in tensors or tensors[name].ndim != count or not tensors[name].numel():
        raise ValueError(f"{name} is missing, or has not {count} axes")
    return tuple(tensors[name].shape)


def state_dict(name: str, value: object) -> dict[str, Tensor]:
    """A dict of tensors by their names.

    Raises:
        ValueError: it is something else.
    """
    tensors = cast(dict[object, object], value) if isinstance(value, dict) else {}
    if not tensors or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()):
        raise ValueError(f"{name} is no dict of tensors")
    return cast(dict[str, Tensor], tensors)

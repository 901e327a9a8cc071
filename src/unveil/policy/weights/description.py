"""Third-party diffusion policies with our tensor names: the shapes of their networks, read from tensors.

Two releases are known: real-stanford/diffusion_policy and LeRobot. Their U-Nets and image encoders are the
same function with different tensor names; only the former has the transformer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.observation import ObservationEncoder, Part
from unveil.policy.networks.resnet18 import RESNET18
from unveil.policy.networks.transformer import PolicyTransformer

Release = Literal["real-stanford/diffusion_policy", "lerobot"]
_EMPTY = "_dummy_variable"  # an empty parameter that tells the original a module's device


class UNetShape(NamedTuple):
    """The arguments of a `ConditionalUNet`, in its order."""

    features: int
    vector: int
    widths: tuple[int, ...]
    kernel: int
    step_width: int
    groups: int
    scale: bool


class TransformerShape(NamedTuple):
    """The arguments of a `PolicyTransformer`, in its order."""

    features: int
    horizon: int
    observation: int
    observations: int
    width: int
    depth: int
    heads: int
    dropout: float
    dropout_inputs: float
    causal: bool


class Linear(NamedTuple):
    """The normalisation x * scale + offset of the network's input; both broadcast, as (D,) or (C, 1, 1)."""

    scale: Tensor
    offset: Tensor

    def normalized(self, x: Tensor) -> Tensor:
        return x * self.scale + self.offset

    def raw(self, y: Tensor) -> Tensor:
        return (y - self.offset) / self.scale


@dataclass(frozen=True)
class Described:
    """A policy of one of the releases; `network` and `parts` determine its tensors.

    Args:
        policy: name of its class in the release.
        parts: parts of an observation, in the order of a step's vector; images have encoders.
        keypoints: keypoints of the encoders' spatial softmax; None for encoders with mean pooling.
        blocks, batch_norm: residual blocks of each level of the encoders, and whether they have BatchNorm.
        condition: how the network is conditioned on observations: by FiLM, as tokens, or by inpainting of
            trajectories that hold observations, too.
        horizon, observed, n_action: number of actions of a chunk, of observations of a decision, and of
            executed actions.
        first: index of the first executed action of a chunk.
        steps, schedule, predicts, clip: settings of the diffusion, `schedule` by its name in diffusers;
            `clip` bounds the belief about x_0.
        sampler: the release's sampler and its number of steps.
    """

    release: Release
    policy: str
    network: UNetShape | TransformerShape
    parts: tuple[Part, ...]
    keypoints: int | None
    condition: Literal["film", "tokens", "inpainting"]
    horizon: int
    observed: int
    n_action: int
    first: int
    steps: int
    schedule: str
    predicts: Literal["eps", "x0"]
    clip: float | None
    sampler: str
    blocks: tuple[int, ...] = RESNET18
    batch_norm: bool = False


@dataclass(frozen=True, eq=False)
class PolicyWeights:
    """The weights of a third-party policy with our names, `network.*` and `observation.*`.

    Args:
        averaged: the EMA of the weights; None if there is none.
        normalization: the normalisation of each part of an observation, by its key, and of "action".
        notes: epoch and step of the training, for display.
    """

    described: Described
    raw: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor] | None
    normalization: Mapping[str, Linear]
    notes: Mapping[str, int]


def window(crop: object, image: tuple[int, ...]) -> tuple[int, int] | None:
    """The crop in a config for images of this shape: two lengths, or None.

    Raises:
        ValueError: anything else, or a crop larger than the image.
    """
    if crop is None:
        return None
    match crop:
        case [int(height), int(width)] if 0 < height <= image[1] and 0 < width <= image[2]:
            return height, width
        case _:
            raise ValueError(f"its images of {image} cannot be cropped to {str(crop)[:40]}")


def shape_of(key: str, listed: object) -> tuple[int, ...]:
    """The shape that a config lists for an observation.

    Raises:
        ValueError: anything but numbers from 1 to 9,999.
    """
    numbers = cast(list[object], listed) if isinstance(listed, list) else []
    shape = tuple(n for n in numbers if type(n) is int and 0 < n < 10_000)
    if not shape or len(shape) < len(numbers):
        raise ValueError(f"its {key[:40]} has an invalid shape")
    return shape


def prediction(name: object) -> Literal["eps", "x0"]:
    """The network's output, by its name in diffusers.

    Raises:
        ValueError: another output.
    """
    if name not in ("epsilon", "sample"):
        raise ValueError(f"it predicts {str(name)[:40]}; epsilon and sample are known")
    return "eps" if name == "epsilon" else "x0"


def model_of(described: Described) -> nn.ModuleDict:
    """Our network and our encoder of observations, which has no weights without images.

    Returns:
        A module whose state dict has the names of `PolicyWeights`.
    Raises:
        ValueError: the shape of the network is invalid.
    """
    it = described.network
    try:
        network = ConditionalUNet(*it) if isinstance(it, UNetShape) else PolicyTransformer(*it)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"its network is not valid ({error})") from error
    blocks, batch = described.blocks, described.batch_norm
    encoder = ObservationEncoder(described.parts, described.keypoints, blocks=blocks, batch_norm=batch)
    return nn.ModuleDict({"network": network, "observation": encoder})


def unet_shape(tensors: Mapping[str, Tensor], prefix: str, groups: int) -> UNetShape:
    """The shape of a U-Net of either release; `groups` cannot be read from tensors.

    Raises:
        ValueError: the tensors are not those of such a U-Net.
    """
    first = "blocks.0" if f"{prefix}down_modules.0.0.blocks.0.block.0.weight" in tensors else "conv1"
    step = _of(tensors, f"{prefix}diffusion_step_encoder.3.bias", 1).shape[0]
    widths = list[int]()
    while (name := f"{prefix}down_modules.{len(widths)}.0.{first}.block.0.bias") in tensors:
        widths.append(_of(tensors, name, 1).shape[0])
    inner = _of(tensors, f"{prefix}down_modules.0.0.{first}.block.0.weight", 3)
    film = _of(tensors, f"{prefix}down_modules.0.0.cond_encoder.1.weight", 2)
    if any(name.startswith(f"{prefix}local_cond_encoder.") for name in tensors):
        raise ValueError(
            "its U-Net is conditioned on observations step by step (obs_as_local_cond), which is not "
            "supported"
        )
    if film.shape[0] not in (widths[0], 2 * widths[0]) or film.shape[1] < step or step < 4 or len(widths) > 8:
        raise ValueError("the FiLM of its U-Net has an invalid shape")
    return UNetShape(
        inner.shape[1],
        film.shape[1] - step,
        tuple(widths),
        inner.shape[2],
        step,
        groups,
        scale=film.shape[0] == 2 * widths[0],
    )


def transformer_shape(
    tensors: Mapping[str, Tensor], prefix: str, heads: int, dropout: float, dropout_inputs: float
) -> TransformerShape:
    """The shape of a transformer; heads and dropout cannot be read from tensors.

    Raises:
        ValueError: the tensors are not those of a transformer, or of an unsupported variant.
    """
    positions = _of(tensors, f"{prefix}pos_emb", 3)
    if f"{prefix}encoder.0.weight" not in tensors:
        raise ValueError(
            "its transformer has time_as_cond false or n_cond_layers above 0; both are not supported"
        )
    depth = 0
    while f"{prefix}decoder.layers.{depth}.norm1.weight" in tensors:
        depth += 1
    observe, memory = tensors.get(f"{prefix}cond_obs_emb.weight"), _of(tensors, f"{prefix}cond_pos_emb", 3)
    features = _of(tensors, f"{prefix}input_emb.weight", 2).shape[1]
    observation = 0 if observe is None else observe.shape[-1]
    sizes = features, positions.shape[1], observation, memory.shape[1] - 1, positions.shape[2], depth, heads
    return TransformerShape(*sizes, dropout, dropout_inputs, causal=f"{prefix}mask" in tensors)


def renamed(
    tensors: Mapping[str, Tensor], table: Mapping[str, str], described: Described
) -> dict[str, Tensor]:
    """All parameters with our names, as float32.

    Args:
        table: our names -> theirs.
    Raises:
        ValueError: a tensor is missing, unknown, of another shape or not finite.
    """
    used = set(table.values())
    missing = sorted(used - tensors.keys())
    foreign = sorted(name for name in tensors.keys() - used if not name.endswith(_EMPTY))
    if missing or foreign:
        norm = (
            " (its image encoder has BatchNorm, ours GroupNorm)"
            if any(f.endswith(".running_mean") for f in foreign)
            else ""
        )
        raise ValueError(
            f"{len(missing)} tensors are missing {missing[:2]}, {len(foreign)} are unknown "
            f"{[name[:80] for name in foreign[:2]]}{norm}"
        )
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in model_of(described).state_dict().items()}
    if ours.keys() != table.keys():
        raise ValueError(f"no names for {sorted(ours.keys() ^ table.keys())[:2]}")
    ours_named: dict[str, Tensor] = {}
    for name, theirs in table.items():
        value = tensors[theirs]
        if name in ("network.place", "network.memory_place") and value.ndim == 3:
            value = value[0]  # theirs have a batch axis
        if tuple(value.shape) != ours[name]:
            raise ValueError(f"{theirs} must have shape {ours[name]}, got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{theirs} holds numbers that are not finite")
        ours_named[name] = value.to(torch.float32)
    return ours_named


def _of(tensors: Mapping[str, Tensor], name: str, axes: int) -> Tensor:
    if name not in tensors or tensors[name].ndim != axes or not tensors[name].numel():
        raise ValueError(f"{name} is missing, or does not have {axes} axes")
    return tensors[name]

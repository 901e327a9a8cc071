"""Diffusion policies of LeRobot, folders with `config.json` and `model.safetensors`, under our tensor names.

Statistics are buffers of the model (before 0.4), or in files beside it: `policy_preprocessor.json` names a
safetensors file with `observation.state.min` and the like, `policy_postprocessor.json` one for the actions.
Before 0.2 configs listed shapes and normalisation by name only, without a type.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject, read_object
from unveil.files.safetensors import read_tensors
from unveil.policy.networks.observation import Part
from unveil.policy.networks.resnet18 import RESNET18, RESNET34
from unveil.policy.weights.description import (
    Described,
    Linear,
    PolicyWeights,
    UNetShape,
    prediction,
    renamed,
    shape_of,
    unet_shape,
    window,
)
from unveil.policy.weights.names import Names, encoder_names, unet_names

STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
_BUFFERS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
BACKBONES = {"resnet18": RESNET18, "resnet34": RESNET34}
OTHERS = ("n_obs_steps", "normalization_mapping", "chunk_size")  # fields of every policy's config
_EPS = 1e-8  # LeRobot's value for a deviation or a range of zero


def lerobot_config(folder: Path) -> dict[str, object] | None:
    """The config.json of a LeRobot policy of any type, which names features, or before 0.2 their shapes.

    Returns:
        The contents; None if the folder holds no such policy.
    """
    try:
        config = read_object(folder / "config.json")
    except (UnveilError, OSError):
        return None
    sides = [("input_features", "output_features"), ("input_shapes", "output_shapes")]
    named = any(all(isinstance(config.get(name), dict) for name in pair) for pair in sides)
    typed = isinstance(config.get("type"), str) and any(name in config for name in OTHERS)
    return config if named or typed or config.get("type") == "diffusion" else None


def read_policy_folder(folder: Path, config: dict[str, object] | None = None) -> PolicyWeights:
    """Read a policy's description, weights and normalisers. LeRobot stores no averaged weights.

    Args:
        config: contents of its config.json, where they have been read.
    Raises:
        UnveilError: a file is missing or damaged, or the policy is not supported.
    """
    config = current(config or read_object(folder / "config.json"))
    try:
        if config.get("type") != "diffusion":
            missing = "its config.json has no type and no noise_scheduler_type"
            reason = f"it is of type {str(config['type'])[:40]}" if "type" in config else missing
            raise ValueError(f"{reason}; diffusion is supported")
        tensors = read_weights(folder)
        described = describe(config, tensors)
        weights = renamed_policy(tensors, described)
        return PolicyWeights(described, weights, None, normalizers(folder, config, tensors, described), {})
    except ValueError as error:
        raise UnveilError(f"{folder}: a policy of LeRobot that cannot be used: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of `model.safetensors`, or of the shards that `model.safetensors.index.json` names.

    Raises:
        UnveilError: a file is missing or damaged.
        ValueError: an invalid index, or shards that share a tensor or lack one.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return read_tensors(folder / "model.safetensors")
    table = read_object(index, largest=2**24).get("weight_map")
    named: JsonObject = table if isinstance(table, dict) else {}
    if not named or not all(isinstance(shard, str) and Path(shard).name == shard for shard in named.values()):
        raise ValueError(f"{index.name} does not say which file beside it holds which tensor (weight_map)")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(named.values())):
        part = read_tensors(folder / shard)
        if twice := sorted(part.keys() & tensors.keys()):
            raise ValueError(f"{twice[0][:80]} is in two of its shards")
        tensors |= part
    if wrong := sorted(named.keys() ^ tensors.keys()):
        where = "in no shard" if wrong[0] in named else "in a shard, but not in the index"
        raise ValueError(f"{wrong[0][:80]} is {where}")
    return tensors


def current(config: dict[str, object]) -> dict[str, object]:
    """A config in the format since LeRobot 0.2; older ones have `input_shapes` and a noise scheduler.

    The `normalization_mapping` of those then has features as keys in addition to kinds. A config without its
    type is one of diffusion if it names a noise scheduler (huggingface/lerobot#1105).
    """
    if (
        "type" not in config
        and "noise_scheduler_type" in config
        and isinstance(config.get("input_features"), dict)
    ):
        return config | {"type": "diffusion"}
    shapes = [config.get(name) for name in ("input_shapes", "output_shapes")]
    if (
        "type" in config
        or "noise_scheduler_type" not in config
        or not all(isinstance(side, dict) for side in shapes)
    ):
        return config
    features = [
        {key: {"type": _kind(key), "shape": shape} for key, shape in cast(dict[str, object], side).items()}
        for side in shapes
    ]
    modes: dict[str, str] = {}
    for name in ("input_normalization_modes", "output_normalization_modes"):
        listed = cast(dict[str, object], config[name]) if isinstance(config.get(name), dict) else {}
        modes |= {key: str(mode).upper() for key, mode in listed.items()}
    # Features that are not listed were not normalised.
    modes = {key: modes.get(key, "IDENTITY") for side in features for key in side}
    return config | {
        "type": "diffusion",
        "input_features": features[0],
        "output_features": features[1],
        "normalization_mapping": modes,
    }


def describe(config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Described:
    """The description of a policy, from its config and its tensors.

    Raises:
        ValueError: an unsupported policy or variant, or an incomplete config.
    """
    network = unet_shape(tensors, "diffusion.unet.", _whole(config, "n_groups"))
    shapes = _input_shapes(config)
    images = {key: shape for key, shape in shapes.items() if len(shape) == 3}
    backbone = str(config.get("vision_backbone", "resnet18"))[:40]
    if images and backbone not in BACKBONES:
        raise ValueError(
            f"its image encoder is {backbone} (vision_backbone); {' and '.join(BACKBONES)} are known"
        )
    if STATE not in shapes:
        raise ValueError(f"its config has no {STATE}")
    apart = config.get("use_separate_rgb_encoder_per_camera") is True
    parts = [Part(STATE, shapes[STATE])]
    for i, (key, shape) in enumerate(images.items()):
        resize = resized(config.get("resize_shape"))
        seen = shape if resize is None else (shape[0], *resize)
        crop = window(cropped(config, resize), seen)
        parts.append(Part(key, shape, i if apart else 0, crop, resize))
    if ENVIRONMENT in shapes:
        parts.append(Part(ENVIRONMENT, shapes[ENVIRONMENT]))
    steps = _whole(config, "num_train_timesteps")
    observed = _whole(config, "n_obs_steps")
    bound = config.get("clip_sample_range", 1.0)
    if not isinstance(bound, int | float) or not 0 < bound < 1e6:
        raise ValueError("clip_sample_range in its config is missing or invalid")
    sampler = str(config.get("noise_scheduler_type"))
    return Described(
        "lerobot",
        "DiffusionPolicy",
        network,
        tuple(parts),
        keypoints=_whole(config, "spatial_softmax_num_keypoints"),
        condition="film",
        horizon=_whole(config, "horizon"),
        observed=observed,
        n_action=_whole(config, "n_action_steps"),
        first=observed - 1,
        steps=steps,
        schedule=str(config.get("beta_schedule"))[:40],
        predicts=prediction(config.get("prediction_type")),
        clip=float(bound) if config.get("clip_sample") is True else None,
        sampler=f"{sampler[:40]}, {config.get('num_inference_steps') or steps} steps",
        blocks=BACKBONES.get(backbone, RESNET18),
        batch_norm=bool(images) and config.get("use_group_norm") is not True,
    )


def resized(listed: object) -> tuple[int, int] | None:
    """The size (h, w) to which LeRobot's encoder resizes images; None: it does not.

    Raises:
        ValueError: anything else.
    """
    match listed:
        case None:
            return None
        case [int(height), int(width)] if 0 < height < 10_000 and 0 < width < 10_000:
            return height, width
        case _:
            raise ValueError(f"its images cannot be resized to {str(listed)[:40]} (resize_shape)")


def cropped(config: Mapping[str, object], resize: tuple[int, int] | None) -> object:
    """The crop of a config: `crop_shape`, or `crop_ratio` of the resized image."""
    ratio = config.get("crop_ratio", 1.0)
    crop = config.get("crop_shape")
    if crop is None and resize is not None and isinstance(ratio, int | float) and 0.0 < ratio < 1.0:
        return [int(ratio * side) for side in resize]
    return crop


def renamed_policy(tensors: Mapping[str, Tensor], described: Described) -> dict[str, Tensor]:
    """The parameters with our names.

    Raises:
        ValueError: as `renamed`.
    """
    it, apart = described.network, any(name.startswith("diffusion.rgb_encoder.0.") for name in tensors)
    if not isinstance(it, UNetShape):
        raise ValueError("LeRobot has no transformer")
    table: Names = unet_names(it, "diffusion.unet.", lerobot=True)
    for encoder in {part.encoder for part in described.parts if part.encoder is not None}:
        net = f"diffusion.rgb_encoder.{encoder}" if apart else "diffusion.rgb_encoder"
        parts = f"{net}.backbone", f"{net}.pool.nets", f"{net}.out"
        table |= encoder_names(encoder, *parts, described.blocks, described.batch_norm)
    unused = (".pool.pos_grid", ".num_batches_tracked")
    others = [name for name in tensors if name.startswith(_BUFFERS) or name.endswith(unused)]
    parameters = {name: value for name, value in tensors.items() if name not in others}
    return renamed(parameters, table, described)


def normalizers(
    folder: Path, config: Mapping[str, object], tensors: Mapping[str, Tensor], described: Described
) -> dict[str, Linear]:
    """The normalisation of observations and actions, from the model's buffers, or else the files beside it.

    Raises:
        UnveilError: a file is damaged.
        ValueError: statistics are missing, of another size, or of an unknown kind.
    """
    files = ("policy_postprocessor", "policy_preprocessor")
    stats = _buffers(tensors) or {
        name: value for file in files for name, value in _beside(folder, file).items()
    }
    mapping = config.get("normalization_mapping")
    modes = cast(dict[str, object], mapping) if isinstance(mapping, dict) else {}
    kinds = {key: str(feature.get("type")) for key, feature in _all_features(config).items()}
    shapes = {part.key: part.shape for part in described.parts}
    linear: dict[str, Linear] = {}
    for key, shape in {**shapes, ACTION: (described.network.features,)}.items():
        mode = modes.get(key, modes.get(kinds.get(key, "")))
        wide = (shape[0], 1, 1) if len(shape) == 3 else shape
        if mode == "IDENTITY":
            linear[key] = Linear(torch.ones(wide), torch.zeros(wide))
            continue
        names = {"MIN_MAX": ("min", "max"), "MEAN_STD": ("mean", "std")}.get(str(mode))
        if names is None:
            known = "MIN_MAX, MEAN_STD and IDENTITY are known"
            raise ValueError(f"it normalises {key[:40]} by {str(mode)[:40]}; {known}")
        a, b = (_statistic(stats, key, name, wide) for name in names)
        linear[key] = _limits(a, b) if mode == "MIN_MAX" else Linear(1.0 / (b + _EPS), -a / (b + _EPS))
    return linear


def _limits(low: Tensor, high: Tensor) -> Linear:
    span = torch.where(high == low, torch.full_like(low, _EPS), high - low)
    return Linear(2.0 / span, -2.0 * low / span - 1.0)


def _statistic(stats: Mapping[str, Tensor], key: str, name: str, shape: tuple[int, ...]) -> Tensor:
    for known in (f"{key}.{name}", f"{key.replace('.', '_')}.{name}"):
        if known in stats:
            value = stats[known].to(torch.float32)
            if value.numel() != shape[0] or not bool(torch.isfinite(value).all()):
                got = f"its {known[:60]} has shape {tuple(value.shape)} or is not finite"
                raise ValueError(f"{got}; {shape[0]} numbers are needed")
            return value.reshape(shape)
    raise ValueError(
        f"its {key[:60]}.{name} is neither in the model nor beside it (policy_preprocessor.json, "
        "policy_postprocessor.json)"
    )


def _buffers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistics in the model's buffers, by names with underscores instead of dots."""
    return {
        name.partition(".buffer_")[2]: value for name, value in tensors.items() if name.startswith(_BUFFERS)
    }


def _beside(folder: Path, name: str) -> dict[str, Tensor]:
    file = folder / f"{name}.json"
    if not file.is_file():
        return {}
    statistics: dict[str, Tensor] = {}
    for step in cast(list[object], read_object(file).get("steps") or []):
        state = cast(dict[str, object], step).get("state_file") if isinstance(step, dict) else None
        if isinstance(state, str) and "normalizer" in state:
            if Path(state).name != state:
                raise ValueError(f"{file.name} names a file in another folder")
            statistics |= read_tensors(folder / state)
    return statistics


def _input_shapes(config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs; (C, h, w) for images, (D,) for all others."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = config.get("input_features")
    if not isinstance(inputs, dict):
        raise ValueError("its config has no input_features")
    for key, value in cast(dict[str, object], inputs).items():
        feature = cast(dict[str, object], value) if isinstance(value, dict) else {}
        shape = shapes[key] = shape_of(key, feature.get("shape"))
        if len(shape) != (3 if feature.get("type") == "VISUAL" else 1):
            raise ValueError(f"its {key[:40]} of shape {shape} is neither a vector nor an image (C, h, w)")
    return shapes


def _kind(key: str) -> str:
    """A feature's kind by its name, as in LeRobot before configs had kinds."""
    known = {STATE: "STATE", ENVIRONMENT: "ENV", ACTION: "ACTION"}
    return "VISUAL" if key.startswith("observation.image") else known.get(key, "OTHER")


def _all_features(config: Mapping[str, object]) -> dict[str, dict[str, object]]:
    both = (config.get("input_features"), config.get("output_features"))
    sides = [cast(dict[str, object], side) for side in both if isinstance(side, dict)]
    return {key: value for side in sides for key, value in side.items() if isinstance(value, dict)}


def _whole(config: Mapping[str, object], name: str) -> int:
    value = config.get(name)
    if type(value) is not int or not 0 < value < 10**6:
        raise ValueError(f"{name} in its config is missing or invalid")
    return value

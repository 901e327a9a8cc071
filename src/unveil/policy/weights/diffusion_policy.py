"""Checkpoints of real-stanford/diffusion_policy (`.ckpt`) under our tensor names; no code in them is run.

Such a file is a zip of `torch.save` with dill: `cfg`, an OmegaConf tree; `state_dicts` of the policy, its
average (`ema_model`) and the optimizer; and `pickles`, nested pickles, of which only numbers are read.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files import omegaconf as hydra_config
from unveil.files import omegaconf_interpolation as interpolation
from unveil.files.json_objects import JsonObject
from unveil.files.npz import DAMAGE
from unveil.files.pickles import Made, Symbol, nothing, read_pickle
from unveil.files.torch_save import Form, read_torch
from unveil.policy.networks.observation import Part
from unveil.policy.weights.description import (
    Described,
    Linear,
    PolicyWeights,
    TransformerShape,
    prediction,
    renamed,
    shape_of,
    transformer_shape,
    unet_shape,
    window,
)
from unveil.policy.weights.names import Names, encoder_names, split, transformer_names, unet_names

Kind = TypeVar("Kind")
POLICIES = (
    "DiffusionUnetLowdimPolicy",
    "DiffusionTransformerLowdimPolicy",
    "DiffusionUnetHybridImagePolicy",
    "DiffusionTransformerHybridImagePolicy",
    "DiffusionUnetImagePolicy",
)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's mean and deviation of each channel
_BYTES = Symbol("_codecs", "encode")  # how Python 3 pickles bytes for Python 2
_FORM = Form(
    knows=lambda symbol: symbol == _BYTES or hydra_config.knows(symbol),
    repeats=hydra_config.repeats,
    plain=lambda tree: _plain(tree),
    largest=16 * 2**30,
    operations=2_000_000,
    deepest=64,
)


def read_policy(file: Path) -> PolicyWeights:
    """Read a policy's description, weights, averaged weights and normalisers.

    Raises:
        UnveilError: a file that is missing, damaged, or holds other objects than such a checkpoint, or an
            unsupported policy.
    """
    try:
        state = cast(JsonObject, read_torch(file, _FORM))  # whose form was checked
    except UnveilError as error:
        raise UnveilError(f"{error}{_other(file)}") from error
    try:
        dicts: dict[str, dict[str, Tensor]] = {
            name: _tensors(name, value) for name, value in state["state_dicts"].items()
        }
        if "model" not in dicts:
            raise ValueError("it has no weights (state_dicts: model)")
        described = describe(state["cfg"], dicts["model"])
        weights = {name: renamed_policy(tensors, described) for name, tensors in dicts.items()}
        normalization = normalizers(dicts.get("ema_model", dicts["model"]), described)
        if described.keypoints is None and _encoder(state["cfg"]).get("imagenet_norm") is True:
            normalization = renormalized(normalization, described)
        return PolicyWeights(
            described, weights["model"], weights.get("ema_model"), normalization, state["notes"]
        )
    except ValueError as error:
        raise UnveilError(
            f"{file}: a checkpoint of real-stanford/diffusion_policy that cannot be used: {error}"
        ) from error


def describe(cfg: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Described:
    """The description of a policy, from its config and its tensors, which must agree.

    Raises:
        ValueError: an unsupported policy or variant, or an incomplete config.
    """
    policy, kind = _at(cfg, "policy", dict), str(_at(cfg, "policy._target_", str)).rpartition(".")[2]
    if kind not in POLICIES:
        raise ValueError(f"it is a {kind[:60]}; supported are {', '.join(POLICIES)}")
    own, images = policy.get("model") or policy, "Image" in kind
    if "Unet" in kind:
        network = unet_shape(tensors, "model.", _at(own, "n_groups", int))
        as_condition = _at(policy, "obs_as_global_cond", bool)
    else:
        heads = _at(own, "n_head", int)
        network = transformer_shape(
            tensors, "model.", heads, _at(own, "p_drop_attn", float), _at(own, "p_drop_emb", float)
        )
        as_condition = _at(policy, "obs_as_cond", bool)
    observed = _at(policy, "n_obs_steps", int)
    plain = kind == "DiffusionUnetImagePolicy"
    if plain:
        parts = _sorted_parts(_at(policy, "shape_meta.obs", dict), _encoder(cfg))
    elif images:
        parts = _parts(_at(policy, "shape_meta.obs", dict), policy.get("crop_shape"))
    else:
        parts = (Part("obs", (_at(cfg, "obs_dim", int),)),)
    condition = (
        "inpainting" if not as_condition else "tokens" if isinstance(network, TransformerShape) else "film"
    )
    scheduler = _at(policy, "noise_scheduler", dict)
    if policy.get("pred_action_steps_only") is True:
        raise ValueError(
            "its chunks hold only the executed actions (pred_action_steps_only), which is not supported"
        )
    # An early convention of one class executes actions from one step later on.
    later = kind == "DiffusionUnetLowdimPolicy" and policy.get("oa_step_convention") is not True
    sampler = str(scheduler.get("_target_", "")).rpartition(".")[2]
    return Described(
        "real-stanford/diffusion_policy",
        kind,
        network,
        parts,
        keypoints=None if plain else 32,
        condition=condition,
        horizon=_at(policy, "horizon", int),
        observed=observed,
        n_action=_at(policy, "n_action_steps", int),
        first=observed if later else observed - 1,
        steps=_at(scheduler, "num_train_timesteps", int),
        schedule=_at(scheduler, "beta_schedule", str),
        predicts=prediction(_at(scheduler, "prediction_type", str)),
        clip=1.0 if scheduler.get("clip_sample") is True else None,
        sampler=f"{sampler[:40]}, {policy.get('num_inference_steps')} steps",
    )


def renamed_policy(tensors: Mapping[str, Tensor], described: Described) -> dict[str, Tensor]:
    """The parameters of one state dict with our names.

    Raises:
        ValueError: as `renamed`.
    """
    it = described.network
    table: Names = (
        transformer_names(it, "model.")
        if isinstance(it, TransformerShape)
        else unet_names(it, "model.", lerobot=False)
    )
    others = list[str]()
    shared = any(name.startswith("obs_encoder.key_model_map.rgb.") for name in tensors)
    for part in described.parts:
        if part.encoder is not None and described.keypoints is None:
            net = f"obs_encoder.key_model_map.{'rgb' if shared else part.key}"
            table |= encoder_names(part.encoder, net, "", "")
        elif part.encoder is not None:
            net = f"obs_encoder.obs_nets.{part.key}"
            table |= encoder_names(part.encoder, f"{net}.nets.0.nets", f"{net}.nets.1.nets", f"{net}.nets.3")
            duplicates = ("backbone.", "pool.", "nets.1.temperature", "nets.1.pos_x", "nets.1.pos_y")
            others += [f"{net}.{name}" for name in duplicates]
    others += ["normalizer.", "model.mask", "model.memory_mask"]  # duplicates, or constants
    temperatures = [value for name, value in tensors.items() if name.endswith(".temperature")]
    if any(not torch.equal(value, torch.ones_like(value)) for value in temperatures):
        raise ValueError("its spatial softmax has another temperature than 1")
    parameters = {name: value for name, value in split(tensors).items() if not name.startswith(tuple(others))}
    return renamed(parameters, table, described)


def normalizers(tensors: Mapping[str, Tensor], described: Described) -> dict[str, Linear]:
    """The normalisation of observations and actions, from a state dict.

    Raises:
        ValueError: one is missing, or of another size.
    """
    linear: dict[str, Linear] = {}
    actions = described.network.features - (
        sum(p.shape[0] for p in described.parts) if described.condition == "inpainting" else 0
    )
    sizes = {part.key: part.shape[0] for part in described.parts}
    for key, size in {**sizes, "action": actions}.items():
        pair = [tensors.get(f"normalizer.params_dict.{key}.{name}") for name in ("scale", "offset")]
        scale, offset = (None if value is None else value.reshape(-1).to(torch.float32) for value in pair)
        if (
            scale is None
            or offset is None
            or scale.shape != offset.shape
            or len(scale) not in (1, size)
            or not bool((scale != 0).all())
        ):
            raise ValueError(f"its normaliser of {key[:40]} is missing, or not of {size} numbers")
        image = any(part.key == key and part.encoder is not None for part in described.parts)
        linear[key] = Linear(scale[:, None, None], offset[:, None, None]) if image else Linear(scale, offset)
    return linear


def renormalized(normalization: Mapping[str, Linear], described: Described) -> dict[str, Linear]:
    """The normalisation followed by that of ImageNet, ((x scale + offset) - mean) / deviation, of images.

    Raises:
        ValueError: images without three channels.
    """
    mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    linear = dict(normalization)
    for part in described.parts:
        if part.encoder is not None:
            if part.shape[0] != 3:
                got = f"its {part.key[:40]} has {part.shape[0]} channels"
                raise ValueError(f"{got}, but imagenet_norm needs three")
            it = normalization[part.key]
            linear[part.key] = Linear(it.scale / deviation, (it.offset - mean) / deviation)
    return linear


def _encoder(cfg: Mapping[str, object]) -> dict[str, object]:
    """The config of a `MultiImageObsEncoder`.

    Raises:
        ValueError: another encoder, or an unsupported variant.
    """
    it = _at(cfg, "policy.obs_encoder", dict)
    kind = str(it.get("_target_")).rpartition(".")[2]
    if kind != "MultiImageObsEncoder":
        raise ValueError(f"its observations are encoded by a {kind[:60]}; MultiImageObsEncoder is supported")
    model = it.get("rgb_model")
    name = cast(dict[str, object], model).get("name") if isinstance(model, dict) else None
    if name != "resnet18":
        raise ValueError(f"its images are encoded by {str(name)[:40]}; resnet18 is supported")
    if it.get("resize_shape") is not None:
        raise ValueError("its images are resized (resize_shape), which is not supported")
    return it


def _sorted_parts(observations: Mapping[str, object], encoder: Mapping[str, object]) -> tuple[Part, ...]:
    """The parts in the order of `MultiImageObsEncoder`: images by name, then numbers by name.

    Images may share one encoder.
    """
    parts = sorted(_parts(observations, None), key=lambda part: (part.encoder is None, part.key))
    crops, shared = encoder.get("crop_shape"), encoder.get("share_rgb_model") is True
    for i, part in enumerate(parts):
        if part.encoder is not None:
            crop = cast(dict[str, object], crops).get(part.key) if isinstance(crops, dict) else crops
            parts[i] = replace(part, encoder=0 if shared else i, crop=window(crop, part.shape))
    return tuple(parts)


def _parts(observations: Mapping[str, object], crop: object) -> tuple[Part, ...]:
    """The parts in the order of `shape_meta`, each image with its own encoder."""
    parts, encoders = list[Part](), 0
    for key, meta in observations.items():
        shape = shape_of(key, _at(meta, "shape", list))
        form = meta.get("type", "low_dim") if isinstance(meta, dict) else None
        if form == "low_dim":
            if len(shape) != 1:
                raise ValueError(
                    f"its observation {key[:40]} of shape {shape} is neither a vector nor an image"
                )
            parts.append(Part(key, shape))
            continue
        if form != "rgb" or len(shape) != 3:
            raise ValueError(f"its observation {key[:40]} is neither low_dim nor rgb")
        parts.append(Part(key, shape, encoders, window(crop, shape)))
        encoders += 1
    return tuple(parts)


def _plain(tree: object) -> dict[str, object]:
    """`cfg` as plain objects, the state dicts of model and average, and the numbers in nested pickles."""
    payload = cast(dict[str, object], tree) if isinstance(tree, dict) else {}
    dicts, pickles = payload.get("state_dicts"), payload.get("pickles")
    cfg = hydra_config.plain(payload.get("cfg"))
    if not isinstance(cfg, dict) or not isinstance(dicts, dict):
        raise ValueError(
            "not a checkpoint of real-stanford/diffusion_policy (a dict with cfg, state_dicts and pickles)"
        )
    cfg = interpolation.resolved(cast(dict[str, object], cfg))
    named = cast(dict[str, object], dicts).items()
    wanted = {name: value for name, value in named if name in ("model", "ema_model")}
    notes: dict[str, int] = {}
    for name in ("epoch", "global_step"):
        nested = cast(dict[str, object], pickles).get(name) if isinstance(pickles, dict) else None
        if (
            isinstance(nested, Made)
            and nested.maker == _BYTES
            and len(nested.arguments) == 2
            and nested.arguments[1] == "latin1"
        ):
            value = read_pickle(BytesIO(str(nested.arguments[0]).encode("latin1")), nothing)
            if type(value) is int and 0 <= value < 10**12:
                notes[name] = value
    return {"cfg": cfg, "state_dicts": wanted, "notes": notes}


def _other(file: Path) -> str:
    """The other program that wrote a checkpoint, as the end of a sentence; "" if unknown."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(names[0]) as tree:
                pickled = tree.read(2**24)
    except DAMAGE:
        return ""
    if b"pytorch-lightning_version" in pickled:
        return "; it is a checkpoint of PyTorch Lightning, not of real-stanford/diffusion_policy"
    if b"state_dicts" not in pickled and b"state_dict" in pickled:
        return (
            "; it holds a state_dict, and was written by another program than real-stanford/diffusion_policy"
        )
    return ""


def _tensors(name: str, value: object) -> dict[str, Tensor]:
    tensors = cast(dict[object, object], value) if isinstance(value, dict) else {}
    if not tensors or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()):
        raise ValueError(f"its state_dicts: {name} is not a dict of tensors")
    return cast(dict[str, Tensor], tensors)


def _at(config: object, path: str, kind: type[Kind]) -> Kind:
    """The value at a dotted path of a config, which must exist and be of this kind."""
    value = config
    for name in path.split("."):
        value = cast(dict[str, object], value).get(name) if isinstance(value, dict) else None
    if kind is float and type(value) is int:
        value = float(value)
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"{path} in its config is {value[:80]}, which cannot be resolved here")
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 10**6):
        raise ValueError(f"{path} in its config is missing or invalid")
    return value

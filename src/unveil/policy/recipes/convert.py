"""Use, convert and inspect policies of other programs: `.ckpt` of real-stanford, folders of LeRobot."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.network.normalization import Normalization
from unveil.policy.model import PolicyModel, fast_policy
from unveil.policy.networks.observation import Part
from unveil.policy.policy import Policy
from unveil.policy.recipes.load import PICTURE, policy_model, policy_of
from unveil.policy.settings import PolicySettings
from unveil.policy.weights.description import Described, Linear, PolicyWeights, UNetShape
from unveil.policy.weights.releases import Released
from unveil.runs.checkpoints import write_converted
from unveil.runs.device import find_device
from unveil.runs.training import as_json

SCHEDULE = "squaredcos_cap_v2"  # our only schedule; both releases have it by default


def our_config(described: Described) -> JsonObject:
    """The config.json of a run with such a policy.

    The recipe is pusht for observations that PushT has, and policy for all others.

    Raises:
        ValueError: a policy that is not supported, with the reason.
    """
    it, network = described, described.network
    if it.condition == "inpainting":
        raise ValueError("it is conditioned on observations by inpainting; FiLM and tokens are supported")
    if it.schedule != SCHEDULE:
        raise ValueError(f"its schedule is {it.schedule[:40]}; only {SCHEDULE} is supported")
    if it.clip not in (None, 1.0):
        raise ValueError(f"it clips to {it.clip:g}; clipping to 1, or none, is supported")
    if it.first != it.observed - 1:
        raise ValueError(
            "it executes actions from one step after the newest observation on (oa_step_convention false)"
        )
    if isinstance(network, UNetShape) and any(width % 8 for width in network.widths):
        raise ValueError(f"its widths {network.widths} are no multiples of 8")
    observation = on_pusht(it.parts)
    # the fields of the other network keep these values
    fields = {"widths": [8], "kernel": 5, "step_width": 128, "groups": 8, "scale": True, "width": 192}
    fields |= {"depth": 6, "heads": 4, "dropout": 0.0, "dropout_inputs": 0.0, "causal": True}
    return as_json(
        {
            "recipe": "policy" if observation == "other" else "pusht",
            "origin": it.release,
            "preset": "default",
            "observation": observation,
            "parts": [asdict(part) for part in it.parts],
            "image_keypoints": it.keypoints,
            "image_width": 64,
            "image_blocks": list(it.blocks),
            "image_batch_norm": it.batch_norm,
            "observations": sum(math.prod(part.shape) for part in it.parts),
            "actions": network.features,
            "n_obs": it.observed,
            "horizon": it.horizon,
            "n_action": it.n_action,
            "diffusion_steps": it.steps,
            "predicts": it.predicts,
            "clip": it.clip is not None,
            "network": "cnn" if isinstance(network, UNetShape) else "transformer",
            **{name: getattr(network, name, value) for name, value in fields.items()},
        }
    )


def on_pusht(parts: tuple[Part, ...]) -> str:
    """The name of such an observation on PushT, as `seen` knows it; "other" if PushT does not have it."""
    known: dict[tuple[str, tuple[int, ...]], str] = {
        ("agent_pos", (2,)): "agent",
        ("observation.state", (2,)): "agent",
        ("observation.environment_state", (16,)): "vertices",
        ("obs", (20,)): "keypoints",
        ("obs", (5,)): "state",
    }
    names = [
        "picture" if part.shape == PICTURE else known.get((part.key, part.shape), "other") for part in parts
    ]
    return "other" if "other" in names or len(set(names)) < len(names) else "+".join(names)


def model_of(read: PolicyWeights, config: JsonObject, raw: bool = False) -> PolicyModel:
    """Our model with these weights and this normalisation.

    Args:
        config: the policy's `our_config`.
        raw: use the weights themselves, even if there is a moving average of them.
    Raises:
        ValueError: a chunk that does not hold the executed actions.
    """
    model = policy_model(config)
    weights = read.raw if raw or read.averaged is None else read.averaged
    _load(model.denoiser.network, weights, "network.")
    if model.encoder is not None:
        _load(model.encoder, weights, "observation.")
    plain = [part for part in read.described.parts if part.encoder is None]
    images = [part for part in read.described.parts if part.encoder is not None]
    with torch.no_grad():
        if plain:
            _set(model.observed, [(read.normalization[part.key], part.shape[0]) for part in plain])
        for part, limits in zip(images, model.pictured or (), strict=True):
            assert isinstance(limits, Normalization)
            it = read.normalization[part.key]  # of values in [0, 1], ours are 0 .. 255
            linear = Linear(it.scale.flatten() / 255.0, it.offset.flatten())
            _set(limits, [(linear, part.shape[0])])
        _set(model.acted, [(read.normalization["action"], model.shape.actions)])
    return model.eval()


def _load(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> None:
    module.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )


def _set(normalization: Normalization, parts: list[tuple[Linear, int]]) -> None:
    """Set the limits, which x * scale + offset maps to -1 and 1: (-1 - offset) / scale, (1 - offset) / scale.

    LeRobot gives a number that never changed in its data a range of 1e-8, in which only the recorded value,
    which becomes -1, makes sense. Here it becomes -1 too, and other values stay finite.

    Args:
        parts: normalisation and size of each part of the vector.
    """
    scale = torch.cat([part.scale.expand(size) for part, size in parts]).double()
    offset = torch.cat([part.offset.expand(size) for part, size in parts]).double()
    low, high = (-1.0 - offset) / scale, (1.0 - offset) / scale
    constant = (high - low).abs() < 1e-7
    normalization.low.copy_(low)
    normalization.high.copy_(torch.where(constant, low + 2.0, high))


def load_foreign_policy(
    policies: list[Released],
    device: str = "auto",
    seed: int = 0,
    settings: PolicySettings | None = None,
    *,
    raw: bool = False,
    **fields: object,
) -> tuple[Policy, str]:
    """A `Policy` from what `released_policies` returns for a path, and its observation on PushT.

    The file is read once, and nothing in it is run.

    Args:
        raw: use the weights themselves instead of their moving average.
        fields: fields of `PolicySettings`; the published settings are solver="ddpm", sampling_steps=100.
    Returns:
        The policy, and the name of its observation as `seen` knows it; "other" if PushT has no such
        observation.
    Raises:
        UnveilError: several policies, a file that cannot be read, or a policy that is not supported.
        ValueError: as `PolicySettings`.
    """
    settings = replace(settings or PolicySettings(), **fields)
    if len(policies) != 1:
        names = ", ".join(str(it.path) for it in policies[:4])
        raise UnveilError(f"{len(policies)} policies are there ({names}); give the path of one")
    weights = policies[0].read()
    try:
        config = our_config(weights.described)
        model = model_of(weights, config, raw)
    except ValueError as error:
        raise UnveilError(f"{policies[0].path}: {error}") from error
    policy = policy_of(fast_policy(model.to(find_device(device))), settings, seed, clip=config["clip"])
    return policy, config["observation"]


def convert_policies(policies: list[Released], above: Path, out: Path, raw: bool) -> str:
    """Write a run folder for each policy.

    Args:
        above: folder of the policies, whose relative paths are kept if there are several.
    Returns:
        Text to print.
    Raises:
        UnveilError: a policy cannot be read or used, or its folder holds something else, and is left as it
        is.
    """
    lines: list[str] = []
    for released in policies:
        path, weights = released.path, released.read()
        folder = out if len(policies) == 1 else out / path.relative_to(above).with_suffix("")
        try:
            config = our_config(weights.described) | {"epoch": weights.notes.get("epoch", 0)}
            models = {
                name: model_of(weights, config, raw or name == "network") for name in ("network", "ema")
            }
        except ValueError as error:
            raise UnveilError(f"{path}: {error}") from error
        step = weights.notes.get("global_step", 0)
        chosen = "raw" if raw or weights.averaged is None else "averaged"
        state = {"step": step, "weights": chosen, "origin": weights.described.release}
        write_converted(folder, f"checkpoint-{step}", config, models, state)
        size, observation = config["observations"], config["observation"]
        use = (
            f"in Python, policy = unveil.load({str(folder)!r}); actions = policy.act(observations), (B, "
            f"{size})"
            if observation == "other"
            else f"unveil eval pusht --checkpoint {shlex.quote(str(folder))}"
        )
        lines += [
            f"{folder}: {weights.described.policy} of {weights.described.release}, {chosen} weights, "
            f"{config['network']}; {size} observed numbers ({observation}), {config['actions']} of an action",
            f"next: {use}",
        ]
    return "\n".join(lines)


def inspect_policies(policies: list[Released]) -> str:
    """A description of each policy; among several, the reason why one cannot be used stands in its place.

    Raises:
        UnveilError: there is one, and it cannot be read or used.
    """
    lines: list[str] = []
    for released in policies:
        path = released.path
        try:
            rows = _rows(released.read())
        except UnveilError as error:
            if len(policies) == 1:
                raise
            rows = {"usable": f"no: {str(error).removeprefix(f'{path}: ')}"}
        lines += [str(path), *(f"  {name:<13} {text}" for name, text in rows.items()), ""]
    return "\n".join(lines).rstrip()


def _rows(read: PolicyWeights) -> dict[str, str]:
    it, network = read.described, read.described.network
    network_size, images_size = (
        sum(value.numel() for name, value in read.raw.items() if name.startswith(prefix))
        for prefix in ("network.", "observation.")
    )
    if isinstance(network, UNetShape):
        name = "ConditionalUNet"
        shape = (
            f"widths {', '.join(map(str, network.widths))}, kernel {network.kernel}, {network.groups} "
            f"groups, step embedding {network.step_width}, FiLM with "
            f"{'gain and shift' if network.scale else 'shift alone'}"
        )
    else:
        name = "PolicyTransformer"
        shape = (
            f"{network.depth} layers, {network.heads} heads, width {network.width}, "
            f"{'causal' if network.causal else 'not causal'}, dropout {network.dropout:g}"
        )
    encoders = len({part.encoder for part in it.parts} - {None})
    resnet = f"ResNet-{34 if sum(it.blocks) == 16 else 18}{' with BatchNorm' if it.batch_norm else ''}"
    images = {"images": f"{encoders} x {resnet}, {images_size:,} parameters in all"} if images_size else {}
    crops = {part.key: f" (cropped to {part.crop[0]}x{part.crop[1]})" for part in it.parts if part.crop}
    observed = ", ".join(f"{p.key} {'x'.join(map(str, p.shape))}{crops.get(p.key, '')}" for p in it.parts)
    clipped = "" if it.clip is None else f", clipped to {it.clip:g}"
    notes = "".join(f", {name.replace('_', ' ')} {value:,}" for name, value in read.notes.items())
    stored = "raw" if read.averaged is None else "raw and averaged (EMA)"
    try:
        our_config(it)
        usable = "yes: unveil.load(PATH), unveil weights convert PATH OUT"
    except ValueError as error:
        usable = f"no: {error}"
    observation = on_pusht(it.parts)
    known = f"{observation}: unveil eval pusht --checkpoint PATH"
    return {
        "policy": f"{it.policy} of {it.release}",
        "network": f"{name}, {network_size:,} parameters",
        **images,
        "shape": shape,
        "chunks": f"{it.observed} observations, {it.horizon} actions, of which {it.n_action} are executed, "
        f"from number {it.first} on",
        "observations": f"{observed}, conditioned by {it.condition}",
        "diffusion": f"{it.steps} steps, {it.schedule}, predicts {it.predicts}{clipped}; sampled there by "
        f"{it.sampler}",
        "weights": stored + notes.replace(", ", "; ", 1),
        "normaliser": f"of {', '.join(read.normalization)}, in the file",
        "usable": "yes: its tensors are those of our networks",
        "as a policy": usable,
        "on PushT": "no: PushT has no such observations" if observation == "other" else known,
    }

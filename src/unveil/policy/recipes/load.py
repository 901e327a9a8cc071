"""Load a policy from a run folder, a checkpoint folder or packaged weights."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import cast

import torch

from unveil.files.json_objects import JsonObject
from unveil.policy.model import PolicyModel, PolicyShape, fast_policy
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.observation import ObservationEncoder, Part
from unveil.policy.networks.resnet18 import RESNET18
from unveil.policy.networks.transformer import PolicyTransformer
from unveil.policy.policy import Policy
from unveil.policy.settings import PolicySettings
from unveil.runs.checkpoints import load_weights
from unveil.runs.config import check_whole_numbers, read_config
from unveil.runs.device import find_device
from unveil.sampling.gaussian import DDIM, Ancestral, Consistency, DPMpp2M, Heun

RECIPES = ("pusht", "policy")  # "policy" is for converted policies whose observations PushT does not have
SOLVERS = {
    "ddim": DDIM,
    "euler": DDIM,
    "ddpm": Ancestral,
    "dpmpp": DPMpp2M,
    "heun": Heun,
    "consistency": Consistency,
}
PICTURE = (3, 96, 96)  # channels, height, width
OBSERVATIONS = {"keypoints", "state", "other", "agent", "vertices", "picture"}
SHAPE = ("observations", "actions", "n_obs", "horizon", "n_action", "diffusion_steps")
SIZES = (*SHAPE, "kernel", "step_width", "width", "depth", "heads")
WIDEST, DEEPEST = 8192, 8  # channels per level, and levels


def read_policy_config(folder: Path) -> JsonObject:
    """Read and check the config.json of a policy; raises as `read_config`."""
    return read_config(folder, RECIPES, check_policy)


def check_policy(config: JsonObject) -> None:
    """Refuse a config.json that describes no policy; `PolicyShape` checks all that it holds.

    Raises:
        ValueError: a field has another type, is out of range, or contradicts another.
        KeyError: a field is missing.
    """
    check_whole_numbers(config, SIZES)
    if config["observation"] == "pixels":
        check_whole_numbers(config, ("crop", "image_width", "image_keypoints"))
    elif not OBSERVATIONS.issuperset(str(config["observation"]).split("+")):
        raise ValueError(f"observation is {config['observation']!r}")
    if config["network"] not in ("cnn", "transformer") or not 0.0 <= float(config["dropout"]) < 1.0:
        raise ValueError(f"network is {config['network']!r} and dropout {config['dropout']!r}")
    blocks = config.get("image_blocks", [2, 2, 2, 2])
    if len(blocks) != 4 or not all(type(n) is int and 0 < n < 100 for n in blocks):
        raise ValueError(f"image_blocks are {blocks!r}")
    for part in config["parts"] if isinstance(config.get("parts"), list) else []:
        numbers = [*part["shape"], *(part["crop"] or []), *(part.get("resize") or [])]
        image = type(part["encoder"]) is int and len(part["shape"]) == 3
        if (
            not isinstance(part["key"], str)
            or not all(type(n) is int and 0 < n < 10_000 for n in numbers)
            or not (part["encoder"] is None or image)
        ):
            raise ValueError(f"a part of observations is {part!r}")
    try:
        shape_of(config)
    except ValueError as error:
        raise ValueError(str(error).replace("`", "")) from error  # backquotes would become flags
    widths, groups = config["widths"], config.get("groups", 8) if config["network"] == "cnn" else 8
    if not 0 < len(widths) <= DEEPEST or not all(type(w) is int and 0 < w <= WIDEST for w in widths):
        raise ValueError(f"widths are {widths!r}")
    if any(width % 8 or width % groups for width in widths):
        raise ValueError(f"widths are {widths!r}, in {groups} groups")


def parts_of(config: JsonObject) -> tuple[Part, ...]:
    """The named parts of an observation; none where config.json lists none.

    Pixels of PushT are numbers followed by a picture; all other policies list their parts in their config.
    """
    if config["observation"] == "pixels":
        numbers = config["observations"] - prod(PICTURE)
        return Part("numbers", (numbers,)), Part("picture", PICTURE, 0, (config["crop"], config["crop"]))
    listed = config.get("parts")
    if not isinstance(listed, list):
        return ()
    return tuple(
        Part(it["key"], tuple(it["shape"]), it["encoder"], _pair(it["crop"]), _pair(it.get("resize")))
        for it in cast(list[JsonObject], listed)
    )


def _pair(listed: list[int] | None) -> tuple[int, int] | None:
    return None if listed is None else (listed[0], listed[1])


def shape_of(config: JsonObject) -> PolicyShape:
    """The shape that config.json describes; without a condition, or with "auto", the network's."""
    usual = "tokens" if config["network"] == "transformer" else "film"
    condition = config.get("condition", "auto")
    return PolicyShape(
        **{name: config[name] for name in SHAPE},
        predicts=config["predicts"],
        condition=usual if condition == "auto" else condition,
        prefix=config.get("prefix", 0),
        parts=parts_of(config),
    )


def policy_model(config: JsonObject) -> PolicyModel:
    """The untrained model of a run's config."""
    shape, encoder = shape_of(config), None
    if shape.images:
        encoder = ObservationEncoder(
            shape.parts,
            config["image_keypoints"],
            width=config["image_width"],
            blocks=tuple(config.get("image_blocks", RESNET18)),
            batch_norm=bool(config.get("image_batch_norm", False)),
        )
    features = shape.observations if encoder is None else encoder.size
    if config["network"] == "cnn":
        vector = shape.prefix + (0 if shape.condition == "inpainting" else shape.n_obs * features)
        network = ConditionalUNet(
            shape.row,
            vector,
            tuple(config["widths"]),
            config["kernel"],
            config["step_width"],
            config.get("groups", 8),  # converted policies may have other groups, and FiLM without a gain
            config.get("scale", True),
        )
    else:
        network = PolicyTransformer(
            shape.actions,
            shape.horizon,
            features + shape.prefix,
            shape.n_obs,
            config["width"],
            config["depth"],
            config["heads"],
            config["dropout"],
            config.get("dropout_inputs", 0.0),
            config.get("causal", True),
        )
    pictured = bool(shape.images) and config["observation"] != "pixels"
    return PolicyModel(shape, network, encoder, pictured=pictured)


def load_policy_model(folder: Path, device: torch.device, config: JsonObject | None = None) -> PolicyModel:
    """A model with the averaged weights of a checkpoint, or with packaged ones.

    Args:
        config: contents of its config.json, where they have been read.
    """
    model = policy_model(config or read_policy_config(folder))
    load_weights(model, folder, device)
    return model


def load_policy(
    folder: Path,
    device: str = "auto",
    seed: int = 0,
    settings: PolicySettings | None = None,
    **fields: object,
) -> Policy:
    """A `Policy` from a run folder, a checkpoint folder or the folder of a packaged model.

    Args:
        fields: fields of `PolicySettings`, in place of those of `settings`.
    Raises:
        ValueError: a number out of range, or a solver or a number of steps that does not suit these weights.
        TypeError: no such setting.
    """
    settings = replace(settings or PolicySettings(), **fields)
    config = read_policy_config(folder)
    settings = fitted(settings, config)
    model = fast_policy(load_policy_model(folder, find_device(device), config))
    return policy_of(model, settings, seed, clip=bool(config.get("clip", True)))


def fitted(settings: PolicySettings, config: JsonObject) -> PolicySettings:
    """The settings with the defaults of these weights: a distilled student samples by consistency in 2 steps.

    Raises:
        ValueError: a solver or a number of steps that does not suit the weights.
    """
    student = bool(config.get("distill", ""))
    steps = settings.sampling_steps or (2 if student else 10)
    solver = settings.solver or ("consistency" if student else "ddim")
    if (solver == "consistency") != student:
        raise ValueError(
            "this policy is a distilled student: give `solver=consistency` and `sampling_steps` of one to "
            "three"
            if student
            else "`solver=consistency` needs a distilled student: unveil train pusht --distill RUN"
        )
    if config["predicts"] != "flow" and steps > config["diffusion_steps"]:
        raise ValueError(
            f"`sampling_steps` must be at most the {config['diffusion_steps']} steps of training, got {steps}"
        )
    if student and config["distill_steps"] % steps:
        divisors = [k for k in range(1, config["distill_steps"] + 1) if config["distill_steps"] % k == 0]
        raise ValueError(
            f"`sampling_steps` must be one of {', '.join(map(str, divisors))} for this student, which was "
            f"trained at those times, got {steps}"
        )
    return replace(settings, solver=solver, sampling_steps=steps)


def policy_of(
    model: PolicyModel, settings: PolicySettings | None = None, seed: int = 0, *, clip: bool = True
) -> Policy:
    """The policy of a model and settings; by default DDIM in 10 steps.

    Args:
        seed: seed of the first environment's noise.
        clip: clamp every belief to [-1, 1], the limits of the data's actions.
    Raises:
        ValueError: a solver that does not suit the model, or more steps than its schedule has.
    """
    settings = settings or PolicySettings()
    if settings.solver == "euler" and model.shape.predicts != "flow":
        raise ValueError(
            "`solver=euler` is for policies of flow matching; this one predicts "
            f"{model.shape.predicts}: use ddim"
        )
    return Policy(
        model,
        SOLVERS[settings.solver or "ddim"](model.denoiser.schedule),
        settings.sampling_steps or 10,
        n_action=settings.n_action,
        temperature=settings.temperature,
        clip=clip,
        seed=seed,
    )

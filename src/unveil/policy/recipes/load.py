"""From a run, a checkpoint or packaged weights to a policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from unveil.runs.config import check_whole_numbers, read_config

if TYPE_CHECKING:
    import torch

    from unveil.policy.model import PolicyModel, PolicyShape
    from unveil.policy.networks.observation import Part
    from unveil.policy.policy import Policy


def check_policy(config: Mapping[str, Any]) -> None:
    """Refuse fields of which no policy can be built."""
    whole = (
        "observations",
        "actions",
        "n_obs",
        "horizon",
        "n_action",
        "diffusion_steps",
        "kernel",
        "step_width",
        "width",
        "depth",
        "heads",
    )
    check_whole_numbers(config, whole)
    if config["predicts"] not in ("eps", "x0", "v", "flow") or config["network"] not in (
        "cnn",
        "transformer",
    ):
        raise ValueError("predicts must be eps, x0, v or flow, and network cnn or transformer")
    known = {"keypoints", "state", "pixels", "other", "agent", "vertices", "picture"}
    if (
        not known.issuperset(str(config["observation"]).split("+"))
        or not 0.0 <= float(config["dropout"]) < 1.0
    ):
        raise ValueError(f"observation is {config['observation']!r} and dropout {config['dropout']!r}")
    if config["observation"] == "pixels":
        check_whole_numbers(config, ("crop", "image_width", "image_keypoints"))
    for part in config["parts"] if isinstance(config.get("parts"), list) else []:
        sizes = [*part["shape"], *(part["crop"] or [])]
        if not isinstance(part["key"], str) or not all(type(n) is int and 0 < n < 10_000 for n in sizes):
            raise ValueError(f"a part of observations is {part!r}")
        if part["encoder"] is not None and not (type(part["encoder"]) is int and len(part["shape"]) == 3):
            raise ValueError(f"a part of observations is {part!r}")
    if not (
        isinstance(config.get("prefix", 0), int)
        and 0 <= config.get("prefix", 0) <= config["horizon"] - config["n_obs"]
    ):
        raise ValueError(f"prefix is {config['prefix']!r}")
    widths = config["widths"]
    if (
        not widths
        or not all(isinstance(w, int) and 0 < w <= 8192 and w % 8 == 0 for w in widths)
        or len(widths) > 8
    ):
        raise ValueError(f"widths are {widths!r}")
    if config["network"] == "cnn" and any(width % config.get("groups", 8) for width in widths):
        raise ValueError(f"widths are {widths!r}, in {config['groups']} groups")


PICTURE = (3, 96, 96)  # channels, height, width


def parts_of(config: Mapping[str, Any]) -> tuple[Part, ...]:
    """Of an observation that holds images: ours is numbers and then a picture, that of others is as their config says. Else none."""
    from unveil.policy.networks.observation import Part

    if config["observation"] == "pixels":
        numbers = config["observations"] - math.prod(PICTURE)
        return Part("numbers", (numbers,)), Part("picture", PICTURE, 0, (config["crop"], config["crop"]))
    told = config.get("parts")
    if not isinstance(told, list):
        return ()
    found = [
        Part(it["key"], tuple(it["shape"]), it["encoder"], None if it["crop"] is None else tuple(it["crop"]))
        for it in cast(list[dict[str, Any]], told)
    ]
    return tuple(found) if any(part.encoder is not None for part in found) else ()


def told_of(config: Mapping[str, Any]) -> Literal["film", "tokens", "inpainting"]:
    """How a network is told observations, by its config; those from before there was a choice say it by the network."""
    condition = config.get("condition", "auto")
    return ("tokens" if config["network"] == "transformer" else "film") if condition == "auto" else condition


def shape_of(config: Mapping[str, Any]) -> PolicyShape:
    """The shape that a run's `config.json` describes."""
    from unveil.policy.model import PolicyShape

    return PolicyShape(
        config["observations"],
        config["actions"],
        config["n_obs"],
        config["horizon"],
        config["n_action"],
        config["diffusion_steps"],
        config["predicts"],
        told_of(config),
        config.get("prefix", 0),
        parts_of(config),
    )


def policy_model(config: Mapping[str, Any]) -> PolicyModel:
    """The untrained model of a run's config."""
    from unveil.policy.model import PolicyModel
    from unveil.policy.networks.conditional_unet1d import ConditionalUNet
    from unveil.policy.networks.observation import ObservationEncoder
    from unveil.policy.networks.transformer import PolicyTransformer

    shape, encoder = shape_of(config), None
    if shape.parts:
        encoder = ObservationEncoder(shape.parts, config["image_keypoints"], width=config["image_width"])
    seen = shape.observations if encoder is None else encoder.size
    if config["network"] == "cnn":
        told = shape.prefix + (0 if shape.told == "inpainting" else shape.n_obs * seen)
        film = config.get("groups", 8), config.get("scale", True)  # others' may differ
        network = ConditionalUNet(
            shape.row, told, tuple(config["widths"]), config["kernel"], config["step_width"], *film
        )
    else:
        size = (
            config["width"],
            config["depth"],
            config["heads"],
            config["dropout"],
            config.get("dropout_inputs", 0.0),
            config.get("causal", True),
        )
        network = PolicyTransformer(shape.actions, shape.horizon, seen + shape.prefix, shape.n_obs, *size)
    return PolicyModel(
        shape, network, encoder, pictured=bool(shape.parts) and config["observation"] != "pixels"
    )


def load_policy_model(folder: Path, device: torch.device) -> PolicyModel:
    """The averaged weights of a checkpoint, or the packaged ones."""
    from unveil.files.safetensors import read_tensors
    from unveil.runs.checkpoints import weights_file, with_weights

    model = policy_model(read_policy_config(folder))
    with_weights(model, read_tensors(weights_file(folder), model.state_dict(), halves=True), device)
    return model


def load_policy(
    folder: Path,
    device: str = "auto",
    seed: int = 0,
    solver: str | None = None,
    sampling_steps: int | None = None,
    n_action: int | None = None,
    temperature: float = 1.0,
) -> Policy:
    """A `Policy` from a run folder, a checkpoint folder or a zoo folder (`loading.py` finds it by name).

    Args:
        solver, sampling_steps: by default ddim in 10, or for a distilled student consistency in 2.
    Raises:
        ValueError: a solver that there is not, one that these weights are not for, or a number out of range.
    """
    from unveil.runs.device import find_device

    config = read_policy_config(folder)
    student = bool(config.get("distill", ""))
    solver = ("consistency" if student else "ddim") if solver is None else solver
    sampling_steps = (2 if student else 10) if sampling_steps is None else sampling_steps
    if (solver == "consistency") != student:
        raise ValueError(
            "this policy is a distilled student: give --solver consistency and one to three --sampling-steps"
            if student
            else "solver consistency needs a distilled student: unveil train pusht --distill RUN"
        )
    if config["predicts"] != "flow" and sampling_steps > config["diffusion_steps"]:
        raise ValueError(
            f"--sampling-steps must be at most {config['diffusion_steps']}, those of training, got {sampling_steps}"
        )
    if student and config["distill_steps"] % sampling_steps:
        calls = ", ".join(
            str(k) for k in range(1, config["distill_steps"] + 1) if config["distill_steps"] % k == 0
        )
        raise ValueError(
            f"--sampling-steps must be one of {calls} for this student, whose times are those, got {sampling_steps}"
        )
    model = quick(load_policy_model(folder, find_device(device)))
    return policy_with(
        model, seed, solver, sampling_steps, n_action, temperature, clip=bool(config.get("clip", True))
    )


def quick(model: PolicyModel) -> PolicyModel:
    """The model laid out for acting, where that is quicker: on the CPU."""
    from unveil.policy.model import fast_policy

    return fast_policy(model) if model.device.type == "cpu" else model


def policy_with(
    model: PolicyModel,
    seed: int = 0,
    solver: str = "ddim",
    sampling_steps: int = 10,
    n_action: int | None = None,
    temperature: float = 1.0,
    *,
    clip: bool = True,
) -> Policy:
    """The policy of a model and a solver's name.

    Raises:
        ValueError: a solver that there is not, or a number out of range.
    """
    from unveil.policy.policy import Policy
    from unveil.sampling.gaussian import DDIM, Ancestral, Consistency, DPMpp2M, Heun

    schedule = model.denoiser.schedule
    solvers: dict[str, Any] = {
        "ddim": DDIM(schedule),
        "euler": DDIM(schedule),
        "ddpm": Ancestral(schedule),
        "dpmpp": DPMpp2M(schedule),
        "heun": Heun(schedule),
        "consistency": Consistency(schedule),
    }
    if solver not in solvers:
        raise ValueError(f"unknown solver {solver!r}; solvers: {', '.join(solvers)}")
    if solver == "euler" and model.shape.predicts != "flow":
        raise ValueError(
            f"solver euler is for policies of flow matching; this one says {model.shape.predicts}: give ddim"
        )
    return Policy(
        model,
        solvers[solver],
        sampling_steps,
        n_action=n_action,
        temperature=temperature,
        clip=clip,
        seed=seed,
    )


def read_policy_config(folder: Path) -> dict[str, Any]:
    """config.json of a policy; raises as `read_config`."""
    return read_config(folder, "pusht", check_policy)

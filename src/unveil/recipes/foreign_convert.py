"""Other people's diffusion policies as ours: real-stanford's `.ckpt` and LeRobot's folders to a `Policy`, or to a run of ours."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unveil.apps.policy import Policy
    from unveil.apps.policy_model import PolicyModel
    from unveil.apps.trajectory_model import Normalization
    from unveil.network.observation import Part
    from unveil.weights.policies import Described, Linear, PolicyWeights

SCHEDULE = "squaredcos_cap_v2"  # the only one that ours is; both releases have it by default


def our_config(described: Described) -> dict[str, Any]:
    """What config.json of such a policy says, as a run's of ours does.

    Raises:
        ValueError: a policy that `Policy` cannot be, and why.
    """
    from unveil.weights.policies import UNetShape

    it = described
    if it.told == "inpainting":
        raise ValueError("it is told observations by inpainting, ours by FiLM or tokens")
    if it.schedule != SCHEDULE:
        raise ValueError(f"its schedule is {it.schedule[:40]}; only {SCHEDULE} acts here")
    if it.clip not in (None, 1.0):
        raise ValueError(f"it clips to {it.clip:g}; ours clips to 1 or not at all")
    if it.first != it.observed - 1:
        raise ValueError("it carries actions out from one step after the newest observation on (oa_step_convention false)")
    network = it.network
    config: dict[str, Any] = {
        "recipe": "pusht",
        "origin": it.release,
        "preset": "default",
        "observation": on_pusht(it.parts),
        "parts": [{"key": p.key, "shape": list(p.shape), "encoder": p.encoder, "crop": p.crop and list(p.crop)} for p in it.parts],
        "image_keypoints": it.keypoints,
        "image_width": 64,
        "observations": sum(math.prod(part.shape) for part in it.parts),
        "actions": network.features,
        "n_obs": it.observed,
        "horizon": it.horizon,
        "n_action": it.acted,
        "diffusion_steps": it.steps,
        "predicts": it.predicts,
        "clip": it.clip is not None,
    }
    cnn: dict[str, Any] = {"network": "cnn", "widths": [8], "kernel": 5, "step_width": 128, "groups": 8, "scale": True}
    other: dict[str, Any] = {"width": 192, "depth": 6, "heads": 4, "dropout": 0.0, "dropout_inputs": 0.0, "causal": True}
    if isinstance(network, UNetShape):
        cnn |= {"widths": list(network.widths), "kernel": network.kernel, "step_width": network.step}
        cnn |= {"groups": network.groups, "scale": network.scale}
        if any(width % 8 for width in network.widths):
            raise ValueError(f"its widths {network.widths} are no multiples of 8")
    else:
        cnn["network"] = "transformer"
        other |= {"width": network.width, "depth": network.depth, "heads": network.heads, "causal": network.causal}
        other |= {"dropout": network.dropout, "dropout_inputs": network.dropout_inputs}
    return config | cnn | other


def on_pusht(parts: tuple[Part, ...]) -> str:
    """What such an observation is on PushT, in the words of `seen` joined by "+"; "other" where PushT has no such thing."""
    known: dict[tuple[str, tuple[int, ...]], str] = {
        ("agent_pos", (2,)): "agent",
        ("observation.state", (2,)): "agent",
        ("observation.environment_state", (16,)): "vertices",
        ("obs", (20,)): "keypoints",
        ("obs", (5,)): "state",
    }
    names = [known.get((part.key, part.shape), "other") if part.encoder is None else _view(part) for part in parts]
    return "other" if "other" in names or len(set(names)) < len(names) else "+".join(names)


def _view(part: Part) -> str:
    return "picture" if part.shape == (3, 96, 96) else "other"


def model_of(read: PolicyWeights, raw: bool = False) -> PolicyModel:
    """Our model with these weights and this normaliser: the average where there is one, else the weights themselves.

    Raises:
        ValueError: as `our_config`, or a chunk that does not hold what is carried out.
    """
    import torch

    from unveil.apps.trajectory_model import Normalization
    from unveil.recipes.pusht import policy_model
    from unveil.weights.policies import Linear

    model = policy_model(our_config(read.described))
    weights = read.raw if raw or read.averaged is None else read.averaged
    _load(model.denoiser.network, weights, "network.")
    if model.encoder is not None:
        _load(model.encoder, weights, "observation.")
    with torch.no_grad():
        plain = [part for part in read.described.parts if part.encoder is None]
        _set(model.observed, [read.normalization[part.key] for part in plain], [part.shape[0] for part in plain])
        images = [part for part in read.described.parts if part.encoder is not None]
        for part, limits in zip(images, model.pictured or (), strict=True):
            assert isinstance(limits, Normalization)
            it = read.normalization[part.key]  # of values in [0, 1], ours are 0 .. 255
            _set(limits, [Linear(it.scale.flatten() / 255.0, it.offset.flatten())], [part.shape[0]])
        _set(model.acted, [read.normalization["action"]], [model.shape.actions])
    return model.eval()


def _load(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> None:
    module.load_state_dict({name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)})


def _set(normalization: Normalization, parts: list[Linear], sizes: list[int]) -> None:
    """Limits of which x * scale + offset makes -1 and 1: (-1 - offset) / scale and (1 - offset) / scale.

    Where a number never changed in LeRobot's data its range is 1e-8 there, and only the recorded value, which becomes -1, makes sense; here
    it becomes -1 too, and the others stay finite.
    """
    import torch

    if not parts:  # nothing but images is observed
        return
    scale = torch.cat([part.scale.expand(size) for part, size in zip(parts, sizes, strict=True)]).double()
    offset = torch.cat([part.offset.expand(size) for part, size in zip(parts, sizes, strict=True)]).double()
    low, high = (-1.0 - offset) / scale, (1.0 - offset) / scale
    constant = (high - low).abs() < 1e-7
    normalization.low.copy_(low)
    normalization.high.copy_(torch.where(constant, low + 2.0, high))


def load_foreign(
    path: Path,
    device: str = "auto",
    seed: int = 0,
    *,
    raw: bool = False,
    solver: str = "ddim",
    sampling_steps: int = 10,
    n_action: int | None = None,
    temperature: float = 1.0,
) -> Policy:
    """A `Policy` straight from a `.ckpt` of real-stanford/diffusion_policy or a folder of LeRobot; nothing in them is run.

    Args:
        raw: take the weights themselves, not their average.
        solver, sampling_steps, n_action, temperature: as of `load_policy`; theirs is solver="ddpm", sampling_steps=100.
    Raises:
        UnveilError: none there or several, one that cannot be read, or a policy that ours cannot be.
    """
    from unveil.recipes.device import find_device
    from unveil.recipes.pusht import policy_with, quick

    weights, where = _one(path)
    try:
        model = model_of(weights, raw)
    except ValueError as error:
        raise UnveilError(f"{where}: {error}") from error
    clip = weights.described.clip is not None
    return policy_with(quick(model.to(find_device(device))), seed, solver, sampling_steps, n_action, temperature, clip=clip)


def foreign_observation(path: Path) -> str:
    """What the policy at a path observes on PushT, as `on_pusht`.

    Raises:
        UnveilError: as `load_foreign`.
    """
    return on_pusht(_one(path)[0].described.parts)


def _one(path: Path) -> tuple[PolicyWeights, Path]:
    from unveil.recipes.foreign_policy import found, read

    paths = found(path)
    if len(paths) != 1:
        names = ", ".join(str(p.relative_to(path)) for p in paths[:4])
        raise UnveilError(f"{path} holds {len(paths)} policies{f' ({names})' if names else ''}; give the path of one")
    return read(paths[0]), paths[0]


def convert_policies(paths: list[Path], above: Path, out: Path, raw: bool) -> str:
    """Write runs of ours, one for each policy; returns what is printed.

    Raises:
        UnveilError: one cannot be read or used, or something else is where it would go; nothing is half-written.
    """
    from unveil.data.files import replacing
    from unveil.recipes.foreign_policy import read
    from unveil.recipes.original import check_free
    from unveil.training.checkpoint import save_checkpoint

    lines: list[str] = []
    for path in paths:
        weights = read(path)
        place = out if len(paths) == 1 else out / path.relative_to(above).with_suffix("")
        try:
            described = our_config(weights.described) | {"epoch": weights.notes.get("epoch", 0)}
            models = {"network": model_of(weights, raw=True), "ema": model_of(weights, raw)}
        except ValueError as error:
            raise UnveilError(f"{path}: {error}") from error
        check_free(place, described)
        step = weights.notes.get("global_step", 0)
        chosen = "raw" if raw or weights.averaged is None else "averaged"
        place.mkdir(parents=True, exist_ok=True)
        state = {"step": step, "weights": chosen, "origin": weights.described.release}
        save_checkpoint(place / f"checkpoint-{step}", {name: model.state_dict() for name, model in models.items()}, state)
        with replacing(place / "config.json") as partial:
            partial.write_text(json.dumps(described, indent=1) + "\n")
        lines.append(
            f"{place}: {weights.described.policy} of {weights.described.release}, {chosen} weights, {described['network']}; "
            f"sees {described['observations']} numbers ({described['observation']}), does {described['actions']}"
        )
        scored = described["observation"] != "other"
        use = f"unveil eval pusht --checkpoint {shlex.quote(str(place))}"
        python = f"in Python, policy = unveil.load({str(place)!r}); actions = policy.act(observations), (B, {described['observations']})"
        lines.append(f"next: {use if scored else python}")
    return "\n".join(lines)

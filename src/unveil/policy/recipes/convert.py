"""Other people's diffusion policies as ours: real-stanford's `.ckpt` and LeRobot's folders to a `Policy`, or to a run of ours."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unveil.network.normalization import Normalization
    from unveil.policy.model import PolicyModel
    from unveil.policy.networks.observation import Part
    from unveil.policy.policy import Policy
    from unveil.policy.weights.description import Described, Linear, PolicyWeights

SCHEDULE = "squaredcos_cap_v2"  # the only one that ours is; both releases have it by default


def our_config(described: Described) -> dict[str, Any]:
    """What config.json of such a policy says, as a run's of ours does.

    Raises:
        ValueError: a policy that `Policy` cannot be, and why.
    """
    from unveil.policy.weights.description import UNetShape

    it = described
    if it.told == "inpainting":
        raise ValueError("it is told observations by inpainting, ours by FiLM or tokens")
    if it.schedule != SCHEDULE:
        raise ValueError(f"its schedule is {it.schedule[:40]}; only {SCHEDULE} acts here")
    if it.clip not in (None, 1.0):
        raise ValueError(f"it clips to {it.clip:g}; ours clips to 1 or not at all")
    if it.first != it.observed - 1:
        raise ValueError(
            "it carries actions out from one step after the newest observation on (oa_step_convention false)"
        )
    network = it.network
    config: dict[str, Any] = {
        "recipe": "pusht",
        "origin": it.release,
        "preset": "default",
        "observation": on_pusht(it.parts),
        "parts": [
            {"key": p.key, "shape": list(p.shape), "encoder": p.encoder, "crop": p.crop and list(p.crop)}
            for p in it.parts
        ],
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
    cnn: dict[str, Any] = {
        "network": "cnn",
        "widths": [8],
        "kernel": 5,
        "step_width": 128,
        "groups": 8,
        "scale": True,
    }
    other: dict[str, Any] = {
        "width": 192,
        "depth": 6,
        "heads": 4,
        "dropout": 0.0,
        "dropout_inputs": 0.0,
        "causal": True,
    }
    if isinstance(network, UNetShape):
        cnn |= {"widths": list(network.widths), "kernel": network.kernel, "step_width": network.step}
        cnn |= {"groups": network.groups, "scale": network.scale}
        if any(width % 8 for width in network.widths):
            raise ValueError(f"its widths {network.widths} are no multiples of 8")
    else:
        cnn["network"] = "transformer"
        other |= {
            "width": network.width,
            "depth": network.depth,
            "heads": network.heads,
            "causal": network.causal,
        }
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
    names = [
        known.get((part.key, part.shape), "other") if part.encoder is None else _view(part) for part in parts
    ]
    return "other" if "other" in names or len(set(names)) < len(names) else "+".join(names)


def _view(part: Part) -> str:
    return "picture" if part.shape == (3, 96, 96) else "other"


def model_of(read: PolicyWeights, raw: bool = False) -> PolicyModel:
    """Our model with these weights and this normaliser: the average where there is one, else the weights themselves.

    Raises:
        ValueError: as `our_config`, or a chunk that does not hold what is carried out.
    """
    import torch

    from unveil.network.normalization import Normalization
    from unveil.policy.recipes.load import policy_model
    from unveil.policy.weights.description import Linear

    model = policy_model(our_config(read.described))
    weights = read.raw if raw or read.averaged is None else read.averaged
    _load(model.denoiser.network, weights, "network.")
    if model.encoder is not None:
        _load(model.encoder, weights, "observation.")
    with torch.no_grad():
        plain = [part for part in read.described.parts if part.encoder is None]
        _set(
            model.observed,
            [read.normalization[part.key] for part in plain],
            [part.shape[0] for part in plain],
        )
        images = [part for part in read.described.parts if part.encoder is not None]
        for part, limits in zip(images, model.pictured or (), strict=True):
            assert isinstance(limits, Normalization)
            it = read.normalization[part.key]  # of values in [0, 1], ours are 0 .. 255
            _set(limits, [Linear(it.scale.flatten() / 255.0, it.offset.flatten())], [part.shape[0]])
        _set(model.acted, [read.normalization["action"]], [model.shape.actions])
    return model.eval()


def _load(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> None:
    module.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )


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
    from unveil.policy.recipes.load import policy_with, quick
    from unveil.runs.device import find_device

    weights, where = _one(path)
    try:
        model = model_of(weights, raw)
    except ValueError as error:
        raise UnveilError(f"{where}: {error}") from error
    clip = weights.described.clip is not None
    return policy_with(
        quick(model.to(find_device(device))), seed, solver, sampling_steps, n_action, temperature, clip=clip
    )


def foreign_observation(path: Path) -> str:
    """What the policy at a path observes on PushT, as `on_pusht`.

    Raises:
        UnveilError: as `load_foreign`.
    """
    return on_pusht(_one(path)[0].described.parts)


def _one(path: Path) -> tuple[PolicyWeights, Path]:
    from unveil.policy.weights.releases import found, read

    paths = found(path)
    if len(paths) != 1:
        names = ", ".join(str(p.relative_to(path)) for p in paths[:4])
        raise UnveilError(
            f"{path} holds {len(paths)} policies{f' ({names})' if names else ''}; give the path of one"
        )
    return read(paths[0]), paths[0]


def convert_policies(paths: list[Path], above: Path, out: Path, raw: bool) -> str:
    """Write runs of ours, one for each policy; returns what is printed.

    Raises:
        UnveilError: one cannot be read or used, or something else is where it would go; nothing is half-written.
    """
    from unveil.policy.weights.releases import read
    from unveil.runs.checkpoints import write_converted

    lines: list[str] = []
    for path in paths:
        weights = read(path)
        place = out if len(paths) == 1 else out / path.relative_to(above).with_suffix("")
        try:
            described = our_config(weights.described) | {"epoch": weights.notes.get("epoch", 0)}
            models = {"network": model_of(weights, raw=True), "ema": model_of(weights, raw)}
        except ValueError as error:
            raise UnveilError(f"{path}: {error}") from error
        step = weights.notes.get("global_step", 0)
        chosen = "raw" if raw or weights.averaged is None else "averaged"
        state = {"step": step, "weights": chosen, "origin": weights.described.release}
        write_converted(place, f"checkpoint-{step}", described, models, state)
        lines.append(
            f"{place}: {weights.described.policy} of {weights.described.release}, {chosen} weights, {described['network']}; "
            f"sees {described['observations']} numbers ({described['observation']}), does {described['actions']}"
        )
        scored = described["observation"] != "other"
        use = f"unveil eval pusht --checkpoint {shlex.quote(str(place))}"
        python = f"in Python, policy = unveil.load({str(place)!r}); actions = policy.act(observations), (B, {described['observations']})"
        lines.append(f"next: {use if scored else python}")
    return "\n".join(lines)


def inspect_policies(paths: list[Path]) -> str:
    """A description of each; where there are several, what cannot be used is told in its place.

    Raises:
        UnveilError: there is one, and it cannot be read or used.
    """
    from unveil.policy.weights.releases import read

    lines: list[str] = []
    for path in paths:
        try:
            rows = _rows(read(path))
        except UnveilError as error:
            if len(paths) == 1:
                raise
            rows = [("usable", f"no: {str(error).removeprefix(f'{path}: ')}")]
        lines += [str(path), *(f"  {name:<13} {text}" for name, text in rows), ""]
    return "\n".join(lines).rstrip()


def _rows(read: PolicyWeights) -> list[tuple[str, str]]:
    from unveil.policy.weights.description import model_of

    it = read.described
    model = model_of(it)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.items()}
    schedule = f"{it.steps} steps, {it.schedule}, predicts {it.predicts}" + (
        "" if it.clip is None else f", clipped to {it.clip:g}"
    )
    notes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in read.notes.items())
    rows = [
        ("policy", f"{it.policy} of {it.release}"),
        ("network", f"{type(model['network']).__name__}, {sizes['network']:,} parameters"),
        ("shape", _shape(it)),
        (
            "chunks",
            f"{it.observed} observations in, {it.horizon} actions out, {it.acted} carried out from number {it.first} on",
        ),
        (
            "observations",
            ", ".join(f"{p.key} {'x'.join(map(str, p.shape))}{_seen(p.crop)}" for p in it.parts)
            + f", told by {it.told}",
        ),
        ("diffusion", f"{schedule}; sampled there by {it.sampler}"),
        (
            "weights",
            ("raw" if read.averaged is None else "raw and averaged (EMA)") + (f"; {notes}" if notes else ""),
        ),
        ("normaliser", f"of {', '.join(read.normalization)}, in the file"),
        ("usable", "yes: every tensor has a place in our networks"),
        ("as a policy", _acts(it)),
        ("on PushT", _scored(it)),
    ]
    if sizes["observation"]:
        count = len({part.encoder for part in it.parts} - {None})
        rows.insert(2, ("images", f"{count} x ResNet-18, {sizes['observation']:,} parameters in all"))
    return rows


def _acts(it: Described) -> str:
    try:
        our_config(it)
    except ValueError as error:
        return f"no: {error}"
    return "yes: unveil.load(PATH), unveil weights convert PATH OUT"


def _scored(it: Described) -> str:
    seen = on_pusht(it.parts)
    return (
        "no: PushT has no such observations"
        if seen == "other"
        else f"{seen}: unveil eval pusht --checkpoint PATH"
    )


def _seen(crop: tuple[int, int] | None) -> str:
    return "" if crop is None else f" (cut to {crop[0]}x{crop[1]})"


def _shape(it: Described) -> str:
    from unveil.policy.weights.description import UNetShape

    n = it.network
    if isinstance(n, UNetShape):
        film = "gain and shift" if n.scale else "shift alone"
        return f"widths {', '.join(map(str, n.widths))}, kernel {n.kernel}, {n.groups} groups, step embedding {n.step}, FiLM with {film}"
    return f"{n.depth} layers, {n.heads} heads, width {n.width}, {'causal' if n.causal else 'not causal'}, dropout {n.dropout:g}"

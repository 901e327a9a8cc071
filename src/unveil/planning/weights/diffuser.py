"""Checkpoints of jannerm/diffuser: their tensors under our names, and their settings, from tensors and
configs, which must agree.

Both releases are read: `main` (locomotion; each level has an attention or a placeholder for it) and `maze2d`
(without placeholders). The tensors get the names of `TrajectoryModel` or `ValueModel`, without the
normalisation, which jannerm/diffuser computes from its data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from unveil.planning.networks.temporal_unet import TemporalUNet, ValueNetwork
from unveil.process.schedule import cosine_betas

SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
LOSS_WEIGHTS = "loss_fn.weights"
CLASSES = {"diffusion": "TemporalUnet", "values": "ValueFunction"}


@dataclass(frozen=True)
class Component:
    """A `*_config.pkl` of jannerm/diffuser: a class, and its arguments."""

    name: str
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class Original:
    """The settings of a checkpoint of jannerm/diffuser; the first nine determine the tensors of our model.

    Args:
        normalizer: class name of the normaliser.
        dataset: gym id of the training data.
        loader: class that drew training windows; with `GoalDataset` the last observation is known too.
        clip_denoised: whether the denoiser's estimate is clipped to [-1, 1] while sampling.
        discount, termination_penalty, normed: settings of a value's targets; normed targets are scaled to
            [-1, 1], by limits that are not stored.
    """

    kind: Literal["diffusion", "values"]
    horizon: int
    diffusion_steps: int
    actions: int
    observations: int
    width: int
    multiples: tuple[int, ...]
    attention: bool
    predicts: Literal["x0", "eps"]
    normalizer: str | None
    dataset: str | None
    loader: str | None
    clip_denoised: bool
    discount: float | None = None
    termination_penalty: float | None = None
    normed: bool = False


def described(tensors: Mapping[str, Tensor], configs: Mapping[str, Component]) -> Original:
    """The settings of a `GaussianDiffusion` or `ValueDiffusion`.

    Args:
        tensors: its state dict.
        configs: its configs, by the first word of their file names.

    Raises:
        ValueError: no such network, or tensors and configs disagree.
    """
    kind = _kind(tensors, configs)
    width, features, multiples, attention = _network(tensors, kind)
    steps = len(_vector(tensors, "betas"))
    observations = _whole(configs, {"diffusion": "observation_dim", "model": "cond_dim"})
    rest = None if observations is None else features - observations
    actions = _whole(configs, {"diffusion": "action_dim"}, default=rest)
    horizon = _whole(configs, {"diffusion": "horizon", "model": "horizon", "dataset": "horizon"})
    if LOSS_WEIGHTS in tensors:
        rows = tuple(tensors[LOSS_WEIGHTS].shape)
        if len(rows) != 2 or rows[1] != features or horizon not in (None, rows[0]):
            raise ValueError(
                f"{LOSS_WEIGHTS} has shape {rows}, but horizon and features are {horizon} and {features}"
            )
        horizon = rows[0]
    if horizon is None or observations is None or actions is None:
        raise ValueError(
            "horizon and sizes of actions and observations are in diffusion_config.pkl, which is missing"
        )
    if actions + observations != features or actions < 0 or observations < 1:
        raise ValueError(
            f"the configs say {actions} actions and {observations} observations, the tensors have "
            f"{features} features"
        )
    transition = _whole(configs, {"model": "transition_dim", "diffusion": "transition_dim"})
    for configured, name, stored in (
        (_whole(configs, {"diffusion": "n_timesteps"}), "n_timesteps", steps),
        (_whole(configs, {"diffusion": "timesteps"}), "timesteps", steps),
        (transition, "transition_dim", features),
        (_whole(configs, {"model": "dim"}), "dim", width),
        (_argument(configs, "model", "dim_mults"), "dim_mults", multiples),
        (_argument(configs, "model", "attention"), "attention", attention),
    ):
        value = tuple(configured) if isinstance(configured, list) else configured
        if value not in (None, stored):
            raise ValueError(f"the configs say {name} = {str(configured)[:60]}, the tensors {stored}")
    eps = kind == "diffusion" and _flag(configs, "diffusion", "predict_epsilon", default=True)
    return Original(
        kind,
        horizon,
        steps,
        actions,
        observations,
        width,
        multiples,
        attention,
        "eps" if eps else "x0",
        _word(_argument(configs, "dataset", "normalizer")),
        _word(_argument(configs, "dataset", "env")),
        configs["dataset"].name[:120] if "dataset" in configs else None,
        _flag(configs, "diffusion", "clip_denoised", default=False),
        _number(configs, "discount"),
        _number(configs, "termination_penalty"),
        _flag(configs, "dataset", "normed", default=False),
    )


def renamed(tensors: Mapping[str, Tensor], original: Original) -> dict[str, Tensor]:
    """All parameters under our names, in float32. The buffers of the schedule must equal ours.

    Raises:
        ValueError: a tensor is missing, foreign, of another shape or not finite, or the schedule is another
            one.
    """
    spaced = original.attention or any(name.startswith("model.downs.0.3.") for name in tensors)
    table = names(original, spaced)
    buffers = {*SCHEDULE, LOSS_WEIGHTS} if LOSS_WEIGHTS in tensors else set(SCHEDULE)
    wanted = table.keys() | buffers
    missing, foreign = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
    if missing or foreign:
        raise ValueError(
            f"{len(missing)} tensors are missing {missing[:2]}, {len(foreign)} are foreign "
            f"{[f[:60] for f in foreign[:2]]}"
        )
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} holds numbers that are not finite")
    _check_schedule(tensors, original.diffusion_steps)
    found = {ours: tensors[theirs] for theirs, ours in table.items()}
    prefix = "denoiser.network." if original.kind == "diffusion" else "network."
    for name, shape in _shapes(original).items():
        value = found[prefix + name]
        if (
            ".norm." in name and value.ndim == 3 and value.shape[::2] == (1, 1)
        ):  # the original's norm over channels: (1, C, 1)
            found[prefix + name] = value = value[0, :, 0]
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, needed is {shape}{_head(original, name)}"
            )
    return {name: value.to(torch.float32) for name, value in found.items()}


def names(original: Original, places: bool = True) -> dict[str, str]:
    """Parameter names of jannerm/diffuser -> our names.

    Args:
        places: whether each level has a placeholder for attention before its resampling, as in `main`; in
            `maze2d` it has none.
    """
    resample = 3 if places else 2
    levels, last = len(original.multiples), len(original.multiples) - 1
    table = _wholes({"time_mlp.1": "time.0", "time_mlp.3": "time.2"})
    if original.kind == "values":
        blocks = [(f"blocks.{k}.{i}", f"levels.{k}.{i}") for k in range(levels) for i in range(2)]
        blocks += [("mid_block1", f"levels.{levels}.0"), ("mid_block2", f"levels.{levels + 1}.0")]
        table |= _wholes({f"blocks.{k}.2.conv": f"halvings.{k}" for k in range(levels)})
        table |= _wholes({f"mid_down{i + 1}.conv": f"halvings.{levels + i}" for i in range(2)})
        table |= _wholes({"final_block.0": "head.0", "final_block.2": "head.2"})
    else:
        blocks = [(f"downs.{k}.{i}", f"down.{k}.{i}") for k in range(levels) for i in range(2)]
        blocks += [(f"mid_block{i + 1}", f"middle.{i}") for i in range(2)]
        blocks += [(f"ups.{k}.{i}", f"up.{k}.{i}") for k in range(last) for i in range(2)]
        table |= _wholes({f"downs.{k}.{resample}.conv": f"halvings.{k}" for k in range(last)})
        table |= _wholes({f"ups.{k}.{resample}.conv": f"doublings.{k}" for k in range(last)})
        table |= _conv("final_conv.0", "final.0") | _wholes({"final_conv.1": "final.1"})
        if original.attention:
            down, up = ([f"{part}.{k}.2" for k in range(n)] for part, n in (("downs", levels), ("ups", last)))
            for i, site in enumerate([*down, "mid_attn", *up]):
                theirs, mine = f"{site}.fn", f"attention.{i}"
                table |= _wholes({f"{theirs}.fn.to_out": f"{mine}.merge"})
                table |= {f"{theirs}.fn.to_qkv.weight": f"{mine}.qkv.weight"}
                table |= {
                    f"{theirs}.norm.{a}": f"{mine}.norm.{b}" for a, b in (("g", "weight"), ("b", "bias"))
                }
    ours = _shapes(original)
    for theirs, mine in blocks:
        table |= _conv(f"{theirs}.blocks.0", f"{mine}.first") | _conv(f"{theirs}.blocks.1", f"{mine}.second")
        table |= _wholes({f"{theirs}.time_mlp.1": f"{mine}.about"})
        if f"{mine}.skip.weight" in ours:  # only if the number of channels changes
            table |= _wholes({f"{theirs}.residual_conv": f"{mine}.skip"})
    prefix = "denoiser.network." if original.kind == "diffusion" else "network."
    return {f"model.{theirs}": prefix + mine for theirs, mine in table.items()}


def parameters(original: Original) -> int:
    """The number of parameters of the network."""
    return sum(torch.Size(shape).numel() for shape in _shapes(original).values())


def _wholes(modules: Mapping[str, str]) -> dict[str, str]:
    return {f"{a}.{part}": f"{b}.{part}" for a, b in modules.items() for part in ("weight", "bias")}


def _conv(theirs: str, mine: str) -> dict[str, str]:
    return _wholes({f"{theirs}.block.0": f"{mine}.conv", f"{theirs}.block.2": f"{mine}.norm"})


@cache
def _shapes(original: Original) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of our network, without allocating them."""
    features = original.actions + original.observations
    try:
        with torch.device("meta"):
            sizes, attention = (features, original.width, original.multiples), original.attention
            values = original.kind == "values"
            network = ValueNetwork(*sizes) if values else TemporalUNet(*sizes, attention=attention)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"a network {original.width} wide with multiples {original.multiples} cannot be ({error})"
        ) from error
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _kind(tensors: Mapping[str, Tensor], configs: Mapping[str, Component]) -> Literal["diffusion", "values"]:
    if "model.final_conv.1.weight" in tensors:
        kind = "diffusion"
    elif "model.final_block.2.weight" in tensors:
        kind = "values"
    else:
        raise ValueError(
            "neither a TemporalUnet nor a ValueFunction of jannerm/diffuser (no model.final_conv or "
            "model.final_block)"
        )
    if "model" in configs and configs["model"].name != CLASSES[kind]:
        raise ValueError(
            f"model_config.pkl says {configs['model'].name[:60]}, but the tensors are those of a "
            f"{CLASSES[kind]}"
        )
    return kind


def _network(
    tensors: Mapping[str, Tensor], kind: Literal["diffusion", "values"]
) -> tuple[int, int, tuple[int, ...], bool]:
    """Width, features, multiples and attention, from the shapes of tensors."""
    levels = "model.downs" if kind == "diffusion" else "model.blocks"
    width, channels = len(_vector(tensors, "model.time_mlp.3.bias")), list[int]()
    while (name := f"{levels}.{len(channels)}.0.blocks.0.block.0.bias") in tensors:
        channels.append(len(_vector(tensors, name)))
    first = tensors.get(f"{levels}.0.0.blocks.0.block.0.weight")
    sound = 0 < len(channels) <= 12 and width >= 4 and all(c >= width and c % width == 0 for c in channels)
    if not sound or first is None or first.ndim != 3:
        raise ValueError(f"{width} wide with channels {channels[:12]}: not a network of jannerm/diffuser")
    attention = "model.mid_attn.fn.fn.to_qkv.weight" in tensors
    return width, first.shape[1], tuple(c // width for c in channels), attention


def _check_schedule(tensors: Mapping[str, Tensor], steps: int) -> None:
    for name in SCHEDULE:
        if tensors[name].shape != (steps,):
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, needed is ({steps},)")
    betas = cosine_betas(steps)
    for name, ours in (("betas", betas), ("alphas_cumprod", (1.0 - betas).cumprod(0))):
        if not torch.allclose(tensors[name].double(), ours, rtol=1e-4, atol=1e-6):
            raise ValueError(f"{name} is not the cosine schedule in {steps} steps")


def _head(original: Original, name: str) -> str:
    if original.kind == "values" and name.startswith("head.0"):
        return f" (at horizon {original.horizon} it flattens several positions, which is not supported)"
    return ""


def _vector(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors or tensors[name].ndim != 1 or not len(tensors[name]):
        raise ValueError(f"{name} is missing, or not a vector")
    return tensors[name]


def _argument(configs: Mapping[str, Component], config: str, name: str) -> object:
    return configs[config].arguments.get(name) if config in configs else None


def _word(value: object) -> str | None:
    found = getattr(value, "name", value)  # a class instead of its name
    return found[:120] if isinstance(found, str) else None


def _flag(configs: Mapping[str, Component], config: str, name: str, default: bool) -> bool:
    value = _argument(configs, config, name)
    return default if value is None else value is True


def _number(configs: Mapping[str, Component], name: str) -> float | None:
    value = _argument(configs, "dataset", name)
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else None


def _whole(
    configs: Mapping[str, Component], names: Mapping[str, str], default: int | None = None
) -> int | None:
    """An integer that several configs may contain; they must agree.

    Args:
        names: config -> name of its argument.
    """
    arguments = {f"{c}_config.pkl: {name}": _argument(configs, c, name) for c, name in names.items()}
    for name, value in arguments.items():
        if value is not None and (type(value) is not int or not 0 <= value < 10**6):
            raise ValueError(f"{name} is no number of this size")
    present = [(name, value) for name, value in arguments.items() if isinstance(value, int)]
    for (a, x), (b, y) in pairwise(present):
        if x != y:
            raise ValueError(f"{a} = {x}, but {b} = {y}")
    return present[0][1] if present else default

"""The config.json of a run, a checkpoint or packaged weights: read, and checked before anything is built from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unveil.errors import UnveilError


def read_recipe(folder: Path) -> str:
    """The recipe that a checkpoint was trained by; "" if it does not say."""
    try:
        return str(json.loads(_config_file(folder).read_text(encoding="utf-8-sig")).get("recipe", ""))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def _config_file(folder: Path) -> Path:
    return folder / "config.json" if (folder / "config.json").is_file() else folder.parent / "config.json"


def read_config(folder: Path, recipe: str) -> dict[str, Any]:
    """config.json of a zoo folder, or of the run that a checkpoint belongs to.

    Raises:
        UnveilError: missing, damaged, or of another recipe.
    """
    file = _config_file(folder)
    try:
        config = json.loads(file.read_text(encoding="utf-8-sig"))
        if config["recipe"] != recipe:
            raise UnveilError(f"{folder} was trained by recipe {config['recipe']!r}, but {recipe!r} is needed")
        check = {
            "maze": _check_maze,
            "locomotion": _check_trajectories,
            "value": _check_trajectories,
            "pusht": _check_policy,
            "text": _check_text,
            "image": _check_image,
            "classifier": _check_classifier,
        }[recipe]
        check(config)
        return config
    except OSError as error:
        raise UnveilError(f"{folder}: no config.json beside these weights; is this an unveil checkpoint?") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UnveilError(f"{file}: not a config of unveil ({error})") from error


def _check_maze(config: Mapping[str, Any]) -> None:
    _check_whole(config, ("stride", "patch", "width", "depth", "heads", "longest", "episode_steps"))
    if config["preset"] not in ("tiny", "default", "paper") or (config["preset"] == "paper" and not int(config["diffusion_steps"]) > 0):
        raise ValueError(f"preset is {config['preset']!r}, or diffusion_steps are missing")
    if config["preset"] == "paper" and "multiples" in config:
        _check_network(config)
    if config["width"] % (2 * config["heads"]) or not all(isinstance(row, str) for row in config["rows"]):
        raise ValueError("its width, heads or rows do not fit")


def _check_trajectories(config: Mapping[str, Any]) -> None:
    _check_whole(config, ("horizon", "diffusion_steps", "actions", "observations", "width"))
    _check_network(config)
    if config.get("model", "unet") == "transformer":
        _check_whole(config, ("depth", "heads", "patch"))
        if config["width"] % (2 * config["heads"]):
            raise ValueError("its width and heads do not fit")
    if "value" in config:
        _check_trajectories(config["value"])


def _check_network(config: Mapping[str, Any]) -> None:
    if config["predicts"] not in ("x0", "eps") or not isinstance(config["attention"], bool):
        raise ValueError("predicts must be x0 or eps, and attention true or false")
    multiples = config["multiples"]
    if not multiples or not all(isinstance(m, int) and 0 < m <= 64 for m in multiples) or len(multiples) > 8:
        raise ValueError(f"multiples are {multiples!r}")
    if config["width"] % 8 or config["width"] > 4096:
        raise ValueError(f"width is {config['width']}")


def _check_policy(config: Mapping[str, Any]) -> None:
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
    _check_whole(config, whole)
    if config["predicts"] not in ("eps", "x0", "v", "flow") or config["network"] not in ("cnn", "transformer"):
        raise ValueError("predicts must be eps, x0, v or flow, and network cnn or transformer")
    known = {"keypoints", "state", "pixels", "other", "agent", "vertices", "picture"}
    if not known.issuperset(str(config["observation"]).split("+")) or not 0.0 <= float(config["dropout"]) < 1.0:
        raise ValueError(f"observation is {config['observation']!r} and dropout {config['dropout']!r}")
    if config["observation"] == "pixels":
        _check_whole(config, ("crop", "image_width", "image_keypoints"))
    for part in config["parts"] if isinstance(config.get("parts"), list) else []:
        sizes = [*part["shape"], *(part["crop"] or [])]
        if not isinstance(part["key"], str) or not all(type(n) is int and 0 < n < 10_000 for n in sizes):
            raise ValueError(f"a part of observations is {part!r}")
        if part["encoder"] is not None and not (type(part["encoder"]) is int and len(part["shape"]) == 3):
            raise ValueError(f"a part of observations is {part!r}")
    if not (isinstance(config.get("prefix", 0), int) and 0 <= config.get("prefix", 0) <= config["horizon"] - config["n_obs"]):
        raise ValueError(f"prefix is {config['prefix']!r}")
    widths = config["widths"]
    if not widths or not all(isinstance(w, int) and 0 < w <= 8192 and w % 8 == 0 for w in widths) or len(widths) > 8:
        raise ValueError(f"widths are {widths!r}")
    if config["network"] == "cnn" and any(width % config.get("groups", 8) for width in widths):
        raise ValueError(f"widths are {widths!r}, in {config['groups']} groups")


def _check_text(config: Mapping[str, Any]) -> None:
    _check_whole(config, ("context", "width", "depth", "heads"))
    if not (isinstance(config["vocabulary"], int) and 3 <= config["vocabulary"] < 2**24):
        raise ValueError(f"vocabulary is {config['vocabulary']!r}")
    if not all(isinstance(config[name], int) and 0 <= config[name] < 10**6 for name in ("kv_heads", "hidden")):
        raise ValueError("kv_heads or hidden are not whole numbers")
    if config["schedule"] not in ("linear", "cosine") or not isinstance(config["tied"], bool) or not float(config["theta"]) > 0.0:
        raise ValueError("its schedule, tied or theta do not fit")
    if config["width"] % (2 * config["heads"]) or config["heads"] % (config["kv_heads"] or config["heads"]):
        raise ValueError("its width, heads and kv_heads do not fit")
    if config.get("lora_rank") and not isinstance(config.get("checkpoint"), str):
        raise ValueError("it is LoRA weights, but does not say of what (checkpoint)")
    if not isinstance(config.get("forbid_mask", True), bool) or not 0.0 < float(config.get("epsilon", 1e-5)) < 1.0:
        raise ValueError("its forbid_mask or epsilon do not fit")
    block, causal = config.get("block", 0), config.get("causal", False)
    if not (isinstance(block, int) and 0 <= block < 100_000 and isinstance(causal, bool)) or (block and causal):
        raise ValueError("its block or causal do not fit")
    if not isinstance(config["tokenizer"], str):
        raise ValueError("its tokenizer is not named")


IMAGE_OPTIONS: dict[str, type] = {  # of others' U-Nets
    "norm_epsilon": float,
    "heads": int,
    "time_width": int,
    "cosine_first": bool,
    "inclusive": bool,
    "pad_after": bool,
    "middle_attention": bool,
    "middle_norm": bool,
}
CLASSIFIER_OPTIONS = {"norm_epsilon", "time_width", "cosine_first", "inclusive"}
IMAGE_LINEAR: dict[str, type] = {"width": int, "sizes": list, "heads": list, "head_width": list, "full": list}


def _check_image(config: Mapping[str, Any]) -> None:
    _check_whole(config, ("size", "channels", "width", "blocks", "groups", "stem", "diffusion_steps"))
    if config["schedule"] not in ("linear", "cosine", "betas", "flow", "karras") or config["predicts"] not in (
        "eps",
        "x0",
        "v",
        "flow",
        "edm",
    ):
        raise ValueError(f"schedule is {config['schedule']!r} and predicts {config['predicts']!r}")
    if not all(isinstance(config[name], bool) for name in ("null", "scale_shift", "big_gan", "learned_variance")):
        raise ValueError("null, scale_shift, big_gan and learned_variance must be true or false")
    multiples, names = config["multiples"], config["names"]
    if not multiples or not all(isinstance(m, int) and 0 < m <= 64 for m in multiples) or len(multiples) > 8 or config["size"] > 8192:
        raise ValueError(f"multiples are {multiples!r} and size {config['size']!r}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > 100_000:
        raise ValueError("names must be a list of words")
    if not isinstance(config.get("upsample", 1), int) or not isinstance(config.get("clean", False), bool):
        raise ValueError("upsample must be a whole number and clean true or false")
    if not all(isinstance(side, int) for side in config["attention"]) or not isinstance(config["head_width"], int):
        raise ValueError("attention and head_width must be whole numbers")
    if not 0.0 <= float(config["dropout"]) < 1.0 or not float(config["sigma_data"]) > 0.0:
        raise ValueError(f"dropout is {config['dropout']!r} and sigma_data {config['sigma_data']!r}")
    betas = config.get("betas", [])
    if len(betas) > 100_000 or not all(0.0 < float(beta) < 1.0 for beta in betas) or not float(config.get("time_scale", 1.0)) > 0.0:
        raise ValueError("betas must lie between 0 and 1, and time_scale above 0")
    for part, known in (("options", IMAGE_OPTIONS), ("linear", IMAGE_LINEAR)):
        given = config.get(part, {})
        if set(given) - known.keys() or not all(isinstance(given[name], known[name]) for name in given):
            raise ValueError(f"{part} are {str(given)[:80]}")


def _check_classifier(config: Mapping[str, Any]) -> None:
    _check_image(config)
    if set(config.get("options", {})) - CLASSIFIER_OPTIONS or config.get("counted_from", 1) not in (0, 1):
        raise ValueError(f"options are {str(config.get('options'))[:80]} and counted_from {config.get('counted_from')!r}")


def _check_whole(config: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if not (isinstance(config[name], int) and 0 < config[name] < 100_000):
            raise ValueError(f"{name} is {config[name]!r}")

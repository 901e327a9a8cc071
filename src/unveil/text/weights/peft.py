"""LoRA weights in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

Our `blocks.0.q_proj.lora_A.weight` is PEFT's
`base_model.model.model.transformer.blocks.0.q_proj.lora_A.weight`: its name in an adapter of LLaDA's own
class.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save
from torch import Tensor

from unveil.checks import Bounds, whole, within
from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.safetensors import read_tensors
from unveil.network.lora import LoRA

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.model.transformer."
_PLAIN: dict[str, object] = {
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
}


def write_adapter(folder: Path, lora: LoRA, tensors: Mapping[str, Tensor], base: str) -> None:
    """Write an adapter as PEFT does.

    Args:
        tensors: under our names, ".../lora_A.weight" (rank, in) and ".../lora_B.weight" (out, rank).
        base: path or name of the model that it adapts.
    """
    described = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        # a pattern, because the output layer has the name of a layer of the blocks
        "target_modules": rf".*\.blocks\.\d+\.({'|'.join(lora.targets)})",
        "lora_dropout": 0.0,
        "inference_mode": True,
        **_PLAIN,
    }
    named = {
        f"{PREFIX}{name}": value.detach().to("cpu", torch.float32).contiguous()
        for name, value in tensors.items()
    }
    with replacing(folder / WEIGHTS) as partial:
        partial.write_bytes(save(named, {"format": "pt"}))
    with replacing(folder / CONFIG) as partial:
        partial.write_text(json.dumps(described, indent=1) + "\n")


def read_adapter(folder: Path) -> tuple[LoRA, dict[str, Tensor]]:
    """An adapter of PEFT or ours: its LoRA settings, and its matrices under our names.

    The adapted layers are those whose matrices the file holds; `target_modules`, which may be a pattern, is
    not used.

    Raises:
        UnveilError: a file is missing or damaged, or another kind of adapter (biases, rank-stabilised, DoRA,
            ranks by pattern).
    """
    try:
        loaded = json.loads((folder / CONFIG).read_text(encoding="utf-8-sig"))
        config = cast(dict[str, object], loaded) if isinstance(loaded, dict) else {}
        if config.get("peft_type") != "LORA":
            raise ValueError("its peft_type is not LORA")
        for name, value in _PLAIN.items():
            if (config.get(name) or value) != value:
                raise ValueError(f"{name} is {str(config[name])[:40]}; {value} is known")
        if config.get("rank_pattern") or config.get("alpha_pattern"):
            raise ValueError("it has other ranks for some maps (rank_pattern, alpha_pattern)")
        rank = whole("r", config.get("r"), 1, 10_000)
        alpha = within("lora_alpha", config.get("lora_alpha"), Bounds(0, 1e6, above=True))
    except OSError as error:
        raise UnveilError(f"{folder}: no adapter here; needed are {CONFIG} and {WEIGHTS}") from error
    except (ValueError, RecursionError) as error:
        raise UnveilError(f"{folder / CONFIG}: an adapter that cannot be used: {error}") from error
    tensors: dict[str, Tensor] = {}
    file = folder / WEIGHTS
    if not file.is_file():
        raise UnveilError(f"{folder}: no {WEIGHTS} beside {CONFIG}; download it into this folder")
    for name, value in read_tensors(file).items():
        if not name.startswith(PREFIX) or not name.endswith((".lora_A.weight", ".lora_B.weight")):
            raise UnveilError(
                f"{file}: {name[:80]} is no LoRA matrix of a text model (names begin with {PREFIX})"
            )
        if not value.dtype.is_floating_point or not bool(value.isfinite().all()):
            raise UnveilError(
                f"{file}: {name[:80]} holds numbers that are not finite, or no numbers; download it again"
            )
        tensors[name.removeprefix(PREFIX)] = value.to(torch.float32)
    targets = sorted({name.split(".")[-3] for name in tensors})
    if not targets:
        raise UnveilError(f"{file}: there is nothing in it")
    return LoRA(rank, alpha, tuple(targets)), tensors


def fitting(folder: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices, after a check against those of the model.

    Raises:
        UnveilError: other names or sizes.
    """
    if strange := sorted(set(tensors) ^ set(wanted)):
        raise UnveilError(
            f"{folder}: an adapter for another model ({strange[0]} is "
            f"{'foreign' if strange[0] in tensors else 'missing'})"
        )
    for name, value in wanted.items():
        if tensors[name].shape != value.shape:
            raise UnveilError(
                f"{folder}: for another model: {name} is {tuple(tensors[name].shape)}, needed is "
                f"{tuple(value.shape)}"
            )
    return dict(tensors)

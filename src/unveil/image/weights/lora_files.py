"""Write LoRA files of Stable Diffusion that other programs load: kohya's, and diffusers' folder."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from unveil.files.atomic import MADE, output
from unveil.image.adapters import PARTS, Part
from unveil.image.weights.lora import DIFFUSERS, LoraWeights
from unveil.image.weights.lora_names import KOHYA
from unveil.network.lora import LowRank

VERSIONS = {768: "sd_v1", 1024: "sd_v2"}
"""kohya's names of bases by the width of their text."""


def write_kohya(
    file: Path, lora: LoraWeights, notes: Mapping[str, str] | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Write kohya's form: `lora_unet_...lora_down.weight`, `.lora_up.weight` and `.alpha`.

    Args:
        notes: further metadata, by kohya's names such as `ss_num_epochs`.
        dtype: of the matrices; kohya's scripts write float16 by default.
    Raises:
        UnveilError: the file cannot be written, or another program made it.
    """
    tensors: dict[str, Tensor] = {}
    for part, path, update in _updates(lora):
        name = KOHYA[part] + path.replace(".", "_")
        tensors[f"{name}.lora_down.weight"] = _stored(update.down, dtype)
        tensors[f"{name}.lora_up.weight"] = _stored(update.up, dtype)
        tensors[f"{name}.alpha"] = torch.tensor(update.alpha, dtype=torch.float32)
    _write(file, tensors, _described(lora) | dict(notes or {}))


def write_diffusers(folder: Path, lora: LoraWeights, dtype: torch.dtype = torch.float32) -> Path:
    """Write `pytorch_lora_weights.safetensors`, as `load_lora_weights` of diffusers reads it.

    Such a file loses alpha unless its reader knows the config in its metadata; so the scale alpha / rank is
    multiplied into B, and alpha is the rank.

    Returns:
        The file.
    Raises:
        UnveilError: the file cannot be written, or another program made it.
    """
    tensors: dict[str, Tensor] = {}
    for part, path, update in _updates(lora):
        tensors[f"{part}.{path}.lora_A.weight"] = _stored(update.down, dtype)
        tensors[f"{part}.{path}.lora_B.weight"] = _stored(update.up.double() * update.scale, dtype)
    _write(folder / DIFFUSERS, tensors, {})
    return folder / DIFFUSERS


def _updates(lora: LoraWeights) -> Iterator[tuple[Part, str, LowRank]]:
    return ((part, path, update) for part in PARTS for path, update in lora.part(part).items())


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to("cpu", dtype, copy=True).contiguous()


def _write(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    with output(file) as partial:
        partial.write_bytes(save(dict(tensors), {"format": "pt", "unveil": MADE, **metadata}))


def _described(lora: LoraWeights) -> dict[str, str]:
    """kohya's metadata: ranks and alphas of linear layers and 1 x 1 convolutions, and of larger ones."""
    found: dict[bool, set[tuple[int, float]]] = {False: set(), True: set()}
    for _, _, update in _updates(lora):
        found[update.down.shape[2:] not in ((), (1, 1))].add((update.rank, update.alpha))
    said = {"ss_network_module": "networks.lora"}
    plain, convolutions = (sorted(found[large]) for large in (False, True))
    if len(plain) == 1:
        said |= {"ss_network_dim": str(plain[0][0]), "ss_network_alpha": str(plain[0][1])}
    if len(convolutions) == 1:
        rank, alpha = convolutions[0]
        said["ss_network_args"] = json.dumps({"conv_dim": str(rank), "conv_alpha": str(alpha)})
    if lora.context in VERSIONS:
        said |= {"ss_base_model_version": VERSIONS[lora.context], "ss_v2": str(lora.context == 1024)}
    return said

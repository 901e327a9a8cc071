"""Read LoRA files of Stable Diffusion: kohya's (LoCon too), diffusers' old and new, and folders of PEFT.

All become one form: low-rank updates by diffusers' path of the layer. LoHa, LoKr, DoRA and Tucker forms are
refused by name, and so is a LoRA for another base.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from torch import Tensor, nn

from unveil.errors import UnveilError, reason
from unveil.files.peft import CONFIG, WEIGHTS, PeftLora, lora_of, read_config
from unveil.files.pickles import nothing
from unveil.files.reading import reading
from unveil.files.safetensors import header, read_metadata, read_tensors
from unveil.files.torch_save import Form, read_torch
from unveil.image.adapters import PARTS, Part
from unveil.image.weights.description import state_dict
from unveil.image.weights.lora_names import BaseLayers, Piece, kohya_table, other_base, resolve, split_piece
from unveil.network.lora import LowRank, fitted

DIFFUSERS = "pytorch_lora_weights.safetensors"
FILES = (DIFFUSERS, "pytorch_lora_weights.bin")
PEFT_FILES = (WEIGHTS, "adapter_model.bin")
ADAPTER_METADATA = "lora_adapter_metadata"
BASES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
"""Bases by the width of the text that the U-Net attends to."""
_VERSIONS = {"sd_v1": 768, "sd_v2": 1024, "sdxl": 2048}
Layout = Literal["kohya", "diffusers", "peft"]


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """A LoRA of an image model.

    Args:
        unet: updates by diffusers' module path in the U-Net.
        text_encoder: updates by transformers' module path in the text encoder, with `text_model.`.
        layout: whose names the file has.
        metadata: what the file says of itself, such as kohya's `ss_base_model_version`.
        source: the file, for messages.
    """

    unet: Mapping[str, LowRank]
    text_encoder: Mapping[str, LowRank] = field(default_factory=dict)
    layout: Layout = "kohya"
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def part(self, part: Part) -> Mapping[str, LowRank]:
        """The updates of one part."""
        return self.unet if part == "unet" else self.text_encoder

    @property
    def context(self) -> int:
        """Width of the text tokens of its base, a key of `BASES` if that is known; 0: the file does not say.

        It follows from the layers that read text, or else from kohya's metadata.
        """
        for path, update in self.unet.items():
            if path.endswith(("attn2.to_k", "attn2.to_v")):
                return update.down.shape[1]
        for path, update in self.text_encoder.items():
            if path.endswith(("q_proj", "k_proj", "v_proj", "fc1")):
                return update.down.shape[1]
        version = self.metadata.get("ss_base_model_version", "")
        return next((width for start, width in _VERSIONS.items() if version.startswith(start)), 0)


def is_lora(path: Path) -> bool:
    """Whether a file or folder is a LoRA of an image model, by its names alone."""
    if path.is_dir():
        return (path / CONFIG).is_file() or any((path / name).is_file() for name in FILES)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with reading(path):
            names = header(path)
    except UnveilError:
        return False
    return any(".lora" in name or "_lora." in name for name in names)


def read_lora(path: Path, layers: BaseLayers) -> LoraWeights:
    """Read a LoRA file, a folder with diffusers' file, or a folder of PEFT.

    Args:
        layers: the layers of the base.
    Returns:
        Its updates, in float32.
    Raises:
        UnveilError: it cannot be read, is another kind of adapter, or names layers that the base lacks.
    """
    file, config = _file(path)
    tensors, metadata = _tensors(file)
    try:
        configs: Mapping[Part, PeftLora | None] = (
            dict.fromkeys(PARTS, config) if config else _adapter_metadata(metadata)
        )
        kohya = kohya_table(layers)
        found: dict[tuple[Part, str], dict[Piece, Tensor]] = {}
        layout: Layout = "peft" if config else "diffusers"
        for name, value in tensors.items():
            module, piece = split_piece(name)
            layout = "kohya" if module in kohya else layout
            place = resolve(module, layers, kohya)
            if place is None:
                raise ValueError(_foreign(module, other_base(module) or _base_by_width(tensors)))
            if piece in found.setdefault(place, {}):
                raise ValueError(f"{place[1]} is in it twice")
            found[place][piece] = value
        updates: dict[Part, dict[str, LowRank]] = {part: {} for part in PARTS}
        for (part, module), pieces in found.items():
            updates[part][module] = _update(module, pieces, configs.get(part))
        if not found:
            raise ValueError("there is nothing in it")
    except ValueError as error:
        raise UnveilError(f"{file}: a LoRA that cannot be used: {error}") from error
    return LoraWeights(updates["unet"], updates["text_encoder"], layout, metadata, str(file))


def placed(
    lora: LoraWeights, part: Part, layers: BaseLayers, network: nn.Module, context: int = 0
) -> dict[str, LowRank]:
    """The updates of one part under our names, for `network.lora.combined` and `attach`.

    Args:
        network: our U-Net or text encoder.
        context: width of the text tokens of the network's base; 0: not compared.
    Raises:
        UnveilError: it is for another base.
    """
    named = f"{lora.source}: " if lora.source else ""
    if context and lora.context and lora.context != context:
        raise UnveilError(
            f"{named}LoRA for another base: it is for {_base(lora.context)}, the model is {_base(context)}"
        )
    found: dict[str, LowRank] = {}
    for path, update in lora.part(part).items():
        ours = layers.ours(part).get(path)
        layer = None if ours is None else network.get_submodule(ours)
        if ours is None or not isinstance(layer, nn.Linear | nn.Conv2d):
            raise UnveilError(named + _foreign(path, ""))
        try:
            found[ours] = fitted(update, layer, path)
        except ValueError as error:
            raise UnveilError(f"{named}LoRA for another base: {reason(error)}") from error
    return found


def _file(path: Path) -> tuple[Path, PeftLora | None]:
    """The file with the tensors, and PEFT's config beside it, if it is a folder of PEFT."""
    if not path.is_dir():
        return path, None
    config = read_config(path) if (path / CONFIG).is_file() else None
    names = FILES if config is None else PEFT_FILES
    for name in names:
        if (path / name).is_file():
            return path / name, config
    raise UnveilError(f"{path}: no LoRA here; needed is {names[0]} or {names[1]}")


def _tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, in float32, and its metadata."""
    if file.suffix == ".safetensors":
        tensors, metadata = read_tensors(file), read_metadata(file)
    else:
        tree = read_torch(file, Form(nothing, nothing, _state_dict, 16 * 2**30, 2_000_000, 16, zipped=False))
        try:
            tensors, metadata = state_dict("it", tree), {}
        except ValueError as error:
            raise UnveilError(f"{file}: a LoRA that cannot be used: {error}") from error
    plain: dict[str, Tensor] = {}
    for name, value in tensors.items():
        numbers = value.dtype.is_floating_point or (name.endswith(".alpha") and not value.dtype.is_complex)
        plain[name] = value.float() if numbers else value
        if not numbers or not bool(plain[name].isfinite().all()):
            raise UnveilError(
                f"{file}: {name[:80]} holds numbers that are not finite, or no numbers; download it again"
            )
    return plain, metadata


def _state_dict(tree: object) -> object:
    """What lies under `state_dict`, if there is such a key."""
    return cast(dict[str, object], tree).get("state_dict", tree) if isinstance(tree, dict) else tree


def _adapter_metadata(metadata: Mapping[str, str]) -> dict[Part, PeftLora | None]:
    """The configs that diffusers stores in a file: of each part, with its name before, or of one part."""
    if ADAPTER_METADATA not in metadata:
        return {}
    try:
        loaded: object = json.loads(metadata[ADAPTER_METADATA])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata {ADAPTER_METADATA} are damaged") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"its metadata {ADAPTER_METADATA} are damaged")
    config = cast(dict[str, object], loaded)
    found: dict[Part, PeftLora | None] = {}
    for part in PARTS:
        inside = {
            name.removeprefix(f"{part}."): value
            for name, value in config.items()
            if name.startswith(f"{part}.")
        }
        if inside or "peft_type" in config:
            found[part] = lora_of(inside or config)
    return found


def _update(module: str, pieces: Mapping[Piece, Tensor], config: PeftLora | None) -> LowRank:
    if "down" not in pieces or "up" not in pieces:
        raise ValueError(f"damaged: {module} has only one of its two matrices")
    down, up = pieces["down"], pieces["up"]
    rank = down.shape[0] if down.ndim else 0
    alpha = float(rank) if config is None else config.plain_alpha(module, rank)
    if "alpha" in pieces:
        if pieces["alpha"].numel() != 1:
            raise ValueError(f"damaged: alpha of {module} is no number")
        alpha = float(pieces["alpha"])
    try:
        return LowRank(down, up, alpha)
    except ValueError as error:
        raise ValueError(f"damaged: {module}: {error}") from error


def _foreign(module: str, base: str) -> str:
    what = f"it is for {base}" if base else f"it adapts {module[:100]}, which the model does not have"
    return f"LoRA for another base: {what}"


def _base_by_width(tensors: Mapping[str, Tensor]) -> str:
    """The base whose text is as wide as the keys of attention to text that a file adapts; "" if unknown."""
    widths = {
        value.shape[1]
        for name, value in tensors.items()
        if "attn2" in name and "to_k" in name and value.ndim > 1 and ("down" in name or "lora_A" in name)
    }
    return ", ".join(BASES[width] for width in sorted(widths) if width in BASES)


def _base(context: int) -> str:
    return BASES.get(context, f"a model whose text tokens are {context} wide")

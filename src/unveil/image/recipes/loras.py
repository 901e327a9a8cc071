"""LoRA files in sampling: those of `lora`, and those that prompts name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from unveil.image.model import ImageModel
    from unveil.image.prompts.prompt import LoraTag

ENDS = (".safetensors", ".bin", ".pt", ".ckpt")


def named_loras(files: Sequence[str], prompts: Sequence[str]) -> tuple[list[tuple[Path, LoraTag]], list[str]]:
    """The LoRA files to use, with the factors of their parts, and the prompts without their tags.

    Args:
        files: FILE or FILE:0.8, which is used; or a folder of PEFT; or a folder in which <lora:name:0.8> of a
            prompt finds its file, by the name without suffix.
        prompts: all of them must name the same files, since one model makes all images.
    Raises:
        UnveilError: no such file.
        ValueError: prompts that name different files.
    """
    from unveil.image.prompts.prompt import LoraTag, without_loras

    used: list[tuple[Path, LoraTag]] = []
    folders: list[Path] = []
    for name in files:
        path, colon, weight = name.rpartition(":")
        if not colon or Path(name).exists():
            path, weight = name, "1"
        place = Path(path)
        if not place.exists():
            raise UnveilError(f"{path}: no such LoRA file or folder")
        if place.is_dir() and not any(place.glob("adapter_config.json")):
            folders.append(place)
            continue
        try:
            factor = float(weight)
        except ValueError as error:
            raise UnveilError(f"{name}: the factor behind the colon must be a number") from error
        used.append((place, LoraTag(place.stem, factor, factor)))
    split = [without_loras(prompt) for prompt in prompts]
    if len({tags for _, tags in split}) > 1:
        raise ValueError(
            "the prompts of one run must name the same LoRA files, since one model makes them all"
        )
    for tag in split[0][1] if split else ():
        used.append((_found(tag.name, folders), tag))
    return used, [text for text, _ in split]


def _found(name: str, folders: Sequence[Path]) -> Path:
    """The file of a tag's name, in the folders of `lora`."""
    for folder in folders:
        for place in (folder / name, *(folder / f"{name}{end}" for end in ENDS)):
            if place.resolve().is_relative_to(folder.resolve()) and place.exists():
                return place
    where = f" in {', '.join(map(str, folders))}" if folders else "; give the folder of LoRA files as `lora`"
    raise UnveilError(f"the prompt names the LoRA file {name[:80]!r}, and there is none{where}")


def add_loras(model: ImageModel, loras: Sequence[tuple[Path, LoraTag]]) -> None:
    """Merge LoRA files into the U-Net and the text encoder of a model of text.

    Raises:
        UnveilError: another model, or a file that cannot be read or is for another base.
    """
    from unveil.image.networks.unet2d import UNet2d
    from unveil.image.weights.lora import placed, read_lora
    from unveil.image.weights.lora_layers import layers_of
    from unveil.network.lora import attach, combined, merge_lora

    if not loras:
        return
    network, encoder = model.denoiser.network, None if model.text is None else model.text.network
    if not isinstance(network, UNet2d) or encoder is None:
        raise UnveilError("LoRA files are for models that read prompts, and this one does not")
    layers, context = layers_of(network, encoder), network.shape.context
    read = [(read_lora(path, layers), tag) for path, tag in loras]
    unet = [(placed(it, "unet", layers, network, context), tag.unet) for it, tag in read]
    words = [(placed(it, "text_encoder", layers, encoder, context), tag.text_encoder) for it, tag in read]
    for part, updates in ((network, combined(unet)), (encoder, combined(words))):
        if updates:
            attach(part, updates)
            merge_lora(part)
            part.requires_grad_(False)

"""Load text models by path or name: our runs and packaged weights, LoRA runs with their base, and LLaDA's
folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.network.lora import LoRA, add_lora, merge_lora, strip_lora
from unveil.runs.checkpoints import find_checkpoint, load_weights, local_name, read_weights
from unveil.runs.config import read_config
from unveil.runs.flags import JobFlags
from unveil.text.data.tokens import FILE, digest, read_tokens
from unveil.text.model import TextModel
from unveil.text.recipes.config import ModelFlags
from unveil.text.recipes.convert import load_llada
from unveil.text.shape import TextShape
from unveil.text.weights.llada import is_llada
from unveil.text.weights.peft import fitting, read_adapter


def load_text_model(
    path_or_name: str,
    device: str = "auto",
    *,
    adapter: str | None = None,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
) -> TextModel:
    """A text model: a packaged one by name, a run or checkpoint folder, a folder of LLaDA's weights, or a
    repository of the Hugging Face Hub with one of these.

    Args:
        adapter: a folder or a repository of LoRA weights, which are merged into the model.
        dtype: type of LLaDA's weights; ours are float32.
    Raises:
        UnveilError: nothing is there, or it is damaged or of another recipe.
    """
    name = local_name(path_or_name)
    if is_llada(Path(name)):
        model = load_llada(Path(name), device, dtype)
    else:
        model = load_text(find_checkpoint(name), device)
    if adapter is not None:
        _adapt(model, Path(local_name(adapter)))
    return model


def load_text(folder: Path, device: str = "auto") -> TextModel:
    """The model of a checkpoint folder of `unveil train text`, with its own vocabulary; LoRA weights are
    merged into their base.

    Raises:
        UnveilError: it is damaged, of another recipe, or beside another tokenizer than the one it was trained
            with.
    """
    config = read_text_config(folder)
    file = folder / FILE if (folder / FILE).is_file() else folder.parent / FILE
    tokens = read_tokens(file)
    if config.get("lora_rank"):
        return _on_base(folder, config, device)
    model = TextModel(shape_of(config), tokens)
    if digest(tokens) != config["tokenizer"]:
        raise UnveilError(f"{file} is not the tokenizer that {folder} was trained with (its SHA-256 differs)")
    load_weights(model, folder, device)
    return model


def _on_base(folder: Path, config: JsonObject, device: str) -> TextModel:
    """The base model that a LoRA run names, with the run's matrices merged into it."""
    base = str(config["checkpoint"])
    try:
        model = load_text_model(base, device)
    except UnveilError as error:
        raise UnveilError(f"{folder} is LoRA weights for {base}, which cannot be loaded: {error}") from error
    if digest(model.tokens) != config["tokenizer"]:
        raise UnveilError(
            f"{base} is not the model that {folder} was trained on (its tokenizer's SHA-256 differs)"
        )
    lora = LoRA(config["lora_rank"], config["lora_alpha"], tuple(config["lora_targets"]))
    _merge(model, lora, lambda expected: read_weights(folder, expected))
    return model


def _adapt(model: TextModel, folder: Path) -> None:
    """Merge the LoRA weights of a folder into the model."""
    lora, tensors = read_adapter(folder)
    try:
        _merge(model, lora, lambda expected: fitting(folder, tensors, expected))
    except ValueError as error:
        raise UnveilError(f"{folder}: an adapter for another model ({error})") from error


def _merge(model: TextModel, lora: LoRA, weights: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Merge LoRA matrices into the weights, so that the model can be trained or adapted again like any other.

    Args:
        weights: expected matrices, without their values -> the matrices.
    """
    network = model.denoiser.network
    parts = add_lora(network, lora)
    parts.load_state_dict(weights(parts.state_dict()))
    merge_lora(network)
    strip_lora(network)
    model.requires_grad_(True)


def load_with(flags: ModelFlags, job: JobFlags) -> TextModel:
    """The model that the flags of `unveil sample`, `chat` or `eval` name, after torch's threads are set."""
    if job.threads:
        torch.set_num_threads(job.threads)
    return load_text_model(flags.checkpoint, job.device, adapter=flags.adapter)


def shape_of(config: JsonObject) -> TextShape:
    """The shape that a run's `config.json` describes.

    Raises:
        LookupError: a field is missing, and older runs have it too.
        ValueError: a field of another type or out of range.
    """
    newer = ("epsilon", "forbid_mask", "block", "causal")
    names = [field.name for field in fields(TextShape) if field.name in config or field.name not in newer]
    return TextShape(**{name: config[name] for name in names})


def check_text_config(config: JsonObject) -> None:
    """Refuse fields of which no text model can be built.

    Raises:
        LookupError: a field is missing.
        ValueError: a field of another type or out of range.
    """
    shape_of(config)
    if config.get("lora_rank") and not isinstance(config.get("checkpoint"), str):
        raise ValueError("it is LoRA weights, but does not say of what (checkpoint)")
    if not isinstance(config["tokenizer"], str):
        raise ValueError("its tokenizer is not named")


def read_text_config(folder: Path) -> JsonObject:
    """config.json of a text model; raises as `read_config`."""
    return read_config(folder, "text", check_text_config)

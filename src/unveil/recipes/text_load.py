"""Text models by path or name: runs and packaged ones of ours, LoRA runs on a base, and LLaDA's folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from unveil.apps.text_model import TextModel


def load_text_model(
    path_or_name: str, device: str = "auto", *, adapter: str | None = None, dtype: Literal["bfloat16", "float32"] = "bfloat16"
) -> TextModel:
    """A text model: a zoo name, a run or checkpoint folder, or a folder of LLaDA's weights.

    Args:
        adapter: a folder of LoRA weights, which are merged into it.
        dtype: of LLaDA's weights; ours are float32.
    Raises:
        UnveilError: nothing there, or damaged, or of another recipe.
    """
    from unveil.recipes.llada import load_llada
    from unveil.recipes.locate import find_checkpoint
    from unveil.weights.llada import is_llada

    if is_llada(Path(path_or_name)):
        model = load_llada(Path(path_or_name), device, dtype)
    else:
        model = load_text(find_checkpoint(path_or_name), device)
    if adapter is not None:
        _adapt(model, Path(adapter))
    return model


def load_text(folder: Path, device: str = "auto") -> TextModel:
    """The model of a checkpoint folder of `unveil train text`, with its own vocabulary; a LoRA run's is merged into its base.

    Raises:
        UnveilError: damaged, of another recipe, or beside another tokenizer than the one it was trained with.
    """
    from unveil.apps.text_model import TextModel
    from unveil.data.tokens import FILE, digest, read_tokens
    from unveil.errors import UnveilError
    from unveil.recipes.device import find_device
    from unveil.recipes.locate import weights_file
    from unveil.recipes.locomotion_load import with_weights
    from unveil.recipes.run_config import read_config
    from unveil.recipes.text_train import shape_of
    from unveil.training.checkpoint import read_tensors

    config = read_config(folder, "text")
    place = folder / FILE if (folder / FILE).is_file() else folder.parent / FILE
    tokens = read_tokens(place)
    if config.get("lora_rank"):
        return _on_base(folder, config, device)
    model = TextModel(shape_of(config), tokens)
    if digest(tokens) != config["tokenizer"]:
        raise UnveilError(f"{place} is not the tokenizer that {folder} was trained with (its SHA-256 differs)")
    with_weights(model, read_tensors(weights_file(folder), model.state_dict(), halves=True), find_device(device))
    return model


def _on_base(folder: Path, config: dict[str, Any], device: str) -> TextModel:
    """The base that a LoRA run names, with the run's matrices merged in."""
    from unveil.data.tokens import digest
    from unveil.errors import UnveilError
    from unveil.network.lora import LoRA, add_lora
    from unveil.recipes.locate import weights_file
    from unveil.training.checkpoint import read_tensors

    base = str(config["checkpoint"])
    try:
        model = load_text_model(base, device)
    except UnveilError as error:
        raise UnveilError(f"{folder} is LoRA weights for {base}, which cannot be loaded: {error}") from error
    if digest(model.tokens) != config["tokenizer"]:
        raise UnveilError(f"{base} is not the model that {folder} was trained on (its tokenizer's SHA-256 differs)")
    how = LoRA(config["lora_rank"], config["lora_alpha"], tuple(config["lora_targets"]))
    parts = add_lora(model.denoiser.network, how)
    parts.load_state_dict(read_tensors(weights_file(folder), parts.state_dict(), halves=True))
    _plain(model)
    return model


def _adapt(model: TextModel, folder: Path) -> None:
    from unveil.errors import UnveilError
    from unveil.network.lora import add_lora
    from unveil.weights.peft import fitting, read_adapter

    how, tensors = read_adapter(folder)
    try:
        parts = add_lora(model.denoiser.network, how)
    except ValueError as error:
        raise UnveilError(f"{folder}: an adapter for another model ({error})") from error
    parts.load_state_dict(fitting(folder, tensors, parts.state_dict()))
    _plain(model)


def _plain(model: TextModel) -> None:
    """Merge, and be a model like any other: one to train on from, or to adapt again."""
    from unveil.network.lora import merge_lora, strip_lora

    merge_lora(model.denoiser.network)
    strip_lora(model.denoiser.network)
    model.requires_grad_(True)

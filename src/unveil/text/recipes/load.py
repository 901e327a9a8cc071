"""Text models by path or name: runs and packaged ones of ours, LoRA runs on a base, and LLaDA's folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unveil.runs.config import check_whole_numbers, read_config

if TYPE_CHECKING:
    from unveil.text.model import TextModel, TextShape


def load_text_model(
    path_or_name: str,
    device: str = "auto",
    *,
    adapter: str | None = None,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
) -> TextModel:
    """A text model: a zoo name, a run or checkpoint folder, or a folder of LLaDA's weights.

    Args:
        adapter: a folder of LoRA weights, which are merged into it.
        dtype: of LLaDA's weights; ours are float32.
    Raises:
        UnveilError: nothing there, or damaged, or of another recipe.
    """
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.text.recipes.convert import load_llada
    from unveil.text.weights.llada import is_llada

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
    from unveil.errors import UnveilError
    from unveil.files.safetensors import read_tensors
    from unveil.runs.checkpoints import weights_file, with_weights
    from unveil.runs.device import find_device
    from unveil.text.data.tokens import FILE, digest, read_tokens
    from unveil.text.model import TextModel

    config = read_text_config(folder)
    place = folder / FILE if (folder / FILE).is_file() else folder.parent / FILE
    tokens = read_tokens(place)
    if config.get("lora_rank"):
        return _on_base(folder, config, device)
    model = TextModel(shape_of(config), tokens)
    if digest(tokens) != config["tokenizer"]:
        raise UnveilError(
            f"{place} is not the tokenizer that {folder} was trained with (its SHA-256 differs)"
        )
    with_weights(
        model, read_tensors(weights_file(folder), model.state_dict(), halves=True), find_device(device)
    )
    return model


def _on_base(folder: Path, config: dict[str, Any], device: str) -> TextModel:
    """The base that a LoRA run names, with the run's matrices merged in."""
    from unveil.errors import UnveilError
    from unveil.files.safetensors import read_tensors
    from unveil.network.lora import LoRA, add_lora
    from unveil.runs.checkpoints import weights_file
    from unveil.text.data.tokens import digest

    base = str(config["checkpoint"])
    try:
        model = load_text_model(base, device)
    except UnveilError as error:
        raise UnveilError(f"{folder} is LoRA weights for {base}, which cannot be loaded: {error}") from error
    if digest(model.tokens) != config["tokenizer"]:
        raise UnveilError(
            f"{base} is not the model that {folder} was trained on (its tokenizer's SHA-256 differs)"
        )
    how = LoRA(config["lora_rank"], config["lora_alpha"], tuple(config["lora_targets"]))
    parts = add_lora(model.denoiser.network, how)
    parts.load_state_dict(read_tensors(weights_file(folder), parts.state_dict(), halves=True))
    _plain(model)
    return model


def _adapt(model: TextModel, folder: Path) -> None:
    from unveil.errors import UnveilError
    from unveil.network.lora import add_lora
    from unveil.text.weights.peft import fitting, read_adapter

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


def shape_of(config: Mapping[str, Any]) -> TextShape:
    """The tensors' shapes that a run's `config.json` describes."""
    from unveil.text.model import TextShape

    names = (
        "vocabulary",
        "context",
        "width",
        "depth",
        "heads",
        "kv_heads",
        "hidden",
        "theta",
        "tied",
        "schedule",
    )
    later = {name: config[name] for name in ("epsilon", "forbid_mask", "block", "causal") if name in config}
    return TextShape(**{name: config[name] for name in names}, **later)


def check_text_config(config: Mapping[str, Any]) -> None:
    """Refuse fields of which no text model can be built."""
    check_whole_numbers(config, ("context", "width", "depth", "heads"))
    if not (isinstance(config["vocabulary"], int) and 3 <= config["vocabulary"] < 2**24):
        raise ValueError(f"vocabulary is {config['vocabulary']!r}")
    if not all(
        isinstance(config[name], int) and 0 <= config[name] < 10**6 for name in ("kv_heads", "hidden")
    ):
        raise ValueError("kv_heads or hidden are not whole numbers")
    if (
        config["schedule"] not in ("linear", "cosine")
        or not isinstance(config["tied"], bool)
        or not float(config["theta"]) > 0.0
    ):
        raise ValueError("its schedule, tied or theta do not fit")
    if config["width"] % (2 * config["heads"]) or config["heads"] % (config["kv_heads"] or config["heads"]):
        raise ValueError("its width, heads and kv_heads do not fit")
    if config.get("lora_rank") and not isinstance(config.get("checkpoint"), str):
        raise ValueError("it is LoRA weights, but does not say of what (checkpoint)")
    if (
        not isinstance(config.get("forbid_mask", True), bool)
        or not 0.0 < float(config.get("epsilon", 1e-5)) < 1.0
    ):
        raise ValueError("its forbid_mask or epsilon do not fit")
    block, causal = config.get("block", 0), config.get("causal", False)
    if not (isinstance(block, int) and 0 <= block < 100_000 and isinstance(causal, bool)) or (
        block and causal
    ):
        raise ValueError("its block or causal do not fit")
    if not isinstance(config["tokenizer"], str):
        raise ValueError("its tokenizer is not named")


def read_text_config(folder: Path) -> dict[str, Any]:
    """config.json of a text model; raises as `read_config`."""
    return read_config(folder, "text", check_text_config)

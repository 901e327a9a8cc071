"""LLaDA's folders (LLaDA-8B-Base and -Instruct, LLaDA-1.5): config.json, sharded safetensors, tokenizer.json.

Their code is not run. The layout is that of `GSAI-ML/LLaDA-8B-*`: OLMo's keys in config.json, and tensors
`model.transformer.X` that are our `X` of `LanguageTransformer`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject, read_object
from unveil.files.shards import INDEX, SINGLE, Stored, each_shard, stored_tensors
from unveil.text.data.tokens import FILE, LibraryTokens, named_errors
from unveil.text.shape import TextShape

PREFIX = "model.transformer."
LARGEST_CONFIG = 2**23
_NEEDED: dict[str, object] = {  # our architecture; a config with other values is another network
    "block_type": "llama",
    "layer_norm_type": "rms",
    "activation_type": "silu",
    "block_group_size": 1,
    "rope": True,
    "rope_full_precision": True,
    "alibi": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "bias_for_layer_norm": False,
    "attention_layer_norm": False,
    "scale_logits": False,
    "input_emb_norm": False,
    "clip_qkv": None,
}

_KEYS = {  # field of `TextShape` -> its key in config.json, for messages
    "vocabulary": "vocab_size",
    "context": "max_sequence_length",
    "width": "d_model",
    "depth": "n_layers",
    "heads": "n_heads",
    "kv_heads": "n_kv_heads",
    "hidden": "mlp_hidden_size",
    "theta": "rope_theta",
    "epsilon": "rms_norm_eps",
}


class Llada(NamedTuple):
    """What config.json describes: the shape of the model, and its special tokens."""

    shape: TextShape
    mask_id: int
    eos_id: int


def is_llada(folder: Path) -> bool:
    """Whether a folder's config.json says that it is some LLaDA, one that can be read or not."""
    try:
        config = read_object(folder / "config.json", LARGEST_CONFIG)
        return str(config.get("model_type", "")).startswith("llada")
    except (UnveilError, OSError):  # in a folder that has all the rest, only the config is damaged
        return (folder / FILE).is_file() and any((folder / name).is_file() for name in (SINGLE, INDEX))


def describe(folder: Path) -> Llada:
    """The model that a folder's config.json describes.

    Raises:
        UnveilError: missing or damaged, or another architecture (LLaDA2's mixture of experts, biases, other
            norms).
    """
    config = read_object(folder / "config.json", LARGEST_CONFIG)
    try:
        return _described(config)
    except ValueError as error:
        why = re.sub(r"`(\w+)`", lambda field: _KEYS.get(field[1], field[1]), str(error))
        raise UnveilError(f"{folder / 'config.json'}: a model that cannot be read: {why}") from error


def _described(config: JsonObject) -> Llada:
    if config.get("model_type") != "llada":
        raise ValueError(
            f"it is of type {str(config.get('model_type'))[:40]!r}; 'llada' is known (LLaDA-8B-Base, "
            "-Instruct, LLaDA-1.5)"
        )
    for name, value in _NEEDED.items():
        if config.get(name, value) != value and not (value is False and config.get(name) is None):
            raise ValueError(f"{name} is {str(config[name])[:40]}, ours is {value}")
    width, heads = _whole(config, "d_model"), _whole(config, "n_heads")
    kv_heads = config.get("n_kv_heads")
    if kv_heads is None:
        kv_heads = 1 if config.get("multi_query_attention") is True else heads
    hidden = config.get("mlp_hidden_size")
    if hidden is None:
        hidden = _whole(config, "mlp_ratio") * width
    shape = TextShape(
        vocabulary=config.get("embedding_size") or _whole(config, "vocab_size"),
        context=_whole(config, "max_sequence_length"),
        width=width,
        depth=_whole(config, "n_layers"),
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        theta=config.get("rope_theta", 10_000.0),
        epsilon=config.get("rms_norm_eps", 1e-5),
        tied=config.get("weight_tying") is True,
        forbid_mask=False,
    )
    mask_id, eos_id = _whole(config, "mask_token_id", 0), _whole(config, "eos_token_id", 0)
    if max(mask_id, eos_id) >= shape.vocabulary:
        raise ValueError(
            f"its {shape.vocabulary} tokens do not hold the mask {mask_id} and end-of-text {eos_id}"
        )
    return Llada(shape, mask_id, eos_id)


def read_tokenizer(folder: Path, it: Llada) -> LibraryTokens:
    """The tokenizer of a folder, with its chat template.

    Raises:
        UnveilError: missing or damaged, or with another vocabulary than the weights.
    """
    text, template = _read_text(folder / FILE), read_template(folder)
    with named_errors(folder / FILE):
        return LibraryTokens(text, it.shape.vocabulary, it.mask_id, it.eos_id, template)


def read_template(folder: Path) -> str:
    """The chat template of chat_template.jinja or tokenizer_config.json, as text; "" without one.

    Raises:
        UnveilError: damaged.
    """
    if (folder / "chat_template.jinja").is_file():
        return _read_text(folder / "chat_template.jinja")
    if not (folder / "tokenizer_config.json").is_file():
        return ""
    stored = read_object(folder / "tokenizer_config.json", LARGEST_CONFIG).get("chat_template")
    return stored if isinstance(stored, str) else ""


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnveilError(f"{file}: cannot be read ({str(error)[:80]}); download it again") from error


def checked_tensors(folder: Path, expected: Mapping[str, Tensor]) -> dict[str, Stored]:
    """Where each parameter of a network is stored; only headers are read.

    Args:
        expected: the parameters by our names, without their values.
    Raises:
        UnveilError: a shard is missing or truncated, or the tensors do not match config.json.
    """
    stored = {
        name.removeprefix(PREFIX) if name.startswith(PREFIX) else f"/{name}": it
        for name, it in stored_tensors(folder).items()
    }
    lacking, foreign = sorted(set(expected) - set(stored)), sorted(set(stored) - set(expected))
    if lacking or foreign:
        raise UnveilError(
            f"{folder}: its weights are not those of its config.json: {len(lacking)} tensors are missing "
            f"{lacking[:2]}, {len(foreign)} are foreign {foreign[:2]}"
        )
    for name, value in expected.items():
        if stored[name].shape != tuple(value.shape):
            raise UnveilError(
                f"{folder}: {PREFIX}{name} has shape {stored[name].shape}, but config.json says "
                f"{tuple(value.shape)}"
            )
    return stored


def fill(
    network: nn.Module, stored: Mapping[str, Stored], device: torch.device, dtype: torch.dtype | None
) -> None:
    """Load weights into a network on the meta device, by shard and without a second copy (`each_shard`)."""
    names = {f"{PREFIX}{name}": place for name, place in stored.items()}
    for tensors in each_shard(names, device, dtype):
        network.load_state_dict(
            {name.removeprefix(PREFIX): value for name, value in tensors.items()}, strict=False, assign=True
        )


def _whole(config: JsonObject, name: str, least: int = 1) -> int:
    value = config.get(name)
    if type(value) is not int or not least <= value < 10**7:
        raise ValueError(f"it says no {name} that makes sense ({str(value)[:40]})")
    return value

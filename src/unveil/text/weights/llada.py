"""LLaDA's folders (LLaDA-8B-Base and -Instruct, LLaDA-1.5): config.json, sharded safetensors, tokenizer.json.

Their code is not run. The layout is that of `GSAI-ML/LLaDA-8B-*`: OLMo's keys in config.json, and tensors
`model.transformer.X` that are our `X` of `LanguageTransformer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unveil.errors import UnveilError
from unveil.files.json_objects import read_object
from unveil.files.shards import INDEX, SINGLE, Stored, each_shard, stored_tensors
from unveil.text.data.tokens import FILE, LibraryTokens
from unveil.text.networks.transformer import LanguageTransformer

PREFIX = "model.transformer."
LARGEST_CONFIG = 2**23
_NEEDED: dict[str, Any] = {  # our architecture; a config with other values is another network
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


@dataclass(frozen=True)
class Llada:
    """The fields of config.json that are used, named as in `TextShape`."""

    vocabulary: int
    context: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    hidden: int
    theta: float
    epsilon: float
    tied: bool
    mask_id: int
    eos_id: int


def is_llada(folder: Path) -> bool:
    """Whether a folder's config.json says that it is some LLaDA, one that can be read or not."""
    try:
        return str(read_object(folder / "config.json", LARGEST_CONFIG).get("model_type", "")).startswith(
            "llada"
        )
    except (
        UnveilError,
        OSError,
    ):  # of a folder that has all the rest, the config is what is damaged or missing
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
        raise UnveilError(f"{folder / 'config.json'}: a model that cannot be read: {error}") from error


def _described(config: Mapping[str, Any]) -> Llada:
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
    if (
        type(kv_heads) is not int
        or type(hidden) is not int
        or not 1 <= hidden < 10**7
        or kv_heads < 1
        or width % (2 * heads)
        or heads % kv_heads
    ):
        raise ValueError(
            f"d_model {width}, n_heads {heads}, n_kv_heads {kv_heads} and mlp_hidden_size {hidden} do not fit"
        )
    vocabulary = config.get("embedding_size") or _whole(config, "vocab_size")
    theta, epsilon = config.get("rope_theta", 10_000.0), config.get("rms_norm_eps", 1e-5)
    if (
        not isinstance(theta, int | float)
        or not isinstance(epsilon, int | float)
        or not 0.0 < theta < 1e30
        or not 0.0 < epsilon < 1.0
    ):
        raise ValueError(f"rope_theta is {str(theta)[:20]} and rms_norm_eps {str(epsilon)[:20]}")
    mask_id, eos_id = _whole(config, "mask_token_id", 0), _whole(config, "eos_token_id", 0)
    if type(vocabulary) is not int or not max(mask_id, eos_id) < vocabulary < 2**24:
        raise ValueError(
            f"its {str(vocabulary)[:20]} tokens do not hold the mask {mask_id} and end-of-text {eos_id}"
        )
    return Llada(
        vocabulary,
        _whole(config, "max_sequence_length"),
        width,
        _whole(config, "n_layers"),
        heads,
        kv_heads,
        hidden,
        float(theta),
        float(epsilon),
        config.get("weight_tying") is True,
        mask_id,
        eos_id,
    )


def read_tokenizer(folder: Path, it: Llada) -> LibraryTokens:
    """The tokenizer of a folder, with the chat template of tokenizer_config.json or chat_template.jinja.

    Raises:
        UnveilError: missing or damaged, or with another vocabulary than the weights.
    """
    try:
        text = (folder / FILE).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnveilError(
            f"{folder}: no {FILE} that can be read; it is in the same place as the weights"
        ) from error
    template = ""
    if (folder / "chat_template.jinja").is_file():
        try:
            template = (folder / "chat_template.jinja").read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UnveilError(
                f"{folder / 'chat_template.jinja'}: cannot be read ({str(error)[:80]}); download it anew"
            ) from error
    elif (folder / "tokenizer_config.json").is_file():
        given = read_object(folder / "tokenizer_config.json", LARGEST_CONFIG).get("chat_template")
        template = given if isinstance(given, str) else ""
    try:
        return LibraryTokens(text, it.vocabulary, it.mask_id, it.eos_id, template)
    except UnveilError as error:
        raise UnveilError(f"{folder / FILE}: {str(error).removeprefix('tokenizer: ')}") from error


def checked_tensors(folder: Path, described: Llada) -> dict[str, Stored]:
    """Where each parameter of our network is stored, under our names; only headers are read.

    Raises:
        UnveilError: a shard is missing or truncated, or the tensors do not match config.json.
    """
    stored = {
        name.removeprefix(PREFIX) if name.startswith(PREFIX) else f"/{name}": it
        for name, it in stored_tensors(folder).items()
    }
    wanted = {name: tuple(value.shape) for name, value in empty_network(described).state_dict().items()}
    lacking, foreign = sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted))
    if lacking or foreign:
        raise UnveilError(
            f"{folder}: its weights are not those of its config.json: {len(lacking)} tensors are missing "
            f"{lacking[:2]}, "
            f"{len(foreign)} are foreign {foreign[:2]}"
        )
    for name, shape in wanted.items():
        if stored[name].shape != shape:
            raise UnveilError(
                f"{folder}: {PREFIX}{name} has shape {stored[name].shape}, but config.json says {shape}"
            )
    return stored


def empty_network(it: Llada) -> LanguageTransformer:
    """The network on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return LanguageTransformer(
            it.vocabulary,
            it.width,
            it.depth,
            it.heads,
            it.kv_heads,
            it.hidden,
            it.theta,
            it.epsilon,
            tied=it.tied,
        )


def fill(
    network: nn.Module, stored: Mapping[str, Stored], device: torch.device, dtype: torch.dtype | None
) -> None:
    """Load the weights of an `empty_network` shard by shard, without a second copy; see `each_shard`."""
    names = {f"{PREFIX}{name}": place for name, place in stored.items()}
    for tensors in each_shard(names, device, dtype):
        network.load_state_dict(
            {name.removeprefix(PREFIX): value for name, value in tensors.items()}, strict=False, assign=True
        )


def _whole(config: Mapping[str, Any], name: str, least: int = 1) -> int:
    value = config.get(name)
    if type(value) is not int or not least <= value < 10**7:
        raise ValueError(f"it says no {name} that makes sense ({str(value)[:40]})")
    return value

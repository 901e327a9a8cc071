"""LLaDA's folders as text models, and their description."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Literal

import torch

from unveil.files.shards import Stored
from unveil.runs.device import find_device
from unveil.text.data.chat import chat_name
from unveil.text.model import TextModel
from unveil.text.weights.llada import checked_tensors, describe, fill, read_tokenizer


def load_llada(
    folder: Path, device: str = "auto", dtype: Literal["bfloat16", "float32"] = "bfloat16"
) -> TextModel:
    """LLaDA-8B-Base, LLaDA-8B-Instruct or LLaDA-1.5 from its folder, without running any code of it.

    Everything is checked before a weight is read. Weights are read shard by shard; on the CPU, in bfloat16 as
    stored, they are the memory-mapped files themselves.

    Raises:
        UnveilError: a file is missing, truncated or damaged, tokenizer and weights are of different
            vocabularies, or another architecture.
        ValueError: no such device or type.
    """
    if dtype not in ("bfloat16", "float32"):
        raise ValueError(f"dtype must be bfloat16 or float32, got {dtype!r}")
    target = find_device(device)
    model, stored = _without_weights(folder)
    fill(model.network, stored, target, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    return model.eval()


def inspect_llada(folder: Path) -> str:
    """What `unveil weights inspect` prints.

    Raises:
        UnveilError: as `load_llada`.
    """
    model, stored = _without_weights(folder)
    it, tokens = model.shape, model.tokens
    files, kinds = {at.file for at in stored.values()}, {at.kind for at in stored.values()}
    size = sum(file.stat().st_size for file in files) / 2**30
    count = sum(prod(at.shape) for at in stored.values())
    heads = f"{it.heads} heads ({it.kv_heads} of keys)"
    rows = [
        ("model", "LLaDA, masked diffusion, bidirectional"),
        ("network", f"LanguageTransformer, {count:,} parameters"),
        ("shape", f"{it.depth} blocks, width {it.width}, {heads}, SwiGLU {it.hidden}, RoPE {it.theta:g}"),
        ("context", f"{it.context:,} tokens"),
        ("vocabulary", f"{it.vocabulary:,}, [MASK] {tokens.mask_id}, end-of-text {tokens.eos_id}"),
        (
            "weights",
            f"{', '.join(sorted(kinds))}, {size:.2f} GiB in {len(files)} file{'s' * (len(files) > 1)}",
        ),
        ("chat", chat_name(tokens)),
        ("usable", f"yes: unveil.load(DIR), unveil sample text --checkpoint {folder}"),
    ]
    return "\n".join([str(folder), *(f"  {name:<13} {text}" for name, text in rows)])


def _without_weights(folder: Path) -> tuple[TextModel, dict[str, Stored]]:
    """The model of a folder on the meta device, and where its weights are stored."""
    it = describe(folder)
    with torch.device("meta"):
        model = TextModel(it.shape, read_tokenizer(folder, it))
    return model, checked_tensors(folder, model.network.state_dict())

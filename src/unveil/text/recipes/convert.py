"""LLaDA's folders as text models, and what they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from unveil.text.model import TextModel, TextShape
    from unveil.text.weights.llada import Llada


def shape_of(it: Llada) -> TextShape:
    """The shape of its `TextModel`: linear schedule, [MASK] left in the softmax, as published."""
    from unveil.text.model import TextShape

    same = {name: value for name, value in asdict(it).items() if name not in ("mask_id", "eos_id")}
    return TextShape(**same, schedule="linear", forbid_mask=False)


def load_llada(
    folder: Path, device: str = "auto", dtype: Literal["bfloat16", "float32"] = "bfloat16"
) -> TextModel:
    """LLaDA-8B-Base, LLaDA-8B-Instruct or LLaDA-1.5 from the folder that was downloaded; nothing in it is run.

    Everything is checked before a weight is read. Weights come shard by shard; on the CPU, bfloat16 as stored, they are the memory-mapped
    files themselves.

    Raises:
        UnveilError: a file is missing, truncated or damaged, tokenizer and weights are of different vocabularies, or another architecture.
        ValueError: no such device or type.
    """
    import torch

    from unveil.runs.device import find_device
    from unveil.text.model import TextModel
    from unveil.text.weights.llada import checked_tensors, describe, fill, read_tokenizer

    if dtype not in ("bfloat16", "float32"):
        raise ValueError(f"dtype must be bfloat16 or float32, got {dtype!r}")
    place, it = find_device(device), describe(folder)
    tokens, stored = read_tokenizer(folder, it), checked_tensors(folder, it)
    with torch.device("meta"):
        model = TextModel(shape_of(it), tokens)
    fill(model.denoiser.network, stored, place, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    return model.eval()


def inspect_llada(folder: Path) -> str:
    """What `unveil weights inspect` prints.

    Raises:
        UnveilError: as `load_llada`.
    """
    from math import prod

    from unveil.text.data.chat import chat_name
    from unveil.text.weights.llada import checked_tensors, describe, read_tokenizer

    it = describe(folder)
    stored = checked_tensors(folder, it)
    files, kinds = (
        {place.file for place in stored.values()},
        sorted({place.kind for place in stored.values()}),
    )
    tokens = read_tokenizer(folder, it)
    size = sum(file.stat().st_size for file in files)
    rows = [
        ("model", "LLaDA, masked diffusion, bidirectional"),
        (
            "network",
            f"LanguageTransformer, {sum(prod(place.shape) for place in stored.values()):,} parameters",
        ),
        (
            "shape",
            f"{it.depth} blocks, width {it.width}, {it.heads} heads ({it.kv_heads} of keys), SwiGLU {it.hidden}, RoPE {it.theta:g}",
        ),
        ("context", f"{it.context:,} tokens"),
        ("vocabulary", f"{it.vocabulary:,}, [MASK] {it.mask_id}, end-of-text {it.eos_id}"),
        (
            "weights",
            f"{', '.join(kinds)}, {size / 2**30:.2f} GiB in {len(files)} {'file' if len(files) == 1 else 'files'}",
        ),
        ("chat", chat_name(tokens)),
        ("usable", f"yes: unveil.load(DIR), unveil sample text --checkpoint {folder}"),
    ]
    return "\n".join([str(folder), *(f"  {name:<13} {text}" for name, text in rows)])

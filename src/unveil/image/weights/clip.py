"""CLIP's text encoder under the names of transformers and of OpenCLIP, and in diffusers' folder."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from unveil.files.atomic import replacing
from unveil.image.data.tokenizer import Tokenizer
from unveil.image.data.tokenizer_files import write_clip_tokenizer
from unveil.image.networks.clip import STABLE_DIFFUSION_2, ClipText, ClipTextShape
from unveil.image.weights.description import axes, renamed, under

PREFIX = "text_model."  # of transformers before 5.6, and of all files of Stable Diffusion
PROJECTION = "text_projection"
HEAD_WIDTH = 64  # of all published CLIP text encoders
_BLOCK = {
    "first_norm": "layer_norm1",
    "attend.query": "self_attn.q_proj",
    "attend.key": "self_attn.k_proj",
    "attend.value": "self_attn.v_proj",
    "attend.merge": "self_attn.out_proj",
    "second_norm": "layer_norm2",
    "rise": "mlp.fc1",
    "fall": "mlp.fc2",
}
_OPEN_CLIP = {  # names of OpenCLIP to those of transformers, without the prefix
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_UNUSED = ("logit_scale", "attn_mask")
_QKV = ("q_proj", "k_proj", "v_proj")


def clip_names(shape: ClipTextShape, prefix: str = PREFIX) -> dict[str, str]:
    """Names of our modules to those of transformers; `positions` is a parameter.

    Args:
        prefix: "text_model.", or "" as transformers writes them since 5.6.
    """
    names = {
        "words": f"{prefix}embeddings.token_embedding",
        "positions": f"{prefix}embeddings.position_embedding.weight",
        "norm": f"{prefix}final_layer_norm",
    }
    for i in range(shape.layers):
        names |= under(f"blocks.{i}", f"{prefix}encoder.layers.{i}", _BLOCK)
    return names | ({"projection": PROJECTION} if shape.projection else {})


def clip_text(
    tensors: Mapping[str, Tensor], shape: ClipTextShape, dtype: torch.dtype | None = None
) -> ClipText:
    """The encoder with weights under the names of transformers, with or without `text_model.`.

    Args:
        dtype: dtype of the weights; None keeps those of the tensors, which are then not copied.
    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not finite.
    """
    tensors = {name: value for name, value in tensors.items() if not name.endswith("position_ids")}
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    with torch.device("meta"):
        encoder = ClipText(shape)
    encoder.load_state_dict(renamed(tensors, clip_names(shape, prefix), encoder, dtype), assign=True)
    return encoder.requires_grad_(False).eval()


def clip_tensors(encoder: ClipText, prefix: str = PREFIX) -> dict[str, Tensor]:
    """The weights under the names of transformers: the inverse of `clip_text`."""
    names, tensors = clip_names(encoder.shape, prefix), {}
    for name, value in encoder.state_dict().items():
        module, _, end = name.rpartition(".")
        tensors[names[name] if name in names else f"{names[module]}.{end}"] = value
    return tensors


def clip_shape_of(tensors: Mapping[str, Tensor], quick: bool) -> ClipTextShape:
    """The shape of an encoder from its tensors, for files without a config.json.

    Args:
        tensors: under the names of transformers.
        quick: quick GELU, which no tensor shows: true of Stable Diffusion 1, false of 2.
    Raises:
        ValueError: the tensors are not those of CLIP.
    """
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    vocabulary, width = axes(tensors, f"{prefix}embeddings.token_embedding.weight", 2)
    length, _ = axes(tensors, f"{prefix}embeddings.position_embedding.weight", 2)
    hidden, _ = axes(tensors, f"{prefix}encoder.layers.0.mlp.fc1.weight", 2)
    layers = {match[1] for name in tensors if (match := re.search(r"encoder\.layers\.(\d{1,3})\.", name))}
    projection = axes(tensors, f"{PROJECTION}.weight", 2)[0] if f"{PROJECTION}.weight" in tensors else 0
    heads = max(1, width // HEAD_WIDTH)
    return ClipTextShape(vocabulary, length, width, len(layers), heads, hidden, quick, projection=projection)


def from_open_clip(
    tensors: Mapping[str, Tensor], layers: int = STABLE_DIFFUSION_2.layers, projection: bool = False
) -> dict[str, Tensor]:
    """OpenCLIP's text tower under the names of transformers, without `text_model.`.

    The rows of a fused in_proj are those of query, key and value, in this order.

    Args:
        tensors: `transformer.resblocks.*`, token_embedding, positional_embedding, ln_final, text_projection
            and logit_scale; in a file of Stable Diffusion 2 they follow `cond_stage_model.model.`.
        layers: number of blocks to keep: 23 of the 24 in Stable Diffusion 2, which reads the output of the
            last block but one. Files that diffusers wrote have no more than 23.
        projection: keep `text_projection`, which is meant for the output of the last block.
    Raises:
        ValueError: an unknown name.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        block = _block_of(name)
        if name in _UNUSED or block >= layers or (name == PROJECTION and not projection):
            continue
        if name in _OPEN_CLIP:
            found[_OPEN_CLIP[name]] = value
        elif name == PROJECTION:
            found[f"{PROJECTION}.weight"] = value.T
        elif block < 0:
            raise ValueError(f"{name[:80]} is no tensor of OpenCLIP's text encoder")
        else:
            inside = name.removeprefix(f"transformer.resblocks.{block}.")
            module, _, end = inside.replace("in_proj_", "in_proj.").rpartition(".")
            if module == "attn.in_proj":
                for part, rows in zip(_QKV, value.chunk(3), strict=True):
                    found[f"encoder.layers.{block}.self_attn.{part}.{end}"] = rows
            elif module in _OPEN_CLIP_BLOCK:
                found[f"encoder.layers.{block}.{_OPEN_CLIP_BLOCK[module]}.{end}"] = value
            else:
                raise ValueError(f"{name[:80]} is no tensor of OpenCLIP's text encoder")
    return found


def to_open_clip(encoder: ClipText) -> dict[str, Tensor]:
    """The weights under OpenCLIP's names. What `from_open_clip` left out is not there."""
    tensors = clip_tensors(encoder, "")
    found = {theirs: tensors[name] for theirs, name in _OPEN_CLIP.items()}
    for i in range(encoder.shape.layers):
        ours, theirs = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for end in ("weight", "bias"):
            parts = [tensors[f"{ours}.self_attn.{part}.{end}"] for part in _QKV]
            found[f"{theirs}.attn.in_proj_{end}"] = torch.cat(parts)
            for module, name in _OPEN_CLIP_BLOCK.items():
                found[f"{theirs}.{module}.{end}"] = tensors[f"{ours}.{name}.{end}"]
    if encoder.projection is not None:
        found[PROJECTION] = encoder.projection.weight.detach().T.contiguous()
    return found


def clip_config(shape: ClipTextShape, dtype: torch.dtype) -> dict[str, object]:
    """The config.json of transformers for a text encoder."""
    return {
        "architectures": ["CLIPTextModelWithProjection" if shape.projection else "CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2 if shape.end is None else shape.end,
        "hidden_act": "quick_gelu" if shape.quick else "gelu",
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": shape.length,
        "model_type": "clip_text_model",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "pad_token_id": 1,
        "projection_dim": shape.projection or shape.width,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vocab_size": shape.vocabulary,
    }


def write_clip(encoder: ClipText, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the folders `text_encoder` and `tokenizer` of a pipeline of diffusers.

    The tensors have the prefix `text_model.`, which transformers reads in all versions.

    Raises:
        UnveilError: the tokenizer is not CLIP's.
    """
    write_clip_tokenizer(tokenizer, folder / "tokenizer")
    place = folder / "text_encoder"
    place.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous() for name, value in clip_tensors(encoder).items()}
    config = clip_config(encoder.shape, encoder.words.weight.dtype)
    with replacing(place / "config.json") as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    with replacing(place / "model.safetensors") as partial:
        save_file(tensors, partial, {"format": "pt"})


def _block_of(name: str) -> int:
    """The number of OpenCLIP's block in a name; -1 outside of blocks."""
    match = re.match(r"transformer\.resblocks\.(\d{1,3})\.", name)
    return -1 if match is None else int(match[1])

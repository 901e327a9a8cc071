"""Karlo's layout of unCLIP in diffusers' folders: a prior, a decoder, its text projection, and an upsampler
of two networks, the second for the last step."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from unveil.checks import Bounds, one_of, whole, within
from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject, read_object
from unveil.files.reading import reading
from unveil.image.networks.clip import ClipText, ClipTextShape
from unveil.image.networks.prior import PriorShape, PriorTransformer
from unveil.image.networks.projected_text import ProjectedText
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.weights import diffusers
from unveil.image.weights.clip import clip_text
from unveil.image.weights.description import placed, renamed, under
from unveil.image.weights.diffusers_config import describe
from unveil.image.weights.stable_diffusion_files import read_stored, weights_in
from unveil.image.weights.stable_diffusion_folder import CONFIG, SCHEDULER, STEM, class_of
from unveil.image.weights.text_encoders import read_text_shape

PRIOR, DECODER, PROJECTION = "PriorTransformer", "UNet2DConditionModel", "UnCLIPTextProjModel"
PARTS = {"prior": PRIOR, "decoder": DECODER, "text_proj": PROJECTION}
UPSAMPLERS = ("super_res_first", "super_res_last")
DOWN, UP = (
    ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    ("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"),
)
PRIOR_ONLY: dict[str, tuple[object, ...]] = {  # the first is diffusers' default
    "additional_embeddings": (4,),
    "time_embed_act_fn": ("silu",),
    "norm_in_type": (None,),
    "embedding_proj_norm_type": (None,),
    "encoder_hid_proj_type": ("linear",),
    "added_emb_type": ("prd",),
}
DECODER_ONLY: dict[str, tuple[object, ...]] = {
    "class_embed_type": ("identity",),
    "mid_block_type": ("UNetMidBlock2DSimpleCrossAttn",),
    "resnet_time_scale_shift": ("scale_shift",),
    "only_cross_attention": (False,),
    "cross_attention_norm": (None,),
    "act_fn": ("silu", "swish"),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "center_input_sample": (False,),
    "mid_block_scale_factor": (1, 1.0),
    "time_embedding_dim": (None,),
    "addition_embed_type": (None,),
    "encoder_hid_dim_type": (None,),
    "resnet_skip_time_act": (False,),
}
_TEXT_BLOCK = {
    "first_norm": "norm1",
    "attend.query": "attn1.to_q",
    "attend.key": "attn1.to_k",
    "attend.value": "attn1.to_v",
    "attend.merge": "attn1.to_out.0",
    "second_norm": "norm3",
    "rise": "ff.net.0.proj",
    "fall": "ff.net.2",
}
_ATTENTION = diffusers.ATTENTION | {"text.1": "add_kv"}


@dataclass(frozen=True)
class Diffusion:
    """What a scheduler's config says.

    Args:
        clip: predictions of x_0 are clamped to -clip .. clip.
        learned: the variance is learned.
    """

    steps: int
    clip: float
    learned: bool


@dataclass(frozen=True, eq=False)
class Karlo:
    """The networks of a folder, with weights, and their diffusions.

    Args:
        mean, std: of the image embeddings, elementwise.
        clip: CLIP's text encoder, with its projection.
        text: the decoder's text side.
        tokenizer: its folder.
        upsampler: networks of the upsampler, of all steps but the last and of the last; None: the folder has
            none.
        size, large: sides of the decoder's and the upsampler's images in pixels; 0 without upsampler.
    """

    prior: PriorTransformer
    mean: Tensor
    std: Tensor
    decoder: UNet2d
    clip: ClipText
    text: ProjectedText
    tokenizer: Path
    upsampler: tuple[UNet2d, UNet2d] | None
    size: int
    large: int
    of_prior: Diffusion
    of_decoder: Diffusion


def is_karlo(folder: Path) -> bool:
    """Whether a folder holds a prior and a decoder of unCLIP in diffusers' layout."""
    return folder.is_dir() and class_of(folder / "prior") == PRIOR and (folder / "decoder").is_dir()


def read_karlo(folder: Path) -> Karlo:
    """All networks of a folder, in float32.

    Raises:
        UnveilError: a component is missing or damaged, or a variant that our networks do not have.
    """
    configs: dict[str, JsonObject] = {}
    for name in (*PARTS, "text_encoder"):
        if not (folder / name / CONFIG).is_file():
            raise UnveilError(f"{folder}: unCLIP without {name}/{CONFIG}; copy this folder, too")
        configs[name] = read_object(folder / name / CONFIG)
    shape = read_text_shape(folder / "text_encoder" / CONFIG)
    with reading(folder, "a model of unCLIP that cannot be used"):
        if not isinstance(shape, ClipTextShape):
            raise ValueError("its text encoder is not CLIP")
        for name, kind in PARTS.items():
            one_of(f"{name}/{CONFIG} _class_name", configs[name].get("_class_name"), (kind,))
        clip = clip_text(_tensors(folder / "text_encoder", "model"), shape, torch.float32)
        prior, mean, std = prior_of(configs["prior"], _tensors(folder / "prior"))
        if (shape.width, shape.projection) != (prior.shape.context, prior.shape.pooled):
            raise ValueError(
                f"its prior reads texts of width {prior.shape.context}, its CLIP makes {shape.width}"
            )
        projection = _tensors(folder / "text_proj")
        decoder = decoder_of(configs["decoder"], _tensors(folder / "decoder"), projection)
        text = text_of(clip, projection)
        side = whole("sample_size", configs["decoder"].get("sample_size"), 1, 8192)
        upsampler, large = _upsampler(folder)
    tokenizer = folder / "tokenizer"
    of_prior, of_decoder = (_diffusion(folder, f"{name}_scheduler") for name in ("prior", "decoder"))
    return Karlo(
        prior, mean, std, decoder, clip, text, tokenizer, upsampler, side, large, of_prior, of_decoder
    )


def prior_shape_of(config: Mapping[str, object]) -> PriorShape:
    """The shape of a `PriorTransformer`.

    Raises:
        ValueError: a variant that our network does not have.
    """
    _check(config, PRIOR_ONLY)
    embedding = whole("embedding_dim", config.get("embedding_dim", 768))
    heads = whole("num_attention_heads", config.get("num_attention_heads", 32))
    width = heads * whole("attention_head_dim", config.get("attention_head_dim", 64))
    if config.get("clip_embed_dim") not in (None, embedding) or config.get("time_embed_dim") not in (
        None,
        width,
    ):
        raise ValueError("its clip_embed_dim or time_embed_dim is not the usual one")
    pooled = whole("embedding_proj_dim", config.get("embedding_proj_dim") or embedding)
    length = whole("num_embeddings", config.get("num_embeddings", 77))
    layers = whole("num_layers", config.get("num_layers", 20), 1, 1000)
    return PriorShape(embedding, embedding, pooled, length, width, layers, heads)


def prior_of(
    config: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> tuple[PriorTransformer, Tensor, Tensor]:
    """The network of a `PriorTransformer` with weights, and mean and deviation of its embeddings.

    Raises:
        ValueError: a variant that our network does not have, or tensors that do not fit.
    """
    shape = prior_shape_of(config)
    names = {
        "text": "encoder_hidden_states_proj",
        "pooled": "embedding_proj",
        "time.0": "time_embedding.linear_1",
        "time.2": "time_embedding.linear_2",
        "noisy": "proj_in",
        "query": "prd_embedding",
        "positions": "positional_embedding",
        "norm": "norm_out",
        "leave": "proj_to_clip_embeddings",
    }
    for i in range(shape.layers):
        names |= under(f"blocks.{i}", f"transformer_blocks.{i}", _TEXT_BLOCK)
    left = dict(tensors)
    mean, std = (left.pop(name, torch.zeros(0)).flatten() for name in ("clip_mean", "clip_std"))
    if not mean.shape == std.shape == (shape.embedding,):
        raise ValueError("its clip_mean or clip_std is missing or of another width")
    for name, axes in (("prd_embedding", 1), ("positional_embedding", 2)):
        if name in left:
            left[name] = left[name].reshape(left[name].shape[-axes:])
    with torch.device("meta"):
        network = PriorTransformer(shape)
    network.load_state_dict(renamed(left, names, network, torch.float32), assign=True)
    return network.requires_grad_(False).eval(), mean.float(), std.float()


def decoder_shape_of(config: Mapping[str, object], embedding: int, tokens: int) -> UNet2dShape:
    """The shape of the decoder.

    Args:
        embedding: width of the image and text embeddings.
        tokens: number of tokens of an image embedding.
    Raises:
        ValueError: a variant that our network does not have.
    """
    _check(config, DECODER_ONLY)
    sizes = [whole("block_out_channels", it, 1, 65_536) for it in _listed(config, "block_out_channels")]
    downs, ups = _listed(config, "down_block_types"), _listed(config, "up_block_types")
    for name, some, known in (("down_block_types", downs, DOWN), ("up_block_types", ups, UP)):
        for kind in some:
            one_of(name, kind, known)
    kinds, back = [kind == DOWN[1] for kind in downs], [kind == UP[1] for kind in ups]
    if not len(sizes) == len(kinds) <= 8 or kinds != back[::-1]:
        raise ValueError("its types of blocks going up are not those going down, or not one for each level")
    inputs, outputs = (whole(name, config.get(name), 1, 1024) for name in ("in_channels", "out_channels"))
    if outputs not in (inputs, 2 * inputs):
        raise ValueError(f"it makes {outputs} channels of {inputs}")
    unit = gcd(*sizes)
    return UNet2dShape(
        inputs,
        unit,
        tuple(size // unit for size in sizes),
        whole("layers_per_block", config.get("layers_per_block", 2), 1, 64),
        tuple(k for k, attends in enumerate(kinds) if attends),
        whole("attention_head_dim", config.get("attention_head_dim", 8), 1, 65_536),
        scale_shift=True,
        big_gan=True,
        learned_variance=outputs == 2 * inputs,
        groups=whole("norm_num_groups", config.get("norm_num_groups", 32), 1, 4096),
        norm_epsilon=within("norm_eps", config.get("norm_eps", 1e-5), Bounds(0, 1, above=True)),
        time_width=sizes[0],
        cosine_first=True,
        inclusive=False,
        context=whole("cross_attention_dim", config.get("cross_attention_dim")),
        vector=embedding,
        token_norm=False,
        linear_vector=True,
        embedding=embedding,
        embedding_tokens=tokens,
        unit_embedding=False,
    )


def decoder_of(
    config: Mapping[str, object], tensors: Mapping[str, Tensor], projection: Mapping[str, Tensor]
) -> UNet2d:
    """The decoder with weights.

    Args:
        tensors: of the `UNet2DConditionModel`.
        projection: of the `UnCLIPTextProjModel`, whose maps of the embeddings are inside our network.
    Raises:
        ValueError: a variant that our network does not have, or tensors that do not fit.
    """
    extra = "clip_extra_context_tokens_proj"
    null = projection.get("learned_classifier_free_guidance_embeddings", torch.zeros(0))
    weight, context = projection.get(f"{extra}.weight", torch.zeros(0, 0)), config.get("cross_attention_dim")
    if not isinstance(context, int) or not len(null) or len(weight) % max(1, context):
        raise ValueError("its text_proj does not fit its decoder; take both from one model")
    count = len(weight) // context
    shape = decoder_shape_of(config, len(null), count)
    parts = {
        "image.null": "learned_classifier_free_guidance_embeddings",
        "image.time": "clip_image_embeddings_project_to_time_embeddings",
        "image.tokens": extra,
        "vector": "embedding_proj",
    }
    own = {f"text_proj.{name}": value for name, value in projection.items() if not name.startswith(_TEXT)}
    for end in ("weight", "bias"):  # rows are numbers of all tokens in turn there, tokens here
        rows = own[f"text_proj.{extra}.{end}"]
        own[f"text_proj.{extra}.{end}"] = rows.unflatten(0, (context, count)).transpose(0, 1).flatten(0, 1)
    names = diffusers.names(shape) | {ours: f"text_proj.{theirs}" for ours, theirs in parts.items()}
    for module in [name.removesuffix(".qkv") for name in names if name.endswith(".1.qkv")]:
        names[f"{module}.text.1"] = names[f"{module}.qkv"].removesuffix("qkv") + "add_kv"
    return _loaded(shape, placed(_added(diffusers.joined(tensors)) | own, names, shape))


_TEXT = ("encoder_hidden_states_proj", "text_encoder_hidden_states_norm")


def text_of(clip: ClipText, projection: Mapping[str, Tensor]) -> ProjectedText:
    """The decoder's text side.

    Args:
        projection: of the `UnCLIPTextProjModel`.
    Raises:
        ValueError: tensors that do not fit.
    """
    part = ProjectedText(clip, len(projection[f"{_TEXT[0]}.bias"]))
    for ours, theirs in zip((part.project, part.norm), _TEXT, strict=True):
        values = {name: projection[f"{theirs}.{name}"].float() for name in ("weight", "bias")}
        if any(value.shape != ours.state_dict()[name].shape for name, value in values.items()):
            raise ValueError(f"text_proj: {theirs} has another shape than CLIP's texts need")
        ours.load_state_dict(values)
    return part.requires_grad_(False).eval()


def upsampler_of(config: JsonObject, tensors: Mapping[str, Tensor]) -> UNet2d:
    """A network of the upsampler, which sees an image and the enlarged small one.

    Raises:
        ValueError: a variant that our network does not have, or tensors that do not fit.
    """
    from dataclasses import replace

    outputs = whole("out_channels", config.get("out_channels"), 1, 1024)
    if config.get("in_channels") != 2 * outputs:
        raise ValueError(f"its upsampler makes {outputs} channels of {str(config.get('in_channels'))[:20]}")
    scheduler: JsonObject = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "fixed_small_log"}
    described = describe(config | {"in_channels": outputs}, scheduler, tensors).network
    assert isinstance(described, UNet2dShape)
    shape = replace(described, concat=outputs)
    return _loaded(shape, placed(diffusers.joined(tensors), diffusers.names(shape), shape))


def _upsampler(folder: Path) -> tuple[tuple[UNet2d, UNet2d] | None, int]:
    if not all((folder / name / CONFIG).is_file() for name in UPSAMPLERS):
        return None, 0
    configs = [read_object(folder / name / CONFIG) for name in UPSAMPLERS]
    first, last = (
        upsampler_of(config, _tensors(folder / name))
        for config, name in zip(configs, UPSAMPLERS, strict=True)
    )
    return (first, last), whole("sample_size", configs[0].get("sample_size"), 1, 8192)


def _diffusion(folder: Path, name: str) -> Diffusion:
    place = folder / name / SCHEDULER
    config = read_object(place) if place.is_file() else {}
    with reading(place, "a scheduler that cannot be used"):
        schedule = config.get("beta_schedule", "squaredcos_cap_v2")
        one_of("beta_schedule", schedule, ("squaredcos_cap_v2",))
        steps = whole("num_train_timesteps", config.get("num_train_timesteps", 1000), 1, 100_000)
        usual = 5.0 if name.startswith("prior") else 1.0
        most = float(config.get("clip_sample_range", usual))
        clip = within("clip_sample_range", most, Bounds(0, above=True))
        return Diffusion(steps, clip, config.get("variance_type") == "learned_range")


def _tensors(folder: Path, stem: str = STEM) -> dict[str, Tensor]:
    return read_stored(weights_in(folder, stem, None), "cpu", torch.float32)


def _added(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The keys and values of text as one matrix, under `add_kv`."""
    found = dict(tensors)
    for name in [name for name in found if ".add_k_proj." in name]:
        value = found.pop(name.replace(".add_k_proj.", ".add_v_proj."), None)
        if value is None:
            raise ValueError(f"{name[:80]} has no values beside it")
        found[name.replace(".add_k_proj.", ".add_kv.")] = torch.cat([found.pop(name), value])
    return found


def _loaded(shape: UNet2dShape, weights: dict[str, Tensor]) -> UNet2d:
    with torch.device("meta"):
        network = UNet2d(shape)
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


def _listed(config: Mapping[str, object], name: str) -> list[object]:
    value = config.get(name)
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"its {name} makes no sense")
    return list(cast(list[object], value))


def _check(config: Mapping[str, object], only: Mapping[str, tuple[object, ...]]) -> None:
    for name, known in only.items():
        if (value := config.get(name, known[0])) not in known:
            raise ValueError(f"its {name} is {str(value)[:40]}; {' or '.join(map(str, known))} can be read")

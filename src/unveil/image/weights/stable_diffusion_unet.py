"""The U-Net of Stable Diffusion under three names: ours, diffusers' and CompVis' (the single files); its
shape from a config of diffusers, or from tensors alone.

Its residual blocks, time embedding and changes of the sides are those of other releases, whose tables of
names are used here; inside transformers all three names are the same. So every table follows from a shape.
"""

import re
from collections.abc import Mapping
from functools import cache
from math import gcd
from typing import cast

import torch
from torch import Tensor

from unveil.checks import Bounds, flag, one_of, whole, within
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.weights import diffusers, openai
from unveil.image.weights.description import axes

CLASS = "UNet2DConditionModel"
HEADS_1, HEAD_WIDTH_2 = 8, 64
"""Attention heads of Stable Diffusion 1 and the x4 upscaler; channels of a head in Stable Diffusion 2."""
UPSCALER_INPUTS = 7
MOST_LAYERS = 64
VECTOR = {"vector.0": "class_embedding.linear_1", "vector.2": "class_embedding.linear_2"}
COMPVIS_VECTOR = {"vector.0": "label_emb.0.0", "vector.2": "label_emb.0.2"}
TRANSFORMER = re.compile(r"((?:down|up)\.\d+\.1|middle\.1)\.(.+)")
DOWN, UP = ("DownBlock2D", "CrossAttnDownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
ONLY: dict[str, tuple[object, ...]] = {  # the first is diffusers' default
    "center_input_sample": (False,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_only_cross_attention": (None, False),
    "act_fn": ("silu", "swish"),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "addition_embed_type": (None,),
    "dual_cross_attention": (False,),
    "class_embed_type": (None, "projection"),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "cross_attention_norm": (None,),
    "freq_shift": (0, 0.0),
    "flip_sin_to_cos": (True,),
    "downsample_padding": (1,),
    "num_attention_heads": (None,),
    "reverse_transformer_layers_per_block": (None,),
}


@cache
def parameters(shape: UNet2dShape) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of our U-Net, by our names; nothing is allocated.

    Raises:
        ValueError: numbers that do not fit.
    """
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in UNet2d(shape).state_dict().items()}


def diffusers_names(shape: UNet2dShape) -> dict[str, str]:
    """Our names of all parameters to those of diffusers' `UNet2DConditionModel`."""
    return _full(shape, diffusers.names(shape) | VECTOR, f".{diffusers.ATTENTION['norm']}")


def compvis_names(shape: UNet2dShape) -> dict[str, str]:
    """Our names of all parameters to CompVis', without the prefix `model.diffusion_model.`."""
    return _full(shape, openai.names(shape) | COMPVIS_VECTOR, f".{openai.ATTENTION['norm']}")


def _full(shape: UNet2dShape, modules: dict[str, str], norm: str) -> dict[str, str]:
    """Parameters by a table of modules; a transformer lies where the table has an attention, whose name ends
    in `norm`."""
    found: dict[str, str] = {}
    for name in parameters(shape):
        inside = TRANSFORMER.fullmatch(name)
        if inside:
            found[name] = f"{modules[f'{inside[1]}.norm'].removesuffix(norm)}.{inside[2]}"
        else:
            module, _, end = name.rpartition(".")
            found[name] = f"{modules[module]}.{end}"
    return found


def shape_of_config(config: Mapping[str, object]) -> UNet2dShape:
    """The shape of a `UNet2DConditionModel`.

    Raises:
        ValueError: a variant that our network does not have, or a config that lacks something.
    """
    if config.get("addition_embed_type") == "text_time":
        raise ValueError("it is Stable Diffusion XL; versions 1 and 2 can be read")
    for name, known in ONLY.items():
        if (value := config.get(name, known[0])) not in known:
            raise ValueError(f"its {name} is {str(value)[:40]}; {' or '.join(map(str, known))} can be read")
    sizes = _numbers(config, "block_out_channels", (320, 640, 1280, 1280))
    levels = len(sizes)
    downs = _listed(config, "down_block_types", (DOWN[1],) * 3 + (DOWN[0],), DOWN)
    ups = _listed(config, "up_block_types", (UP[0],) + (UP[1],) * 3, UP)
    attention = tuple(k for k, kind in enumerate(downs) if kind == DOWN[1])
    if len(downs) != levels or [kind == UP[1] for kind in reversed(ups)] != [
        k in attention for k in range(levels)
    ]:
        raise ValueError("its types of blocks going up are not those going down, or not one for each level")
    heads, head_width = _heads(sizes, _numbers(config, "attention_head_dim", (8,) * levels, levels))
    inputs, outputs = (whole(name, config.get(name, 4), 1, 64) for name in ("in_channels", "out_channels"))
    if inputs < outputs:
        raise ValueError(f"it makes {outputs} channels of {inputs}")
    only = config.get("only_cross_attention", False)
    text_only = tuple(only) if isinstance(only, list | tuple) else (only,) * levels
    if only is True or len(text_only) != levels or not all(isinstance(it, bool) for it in text_only):
        raise ValueError("its only_cross_attention must be one of false and true for each level, or false")
    projected = config.get("class_embed_type") == "projection"
    vector = (
        whole("projection_class_embeddings_input_dim", config.get("projection_class_embeddings_input_dim"))
        if projected
        else 0
    )
    labels = 0 if projected else whole("num_class_embeds", config.get("num_class_embeds") or 0, 0, 10**6)
    unit = gcd(*sizes)
    return UNet2dShape(
        outputs,
        unit,
        tuple(size // unit for size in sizes),
        _one(config, "layers_per_block", 2, levels, MOST_LAYERS),
        attention,
        head_width,
        labels,
        groups=whole("norm_num_groups", config.get("norm_num_groups", 32), 1, 4096),
        norm_epsilon=within("norm_eps", config.get("norm_eps", 1e-5), Bounds(0, 1, above=True)),
        concat=inputs - outputs,
        heads=heads,
        time_width=sizes[0],
        cosine_first=True,
        inclusive=False,
        context=_one(config, "cross_attention_dim", 1280, levels),
        cross="transformer",
        vector=vector,
        transformer_layers=_one(config, "transformer_layers_per_block", 1, levels, MOST_LAYERS),
        linear_projection=flag("use_linear_projection", config.get("use_linear_projection", False)),
        text_only=tuple(k for k, it in enumerate(text_only) if it),
    )


def config_of_shape(shape: UNet2dShape, sample_size: int) -> dict[str, object]:
    """The config.json of diffusers for a U-Net of such a shape.

    Args:
        sample_size: side of the latents that it was trained with.
    """
    sizes, levels = [shape.width * m for m in shape.multiples], range(len(shape.multiples))
    heads: object = [size // shape.head_width for size in sizes] if shape.head_width else shape.heads
    only: object = [k in shape.text_only for k in levels] if shape.text_only else False
    config: dict[str, object] = {
        "_class_name": CLASS,
        "_diffusers_version": "0.21.0",
        "act_fn": "silu",
        "attention_head_dim": heads,
        "block_out_channels": sizes,
        "cross_attention_dim": shape.context,
        "down_block_types": [DOWN[k in shape.attention] for k in levels],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": shape.channels + shape.concat,
        "layers_per_block": shape.blocks,
        "norm_eps": shape.norm_epsilon,
        "norm_num_groups": shape.groups,
        "num_class_embeds": shape.labels or None,
        "only_cross_attention": only,
        "out_channels": shape.channels,
        "sample_size": sample_size,
        "transformer_layers_per_block": shape.transformer_layers,
        "up_block_types": [UP[k in shape.attention] for k in reversed(levels)],
        "use_linear_projection": shape.linear_projection,
    }
    if shape.vector:
        config |= {"class_embed_type": "projection", "projection_class_embeddings_input_dim": shape.vector}
    return config


def shape_of_tensors(tensors: Mapping[str, Tensor]) -> UNet2dShape:
    """The shape of a U-Net under CompVis' names, without prefix; tensors may be on `meta`.

    The number of attention heads is in no tensor: it is 8 in version 1 and the x4 upscaler, and the heads of
    version 2, whose projections are linear, have 64 channels.

    Raises:
        ValueError: a tensor is missing, or a variant that our network does not have.
    """
    levels, blocks, big_gan = openai.levels_of(tensors)
    if big_gan:
        raise ValueError("its sides change inside residual blocks, unlike those of Stable Diffusion")
    starts = [1 + k * (blocks + 1) for k in range(levels)]
    sizes = [axes(tensors, f"input_blocks.{i}.0.out_layers.0.weight", 1)[0] for i in starts]
    keys, inside = "transformer_blocks.0.attn{}.to_k.weight", "middle_block.1"
    attention = tuple(k for k, i in enumerate(starts) if f"input_blocks.{i}.1.{keys.format(2)}" in tensors)
    context = axes(tensors, f"{inside}.{keys.format(2)}", 2)[1]
    outputs, inputs = axes(tensors, "out.2.weight", 4)[0], axes(tensors, "input_blocks.0.0.weight", 4)[1]
    projection = f"{inside}.proj_in.weight"
    linear = projection in tensors and tensors[projection].ndim == 2
    vector = axes(tensors, "label_emb.0.0.weight", 2)[1] if "label_emb.0.0.weight" in tensors else 0
    labels = axes(tensors, "label_emb.weight", 2)[0] if "label_emb.weight" in tensors else 0
    first = {k: axes(tensors, f"input_blocks.{starts[k]}.1.{keys.format(1)}", 2)[1] for k in attention}
    layers = 0
    while f"{inside}.transformer_blocks.{layers}.norm1.weight" in tensors:
        layers += 1
    unit, heads_of_2 = gcd(*sizes), linear and inputs != UPSCALER_INPUTS
    return UNet2dShape(
        outputs,
        unit,
        tuple(size // unit for size in sizes),
        blocks,
        attention,
        HEAD_WIDTH_2 if heads_of_2 else 0,
        labels,
        groups=32,
        norm_epsilon=1e-5,
        concat=inputs - outputs,
        heads=1 if heads_of_2 else HEADS_1,
        time_width=axes(tensors, "time_embed.0.weight", 2)[1],
        cosine_first=True,
        inclusive=False,
        context=context,
        cross="transformer",
        vector=vector,
        transformer_layers=layers,
        linear_projection=linear,
        text_only=tuple(k for k in attention if first[k] != sizes[k]),
    )


def _heads(sizes: tuple[int, ...], numbers: tuple[int, ...]) -> tuple[int, int]:
    """Number of heads and channels of a head, one of which is the same at all levels; the other is 1, or 0.

    diffusers' `attention_head_dim` is the number of heads.
    """
    if len(set(numbers)) == 1:
        return numbers[0], 0
    widths = {size // number for size, number in zip(sizes, numbers, strict=True)}
    if len(widths) > 1 or any(size % number for size, number in zip(sizes, numbers, strict=True)):
        raise ValueError(f"its attention_head_dim {numbers} is neither one number nor heads of one width")
    return 1, widths.pop()


def _listed(
    config: Mapping[str, object], name: str, default: tuple[str, ...], words: tuple[str, ...]
) -> tuple[str, ...]:
    value = config.get(name, default)
    found = tuple(cast(list[object], value)) if isinstance(value, list | tuple) else ()
    for it in found:
        one_of(name, it, words)
    return tuple(map(str, found))


def _numbers(
    config: Mapping[str, object], name: str, default: tuple[int, ...], count: int = 0, most: int = 2**20
) -> tuple[int, ...]:
    """Whole numbers up to `most`, of which one stands for `count`."""
    value = config.get(name, default)
    found = tuple(cast(list[object], value)) if isinstance(value, list | tuple) else (value,) * count
    if not 0 < len(found) <= 8 or len(found) != (count or len(found)):
        raise ValueError(f"its {name} makes no sense")
    return tuple(whole(name, it, 1, most) for it in found)


def _one(config: Mapping[str, object], name: str, default: int, levels: int, most: int = 2**20) -> int:
    """A number that is the same at all levels."""
    numbers = set(_numbers(config, name, (default,) * levels, levels, most))
    if len(numbers) > 1:
        raise ValueError(f"its {name} is not the same at all levels")
    return numbers.pop()

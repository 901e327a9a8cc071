"""The autoencoder of Stable Diffusion under three names, as in `stable_diffusion_unet`; its shape from a
config of diffusers, or from tensors alone."""

from collections.abc import Mapping
from functools import cache
from math import gcd

import torch
from torch import Tensor

from unveil.checks import Bounds, whole, within
from unveil.image.latents.latent import STABLE_DIFFUSION
from unveil.image.networks.autoencoder import Autoencoder, AutoencoderShape
from unveil.image.weights.description import axes, under

CLASS = "AutoencoderKL"
OLDER = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Names of the middle's attention in files that diffusers wrote before 0.15, to those of today."""
_RESIDUAL = {"first_norm": "norm1", "first": "conv1", "second_norm": "norm2", "second": "conv2"}
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "merge": "to_out.0", "norm": "group_norm"}
_COMPVIS_ATTENTION = {"query": "q", "key": "k", "value": "v", "merge": "proj_out", "norm": "norm"}
_ENDS = {
    "encoder": ("DownEncoderBlock2D", "down_block_types"),
    "decoder": ("UpDecoderBlock2D", "up_block_types"),
}


@cache
def parameters(shape: AutoencoderShape) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of our autoencoder, by our names; nothing is allocated."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Autoencoder(shape).state_dict().items()}


def diffusers_names(shape: AutoencoderShape) -> dict[str, str]:
    """Our names of all parameters to those of diffusers' `AutoencoderKL`."""
    residual, last = _RESIDUAL | {"skip": "conv_shortcut"}, 1 + shape.attention
    table = {"moments": "quant_conv", "enter": "post_quant_conv"}
    for side, way, blocks in (("encoder", "down", shape.blocks), ("decoder", "up", shape.blocks + 1)):
        middle = f"{side}.mid_block"
        table |= under(side, side, {"enter": "conv_in", "norm": "conv_norm_out", "leave": "conv_out"})
        table |= under(f"{side}.middle.0", f"{middle}.resnets.0", residual)
        table |= under(f"{side}.middle.1", f"{middle}.attentions.0", _ATTENTION) if shape.attention else {}
        table |= under(f"{side}.middle.{last}", f"{middle}.resnets.1", residual)
        for k in range(len(shape.multiples)):
            ours, theirs = f"{side}.levels.{k}", f"{side}.{way}_blocks.{k}"
            for j in range(blocks):
                table |= under(f"{ours}.{j}", f"{theirs}.resnets.{j}", residual)
            table |= under(f"{ours}.{blocks}", f"{theirs}.{way}samplers.0", {"conv": "conv"})
    return _full(shape, table)


def compvis_names(shape: AutoencoderShape) -> dict[str, str]:
    """Our names of all parameters to CompVis', without the prefix `first_stage_model.`; its levels of the
    decoder are counted from the finest."""
    residual, last = _RESIDUAL | {"skip": "nin_shortcut"}, 1 + shape.attention
    table, levels = {"moments": "quant_conv", "enter": "post_quant_conv"}, len(shape.multiples)
    for side, way, blocks in (("encoder", "down", shape.blocks), ("decoder", "up", shape.blocks + 1)):
        table |= under(side, side, {"enter": "conv_in", "norm": "norm_out", "leave": "conv_out"})
        table |= under(f"{side}.middle.0", f"{side}.mid.block_1", residual)
        table |= (
            under(f"{side}.middle.1", f"{side}.mid.attn_1", _COMPVIS_ATTENTION) if shape.attention else {}
        )
        table |= under(f"{side}.middle.{last}", f"{side}.mid.block_2", residual)
        for k in range(levels):
            ours, theirs = f"{side}.levels.{k}", f"{side}.{way}.{k if side == 'encoder' else levels - 1 - k}"
            for j in range(blocks):
                table |= under(f"{ours}.{j}", f"{theirs}.block.{j}", residual)
            table |= under(f"{ours}.{blocks}", f"{theirs}.{way}sample", {"conv": "conv"})
    return _full(shape, table)


def _full(shape: AutoencoderShape, modules: Mapping[str, str]) -> dict[str, str]:
    parts = {name: name.rpartition(".") for name in parameters(shape)}
    return {name: f"{modules[module]}.{end}" for name, (module, _, end) in parts.items()}


def shape_of_config(config: Mapping[str, object]) -> tuple[AutoencoderShape, float]:
    """The shape of an `AutoencoderKL`, and the scale of its codes.

    Raises:
        ValueError: a variant that ours does not have.
    """
    if config.get("shift_factor") is not None or config.get("use_quant_conv", True) is not True:
        raise ValueError("its shift_factor or use_quant_conv is not that of Stable Diffusion 1 and 2")
    sizes = config.get("block_out_channels", [64])
    sizes = (
        [whole("block_out_channels", n, 1, 2**16) for n in sizes] if isinstance(sizes, list | tuple) else []
    )
    for kind, name in _ENDS.values():
        if list(config.get(name) or [kind]) != [kind] * len(sizes):  # pyright: ignore[reportArgumentType, reportCallIssue]
            raise ValueError(f"its {name} is not {kind} at each of its levels")
    unit, channels = gcd(*sizes), config.get("in_channels", 3)
    if channels != config.get("out_channels", 3) or not 0 < len(sizes) <= 8:
        raise ValueError("its in_channels and out_channels differ, or its block_out_channels make no sense")
    shape = AutoencoderShape(
        whole("in_channels", channels, 1, 64),
        unit,
        tuple(size // unit for size in sizes),
        whole("layers_per_block", config.get("layers_per_block", 1), 1, 64),
        whole("latent_channels", config.get("latent_channels", 4), 1, 1024),
        whole("norm_num_groups", config.get("norm_num_groups", 32), 1, 4096),
        config.get("mid_block_add_attention", True) is not False,
    )
    scale = within(
        "scaling_factor", config.get("scaling_factor", STABLE_DIFFUSION), Bounds(0, 1e6, above=True)
    )
    return shape, scale


def config_of_shape(shape: AutoencoderShape, scale: float, sample_size: int) -> dict[str, object]:
    """The config.json of diffusers for such an autoencoder.

    Args:
        sample_size: side in pixels of the images that it was trained with.
    Raises:
        ValueError: it folds pixels into channels (`stem`), which diffusers' does not.
    """
    if shape.stem > 1:
        raise ValueError("diffusers has no autoencoder with a `stem`")
    levels = len(shape.multiples)
    config: dict[str, object] = {
        "_class_name": CLASS,
        "_diffusers_version": "0.21.0",
        "act_fn": "silu",
        "block_out_channels": list(shape.widths),
        "in_channels": shape.channels,
        "latent_channels": shape.latent,
        "layers_per_block": shape.blocks,
        "norm_num_groups": shape.groups,
        "out_channels": shape.channels,
        "sample_size": sample_size,
        "scaling_factor": scale,
    }
    config |= {name: [kind] * levels for kind, name in _ENDS.values()}
    return config | ({} if shape.attention else {"mid_block_add_attention": False})


def shape_of_tensors(tensors: Mapping[str, Tensor]) -> AutoencoderShape:
    """The shape of an autoencoder under CompVis' or diffusers' names, without prefix; tensors may be on
    `meta`.

    Raises:
        ValueError: a tensor is missing, or a variant that ours does not have.
    """
    compvis = "encoder.down.0.block.0.conv1.weight" in tensors
    first = (
        "encoder.down.{}.block.{}.conv1.weight"
        if compvis
        else "encoder.down_blocks.{}.resnets.{}.conv1.weight"
    )
    sizes: list[int] = []
    while first.format(len(sizes), 0) in tensors and len(sizes) < 8:
        sizes.append(axes(tensors, first.format(len(sizes), 0), 4)[0])
    blocks = 0
    while first.format(0, blocks) in tensors:
        blocks += 1
    if not sizes:
        raise ValueError("it holds no autoencoder")
    latent, channels = (
        axes(tensors, "decoder.conv_in.weight", 4)[1],
        axes(tensors, "encoder.conv_in.weight", 4)[1],
    )
    attended = any(
        name.startswith(("encoder.mid.attn_1", "encoder.mid_block.attentions.0")) for name in tensors
    )
    unit = gcd(*sizes)
    return AutoencoderShape(
        channels, unit, tuple(size // unit for size in sizes), blocks, latent, gcd(32, unit), attended
    )

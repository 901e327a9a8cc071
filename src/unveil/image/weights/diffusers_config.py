"""Describe an image model of diffusers by the configs of its `UNet2DModel` and its scheduler."""

from collections.abc import Mapping
from math import gcd
from typing import Literal, TypeGuard, cast

import torch
from torch import Tensor

from unveil.files.json_objects import JsonObject
from unveil.image.weights.description import DescribedImages, UNet2dShape, checked
from unveil.process.schedule import cosine_betas, linear_betas, scaled_linear_betas

RELEASE = "diffusers"
DEFAULTS: JsonObject = {  # of UNet2DModel, where its config is silent
    "in_channels": 3,
    "out_channels": 3,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "downsample_padding": 1,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "num_class_embeds": None,
    "time_embedding_dim": None,
    "downsample_type": "conv",
    "upsample_type": "conv",
}
ONLY: dict[str, tuple[object, ...]] = {  # the first is diffusers' default
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1, 1.0),
    "act_fn": ("silu", "swish"),
    "class_embed_type": (None,),
    "freq_shift": (0, 1, 0.0, 1.0),
    "downsample_padding": (1, 0),
    "resnet_time_scale_shift": ("default", "scale_shift"),
}
# whether a block has attention
DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True, "ResnetDownsampleBlock2D": False}
UP = {"UpBlock2D": False, "AttnUpBlock2D": True, "ResnetUpsampleBlock2D": False}
PREDICTS: dict[str, Literal["eps", "x0", "v"]] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def describe(
    config: JsonObject, scheduler: JsonObject, tensors: Mapping[str, Tensor], size: int = 0
) -> DescribedImages:
    """Describe a model by both configs.

    Raises:
        ValueError: a variant that our networks do not have, or a config that lacks something.
    """
    for name, known in ONLY.items():
        if (value := config.get(name, known[0])) not in known:
            raise ValueError(f"its {name} is {str(value)[:40]}; {' or '.join(map(str, known))} can be read")
    it = DEFAULTS | dict(config)
    sizes = cast(list[int], _listed(it, "block_out_channels"))  # checked below
    downs, ups = (cast(list[str], _listed(it, f"{way}_block_types")) for way in ("down", "up"))
    if not len(sizes) == len(downs) == len(ups) <= 8 or not all(_counted(n, 65_536) for n in sizes):
        raise ValueError("its block_out_channels and types of blocks make no sense")
    if strange := [str(n)[:40] for n in [*downs, *ups] if n not in DOWN and n not in UP]:
        raise ValueError(f"its blocks are {strange[0]}; {', '.join([*DOWN, *UP])} can be read")
    pairs = zip(downs, reversed(ups), strict=True)
    if any(a not in DOWN or b not in UP or DOWN[a] != UP[b] for a, b in pairs):
        raise ValueError("its attention going down is not at the levels of that going up")
    changes = [f"{way}_blocks.{k}.{way}samplers.0" for way in ("down", "up") for k in range(len(sizes) - 1)]
    big = {_big_gan(tensors, name) for name in changes}
    if len(big) > 1:
        raise ValueError("its sides change by convolutions at some levels, by residual blocks at others")
    blocks, groups, head = it["layers_per_block"], it["norm_num_groups"], it["attention_head_dim"]
    whole = _counted(blocks, 64) and _counted(groups, 4096) and (head is None or _counted(head, 65_536))
    if not whole or not isinstance(it["norm_eps"], float) or not 0.0 < it["norm_eps"] < 1.0:
        raise ValueError(
            "its layers_per_block, norm_num_groups, attention_head_dim or norm_eps make no sense"
        )
    usual = it["time_embedding_dim"] in (None, 4 * sizes[0])
    if not usual or it["attn_norm_num_groups"] not in (None, groups):
        raise ValueError("its time_embedding_dim or attn_norm_num_groups is not the usual one")
    inputs, outputs, labels = it["in_channels"], it["out_channels"], it["num_class_embeds"] or 0
    side = it.get("sample_size") or size
    sides = tuple(cast(list[int], side)) if isinstance(side, list) else (side, side)
    square = len(sides) == 2 and sides[0] == sides[1] and isinstance(sides[0], int)
    if not square or not isinstance(labels, int) or labels < 0:
        raise ValueError(
            f"its sample_size {str(side)[:40]} is not one side, or its num_class_embeds no number"
        )
    if not sides[0]:
        raise ValueError("its config has no sample_size; give `size`, its images' side in pixels")
    if not _counted(inputs, 1024) or outputs not in (inputs, 2 * inputs):
        raise ValueError(f"it makes {str(outputs)[:20]} channels of {str(inputs)[:20]}")
    unit = gcd(*sizes)
    learned = scheduler.get("variance_type") == "learned_range"
    if learned != (outputs == 2 * inputs):
        raise ValueError(
            f"it makes {outputs} channels of {inputs}, but its scheduler says variance_type "
            f"{scheduler.get('variance_type')}"
        )
    network = UNet2dShape(
        inputs,
        unit,
        tuple(n // unit for n in sizes),
        blocks,
        tuple(k for k, kind in enumerate(downs) if DOWN[kind]),
        head or 0,
        labels,
        scale_shift=it["resnet_time_scale_shift"] == "scale_shift",
        big_gan=big == {True},
        learned_variance=learned,
        groups=groups,
        norm_epsilon=it["norm_eps"],
        heads=1,
        time_width=sizes[0],
        cosine_first=it["flip_sin_to_cos"] is True,
        inclusive=it["freq_shift"] == 1,
        pad_after=it["downsample_padding"] == 0 and big != {True},
        middle_attention=it["add_attention"] is True,
        middle_norm=it["resnet_time_scale_shift"] == "default" or it["attn_norm_num_groups"] is not None,
    )
    predicts = str(scheduler.get("prediction_type", "epsilon"))
    if predicts not in PREDICTS:
        raise ValueError(
            f"its scheduler says prediction_type {predicts[:40]}; {', '.join(PREDICTS)} are known"
        )
    betas, how = betas_of(scheduler), str(scheduler.get("_class_name"))[:40]
    if scheduler.get("variance_type") in ("fixed_large", "fixed_large_log"):
        how += ", fixed large variance (--variance large)"
    cut = "clipped" if scheduler.get("clip_sample", True) is True else "not clipped (--no-clip)"
    target, sampler = PREDICTS[predicts], f"{how}, {cut}"
    return checked(DescribedImages(RELEASE, network, sides[0], betas, target, 1.0, sampler))


def betas_of(scheduler: Mapping[str, object]) -> tuple[float, ...]:
    """The table of a scheduler's config.

    Raises:
        ValueError: a schedule that is not a known table.
    """
    kind, steps = str(scheduler.get("beta_schedule", "linear")), scheduler.get("num_train_timesteps", 1000)
    ends = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    if "beta_schedule" not in scheduler and "beta_start" not in scheduler:
        raise ValueError(f"its scheduler {str(scheduler.get('_class_name'))[:40]} has no table of betas")
    if scheduler.get("rescale_betas_zero_snr") is True:
        raise ValueError(
            "its scheduler has zero terminal SNR (rescale_betas_zero_snr), and tables here end with some "
            "signal"
        )
    table = scheduler.get("trained_betas")
    if isinstance(table, list) and 0 < len(table) <= 100_000 and all(isinstance(b, float) for b in table):
        return tuple(table)
    inside = all(isinstance(e, float) and 0.0 < e < 1.0 for e in ends)
    if table is not None or not _counted(steps, 100_000) or not inside:
        raise ValueError(
            "its scheduler's num_train_timesteps, beta_start, beta_end or trained_betas make no sense"
        )
    first, last = cast(tuple[float, float], ends)
    if kind == "sigmoid":
        place = torch.linspace(-6.0, 6.0, steps, dtype=torch.float64, device="cpu")
        return tuple((place.sigmoid() * (last - first) + first).tolist())
    tables = {"linear": linear_betas, "scaled_linear": scaled_linear_betas}
    if kind == "squaredcos_cap_v2":
        return tuple(cosine_betas(steps).tolist())
    if kind not in tables:
        raise ValueError(
            f"its scheduler's table is {str(kind)[:40]}; {', '.join(tables)}, squaredcos_cap_v2 and sigmoid "
            "are known"
        )
    return tuple(tables[kind](steps, first, last).tolist())


def _big_gan(tensors: Mapping[str, Tensor], name: str) -> bool:
    if f"{name}.conv.weight" not in tensors and f"{name}.conv1.weight" not in tensors:
        raise ValueError(f"{name} is missing")
    return f"{name}.conv.weight" not in tensors


def _listed(config: JsonObject, name: str) -> list[object]:
    value = cast(list[object], config[name]) if isinstance(config[name], list) else []
    if not value or not all(isinstance(v, str | int) for v in value):
        raise ValueError(f"its {name} makes no sense")
    return value


def _counted(value: object, most: int) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= most

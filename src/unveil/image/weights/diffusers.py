"""Image models of diffusers: a folder with a `UNet2DModel` and its scheduler, `DDPMPipeline`'s or flat, under our names."""

from collections.abc import Mapping
from math import gcd
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.json_objects import read_object
from unveil.files.pickles import nothing
from unveil.files.safetensors import read_tensors
from unveil.files.torch_save import Form, read_torch
from unveil.image.weights.description import (
    DescribedImages,
    ImageWeights,
    UNet2dShape,
    check_images,
    placed,
    state_dict,
)
from unveil.process.schedule import cosine_betas, linear_betas, scaled_linear_betas

RELEASE = "diffusers"
STEM, SCHEDULER = "diffusion_pytorch_model", "scheduler_config.json"
DEFAULTS: dict[str, Any] = {  # of UNet2DModel, where its config is silent
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
ONLY: dict[str, tuple[Any, ...]] = {  # the first is diffusers' default
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
DOWN = {
    "DownBlock2D": (False, False),
    "AttnDownBlock2D": (True, False),
    "ResnetDownsampleBlock2D": (False, True),
}  # attention, BigGAN
UP = {"UpBlock2D": (False, False), "AttnUpBlock2D": (True, False), "ResnetUpsampleBlock2D": (False, True)}
PREDICTS: dict[str, Literal["eps", "x0", "v"]] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def is_diffusers(folder: Path) -> bool:
    """Whether a folder is a pipeline or a model of diffusers, a checkpoint of its training, or holds such checkpoints."""
    return (
        (folder / "model_index.json").is_file()
        or _said(folder)
        or bool(_parts(folder))
        or newest_checkpoint(folder) is not None
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest `checkpoint-<step>` with a network of diffusers in it, as accelerate's trainings leave them."""
    found = [
        p for p in folder.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdecimal() and _parts(p)
    ]
    return max(found, key=lambda p: int(p.name.removeprefix("checkpoint-")), default=None)


def _parts(folder: Path) -> list[Path]:
    """The networks of a checkpoint or a pipeline, the weights themselves first."""
    return [p for p in (folder / "unet", folder / "unet_ema") if _said(p)]


def _said(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and "_diffusers_version" in read_object(
            folder / "config.json"
        )
    except UnveilError:
        return False


def read_images_folder(folder: Path, size: int = 0) -> ImageWeights:
    """A `UNet2DModel` with the diffusion of the scheduler beside it: a pipeline, which holds the average of training, or one network; a
    checkpoint of training, which holds both (`unet`, `unet_ema`), its scheduler beside it; or of a folder of checkpoints alone the newest.

    Args:
        size: side in pixels, where its config has none.
    Raises:
        UnveilError: a file is missing or damaged, or a model that ours cannot be.
    """
    index = read_object(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    places = [p for p in (folder / "unet", folder / "unet_ema", folder) if (p / "config.json").is_file()]
    if not places and (newest := newest_checkpoint(folder)) is not None:
        return read_images_folder(newest, size)
    if not places:
        raise UnveilError(
            f"{folder}: a folder of diffusers ({str(index.get('_class_name'))[:40]}) without a unet/config.json"
        )
    place = places[0]
    config = read_object(place / "config.json")
    try:
        if (kind := config.get("_class_name")) != "UNet2DModel":
            raise ValueError(f"its network is a {str(kind)[:40]}; UNet2DModel can be read")
        whole = folder.absolute()
        above = [whole / "scheduler", whole, *(p / "scheduler" for p in [whole.parent, whole.parent.parent])]
        scheduler = next((read_object(p / SCHEDULER) for p in above if (p / SCHEDULER).is_file()), None)
        if scheduler is None:
            raise ValueError(
                f"no {SCHEDULER} in it, in a folder scheduler/ or beside it, so it does not say its diffusion; save the whole pipeline, or "
                "put the scheduler of its training there"
            )
        tensors = _weights(place)
        described = describe(config, scheduler, tensors, size)
        shape = described.network
        assert isinstance(shape, UNet2dShape)
        averaged = (
            placed(joined(_weights(places[1])), names(shape), shape)
            if places[1:2] == [folder / "unet_ema"]
            else None
        )
        step = folder.name.removeprefix("checkpoint-")
        notes = {"step": int(step)} if step != folder.name and step.isdecimal() and len(step) < 13 else {}
        return ImageWeights(described, placed(joined(tensors), names(shape), shape), averaged, notes)
    except ValueError as error:
        raise UnveilError(f"{folder}: a model of diffusers that cannot be used: {error}") from error


def describe(
    config: Mapping[str, Any], scheduler: Mapping[str, Any], tensors: Mapping[str, Tensor], size: int = 0
) -> DescribedImages:
    """What a model is, of both configs.

    Raises:
        ValueError: a variant that ours cannot be, or a config that lacks something.
    """
    for name, known in ONLY.items():
        if (value := config.get(name, known[0])) not in known:
            raise ValueError(f"its {name} is {str(value)[:40]}; {' or '.join(map(str, known))} can be read")
    it = DEFAULTS | dict(config)
    sizes, downs, ups = (
        _listed(it, name) for name in ("block_out_channels", "down_block_types", "up_block_types")
    )
    if not len(sizes) == len(downs) == len(ups) <= 8 or not all(_counted(n, 65_536) for n in sizes):
        raise ValueError("its block_out_channels and types of blocks make no sense")
    if strange := [str(n)[:40] for n in [*downs, *ups] if n not in DOWN and n not in UP]:
        raise ValueError(f"its blocks are {strange[0]}; {', '.join([*DOWN, *UP])} can be read")
    if any(
        a not in DOWN or b not in UP or DOWN[a][0] != UP[b][0]
        for a, b in zip(downs, reversed(ups), strict=True)
    ):
        raise ValueError("its attention going down is not at the levels of that going up")
    big = {_big_gan(tensors, f"down_blocks.{k}.downsamplers.0") for k in range(len(sizes) - 1)}
    big |= {_big_gan(tensors, f"up_blocks.{k}.upsamplers.0") for k in range(len(sizes) - 1)}
    if len(big) > 1:
        raise ValueError("its sides change by convolutions at some levels, by residual blocks at others")
    blocks, groups, head = it["layers_per_block"], it["norm_num_groups"], it["attention_head_dim"]
    whole = _counted(blocks, 64) and _counted(groups, 4096) and (head is None or _counted(head, 65_536))
    if not whole or not isinstance(it["norm_eps"], float) or not 0.0 < it["norm_eps"] < 1.0:
        raise ValueError(
            "its layers_per_block, norm_num_groups, attention_head_dim or norm_eps make no sense"
        )
    if it["time_embedding_dim"] not in (None, 4 * sizes[0]) or it["attn_norm_num_groups"] not in (
        None,
        groups,
    ):
        raise ValueError("its time_embedding_dim or attn_norm_num_groups is not the usual one")
    inputs, outputs, labels, side = (
        it["in_channels"],
        it["out_channels"],
        it["num_class_embeds"] or 0,
        it.get("sample_size") or size,
    )
    sides = tuple(cast(list[Any], side)) if isinstance(side, list) else (side, side)
    if (
        len(sides) != 2
        or sides[0] != sides[1]
        or not isinstance(sides[0], int)
        or not isinstance(labels, int)
        or labels < 0
    ):
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
            f"it makes {outputs} channels of {inputs}, but its scheduler says variance_type {scheduler.get('variance_type')}"
        )
    network = UNet2dShape(
        inputs,
        unit,
        tuple(n // unit for n in sizes),
        blocks,
        tuple(k for k, kind in enumerate(downs) if DOWN[kind][0]),
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
    found = DescribedImages(RELEASE, network, sides[0], betas, PREDICTS[predicts], 1.0, f"{how}, {cut}")
    check_images(found)
    return found


def betas_of(scheduler: Mapping[str, Any]) -> tuple[float, ...]:
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
            "its scheduler has zero terminal SNR (rescale_betas_zero_snr), and tables here end with some signal"
        )
    given = scheduler.get("trained_betas")
    if isinstance(given, list) and 0 < len(given) <= 100_000 and all(isinstance(b, float) for b in given):
        return tuple(given)
    if (
        given is not None
        or not _counted(steps, 100_000)
        or not all(isinstance(e, float) and 0.0 < e < 1.0 for e in ends)
    ):
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
            f"its scheduler's table is {str(kind)[:40]}; {', '.join(tables)}, squaredcos_cap_v2 and sigmoid are known"
        )
    return tuple(tables[kind](steps, first, last).tolist())


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as one matrix, under `qkv`; what is called query or to_q, proj_attn or to_out.0 by one name.

    Raises:
        ValueError: one of the three is missing.
    """
    older = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        for old, new in older.items():
            name = name.replace(old, new)
        found[name] = (
            value[:, :, 0, 0]
            if ".attentions." in name and value.ndim == 4 and value.shape[2:] == (1, 1)
            else value
        )
    for name in [name for name in found if ".to_q." in name]:
        parts = [found.pop(name.replace(".to_q.", f".to_{p}."), None) for p in "qkv"]
        if any(p is None or p.shape != cast(Tensor, parts[0]).shape for p in parts):
            raise ValueError(f"{name[:80]} has no keys and values beside it")
        found[name.replace(".to_q.", ".qkv.")] = torch.cat(cast(list[Tensor], parts))
    return found


def names(shape: UNet2dShape) -> dict[str, str]:
    """Our modules to theirs, after `joined`."""
    table = {
        "time.0": "time_embedding.linear_1",
        "time.2": "time_embedding.linear_2",
        "label": "class_embedding",
        "enter": "conv_in",
    }
    table |= {"norm": "conv_norm_out", "leave": "conv_out"}

    def residual(ours: str, theirs: str) -> dict[str, str]:
        ends = {
            "first_norm": "norm1",
            "first": "conv1",
            "about": "time_emb_proj",
            "second_norm": "norm2",
            "second": "conv2",
        }
        return {
            f"{ours}.{a}": f"{theirs}.{b}"
            for a, b in (ends | {"skip": "conv_shortcut", "conv": "conv"}).items()
        }

    def attention(ours: str, theirs: str) -> dict[str, str]:
        return {
            f"{ours}.{a}": f"{theirs}.{b}"
            for a, b in {"norm": "group_norm", "qkv": "qkv", "merge": "to_out.0"}.items()
        }

    levels, at = len(shape.multiples), 0
    for k in range(levels):
        for j in range(shape.blocks):
            table |= residual(f"down.{at}.0", f"down_blocks.{k}.resnets.{j}") | attention(
                f"down.{at}.1", f"down_blocks.{k}.attentions.{j}"
            )
            at += 1
        table |= residual(f"down.{at}.0", f"down_blocks.{k}.downsamplers.0")
        at += 1
    table |= residual("middle.0", "mid_block.resnets.0") | residual("middle.2", "mid_block.resnets.1")
    table |= attention("middle.1", "mid_block.attentions.0")
    at = 0
    for k in range(levels):
        for j in range(shape.blocks + 1):
            table |= residual(f"up.{at}.0", f"up_blocks.{k}.resnets.{j}") | attention(
                f"up.{at}.1", f"up_blocks.{k}.attentions.{j}"
            )
            at += 1
        table |= residual(f"up.{at}.0", f"up_blocks.{k}.upsamplers.0")
        at += 1
    return table


def _weights(place: Path) -> dict[str, Tensor]:
    """All tensors of a network's folder: of one file, or of several by their index; safetensors before .bin, float32 before a variant such
    as fp16."""
    for end in ("safetensors", "bin"):
        variants = sorted(
            p.name.removeprefix(f"{STEM}.").removesuffix(f".{end}") for p in place.glob(f"{STEM}.*.{end}")
        )
        for variant in (
            "",
            *(
                f".{name}"
                for name in variants
                if name != "non_ema" and "." not in name and "-of-" not in name
            ),
        ):
            if (place / f"{STEM}{variant}.{end}").is_file():
                return _read(place / f"{STEM}{variant}.{end}")
        for index in sorted(place.glob(f"{STEM}.{end}.index*.json"), key=lambda p: len(p.name)):
            return _sharded(index)
    raise ValueError(f"{place.name} has no {STEM}.safetensors or .bin, nor an index of several")


def _sharded(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that an index names.

    Raises:
        ValueError: a file is missing, or does not hold what the index says.
    """
    places = read_object(index).get("weight_map")
    if (
        not isinstance(places, dict)
        or not places
        or not all(isinstance(name, str) for name in cast(dict[str, Any], places).values())
    ):
        raise ValueError(f"{index.name} names no files")
    files = cast(dict[str, str], places)
    if outside := [name for name in files.values() if Path(name).name != name or not name.startswith(STEM)]:
        raise ValueError(f"{index.name} names {outside[0][:60]!r}, which is no file of its weights")
    each = sorted(set(files.values()))
    if lacking := [name for name in each if not (index.parent / name).is_file()]:
        raise ValueError(
            f"{len(lacking)} of {len(each)} files of its weights are missing ({', '.join(lacking[:3])}); copy them, too"
        )
    found: dict[str, Tensor] = {}
    for name in each:
        inside = _read(index.parent / name)
        wrong = [key for key in inside if files.get(key) != name] or [
            key for key, file in files.items() if file == name and key not in inside
        ]
        if wrong:
            raise ValueError(f"{name} and {index.name} do not agree on {wrong[0][:80]}")
        found |= inside
    return found


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return read_tensors(file)
    form = Form(nothing, nothing, lambda tree: tree, 16 * 2**30, 2_000_000, 16, zipped=False)
    return state_dict(file.name, read_torch(file, form))


def _big_gan(tensors: Mapping[str, Tensor], name: str) -> bool:
    if f"{name}.conv.weight" not in tensors and f"{name}.conv1.weight" not in tensors:
        raise ValueError(f"{name} is missing")
    return f"{name}.conv.weight" not in tensors


def _listed(config: Mapping[str, Any], name: str) -> list[Any]:
    value = config[name]
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(v, str | int) for v in cast(list[Any], value))
    ):
        raise ValueError(f"its {name} makes no sense")
    return cast(list[Any], value)


def _counted(value: Any, most: int) -> bool:
    return type(value) is int and 0 < value <= most

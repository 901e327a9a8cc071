"""Image models of diffusers, renamed to our modules: a folder with a `UNet2DModel` and its scheduler, of
`DDPMPipeline` or flat."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.json_objects import read_object
from unveil.files.pickles import nothing
from unveil.files.safetensors import read_tensors
from unveil.files.torch_save import Form, read_torch
from unveil.image.weights.description import ImageWeights, UNet2dShape, placed, state_dict
from unveil.image.weights.diffusers_config import describe

STEM, SCHEDULER = "diffusion_pytorch_model", "scheduler_config.json"


def is_diffusers(folder: Path) -> bool:
    """Whether a folder is a pipeline or a model of diffusers, a checkpoint of its training, or holds such
    checkpoints."""
    return (
        (folder / "model_index.json").is_file()
        or _said(folder)
        or bool(_parts(folder))
        or newest_checkpoint(folder) is not None
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest `checkpoint-<step>` with a network of diffusers in it, as accelerate's trainings leave
    them."""
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
    """A `UNet2DModel` with the diffusion of the scheduler beside it: a pipeline, which holds the average of
    training, or one network; a checkpoint of training, which holds both (`unet`, `unet_ema`), its scheduler
    beside it; or of a folder of checkpoints alone the newest.

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


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as one matrix, under `qkv`; what is called query or to_q, proj_attn or
    to_out.0 by one name.

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
    """All tensors of a network's folder: of one file, or of several by their index; safetensors before .bin,
    float32 before a variant such as fp16."""
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

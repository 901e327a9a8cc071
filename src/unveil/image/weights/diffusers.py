"""Read image models of diffusers: a folder with a `UNet2DModel` and its scheduler."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject, read_object
from unveil.files.pickles import nothing
from unveil.files.safetensors import read_tensors
from unveil.files.torch_save import Form, read_torch
from unveil.image.weights.description import ImageWeights, UNet2dShape, placed, state_dict, under
from unveil.image.weights.diffusers_config import describe

STEM, SCHEDULER = "diffusion_pytorch_model", "scheduler_config.json"
RESIDUAL = {
    "first_norm": "norm1",
    "first": "conv1",
    "about": "time_emb_proj",
    "second_norm": "norm2",
    "second": "conv2",
    "skip": "conv_shortcut",
    "conv": "conv",
}
ATTENTION = {"norm": "group_norm", "qkv": "qkv", "merge": "to_out.0"}


def is_diffusers(folder: Path) -> bool:
    """Whether a folder is a pipeline, a model or checkpoints of diffusers."""
    whole = (folder / "model_index.json").is_file() or _is_network(folder) or bool(_parts(folder))
    return whole or newest_checkpoint(folder) is not None


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest `checkpoint-<step>` of a training by accelerate with a network of diffusers in it."""
    steps = {p: p.name.removeprefix("checkpoint-") for p in folder.glob("checkpoint-*")}
    found = [p for p, step in steps.items() if step.isdecimal() and _parts(p)]
    return max(found, key=lambda p: int(steps[p]), default=None)


def _parts(folder: Path) -> list[Path]:
    """The networks of a checkpoint or a pipeline, the weights themselves first."""
    return [p for p in (folder / "unet", folder / "unet_ema") if _is_network(p)]


def _is_network(folder: Path) -> bool:
    config = folder / "config.json"
    try:
        return config.is_file() and "_diffusers_version" in read_object(config)
    except UnveilError:
        return False


def read_images_folder(folder: Path, size: int = 0) -> ImageWeights:
    """A `UNet2DModel` with the diffusion of the scheduler beside it: a pipeline, which holds the average of
    training, or one network; a checkpoint of training, which holds both (`unet`, `unet_ema`), its scheduler
    beside it; or of a folder of checkpoints alone the newest.

    Args:
        size: side in pixels, where its config has none.
    Raises:
        UnveilError: a file is missing or damaged, or a variant that our networks do not have.
    """
    places = [p for p in (folder / "unet", folder / "unet_ema", folder) if (p / "config.json").is_file()]
    if not places and (newest := newest_checkpoint(folder)) is not None:
        return read_images_folder(newest, size)
    if not places:
        index = folder / "model_index.json"
        kind = str(read_object(index).get("_class_name") if index.is_file() else None)[:40]
        raise UnveilError(f"{folder}: a folder of diffusers ({kind}) without a unet/config.json")
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
                f"no {SCHEDULER} in it, in a folder scheduler/ or beside it, so it does not say its "
                "diffusion; save the whole pipeline, or put the scheduler of its training there"
            )
        tensors = _weights(place)
        described = describe(config, scheduler, tensors, size)
        shape, averaged = described.network, None
        assert isinstance(shape, UNet2dShape)
        if places[1:2] == [folder / "unet_ema"]:
            averaged = placed(joined(_weights(places[1])), names(shape), shape)
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
        is_matrix = ".attentions." in name and value.ndim == 4 and value.shape[2:] == (1, 1)
        found[name] = value[:, :, 0, 0] if is_matrix else value
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
        "norm": "conv_norm_out",
        "leave": "conv_out",
    }
    for way, blocks in (("down", shape.blocks), ("up", shape.blocks + 1)):
        at = 0
        for k in range(len(shape.multiples)):
            level = f"{way}_blocks.{k}"
            for j in range(blocks):
                table |= under(f"{way}.{at}.0", f"{level}.resnets.{j}", RESIDUAL)
                table |= under(f"{way}.{at}.1", f"{level}.attentions.{j}", ATTENTION)
                at += 1
            table |= under(f"{way}.{at}.0", f"{level}.{way}samplers.0", RESIDUAL)
            at += 1
    for k, j in ((0, 0), (2, 1)):
        table |= under(f"middle.{k}", f"mid_block.resnets.{j}", RESIDUAL)
    return table | under("middle.1", "mid_block.attentions.0", ATTENTION)


def _weights(place: Path) -> dict[str, Tensor]:
    """All tensors of a network's folder.

    One file, or several by their index; safetensors before .bin, float32 before a variant such as fp16."""
    for end in ("safetensors", "bin"):
        files = sorted(place.glob(f"{STEM}.*.{end}"))
        for file in (place / f"{STEM}.{end}", *files):
            variant = file.name.removeprefix(STEM).removesuffix(f".{end}").removeprefix(".")
            single = variant != "non_ema" and "." not in variant and "-of-" not in variant
            if single and file.is_file():
                return _read(file)
        for index in sorted(place.glob(f"{STEM}.{end}.index*.json"), key=lambda p: len(p.name)):
            return _sharded(index)
    raise ValueError(f"{place.name} has no {STEM}.safetensors or .bin, nor an index of several")


def _sharded(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that an index names.

    Raises:
        ValueError: a file is missing, or does not hold what the index says.
    """
    table = read_object(index).get("weight_map")
    files: JsonObject = table if isinstance(table, dict) else {}
    if not files or not all(isinstance(name, str) for name in files.values()):
        raise ValueError(f"{index.name} names no files")
    if outside := [name for name in files.values() if Path(name).name != name or not name.startswith(STEM)]:
        raise ValueError(f"{index.name} names {outside[0][:60]!r}, which is no file of its weights")
    each = sorted(set(files.values()))
    if lacking := [name for name in each if not (index.parent / name).is_file()]:
        raise ValueError(
            f"{len(lacking)} of {len(each)} files of its weights are missing ({', '.join(lacking[:3])}); "
            "copy them, too"
        )
    found: dict[str, Tensor] = {}
    for name in each:
        inside = _read(index.parent / name)
        indexed = {key for key, file in files.items() if file == name}
        if wrong := sorted(indexed ^ inside.keys()):
            raise ValueError(f"{name} and {index.name} do not agree on {wrong[0][:80]}")
        found |= inside
    return found


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return read_tensors(file)
    form = Form(nothing, nothing, lambda tree: tree, 16 * 2**30, 2_000_000, 16, zipped=False)
    return state_dict(file.name, read_torch(file, form))

"""Files of weights by what their headers say; numbers are read component by component, when they are needed.

Safetensors files are memory-mapped. Pickles of `torch.save` are read as data, and no storage is read that is
not asked for.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors import safe_open
from torch import Tensor

from unveil.errors import UnveilError
from unveil.files.pickles import Made, Symbol
from unveil.files.reading import reading
from unveil.files.safetensors import DTYPES
from unveil.files.shards import Stored, each_shard, header, stored_tensors
from unveil.files.torch_save import Form, read_torch, tensor_form

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
_OWNERS = ("torch", "numpy", "collections", "_codecs", "pytorch_lightning", "lightning", "lightning_fabric")
"""Packages whose classes stand in checkpoints of trainings, beside the weights; they are recorded, not
imported."""
_SCALARS = ("global_step", "epoch")


class FileContents(NamedTuple):
    """The tensors of a file, by name, and numbers beside them, such as `global_step`."""

    stored: dict[str, Stored]
    scalars: dict[str, int]
    metadata: dict[str, str]


def contents(file: Path) -> FileContents:
    """What a file holds, without the numbers of its tensors.

    Raises:
        UnveilError: missing, truncated, damaged, or a pickle with anything in it that does not belong there.
    """
    if file.suffix not in PICKLES:
        stored = header(file, any_kind=True)
        with reading(file), safe_open(file, framework="pt") as handle:
            return FileContents(stored, {}, handle.metadata() or {})
    scalars: dict[str, int] = {}
    found: dict[str, Stored] = {}

    def plain(tree: object) -> None:  # the numbers stay unread
        top = cast(dict[object, object], tree) if isinstance(tree, dict) else {}
        for name in _SCALARS:
            value = top.get(name)
            if isinstance(value, int):
                scalars[name] = value
        for name, made in _state_dict(tree).items():
            dtype, shape = tensor_form(made)
            found[name] = Stored(file, shape, DTYPES[dtype])

    read_torch(file, _form(plain))
    return FileContents(found, scalars, {})


def weights_in(folder: Path, stem: str, variant: str | None) -> dict[str, Stored]:
    """The tensors of a component in a folder of diffusers: of one file, or of shards with their index.

    Args:
        stem: "diffusion_pytorch_model", or "model" of a text encoder, whose pickle is "pytorch_model".
        variant: "fp16", "non_ema" ...: STEM.fp16.safetensors; "": only files without; None: those without, or
            else the one variant that is there.
    Raises:
        UnveilError: no weights, a shard is missing, or a file is damaged.
    """
    for end, name in (("safetensors", stem), ("bin", "pytorch_model" if stem == "model" else stem)):
        for middle in _variants(folder, name, end, variant):
            file = folder / f"{name}{middle}.{end}"
            if (index := _index_of(folder, name, end, middle)) is not None:
                return stored_tensors(folder, index, file.suffix, lambda shard: contents(shard).stored)
            if file.is_file():
                return contents(file).stored
    kind = f" of the variant {variant}" if variant else ""
    file = f"{stem}.{variant}" if variant else stem
    raise UnveilError(f"{folder}: no weights{kind} here; needed is {file}.safetensors or .bin, or its shards")


def _variants(folder: Path, stem: str, end: str, variant: str | None) -> list[str]:
    """The middles of names to look for, in their order: "", ".fp16"."""
    if variant is not None:
        return [f".{variant}" if variant else ""]
    pattern = re.compile(rf"{stem}\.(\w+)\.{end}|{stem}\.{end}\.(?:index\.(\w+)|(\w+)\.index)\.json")
    matches = (pattern.fullmatch(file.name) for file in folder.iterdir()) if folder.is_dir() else ()
    found = {next(filter(None, match.groups())) for match in matches if match}
    return ["", *(f".{name}" for name in sorted(found - {"non_ema"}))]


def _index_of(folder: Path, stem: str, end: str, middle: str) -> str | None:
    """The index of shards: STEM.END.index.json, STEM.END.index.fp16.json, or STEM.END.fp16.index.json as
    diffusers spelled it once."""
    names = (f"{stem}.{end}.index{middle}.json", f"{stem}.{end}{middle}.index.json")
    return next((name for name in names if (folder / name).is_file()), None)


def read_stored(
    stored: Mapping[str, Stored], device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The numbers of tensors, by their names in the files.

    On the CPU, tensors of safetensors files whose dtype is kept are views of the memory-mapped file.

    Args:
        dtype: dtype of floating-point tensors; None keeps the stored one.
    Raises:
        UnveilError: a damaged file, numbers that are not finite, or too large for float16.
    """
    found: dict[str, Tensor] = {}
    safe = {name: it for name, it in stored.items() if it.file.suffix not in PICKLES}
    for shard in each_shard(safe, torch.device(device), None):
        found |= {name: _converted(stored[name].file, name, value, dtype) for name, value in shard.items()}
    for file in sorted({it.file for it in stored.values() if it.file.suffix in PICKLES}):
        names = [name for name, it in stored.items() if it.file == file]
        tensors = cast(dict[str, Tensor], read_torch(file, _form(partial(_picked, names=names))))
        found |= {n: _converted(file, n, value, dtype).to(device) for n, value in tensors.items()}
    return {name: found[name] for name in stored}


def _converted(file: Path, name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    if not value.is_floating_point():
        return value
    # a sum of finite numbers is nearly always finite, and needs no memory
    if not bool(torch.isfinite(value.sum(dtype=torch.float32))) and not bool(torch.isfinite(value).all()):
        raise UnveilError(f"{file}: {name[:80]} holds numbers that are not finite; download it again")
    if dtype is None or value.dtype == dtype:
        return value
    made = value.to(dtype)
    if dtype == torch.float16 and not bool(torch.isfinite(made).all()):
        raise UnveilError(
            f"{file}: {name[:80]} holds numbers beyond 65,504, which float16 cannot hold; load it as "
            "bfloat16 or float32"
        )
    return made


def _picked(tree: object, names: list[str]) -> dict[str, Made]:
    tensors = _state_dict(tree)
    return {name: tensors[name] for name in names}


def _state_dict(tree: object) -> dict[str, Made]:
    """The tensors of a checkpoint: of its `state_dict` if it has one."""
    top = cast(dict[object, object], tree) if isinstance(tree, dict) else {}
    inner = top.get("state_dict")
    named = cast(dict[object, object], inner) if isinstance(inner, dict) else top
    found = {k: value for k, value in named.items() if isinstance(k, str) and isinstance(value, Made)}
    if not found:
        raise ValueError("it holds no tensors")
    return found


def _form(plain: Callable[[object], object]) -> Form:
    return Form(_beside_weights, lambda symbol: True, plain, 64 * 2**30, 20_000_000, 32, zipped=False)


def _beside_weights(symbol: Symbol) -> bool:
    return symbol.module.partition(".")[0] in _OWNERS


class Named(NamedTuple):
    """A tensor in a file, and its name there, where it is known by another."""

    name: str
    stored: Stored


def named(stored: Mapping[str, Stored], rename: Callable[[str], str | None]) -> dict[str, Named]:
    """The tensors that `rename` gives a name, under that."""
    found = ((rename(name), name, it) for name, it in stored.items())
    return {new: Named(name, it) for new, name, it in found if new is not None}


class Source(NamedTuple):
    """Where a parameter of ours comes from: its name and form in a file, and its shape here."""

    name: str
    stored: Stored
    shape: tuple[int, ...]


def sources(
    what: str, stored: Mapping[str, Named], names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Source]:
    """The source of each parameter, by our names.

    Args:
        what: the component, for messages.
        stored: all tensors of the component.
        names: our names to those of `stored`.
        shapes: of our parameters. A matrix may be stored as a 1 x 1 convolution, and the reverse.
    Raises:
        ValueError: a tensor is missing, unexpected, or of another shape.
    """
    missing, foreign = (
        sorted(set(names.values()) - stored.keys()),
        sorted(stored.keys() - set(names.values())),
    )
    if missing or foreign:
        raise ValueError(
            f"{what}: {len(missing)} tensors are missing {[name[:80] for name in missing[:2]]}, "
            f"{len(foreign)} are foreign {[name[:80] for name in foreign[:2]]}"
        )
    found: dict[str, Source] = {}
    for name, theirs in names.items():
        it, shape = stored[theirs], shapes[name]
        if _squeezed(it.stored.shape) != _squeezed(shape):
            raise ValueError(f"{what}: {it.name[:80]} has shape {it.stored.shape}, needed is {shape}")
        found[name] = Source(it.name, it.stored, shape)
    return found


def read_sources(
    wanted: Mapping[str, Source], device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The parameters under our names; arguments and errors as of `read_stored`."""
    tensors = read_stored({it.name: it.stored for it in wanted.values()}, device, dtype)
    return {name: tensors[it.name].reshape(it.shape) for name, it in wanted.items()}


def blank(stored: Mapping[str, Named]) -> dict[str, Tensor]:
    """Tensors on `meta` of these shapes."""
    return {name: torch.empty(it.stored.shape, device="meta") for name, it in stored.items()}


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape

"""Read files of `torch.save`, zipped (torch 1.6 and later) or not, without unpickling.

Every tensor must be contiguous in a storage whose size the file really has; declared sizes are never
allocated before that is checked.
"""

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unveil.files.pickles import ORDERED_DICT, Again, Made, Stored, Symbol, read_pickle
from unveil.files.reading import reading

LARGEST = 2 * 2**30
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TENSOR = Symbol("torch._utils", "_rebuild_tensor_v2")
_STORAGES = {
    Symbol("torch", "FloatStorage"): torch.float32,
    Symbol("torch", "DoubleStorage"): torch.float64,
    Symbol("torch", "HalfStorage"): torch.float16,
    Symbol("torch", "BFloat16Storage"): torch.bfloat16,
    Symbol("torch", "LongStorage"): torch.int64,
    Symbol("torch", "IntStorage"): torch.int32,
    Symbol("torch", "BoolStorage"): torch.bool,
}
Storage = Callable[[str, torch.dtype, int], Tensor]  # (key, dtype, count) -> tensor of shape (count,)


@dataclass(frozen=True)
class Form:
    """What a kind of file may hold besides dicts, lists, numbers, strings and tensors.

    Args:
        knows, repeats, operations, deepest: as in `read_pickle`; tensors are always known.
        plain: converts the tree to one whose only objects are tensors; parts that it drops are never read.
        largest: largest size of a file in bytes.
        zipped: whether all files of this kind are zipped.
    """

    knows: Callable[[Symbol], bool]
    repeats: Callable[[Symbol], bool]
    plain: Callable[[object], object]
    largest: int
    operations: int
    deepest: int
    zipped: bool = True


def read_torch(file: Path, form: Form | None = None) -> object:
    """Read the saved object, with its tensors on the CPU, where they may share memory.

    Args:
        form: what the file may hold besides plain data and tensors; None: nothing, in at most 2 GiB.
    Raises:
        UnveilError: missing, too large, damaged or truncated, or it holds anything but dicts, lists, numbers,
            strings, tensors and what `form` knows.
    """
    largest = LARGEST if form is None else form.largest
    with reading(file, "refused, no code in it was run"):
        size = file.stat().st_size
        if size > largest:
            raise ValueError(f"{size:,} bytes, more than {largest:,}")
        with open(file, "rb") as handle:
            zipped = handle.read(4) == b"PK\x03\x04"
            handle.seek(0)
            if not zipped and form is not None and form.zipped:
                raise ValueError("not a zip of torch.save")
            return _zipped(handle, size, form) if zipped else _plain(handle, size, form)


def _knows(symbol: Symbol) -> bool:
    return symbol in _STORAGES or symbol in (_TENSOR, ORDERED_DICT)


def _zipped(handle: BufferedReader, size: int, form: Form | None) -> object:
    with zipfile.ZipFile(handle) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("a zip member occurs twice")
        for info in members.values():
            if (
                info.compress_type != zipfile.ZIP_STORED
                or info.compress_size != info.file_size
                or info.flag_bits & 1
            ):
                raise ValueError(
                    f"zip member {info.filename[:60]} is compressed or encrypted, which torch.save never does"
                )
        if sum(info.file_size for info in members.values()) > size:
            raise ValueError("its zip members are larger than the file")
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("a zip without its data.pkl, or with two; is this a file of torch.save?")
        if (order := members.get(f"{roots[0]}byteorder")) is not None and archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian")

        def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
            info = members.get(f"{roots[0]}data/{key}")
            if info is None or info.file_size != count * dtype.itemsize:
                raise ValueError(f"storage {key[:20]} of {count:,} numbers is not in the file")
            return _numbers(archive.read(info), dtype)

        tree = _tree(BytesIO(archive.read(f"{roots[0]}data.pkl")), form)
        return _resolved(tree if form is None else form.plain(tree), _once(storage))


def _tree(data: BufferedReader | BytesIO, form: Form | None) -> object:
    if form is None:
        return read_pickle(data, _knows)
    return read_pickle(
        data, lambda s: _knows(s) or form.knows(s), form.repeats, form.operations, form.deepest
    )


def _plain(handle: BufferedReader, size: int, form: Form | None) -> object:
    if read_pickle(handle, _knows) != _MAGIC:
        raise ValueError("not a file of torch.save")
    protocol, system = read_pickle(handle, _knows), read_pickle(handle, _knows)
    if protocol != _PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("a file of torch.save, but of another protocol or byte order")
    tree, keys = _tree(handle, form), _tree(handle, form)
    if (
        not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or len(set(keys)) != len(keys)
    ):
        raise ValueError("its list of storages is damaged")
    types: dict[str, tuple[torch.dtype, int]] = {}

    def note(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if types.setdefault(key, (dtype, count)) != (dtype, count):
            raise ValueError(f"storage {key[:20]} has two types or sizes")
        return torch.empty(0, dtype=dtype, device="cpu").expand(0)

    _visit(tree, note)
    if set(types) != set(keys):
        raise ValueError("its list of storages is not that of its tensors")
    if handle.tell() + sum(8 + count * dtype.itemsize for dtype, count in types.values()) != size:
        raise ValueError("its length is not that of its tensors; truncated?")
    storages: dict[str, Tensor] = {}
    for key in keys:
        dtype, count = types[key]
        if struct.unpack("<q", handle.read(8))[0] != count:
            raise ValueError(f"storage {key[:20]} is not as long as its tensors say")
        storages[key] = _numbers(handle.read(count * dtype.itemsize), dtype)
    return _resolved(tree if form is None else form.plain(tree), lambda key, dtype, count: storages[key])


def _numbers(data: bytes, dtype: torch.dtype) -> Tensor:
    if dtype == torch.bool:
        return _numbers(data, torch.uint8) != 0
    return (
        torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype, device="cpu")
    )


def _once(storage: Storage) -> Storage:
    read: dict[str, tuple[torch.dtype, Tensor]] = {}

    def cached(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key not in read:
            read[key] = (dtype, storage(key, dtype, count))
        known, numbers = read[key]
        if known != dtype or len(numbers) != count:
            raise ValueError(f"storage {key[:20]} has two types or sizes")
        return numbers

    return cached


def _visit(value: object, storage: Storage) -> None:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _visit(part, storage)
    elif isinstance(value, Made):
        storage(*_layout(value)[:3])


def _resolved(value: object, storage: Storage) -> object:
    if isinstance(value, dict):
        return {key: _resolved(part, storage) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, storage) for part in value]
    if isinstance(value, Made):
        return _tensor(value, storage)
    if isinstance(value, Stored | Symbol | Again | tuple):
        raise ValueError(f"a bare {type(value).__name__} where a tensor or a number is needed")
    return value


class _Layout(NamedTuple):
    """Key, dtype and length of a tensor's storage; the tensor's offset, shape and strides in it."""

    key: str
    dtype: torch.dtype
    total: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _layout(made: Made) -> _Layout:
    if (
        made.maker != _TENSOR
        or not 6 <= len(made.arguments) <= 7
        or not isinstance(made.arguments[0], Stored)
    ):
        raise ValueError("an object that is no tensor")
    identity, offset, shape, strides = made.arguments[0].identity, *made.arguments[1:4]
    if (
        not isinstance(identity, tuple)
        or len(identity) not in (5, 6)
        or identity[0] != "storage"
        or identity[5:] not in ((), (None,))
    ):
        raise ValueError("a tensor without its storage")
    _, kind, key, _, count = identity[:5]
    if not isinstance(key, str) or not isinstance(kind, Symbol) or kind not in _STORAGES:
        raise ValueError("a tensor whose type is not supported")
    if (
        not isinstance(shape, tuple)
        or not isinstance(strides, tuple)
        or len(shape) != len(strides)
        or len(shape) > 8
    ):
        raise ValueError("a tensor whose shape makes no sense")
    numbers = (count, offset, *shape, *strides)
    if not isinstance(offset, int) or not all(type(n) is int and 0 <= n <= LARGEST for n in numbers):
        raise ValueError("a tensor whose shape makes no sense, or is too large")
    return _Layout(key, _STORAGES[kind], count, offset, shape, strides)


def tensor_form(made: Made) -> tuple[torch.dtype, tuple[int, ...]]:
    """Dtype and shape of a tensor of the tree that `Form.plain` is given, whose numbers are not read.

    Raises:
        ValueError: the object is no tensor.
    """
    layout = _layout(made)
    return layout.dtype, layout.shape


def _tensor(made: Made, storage: Storage) -> Tensor:
    key, dtype, count, offset, shape, strides = _layout(made)
    if offset + prod(shape) > count:
        raise ValueError(f"a tensor of shape {shape} in a storage of {count:,} numbers")
    step = 1
    for length, stride in zip(shape[::-1], strides[::-1], strict=True):
        if length > 1 and stride != step:
            raise ValueError("a tensor that is not contiguous")
        step *= length
    return storage(key, dtype, count)[offset : offset + prod(shape)].reshape(shape)

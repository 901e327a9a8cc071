"""Minari's format arrow: one folder `data/<i>` per episode, with files of Arrow's IPC format.

All columns have T + 1 rows; the last row of actions, rewards and marks is padding (Minari 0.5,
`minari/dataset/_storages/arrow_storage.py`). Shapes of boxes are in metadata.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unveil.errors import UnveilError
from unveil.files.reading import reading
from unveil.planning.data.fields import described_array

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = ("observations", "actions", "terminations", "truncations")


def arrow_folders(path: Path) -> list[Path]:
    """The folders of the episodes, in their order.

    Raises:
        UnveilError: there is none.
    """
    data = path / "data" if (path / "data").is_dir() else path
    folders = [place for place in data.iterdir() if place.name.isdigit() and any(place.glob("*.arrow"))]
    if not folders:
        raise UnveilError(
            f"{path}: no folder data/0, data/1, ... with arrow files; is this a Minari data set?"
        )
    return sorted(folders, key=lambda place: int(place.name))


def arrow_columns(folder: Path, lost: dict[str, str]) -> dict[str, np.ndarray]:
    """The columns of one episode: (T + 1,) or (T + 1, D); entries of observations are named
    `observations/NAME`.

    Args:
        lost: receives the entries of observations that are no vectors of numbers, and what they are.
    Raises:
        UnveilError: damaged, a column is missing, or flat observations are pictures.
    """
    import pyarrow as pa

    shapes = _shapes(folder.parent / "metadata.json")
    found: dict[str, list[np.ndarray]] = {}
    for file in sorted(folder.glob("*.arrow")):
        with reading(file, "not a whole arrow file, damaged or cut short"):
            try:
                with pa.memory_map(str(file)) as source:
                    for batch in pa.ipc.open_file(source).read_all().to_batches():
                        for name in batch.schema.names:
                            if name == "infos":
                                continue
                            for key, values in _arrays(batch.column(name), name, shapes, lost).items():
                                found.setdefault(key, []).append(values)
            except pa.ArrowException as error:
                raise UnveilError(f"{file}: not a whole arrow file, damaged or cut short") from error
    if "" in lost:
        raise UnveilError(
            f"{folder}: observations are {lost['']}; planners read vectors of numbers: encode them first, or "
            "train a policy on them (`unveil train policy`)"
        )
    for name in NEEDED:
        if name not in found and not any(key.startswith(f"{name}/") for key in found):
            raise UnveilError(f"{folder}: {name!r} is missing; it has {sorted(found)[:12]}")
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _arrays(
    values: pa.Array, name: str, shapes: dict[str, tuple[int, ...]], lost: dict[str, str]
) -> dict[str, np.ndarray]:
    """A column as arrays by name: a structure has one for each of its entries."""
    import pyarrow as pa

    if pa.types.is_struct(values.type):
        parts: dict[str, np.ndarray] = {}
        for field in sorted(values.type, key=lambda field: field.name):
            parts |= _arrays(values.field(field.name), f"{name}/{field.name}", shapes, lost)
        return parts
    entry = name.removeprefix("observations").removeprefix("/")
    seen = name.startswith("observations")
    if seen and len(shape := shapes.get(entry, ())) > 1:
        lost[entry] = described_array(shape, "f")
        return {}
    if pa.types.is_fixed_size_list(values.type):
        inside = values.flatten()
        if pa.types.is_floating(inside.type) or pa.types.is_integer(inside.type):
            return {name: inside.to_numpy(zero_copy_only=False).reshape(len(values), values.type.list_size)}
    elif (
        pa.types.is_floating(values.type)
        or pa.types.is_integer(values.type)
        or pa.types.is_boolean(values.type)
    ):
        return {name: values.to_numpy(zero_copy_only=False)}
    if seen:
        lost[entry] = described_array((), "O")
    return {}


def _shapes(metadata: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each box of the observation space, by name; "" for a single box."""
    shapes: dict[str, tuple[int, ...]] = {}

    def look(space: object, name: str) -> None:
        if not isinstance(space, dict):
            return
        shape = space.get("shape")
        if space.get("type") == "Box" and isinstance(shape, list):
            shapes[name] = tuple(int(n) for n in shape)
        inside = space.get("subspaces", space.get("spaces"))
        parts = inside.items() if isinstance(inside, dict) else enumerate(inside or ())
        for key, part in parts:
            look(part, f"{name}/{key}".lstrip("/"))

    try:
        space = json.loads(metadata.read_text(encoding="utf-8")).get("observation_space")
        look(json.loads(space) if isinstance(space, str) else space, "")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return shapes
    return shapes

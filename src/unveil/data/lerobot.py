"""LeRobot's dataset folders, versions 2.0, 2.1 and 3.0: parquet files beside `meta/info.json`, and videos."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from unveil.data.demonstrations import Demonstrations, checked
from unveil.data.hdf5 import room
from unveil.data.lerobot_pictures import decoded_pictures, decoded_videos
from unveil.errors import UnveilError

OBSERVATION = "observation."


def is_lerobot(path: Path) -> bool:
    """Whether this is such a folder."""
    return (path / "meta" / "info.json").is_file()


def read_lerobot(path: Path | str, pictures: bool = False) -> Demonstrations:
    """Read `action` and every `observation.<name>` that is numbers, in the order of `index`; episodes are those of `episode_index`.

    Args:
        pictures: read images and videos, too, as uint8 (N, h, w, 3).
    Raises:
        UnveilError: an unknown version, a missing or damaged file, fewer steps than `meta/info.json` promises, or a video and no decoder.
    """
    path = Path(path)
    try:
        info = json.loads((path / "meta" / "info.json").read_text())
        version, features, total = str(info["codebase_version"]), dict(info["features"]), int(info["total_frames"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UnveilError(f"{path}: no LeRobot dataset here (meta/info.json: {' '.join(str(error).split())})") from error
    if not version.startswith(("v2.", "v3.")):
        raise UnveilError(f"{path}: LeRobot datasets of version {version} are not read; v2.0, v2.1 and v3.0 are")
    if strange := [name for name, told in features.items() if not isinstance(told, dict)]:
        raise UnveilError(f"{path}: meta/info.json says nothing of {strange[0]!r} that makes sense")
    kinds = {name: told.get("dtype") for name, told in features.items() if name.startswith(OBSERVATION)}
    names = [name for name, kind in kinds.items() if kind != "video" and (pictures or kind != "image")]
    if "action" not in features:
        raise UnveilError(f"{path}: 'action' is missing; the dataset has {sorted(features)[:12]}")
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise UnveilError(f"{path}: no data/**/*.parquet here; is the download complete?")
    parts = [_columns(file, ["action", *names, "episode_index", "index"]) for file in files]
    try:
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise UnveilError(f"{path}: its files hold rows of unlike shapes ({error})") from error
    for name in ("index", "episode_index"):
        if joined[name].ndim != 1 or joined[name].dtype.kind not in "iu":
            raise UnveilError(f"{path}: {name!r} must be whole numbers, one a step, got {joined[name].dtype} {joined[name].shape}")
        joined[name] = joined[name].astype(np.int64)
    count = len(joined["index"])
    if count != total:
        raise UnveilError(f"{path}: {count:,} steps, but meta/info.json promises {total:,}; is the download complete?")
    order = np.argsort(joined["index"], kind="stable")
    if bool((joined["index"][order] != np.arange(count)).any()):
        raise UnveilError(f"{path}: index does not count the steps 0 .. {count - 1:,}; the dataset is damaged, or a part of one")
    episode = joined["episode_index"][order]
    if bool((np.diff(episode) < 0).any()):
        raise UnveilError(f"{path}: episode_index falls where index rises; the dataset is damaged")
    ends = np.append(np.flatnonzero(np.diff(episode)) + 1, count)
    observations = {name: joined[name][order] for name in names}
    observations |= {name: decoded_videos(path, name, count) for name, kind in kinds.items() if pictures and kind == "video"}
    return checked(path, {name.removeprefix(OBSERVATION): observations[name] for name in observations}, joined["action"][order], ends)


def _columns(file: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Columns of one parquet file, lists of numbers as rows."""
    parquet: Any = import_module("pyarrow.parquet")
    arrow: Any = import_module("pyarrow")
    try:
        there = parquet.read_schema(file).names
        if missing := [name for name in names if name not in there]:
            raise UnveilError(f"{file}: column {missing[0]!r} is missing; the file has {sorted(there)[:12]}")
        table = _bounded(parquet.ParquetFile(file), names, room(file.stat().st_size))
        return {name: _numbers(table.column(name).combine_chunks()) for name in names}
    except (arrow.ArrowException, OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, MemoryError) as error:
        raise UnveilError(f"{file}: not a whole parquet file, damaged or cut short ({(str(error).splitlines() or [''])[0]})") from error


def _bounded(file: Any, names: list[str], largest: int) -> Any:
    """The columns as a table. Runs of one value are stored as one: what they unpack to is added up before and while it is read.

    Raises:
        ValueError: more than `largest` bytes.
    """
    arrow: Any = import_module("pyarrow")
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    taken = 4 * sum(group.column(j).num_values for group in groups for j in range(group.num_columns))
    batches: list[Any] = []
    for batch in file.iter_batches(1024, columns=names) if taken <= largest else ():
        batches.append(batch)
        if (taken := taken + batch.nbytes) > largest:
            break
    if taken > largest:
        raise ValueError(f"it unpacks to more than {largest:,} bytes; if it is sound, write it without compression")
    return arrow.Table.from_batches(batches, file.schema_arrow if not batches else None)


def _numbers(column: Any) -> np.ndarray:
    if column.null_count:
        raise ValueError("a value is missing")
    if hasattr(column.type, "fields") or str(column.type).endswith("binary"):
        return decoded_pictures(column)
    shape = [len(column)]
    while hasattr(column.type, "value_type"):
        lengths = {column.type.list_size} if hasattr(column.type, "list_size") else set(np.unique(column.value_lengths().to_numpy(False)))
        if len(lengths) != 1:
            raise ValueError(f"rows have different lengths, {sorted(lengths)[:4]}")
        shape.append(int(lengths.pop()))
        column = column.flatten()
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)

"""LeRobot's dataset folders, versions 2.0, 2.1 and 3.0: parquet files beside `meta/info.json`, and videos."""

import json
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import room
from unveil.files.json_objects import JsonObject
from unveil.files.notes import note
from unveil.files.npz import DAMAGE
from unveil.policy.data.demonstrations import Demonstrations, Recording, checked
from unveil.policy.data.fields import PICTURE_AXES, Pictures, Unread, as_pictures, check_kind, picture_wanted
from unveil.policy.data.frames import ChosenFrames, Frames
from unveil.policy.data.lerobot_pictures import (
    DEEP,
    decoded_cell,
    decoded_pictures,
    decoded_videos,
    picture_cells,
)
from unveil.policy.data.stored_frames import spooled
from unveil.policy.data.video_frames import video_frames

OBSERVATION = "observation."
NEEDED = ("action", "episode_index", "index")
PICTURED = ("image", "video", "array")


def is_lerobot(path: Path) -> bool:
    """Whether a path is a LeRobot dataset folder."""
    return (path / "meta" / "info.json").is_file()


def read_lerobot(path: Path | str, pictures: Pictures = False, lazy: bool = False) -> Demonstrations:
    """Read `action` and the numeric `observation.<name>`, ordered by `index`, in episodes by `episode_index`.

    Columns of text, with lists of different lengths or with gaps are left out with a note. Where `index` does
    not count the steps, they are ordered by `episode_index` and `frame_index`, with a note.

    Args:
        pictures: read images and videos, too, or those with these names: colours as uint8 (N, h, w, 3),
            16-bit grey as float32 (N, h, w, 1).
        lazy: images and videos are decoded when they are needed, and are `cameras`.
    Raises:
        UnveilError: an unknown version, a missing or damaged file, fewer steps than `meta/info.json` states,
            a video without a decoder, or pictures that cannot be read.
    """
    path = Path(path)
    try:
        info = json.loads((path / "meta" / "info.json").read_text())
        version, total = str(info["codebase_version"]), int(info["total_frames"])
        features = dict(info["features"])
        if strange := [name for name, feature in features.items() if not isinstance(feature, dict)]:
            raise ValueError(f"no valid description of {strange[0]!r}")
        kinds = {name: _kind(feature) for name, feature in features.items() if name.startswith(OBSERVATION)}
    except DAMAGE as error:
        why = " ".join(str(error).split())
        raise UnveilError(f"{path}: no LeRobot dataset here (meta/info.json: {why})") from error
    if not version.startswith(("v2.", "v3.")):
        raise UnveilError(
            f"{path}: LeRobot datasets of version {version} are not read; v2.0, v2.1 and v3.0 are"
        )
    left = {
        name: f"is {kind or 'of no dtype'}, but numbers are needed"
        for name, kind in kinds.items()
        if not _read(kind)
    }
    wanted = {
        name: picture_wanted(
            name.removeprefix(OBSERVATION), PICTURE_AXES if kind in PICTURED else 1, pictures
        )
        for name, kind in kinds.items()
    }
    apart = ("video", "image") if lazy else ("video",)
    names = [name for name, kind in kinds.items() if kind not in apart and name not in left and wanted[name]]
    if "action" not in features:
        raise UnveilError(f"{path}: 'action' is missing; the dataset has {sorted(features)[:12]}")
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise UnveilError(f"{path}: no data/**/*.parquet here; is the download complete?")
    parts = [
        _columns(file, names, [name for name in names if kinds[name] in PICTURED], left) for file in files
    ]
    try:
        joined = {name: np.concatenate([part[name] for part in parts]) for name in NEEDED}
    except ValueError as error:
        raise UnveilError(f"{path}: its files hold rows of different shapes ({error})") from error
    for name in ("index", "episode_index"):
        if joined[name].ndim != 1 or joined[name].dtype.kind not in "iu":
            got = f"{joined[name].dtype} {joined[name].shape}"
            raise UnveilError(f"{path}: {name!r} must be whole numbers, one per step, got {got}")
        joined[name] = joined[name].astype(np.int64)
    count = len(joined["index"])
    if count != total:
        raise UnveilError(
            f"{path}: {count:,} steps, but meta/info.json states {total:,}; is the download complete?"
        )
    order = _order(path, joined, [part.get("frame_index") for part in parts])
    episode = joined["episode_index"][order]
    if bool((np.diff(episode) < 0).any()):
        raise UnveilError(f"{path}: episode_index decreases where index increases; the dataset is damaged")
    ends = np.append(np.flatnonzero(np.diff(episode)) + 1, count)
    observations = dict[str, np.ndarray]()
    for name in names:
        try:
            if name not in left:
                pieces = [part[name] for part in parts]
                observations[name] = (as_pictures(pieces) if kinds[name] in PICTURED else _joined(pieces))[
                    order
                ]
        except Unread as error:
            if kinds[name] in PICTURED:
                raise UnveilError(f"{path}: {name!r} {error}") from error
            left[name] = str(error)
    cameras = dict[str, Frames]()
    for name in [name for name, kind in kinds.items() if kind in apart and wanted[name]]:
        if not lazy:
            observations[name] = decoded_videos(path, name, count, _deep(features[name]))
        elif kinds[name] == "video":
            cameras[name] = video_frames(path, name, count, _hz(info), _deep(features[name]))
        else:
            cells = picture_cells(files, name, path)
            cameras[name] = ChosenFrames(spooled(cells, decoded_cell, f"{path}: {name!r}"), order)
    left = {name.removeprefix(OBSERVATION): why for name, why in left.items()}
    observations = {name.removeprefix(OBSERVATION): values for name, values in observations.items()}
    cameras = {name.removeprefix(OBSERVATION): frames for name, frames in cameras.items()}
    unread = {
        name.removeprefix(OBSERVATION): _size(features[name])
        for name, kind in kinds.items()
        if kind in PICTURED and not wanted[name]
    }
    recording = Recording(_hz(info), _names(features["action"]), _splits(info, len(ends)), unread)
    return checked(path, observations, joined["action"][order], ends, left, recording, cameras)


def _hz(info: JsonObject) -> float | None:
    fps = info.get("fps")
    return float(fps) if isinstance(fps, int | float) and 0 < fps < 1e5 else None


def _names(feature: JsonObject) -> tuple[str, ...]:
    """The names of the numbers of a feature: a list, or lists by group, such as {"motors": [...]}."""
    names = feature.get("names")
    groups = list(names.values()) if isinstance(names, dict) else [names]
    listed = [one for group in groups if isinstance(group, list) for one in group]
    return tuple(map(str, listed)) if all(isinstance(one, str) for one in listed) else ()


def _splits(info: JsonObject, count: int) -> dict[str, np.ndarray]:
    """The dataset's splits, such as {"train": "0:50"}, as masks of its episodes."""
    splits = info.get("splits")
    masks = dict[str, np.ndarray]()
    for name, stated in splits.items() if isinstance(splits, dict) else ():
        if match := re.fullmatch(r"(\d{1,9}):(\d{1,9})", str(stated)):
            masks[str(name)] = np.isin(np.arange(count), np.arange(int(match[1]), min(int(match[2]), count)))
    return masks


def _size(feature: JsonObject) -> tuple[int, ...]:
    """The shape of a picture (h, w, C), as far as it is stated; LeRobot also writes (C, h, w)."""
    shape = feature.get("shape")
    sizes = tuple(one for one in shape if isinstance(one, int)) if isinstance(shape, list) else ()
    return (
        (*sizes[1:], sizes[0]) if len(sizes) == 3 and sizes[0] in (1, 3) and sizes[2] not in (1, 3) else sizes
    )


def _kind(feature: Mapping[str, object]) -> str:
    """The kind of a feature: video, image, array (numbers with the axes of a picture), or its dtype."""
    kind, shape = str(feature.get("dtype", "")), feature.get("shape")
    axes = len(cast(list[object], shape)) if isinstance(shape, list) else 1
    return "array" if kind not in PICTURED and _read(kind) and axes >= PICTURE_AXES - 1 else kind


def _read(kind: str) -> bool:
    return kind in PICTURED or re.fullmatch(r"(float|u?int)(8|16|32|64)|bool|", kind) is not None


def _deep(feature: JsonObject) -> bool:
    """Whether a video is described as depth or grey of more than 8 bits, which decoders would cut to 8."""
    nested = [feature[name] for name in ("info", "video_info") if isinstance(feature.get(name), dict)]
    stated = {key.removeprefix("video."): value for part in (feature, *nested) for key, value in part.items()}
    return stated.get("is_depth_map") is True or re.match(DEEP, str(stated.get("pix_fmt"))) is not None


def _order(path: Path, joined: dict[str, np.ndarray], frames: list[np.ndarray | None]) -> np.ndarray:
    """The row numbers of the steps in their order.

    Raises:
        UnveilError: neither `index` nor `episode_index` with `frame_index` counts the steps.
    """
    count = len(joined["index"])
    order = np.argsort(joined["index"], kind="stable")
    if not bool((joined["index"][order] != np.arange(count)).any()):
        return order
    wrong = f"{path}: index does not count the steps 0 .. {count - 1:,}"
    if all(frame is not None for frame in frames):
        frame = np.concatenate([frame for frame in frames if frame is not None])
        episode = joined["episode_index"]
        order = np.lexsort((frame, episode))
        begins = np.append(True, np.diff(episode[order]) != 0)
        starts = np.maximum.accumulate(np.where(begins, np.arange(count), 0))
        if not bool((frame[order] != np.arange(count) - starts).any()):
            note(f"{wrong}; they are ordered by episode_index and frame_index")
            return order
    raise UnveilError(f"{wrong}; the dataset is damaged or incomplete")


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    if other := [piece.shape for piece in pieces if piece.shape[1:] != pieces[0].shape[1:]]:
        raise Unread(f"has several shapes, such as {pieces[0].shape} and {other[0]}")
    return np.concatenate(pieces)


def _columns(
    file: Path, names: list[str], pictures: list[str], left: dict[str, str]
) -> dict[str, np.ndarray]:
    """Read the required columns of one parquet file and those with these names, lists of numbers as rows.

    Args:
        pictures: names of picture columns, which must be readable.
        left: receives the names of other columns that cannot be read, and the reasons.
    Raises:
        UnveilError: the file is damaged, or a required or picture column is missing or cannot be read.
    """
    parquet = import_module("pyarrow.parquet")
    arrow = import_module("pyarrow")
    try:
        stored = parquet.read_schema(file).names
        if missing := [name for name in (*NEEDED, *pictures) if name not in stored]:
            raise UnveilError(f"{file}: column {missing[0]!r} is missing; the file has {sorted(stored)[:12]}")
        left |= {name: f"is not a column of {file.name}" for name in names if name not in stored}
        more = ["frame_index"] if "frame_index" in stored else []
        columns = [*NEEDED, *(name for name in names if name not in left), *more]
        table = _bounded(parquet.ParquetFile(file), columns, room(file.stat().st_size))
        read = dict[str, np.ndarray]()
        for name in table.column_names:
            try:
                read[name] = _numbers(table.column(name).combine_chunks())
            except Unread as error:
                if name in NEEDED or name in pictures:
                    raise UnveilError(f"{file}: column {name!r} {error}") from error
                left[name] = str(error)
        return read
    except (arrow.ArrowException, *DAMAGE) as error:
        why = (str(error).splitlines() or [""])[0]
        raise UnveilError(f"{file}: not a complete parquet file, damaged or cut short ({why})") from error


def _bounded(file: Any, names: list[str], largest: int) -> Any:  # pyarrow has no stubs
    """Read columns as a table.

    Runs of one value are stored once, so the unpacked size is summed before and while reading.

    Raises:
        ValueError: more than `largest` bytes.
    """
    arrow = import_module("pyarrow")
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    taken = 4 * sum(group.column(j).num_values for group in groups for j in range(group.num_columns))
    batches: list[object] = []
    for batch in file.iter_batches(1024, columns=names) if taken <= largest else ():
        batches.append(batch)
        if (taken := taken + batch.nbytes) > largest:
            break
    if taken > largest:
        raise ValueError(
            f"it unpacks to more than {largest:,} bytes; if it is intact, write it without compression"
        )
    return arrow.Table.from_batches(batches, file.schema_arrow if not batches else None)


def _numbers(column: Any) -> np.ndarray:
    """The values of a column of numbers, lists of numbers, or pictures.

    Raises:
        Unread: it has gaps, lists of different lengths, or text.
        ValueError: a damaged picture.
    """
    if column.null_count:
        raise Unread("has rows without a value")
    if hasattr(column.type, "fields") or str(column.type).endswith("binary"):
        return decoded_pictures(column)
    shape = [len(column)]
    while hasattr(column.type, "value_type"):
        lengths = (
            {column.type.list_size}
            if hasattr(column.type, "list_size")
            else set(np.unique(column.value_lengths().to_numpy(False)))
        )
        if len(lengths) != 1:
            raise Unread(f"has rows of several lengths, {[int(n) for n in sorted(lengths)[:4]]}")
        shape.append(int(lengths.pop()))
        column = column.flatten()
    if column.null_count:
        raise Unread("has rows without a value")
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    check_kind(values.dtype.kind, column.type)
    return values.reshape(shape)

"""robomimic's HDF5: data/demo_<i>/actions and data/demo_<i>/obs/<name>. Mandlekar et al. 2021."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import array, check_held, opened, stored, unread
from unveil.policy.data.demonstrations import Demonstrations, Recording, checked
from unveil.policy.data.fields import PICTURE_AXES, Pictures, Unread, as_pictures, picture_wanted
from unveil.policy.data.frames import Frames
from unveil.policy.data.stored_frames import check_chunk, frames_of


def read_robomimic(path: Path | str, pictures: Pictures = False, lazy: bool = False) -> Demonstrations:
    """Read all demonstrations, ordered by number; observations that are not numbers are left out with a note.

    Args:
        pictures: read observations with three or more axes per step, too, or those with these names, by
            `as_pictures`.
        lazy: pictures stay in the file and are decoded when they are needed, as `cameras`.
    Raises:
        UnveilError: a missing or damaged file, no `data/demo_<i>`, demonstrations with different
            observations, or a wanted picture that cannot be read.
    """
    left, unread = dict[str, str](), dict[str, tuple[int, ...]]()
    with opened(path) as file:
        data = stored(file, "data")
        names = map(str, data) if isinstance(data, h5py.Group) else []
        numbered = [(int(m[1]), m[0]) for m in (re.fullmatch(r"demo_(\d+)", name) for name in names) if m]
        if not isinstance(data, h5py.Group) or not numbered:
            raise UnveilError(
                f"{path}: no 'data/demo_0' here, so this is not robomimic's layout; the file has "
                f"{sorted(map(str, file))[:12]}"
            )
        demos = [name for _, name in sorted(numbered)]
        groups = {name: _observed(path, data, name) for name in demos}
        keys = {name: set(map(str, group)) for name, group in groups.items()}
        if other := [name for name in demos if keys[name] != keys[demos[0]]]:
            raise UnveilError(f"{path}: 'data/{other[0]}' has other observations than 'data/{demos[0]}'")
        actions = [array(cast(h5py.Group, data[name]), "actions") for name in demos]
        counts = [len(part) for part in actions]
        observations, cameras = dict[str, np.ndarray](), dict[str, Frames]()
        for key in sorted(keys[demos[0]]):
            shapes = [_shape(groups[name], key) for name in demos]
            picture = max(map(len, shapes)) >= PICTURE_AXES
            if not picture_wanted(key, max(map(len, shapes)), pictures):
                unread[key] = shapes[0][1:]
                continue
            try:
                if picture and lazy:
                    cameras[key] = _cameras(Path(path), groups, key, shapes)
                else:
                    observations[key] = _joined([groups[name] for name in demos], key, shapes, picture)
            except Unread as error:
                if picture:
                    raise UnveilError(f"{path}: 'obs/{key}' {error}") from error
                left[key] = str(error)
                continue
            check_held(file, sum(values.nbytes for values in (*observations.values(), *actions)))
            for name, shape, count in zip(demos, shapes, counts, strict=True):
                if shape[:1] != (count,):
                    raise UnveilError(
                        f"{path}: 'data/{name}' has {count} actions, but observations of another length"
                    )
        recording = Recording(_hz(data), (), _masks(file, demos), unread)
    if len({part.shape[1:] for part in actions}) > 1:
        raise UnveilError(
            f"{path}: 'actions' has several shapes, {sorted({part.shape[1:] for part in actions})[:2]}"
        )
    return checked(path, observations, np.concatenate(actions), np.cumsum(counts), left, recording, cameras)


def _hz(data: h5py.Group) -> float | None:
    """The control frequency of the environment, as robomimic and robosuite record it."""
    try:
        stated = json.loads(str(data.attrs["env_args"]))["env_kwargs"]["control_freq"]
        return float(stated) if 0.0 < float(stated) < 1e5 else None
    except (KeyError, TypeError, ValueError, OSError, RecursionError):
        return None


def _masks(file: h5py.File, demos: list[str]) -> Mapping[str, np.ndarray]:
    """The file's named subsets of demonstrations (`mask/<name>`), (E,) bool; those that cannot be read are
    left out."""
    masks = dict[str, np.ndarray]()
    group = file["mask"] if isinstance(file.get("mask", getlink=True), h5py.HardLink) else None
    if not isinstance(group, h5py.Group):
        return masks
    for name in map(str, group):
        listed = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(listed, h5py.Dataset) or listed.dtype.kind not in "SO":
            continue
        if 0 < np.prod(listed.shape or 0) < 1_000_000:
            words = {
                one.decode(errors="replace") if isinstance(one, bytes) else str(one)
                for one in np.reshape(listed[()], -1)
            }
            masks[name] = np.array([demo in words for demo in demos])
    return masks


def _observed(path: Path | str, data: h5py.Group, name: str) -> h5py.Group:
    demo = stored(data, name)
    observations = stored(demo, "obs") if isinstance(demo, h5py.Group) else None
    if not isinstance(observations, h5py.Group):
        raise UnveilError(f"{path}: 'data/{name}/obs' is missing")
    return observations


def _shape(group: h5py.Group, key: str) -> tuple[int, ...]:
    data = group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None
    return tuple(data.shape or ()) if isinstance(data, h5py.Dataset) else ()


def _cameras(path: Path, groups: Mapping[str, h5py.Group], key: str, shapes: list[tuple[int, ...]]) -> Frames:
    """One observation's pictures of all demonstrations, left in the file.

    Raises:
        Unread: as `_joined`.
    """
    datasets = list[h5py.Dataset]()
    for group in groups.values():
        if why := unread(group, key):
            raise Unread(why)
        datasets.append(cast(h5py.Dataset, group[key]))
        check_chunk(f"{path}: 'obs/{key}'", datasets[-1])
    return frames_of(
        [data.dtype for data in datasets], [(path, f"data/{name}/obs/{key}") for name in groups], shapes
    )


def _joined(groups: list[h5py.Group], key: str, shapes: list[tuple[int, ...]], picture: bool) -> np.ndarray:
    """One observation of all demonstrations, joined.

    Raises:
        Unread: it is not a readable array of numbers, or has several shapes.
    """
    for group in groups:
        if why := unread(group, key):
            raise Unread(why)
    if other := [shape for shape in shapes if shape[1:] != shapes[0][1:]]:
        raise Unread(f"has several shapes, such as {shapes[0]} and {other[0]}")
    if picture:
        return as_pictures(array(group, key, "n") for group in groups)
    return np.concatenate([np.atleast_1d(array(group, key)) for group in groups])

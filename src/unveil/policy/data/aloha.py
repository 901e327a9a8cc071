"""HDF5 of ALOHA and ACT: a file for each episode, with `action` and `observations`. Zhao et al. 2023."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import h5py
import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import array, opened, stored, unread
from unveil.policy.data.demonstrations import Demonstrations, Recording, checked
from unveil.policy.data.fields import PICTURE_AXES, Pictures, Unread, picture_wanted
from unveil.policy.data.frames import Frames, Rows, in_memory
from unveil.policy.data.lerobot_pictures import decoded_cell
from unveil.policy.data.stored_frames import Hdf5Rows, StoredRows, check_chunk, frames_of

IMAGES = "images"


@dataclass(frozen=True)
class EncodedFrames:
    """Pictures that are stored as rows of the bytes of JPEG files, padded at their ends."""

    stored: StoredRows
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, rows: Rows) -> np.ndarray:
        """The pictures of these rows."""
        made = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        for i, row in enumerate(self.stored.read(rows)):
            picture = decoded_cell(row.tobytes(), int(rows[i]))
            if picture.shape != self.shape[1:]:
                raise UnveilError(
                    f"the picture of row {rows[i]} has shape {picture.shape}, not {self.shape[1:]}"
                )
            made[i] = picture
        return made


def aloha_files(path: Path) -> list[Path]:
    """The episodes of a folder of ALOHA's files by number, or such a file itself; none for anything else."""
    if path.is_dir():
        found = [(re.fullmatch(r"episode_(\d+)", it.stem), it) for it in path.glob("episode_*.hdf5")]
        return [it for _, it in sorted((int(match[1]), it) for match, it in found if match)]
    if path.suffix not in (".hdf5", ".h5") or not h5py.is_hdf5(path):
        return []
    with opened(path) as file:
        return [path] if "action" in file and "observations" in file and "data" not in file else []


def read_aloha(path: Path | str, pictures: Pictures = False, lazy: bool = False) -> Demonstrations:
    """Read `action` and all `observations` of numbers, one episode per file; others are left out with a note.

    Args:
        pictures: read `observations/images`, too, or those with these names; JPEG files in rows are decoded.
        lazy: pictures stay in the files and are decoded when they are needed, as `cameras`.
    Raises:
        UnveilError: a missing or damaged file, episodes with different observations, or a wanted picture that
            cannot be read.
    """
    files = aloha_files(Path(path))
    if not files:
        raise UnveilError(f"{path}: no ALOHA episode here, a file with 'action' and 'observations'")
    left, unasked = dict[str, str](), dict[str, tuple[int, ...]]()
    actions, parts = list[np.ndarray](), list[dict[str, np.ndarray]]()
    for file in files:
        with opened(file) as episode:
            actions.append(array(episode, "action"))
            seen = _group(file, episode, "observations")
            parts.append({})
            for name in (str(key) for key in seen if key != IMAGES):
                if why := unread(seen, name):
                    left[name] = why
                else:
                    parts[-1][name] = array(seen, name)
            images = _group(file, seen, IMAGES) if IMAGES in seen else {}
            for name in map(str, images):
                if isinstance(images, h5py.Group) and not picture_wanted(name, PICTURE_AXES, pictures):
                    unasked[name] = () if unread(images, name) else cast(h5py.Dataset, images[name]).shape[1:]
    names = set(parts[0]) - set(left)
    if other := [file for file, part in zip(files, parts, strict=True) if set(part) - set(left) != names]:
        raise UnveilError(f"{other[0]} has other observations than {files[0]}")
    counts = [len(part) for part in actions]
    cameras = _cameras(files, counts, pictures)
    try:
        observations = {name: np.concatenate([part[name] for part in parts]) for name in sorted(names)}
        joined = np.concatenate(actions)
    except ValueError as error:
        raise UnveilError(f"{path}: its episodes have arrays of different shapes ({error})") from error
    if not lazy:
        observations |= {name: in_memory(frames, lambda *_: None).values for name, frames in cameras.items()}
        cameras = {}
    return checked(path, observations, joined, np.cumsum(counts), left, Recording(unread=unasked), cameras)


def _group(file: Path, above: h5py.Group, name: str) -> h5py.Group:
    group = stored(above, name)
    if not isinstance(group, h5py.Group):
        raise UnveilError(f"{file}: {name!r} is no group; the file has {sorted(map(str, above))[:12]}")
    return group


def _cameras(files: list[Path], counts: list[int], pictures: Pictures) -> dict[str, Frames]:
    """The wanted pictures of all episodes, left in the files.

    Raises:
        UnveilError: a camera is missing in an episode, or cannot be read.
    """
    with opened(files[0]) as file:
        seen = _group(files[0], file, "observations")
        there = sorted(map(str, _group(files[0], seen, IMAGES))) if IMAGES in seen else []
        names = [name for name in there if picture_wanted(name, PICTURE_AXES, pictures)]
    cameras = dict[str, Frames]()
    for name in names:
        place, shapes, dtypes = f"observations/{IMAGES}/{name}", list[tuple[int, ...]](), list[np.dtype]()
        for path, count in zip(files, counts, strict=True):
            with opened(path) as file:
                images = _group(path, _group(path, file, "observations"), IMAGES)
                if why := unread(images, name):
                    raise UnveilError(f"{path}: {place!r} {why}")
                data = cast(h5py.Dataset, images[name])
                check_chunk(f"{path}: {place!r}", data)
                shapes.append(data.shape)
                dtypes.append(data.dtype)
                if data.shape[:1] != (count,):
                    raise UnveilError(f"{path}: {place!r} has shape {data.shape} for {count} actions")
        try:
            cameras[name] = _frames([(path, place) for path in files], shapes, dtypes)
        except Unread as error:
            raise UnveilError(f"{files[0]}: {place!r} {error}") from error
    return cameras


def _frames(places: list[tuple[Path, str]], shapes: list[tuple[int, ...]], dtypes: list[np.dtype]) -> Frames:
    if len(shapes[0]) != 2:
        return frames_of(dtypes, places, shapes)
    longest = max(shape[1] for shape in shapes)  # files of an episode are padded to its longest
    ends = np.cumsum([shape[0] for shape in shapes])
    rows = Hdf5Rows(tuple(places), ends, (int(ends[-1]), longest), np.dtype(np.uint8))
    first = decoded_cell(rows.read(np.arange(1))[0].tobytes(), 0)
    return EncodedFrames(rows, (int(ends[-1]), *first.shape), first.dtype)

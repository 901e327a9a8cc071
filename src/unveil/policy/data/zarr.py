"""Replay buffers in zarr, as Diffusion Policy stores them: data/<name> and meta/episode_ends.

Formats 2 and 3 are read, from folders or zip files. A store's codecs are checked before zarr opens it: some
codecs of format 2 unpickle, which runs the code of untrusted files.
"""

import json
import shutil
import zipfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from math import prod
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from unveil.errors import UnveilError
from unveil.files.hdf5 import LARGEST, room
from unveil.files.npz import DAMAGE
from unveil.policy.data.demonstrations import ACTIONS, ENDS, Demonstrations, Recording, checked
from unveil.policy.data.fields import PICTURE_AXES, Pictures, Unread, as_pictures, check_kind, picture_wanted
from unveil.policy.data.frames import Frames
from unveil.policy.data.stored_frames import Closing, KeptFrames, ZarrRows, scaled_frames
from unveil.policy.data.zarr_chunks import MOST_CHUNKS, check_chunks, chunk_files

CODECS = {  # none of them runs code
    *("blosc", "bytes", "bz2", "crc32c", "gzip", "lz4", "lzma", "sharding_indexed", "shuffle", "transpose"),
    *("zlib", "zstd"),
}


def is_zarr(path: Path) -> bool:
    """Whether a path is a zarr folder, or a zip of one."""
    if path.is_dir():
        described = (path / ".zgroup").is_file() or (path / "zarr.json").is_file()
        return described or (path / "data" / "action").is_dir()
    return zipfile.is_zipfile(path) and path.suffix in (".zip", ".zarr")


def read_zarr(path: Path | str, pictures: Pictures = False, lazy: bool = False) -> Demonstrations:
    """Read `data/action`, `meta/episode_ends` and all other arrays below `data` as observations.

    Optional fields that are not arrays of numbers, or are stored by an unsupported codec, are left out with a
    note.

    Args:
        pictures: read arrays of more than three axes, too, or those with these names, by `as_pictures`.
        lazy: pictures stay in the store and are decoded when they are needed, as `cameras`.
    Raises:
        UnveilError: a missing or damaged store, a missing or truncated chunk, no demonstrations, or a
            required array or wanted picture with a codec that could run code or is unknown.
    """
    path = Path(path)
    left, unread = dict[str, str](), dict[str, tuple[int, ...]]()
    cameras = dict[str, Frames]()
    with ExitStack() as stack:
        root = stack.enter_context(_folder(path))
        folders = (root / "data").iterdir() if (root / "data").is_dir() else ()
        names = sorted(folder.name for folder in folders if folder.is_dir())
        action = next((name for name in ACTIONS if name in names), None)
        if action is None:
            raise UnveilError(
                f"{path}: 'data/action' is missing; below data there is {names[:12] or 'nothing'}"
            )
        if not (root / "meta" / ENDS).is_dir():
            raise UnveilError(f"{path}: 'meta/{ENDS}' is missing")
        arrays = dict[str, np.ndarray]()
        for name in names:
            axes = 0
            try:
                shape, codecs = _described(path, root / "data" / name)
                axes = len(shape)
                if lazy and axes >= PICTURE_AXES and picture_wanted(name, axes, pictures):
                    stored = _opened(path, root, f"data/{name}", codecs, whole=False)
                    cameras[name] = scaled_frames(ZarrRows(stored, f"{path}: {name!r}"))
                elif picture_wanted(name, axes, pictures) or name == action:
                    arrays[name] = _array(path, root, f"data/{name}", codecs)
                else:
                    unread[name] = shape[1:]
            except Unread as error:
                if name == action or axes >= PICTURE_AXES:
                    raise UnveilError(f"{path}: {name!r} {error}") from error
                left[name] = str(error)
        try:
            ends = _array(path, root, f"meta/{ENDS}", _described(path, root / "meta" / ENDS)[1])
        except Unread as error:
            raise UnveilError(f"{path}: 'meta/{ENDS}' {error}") from error
        if cameras:  # which keep the folder that a zip was unpacked into
            kept = Closing(stack.pop_all().close)
            cameras = {name: KeptFrames(frames, kept) for name, frames in cameras.items()}
    actions = arrays.pop(action)
    return checked(path, arrays, actions, ends, left, Recording(unread=unread), cameras)


def _array(path: Path, root: Path, name: str, codecs: list[str]) -> np.ndarray:
    """Read one array with supported codecs.

    Raises:
        Unread: it holds no numbers, or has an unsupported codec.
        UnveilError: it is damaged.
    """
    stored = _opened(path, root, name, codecs)
    try:
        if len(stored.shape) >= PICTURE_AXES:  # in pieces: the published pictures are 2.8 GB as floats
            starts = range(0, max(1, stored.shape[0]), 1024)
            return as_pictures(np.asarray(stored[i : i + 1024]) for i in starts)
        return np.asarray(stored[...])
    except Unread:
        raise
    except Exception as error:  # zarr and its codecs raise anything
        raise _damaged(path, name, error) from error


def _opened(path: Path, root: Path, name: str, codecs: list[str], whole: bool = True) -> Any:
    """An array of zarr whose codecs and chunks have been checked.

    Args:
        whole: it is to be read at once, and so must fit into memory.
    Raises:
        Unread: it holds no numbers, or has an unsupported codec.
        UnveilError: it is damaged, or a chunk is too large.
    """
    if unknown := [codec for codec in codecs if codec not in CODECS]:
        known = ", ".join(sorted(CODECS))
        raise Unread(f"is stored by codec {unknown[0][:60]!r}, which is not supported; {known} are")
    zarr = import_module("zarr")
    try:
        stored = zarr.open_array(str(root / name), mode="r")
        check_kind(stored.dtype.kind, stored.dtype)
        files = chunk_files(root / name)
        chunk = prod(stored.chunks) * stored.dtype.itemsize
        size = stored.size * stored.dtype.itemsize if whole else chunk
        if size > room(sum(file.stat().st_size for file in files)) or (
            whole and stored.nchunks > MOST_CHUNKS
        ):
            raise UnveilError(
                f"{path}: {name!r} claims {stored.size:,} numbers, more than its chunks can hold or "
                f"{LARGEST >> 30} GiB"
            )
        if stored.shards is None:
            check_chunks(root / name, (codecs or [""])[0], chunk)
        if stored.nchunks_initialized < stored.nchunks:
            missing = stored.nchunks - stored.nchunks_initialized
            raise UnveilError(
                f"{path}: {name!r} lacks {missing} of its {stored.nchunks} chunks, which zarr would read as "
                "zeros; copy the store again, or if they are zeros write it with "
                "zarr.config.set({'array.write_empty_chunks': True})"
            )
        return stored
    except (UnveilError, Unread):
        raise
    except Exception as error:  # zarr and its codecs raise anything
        raise _damaged(path, name, error) from error


def _damaged(path: Path, name: str, error: Exception) -> UnveilError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UnveilError(f"{path}: {name!r} is damaged or cut short ({reason})")


def _described(path: Path, folder: Path) -> tuple[tuple[int, ...], list[str]]:
    """The shape of an array, and its codecs, the outermost first.

    Raises:
        Unread: it is a group.
        UnveilError: there is nothing, or it is damaged.
    """
    file = next((folder / name for name in (".zarray", "zarr.json") if (folder / name).is_file()), None)
    if file is None and (folder / ".zgroup").is_file():
        raise Unread("is a group of arrays")
    try:
        metadata = json.loads(file.read_text()) if file else {}
        if metadata.get("node_type") == "group":
            raise Unread("is a group of arrays")
        second = "compressor" in metadata  # format 2
        used = [*(metadata["filters"] or []), metadata["compressor"]] if second else metadata["codecs"]
        named = [codec.get("id", codec.get("name")) for codec in used[::-1] if codec is not None]
        return tuple(map(int, metadata["shape"])), [str(name).removeprefix("numcodecs.") for name in named]
    except DAMAGE as error:
        raise UnveilError(
            f"{path}: {folder.name!r} is not a zarr array (neither a whole .zarray nor zarr.json)"
        ) from error


@contextmanager
def _folder(path: Path) -> Generator[Path]:
    """The root of the store, the group above `data` and `meta`; a zip is unpacked into a temporary folder."""
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise UnveilError(f"{path}: no such file or folder")
    with TemporaryDirectory(prefix="unveil-") as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [info for info in archive.infolist() if not info.is_dir()]
                names = [info.filename for info in members]
                if sum(info.file_size for info in members) > room(path.stat().st_size):
                    raise UnveilError(
                        f"{path}: unpacks to more than such a file holds; if it is intact, unpack it first"
                    )
                if {info.compress_type for info in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise UnveilError(f"{path}: its compression is not zip's own; unpack it first")
                if any(".." in PurePosixPath(n).parts or PurePosixPath(n).is_absolute() for n in names):
                    raise UnveilError(f"{path}: names a file outside itself")
                tops = {n.partition(f"meta/{ENDS}/")[0] for n in names if f"meta/{ENDS}/" in n}
                if len(tops) != 1:
                    raise UnveilError(
                        f"{path}: {len(tops)} replay buffers (meta/{ENDS}) in this zip; one is needed"
                    )
                top = tops.pop()
                for info in members:
                    if info.filename.startswith(top):
                        target = Path(temporary) / info.filename.removeprefix(top)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with archive.open(info) as source, open(target, "wb") as copy:
                            shutil.copyfileobj(source, copy)
        except DAMAGE as error:
            raise UnveilError(f"{path}: not a complete zip file, damaged or cut short ({error})") from error
        yield Path(temporary)

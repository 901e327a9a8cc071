"""Data of trainings: what the server was started with, by id; and uploads, stored in their run folder."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unveil.errors import UnveilError
from unveil.serve.refusal import Refused

UNPACKED = 8  # times the largest upload: what an archive may unpack to
PICTURES = ("image", "lora", "inversion")
OF_SUFFIX = {  # file name ending -> the recipes that may read it
    **dict.fromkeys((".txt", ".md", ".jsonl", ".json", ".parquet", ".txt.gz", ".md.gz"), ("text",)),
    ".npz": (*PICTURES, "pusht"),
    ".npy": PICTURES,
    ".tar.gz": ("image",),
    **dict.fromkeys((".hdf5", ".h5"), ("maze", "pusht")),
    **dict.fromkeys((".zarr", ".zip"), ("pusht",)),
}
UPLOADS = {"image": "npz or zip", "lora": "npz or zip", "inversion": "npz or zip"} | {
    "text": "txt or zip",
    "pusht": "npz",
}


class Entry(NamedTuple):
    """Data that the server was started with.

    Args:
        id: its name in requests.
        place: its path, as it was given.
        recipes: the recipes that may read it.
    """

    id: str
    place: str
    recipes: tuple[str, ...]


def entries_of(places: Sequence[str]) -> dict[str, Entry]:
    """The entries by id.

    Raises:
        UnveilError: a path that does not exist.
    """
    from unveil.files.places import found

    entries: dict[str, Entry] = {}
    for place in places:
        path = found(Path(place))
        if not path.exists():
            raise UnveilError(f"{place}: no such file or folder; `data` names what trainings may read")
        name = first = path.resolve().name
        count = 1
        while name in entries:
            count += 1
            name = f"{first}-{count}"
        entries[name] = Entry(name, str(path), _recipes(path))
    return entries


def _recipes(path: Path) -> tuple[str, ...]:
    if path.is_dir() and path.suffix != ".zarr":
        return (*PICTURES, "text", "pusht")
    lower = path.name.lower()
    return next(
        (OF_SUFFIX[end] for end in sorted(OF_SUFFIX, key=len)[::-1] if lower.endswith(end)), ("text",)
    )


def usual(recipe: str) -> bool:
    """Whether the data that a recipe takes by default are on this machine, so that nothing is downloaded."""
    from unveil.files.places import found

    if recipe == "maze":  # they are generated
        return True
    if recipe == "image":
        from unveil.image.data.source import DEBIAN, FASHION

        return DEBIAN.is_dir() or found(Path(FASHION)).is_dir()
    if recipe == "pusht":
        from unveil.policy.recipes.pusht.data import CONVERTED, LOCAL

        return any(found(path).is_file() for path in (CONVERTED, LOCAL))
    if recipe == "text":
        from unveil.text.recipes.config import TrainText

        return found(Path(TrainText().data)).is_file()
    return False


def store(data: bytes, folder: Path, recipe: str, largest: int) -> Path:
    """Store an upload, whose content tells its kind, in a new folder; the training itself reads it, with the
    checks of `unveil train`.

    Args:
        largest: bytes that an archive may unpack to.
    Returns:
        What `data` of the recipe is.
    Raises:
        Refused: of no kind that this recipe reads.
        UnveilError: an archive that is damaged or holds anything but plain files.
    """
    if recipe not in UPLOADS:
        raise Refused(400, f"`upload`: {recipe} reads no uploads; leave it out")
    folder.mkdir(parents=True)
    if data[:4] == b"PK\x03\x04":
        arrays = _members(data, folder, largest)
        if arrays and "npz" in UPLOADS[recipe]:
            return (folder / "archive").rename(folder / "data.npz")
        if not arrays and "zip" in UPLOADS[recipe]:
            from unveil.files.archives import extract

            extract(folder / "archive", folder / "files")
            (folder / "archive").unlink()
            return folder / "files"
    elif recipe == "text" and _is_text(data):
        file = folder / "data.txt"
        file.write_bytes(data)
        return file
    raise Refused(400, f"`upload`: {recipe} reads {UPLOADS[recipe]}, and this is another kind of file")


def _members(data: bytes, folder: Path, largest: int) -> bool:
    """Write an archive; whether it holds nothing but arrays.

    Raises:
        Refused: it is damaged, or claims too much.
    """
    (folder / "archive").write_bytes(data)
    try:
        with zipfile.ZipFile(folder / "archive") as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, NotImplementedError) as error:
        raise Refused(400, f"`upload`: a damaged archive ({error})") from None
    if sum(member.file_size for member in members) > largest:
        raise Refused(413, f"`upload`: unpacks to more than {largest // 2**20} MB")
    return all(member.filename.endswith(".npy") for member in members)


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.decode("utf-8-sig").strip()) and b"\0" not in data
    except UnicodeDecodeError:
        return False

"""List a folder of images by names alone: its files, classes, training and test parts."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unveil.errors import UnveilError
from unveil.image.data.picture_files import FOREIGN, SUFFIXES

TRAIN = ("train", "training", "train_set", "trainset")
TEST = ("test", "testing", "test_set", "testset")
VALID = ("val", "valid", "validation", "dev", "eval")
CONTENT = ("images", "image", "imgs", "img", "data", "pictures", "photos")
PLAIN = (*TRAIN, *TEST, *VALID, *CONTENT)  # names that are no class
METADATA = ("metadata.jsonl", "metadata.csv")  # captions, as Hugging Face's imagefolder names them
SYSTEM = ("__MACOSX", "@eaDir")


class Listed(NamedTuple):
    """The image files below a folder, by name, and what else is there.

    Args:
        foreign: image files of formats that cannot be read.
        others: numbers of other files by kind.
    """

    files: tuple[Path, ...]
    foreign: tuple[Path, ...]
    others: Counter[str]


class Parts(NamedTuple):
    """The folder of the training images, that of the test images, if any, and notes about the choice."""

    train: Path
    test: Path | None
    notes: tuple[str, ...] = ()


def listed(folder: Path) -> Listed:
    """List all files below a folder, also in linked folders; hidden files, such as ._x.jpg, are left out.

    Captions, which are metadata.jsonl, metadata.csv and .txt files beside images, are no other files.
    """
    files: list[Path] = []
    foreign: list[Path] = []
    others: Counter[str] = Counter()
    above: dict[str, frozenset[str]] = {str(folder): frozenset({os.path.realpath(folder)})}
    for place, folders, names in os.walk(folder, followlinks=True):
        lines = above.pop(place)
        hidden = [name for name in folders if name.startswith(".") or name in SYSTEM]
        folders[:] = [name for name in folders if name not in hidden]
        for name in list(folders):
            inside = os.path.join(place, name)
            if os.path.realpath(inside) in lines:  # a link to a folder above
                folders.remove(name)
                continue
            above[inside] = lines | {os.path.realpath(inside)}
        if hidden:
            others["hidden folders"] += len(hidden)
        beside = {os.path.splitext(name)[0] for name in names if name.lower().endswith(SUFFIXES)}
        for name in names:
            file = Path(place) / name
            suffix = file.suffix.lower()
            if name in METADATA or (suffix == ".txt" and file.stem in beside):
                continue
            if name.startswith("."):
                others["hidden"] += 1
            elif not file.is_file():
                others["broken links"] += 1
            elif suffix in SUFFIXES:
                files.append(file)
            elif suffix in FOREIGN:
                foreign.append(file)
            else:
                others[suffix or "without a suffix"] += 1
    return Listed(tuple(sorted(files)), tuple(sorted(foreign)), others)


def left_out(found: Listed) -> tuple[str, ...]:
    """A note for each image format that cannot be read, and one for all other files."""
    notes: list[str] = []
    if found.foreign:
        kinds = Counter(file.suffix.lower() for file in found.foreign)
        for kind, count in kinds.items():
            notes.append(f"left out {count} {'images' if count > 1 else 'image'} {kind}: {FOREIGN[kind]}")
    if total := sum(found.others.values()):
        some = ", ".join(f"{count} {kind}" for kind, count in found.others.most_common(4))
        notes.append(
            f"left out {total} {'files that are no pictures' if total > 1 else 'file that is no picture'} "
            f"({some})"
        )
    return tuple(notes)


def parts(folder: Path) -> Parts:
    """Find the training and the test images of a divided folder; descend into folders with a single folder.

    A `train` beside a `test` or a `val` is a division, not two classes; `test` is preferred. Names match in
    any case.

    Raises:
        UnveilError: the folder is divided, without a part to train on.
    """
    notes: list[str] = []
    while True:
        inner = _folders(folder)
        names = {name.lower(): path for name, path in inner.items()}
        train = next((names[name] for name in TRAIN if name in names), None)
        tests = [names[name] for name in (*TEST, *VALID) if name in names]
        if train is not None and tests:
            aside = [path.name for path in inner.values() if path not in (train, tests[0])]
            if aside:
                notes.append(
                    f"left out {', '.join(f'{name}/' for name in aside[:4])} of {folder}; trained on "
                    f"{train.name}/"
                )
            elif tests[0].name.lower() not in TEST:
                notes.append(f"{tests[0].name}/ is held out, {train.name}/ trained on")
            inside, test = _through(train, notes), _through(tests[0], notes)
            return Parts(inside, test, tuple(notes))
        if tests and len(tests) == len(inner) and len(tests) > 1:
            raise UnveilError(
                f"{folder}: is divided into {', '.join(inner)}, without a train/; give the folder to train on"
            )
        deeper = _through(folder, notes)
        if deeper == folder:
            inside = {name for path in inner.values() for name in _folders(path)}
            mixed = sorted(name for name in inside if name.lower() in (*TRAIN, *TEST, *VALID))
            if mixed:
                notes.append(
                    f"{' and '.join(f'{name}/' for name in mixed)} inside the classes of {folder} are read "
                    "together"
                )
            return Parts(folder, None, tuple(notes))
        folder = deeper


def _through(folder: Path, notes: list[str]) -> Path:
    """The folder inside, if it alone has images, and has subfolders of them or a name that is no class."""
    inner = _folders(folder)
    if len(inner) != 1 or _loose(folder):
        return folder
    path = next(iter(inner.values()))
    if path.name.lower() not in PLAIN and (_loose(path) or not _folders(path)):
        return folder
    notes.append(f"the images are those of {path}")
    return path if _divided(path) else _through(path, notes)


def _divided(folder: Path) -> bool:
    names = {name.lower() for name in _folders(folder)}
    return bool(names & set(TRAIN)) and bool(names & {*TEST, *VALID})


def _inside(folder: Path) -> list[Path]:
    """The files and folders inside, without those of the system."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name not in SYSTEM)


def _folders(folder: Path) -> dict[str, Path]:
    """The folders inside that have images somewhere below, by name."""
    return {path.name: path for path in _inside(folder) if path.is_dir() and _any(path)}


def _any(folder: Path, above: frozenset[str] = frozenset()) -> bool:
    here = os.path.realpath(folder)
    if here in above:
        return False
    return _loose(folder) or any(_any(p, above | {here}) for p in _inside(folder) if p.is_dir())


def _loose(folder: Path) -> bool:
    return any(p.suffix.lower() in SUFFIXES and p.is_file() for p in _inside(folder))


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key that puts 2 before 10, also inside a name."""
    pieces = re.split(r"([0-9]+)", name)
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces if piece], name


def kinds(folder: Path, files: Sequence[Path]) -> tuple[list[str], str]:
    """The class of each file, and the reason why there are none.

    The class is the subfolder, or else the prefix of the name before its first "_". If some files have none,
    there are no classes.
    """
    inner = [file.relative_to(folder).parts for file in files]
    prefixes = [file.stem.split("_")[0] if "_" in file.stem else "" for file in files]
    found = [part[0] if len(part) > 1 else name for part, name in zip(inner, prefixes, strict=True)]
    if all(found):
        return found, ""
    if not any(found):
        return [], f"{folder} has no classes: no subfolders, and no prefixes before '_' in its files' names"
    bare = files[found.index("")]
    return (
        [],
        f"{bare} has no class: it is in no subfolder and its name has no prefix before '_', as the others "
        "have",
    )

"""Captions of images from files: a table of file names and texts, or a text file beside each image."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from unveil.errors import UnveilError
from unveil.files.notes import left_out
from unveil.files.places import found
from unveil.files.records import RECORDS, Record, read_text, records
from unveil.image.data.folder_listing import METADATA
from unveil.image.data.images import ImageSet

FILE_FIELDS = ("file_name", "file", "image", "filename", "path")
TEXT_FIELDS = ("text", "caption", "prompt")
TABLES = {".csv": ",", ".tsv": "\t"}


class Line(NamedTuple):
    """A line of a caption file: the image's file name, "" if it has none; the text; where it stands."""

    file: str
    text: str
    place: str
    folder: Path


def read_captions(images: ImageSet, source: str = "auto") -> ImageSet:
    """The images that have captions, with them; a note says which were left out.

    Args:
        images: from `read_images`; those of a folder know their files.
        source: one of
            - a file of names and texts (.jsonl, .json, .parquet, .csv or .tsv), in UTF-8, with the fields
              `file_name` (or `file`, `image`, `filename`, `path`) and `text` (or `caption`, `prompt`), as in
              Hugging Face's metadata.jsonl. Names are relative to this file or to the images' folder. Without
              names, as for the images of an array: one line for each image, in order;
            - "txt": the .txt file beside each image;
            - "auto": the captions of an array; else metadata.jsonl or metadata.csv among the images; else the
              .txt files.
    Raises:
        UnveilError: no caption or no such file, not UTF-8, a line without a text, two captions of one image,
            or none of the named images is there.
    """
    if source not in ("auto", "txt"):
        return _from_tables(images, [found(Path(source))])
    if source == "auto" and images.stored_captions is not None:
        stored = enumerate(images.stored_captions)
        texts = (_cleaned(text, f"image {row} of the data") for row, text in stored)
        return replace(images, captions=tuple(texts))
    if images.files is None:
        raise UnveilError(
            "the images have no captions; give `captions` a .jsonl or .csv file with a line for each image, "
            "in order"
        )
    tables = _tables(images.files) if source == "auto" else []
    return _from_tables(images, tables) if tables else _from_texts(images, images.files)


def _from_tables(images: ImageSet, tables: Sequence[Path]) -> ImageSet:
    lines = [line for table in tables for line in _lines(table)]
    what = str(tables[0])
    if not lines:
        raise UnveilError(f"{what}: has no captions")
    if images.files is None or not any(line.file for line in lines):
        if len(lines) != len(images):
            raise UnveilError(
                f"{what}: {len(lines):,} captions for {len(images):,} images, which have no names in common"
            )
        return replace(images, captions=tuple(line.text for line in lines), drawings=None)
    row_of, texts, missing = _Rows(images.files), dict[int, Line](), list[Line]()
    for line in lines:
        row = row_of(line.file, line.folder)
        if row is None:
            missing.append(line)
        elif row in texts:
            raise UnveilError(
                f"{line.place}: a second caption of {line.file}, after {texts[row].place}; keep one of them"
            )
        else:
            texts[row] = line
    if not texts:
        raise UnveilError(
            f"{what}: names none of the images, which are {images.files[0]} and so on; it begins with "
            f"{lines[0].file!r}"
        )
    notes = ()
    if missing:
        several = "captions of images that are" if len(missing) > 1 else "caption of an image that is"
        notes = (f"left out {len(missing):,} {several} not there ({left_out([m.file for m in missing], 3)})",)
    return _captioned(images, {row: line.text for row, line in texts.items()}, notes)


def _from_texts(images: ImageSet, files: Sequence[Path]) -> ImageSet:
    texts: dict[int, str] = {}
    for row, file in enumerate(files):
        beside = file.with_suffix(".txt")
        if beside.is_file():
            texts[row] = _cleaned(_utf8(beside), str(beside))
    if not texts:
        raise UnveilError(
            f"the images have no captions: there is no {METADATA[0]}, and no .txt file beside {files[0]} or "
            "another image; give `captions` a .jsonl or .csv file"
        )
    return _captioned(images, texts, ())


def _captioned(images: ImageSet, texts: dict[int, str], notes: tuple[str, ...]) -> ImageSet:
    """The images of these rows, with their captions, and notes."""
    rows = np.array(sorted(texts))
    bare = [row for row in range(len(images)) if row not in texts]
    if bare:
        names = "" if images.files is None else f" ({left_out([images.files[row].name for row in bare], 3)})"
        several = "images without captions" if len(bare) > 1 else "image without a caption"
        notes = (*notes, f"left out {len(bare):,} {several}{names}")
        images = images.chosen(rows)
    captions = tuple(texts[row] for row in rows.tolist())
    return replace(images, captions=captions, drawings=None, notes=images.notes + notes)


class _Rows:
    """Finds the row of an image by its name in a caption file."""

    def __init__(self, files: Sequence[Path]) -> None:
        paths = [os.path.abspath(file) for file in files]
        self.root = os.path.commonpath([os.path.dirname(path) for path in paths])
        self.by_path = {path: row for row, path in enumerate(paths)}
        counts = Counter(file.name for file in files)
        self.by_name = {file.name: row for row, file in enumerate(files) if counts[file.name] == 1}

    def __call__(self, name: str, folder: Path) -> int | None:
        """The row; None if there is no such image."""
        parts = name.replace("\\", "/").split("/")
        places = [os.path.join(os.path.abspath(folder), *parts)]
        places += [os.path.join(self.root, *parts[skipped:]) for skipped in range(len(parts))]
        rows = (self.by_path.get(os.path.normpath(place)) for place in places)
        by_path = next((row for row in rows if row is not None), None)
        return self.by_name.get(name) if by_path is None else by_path


def _tables(files: Sequence[Path]) -> list[Path]:
    """The metadata files in the folders of the images, and in those above up to their common one."""
    root = Path(os.path.commonpath([file.parent for file in files]))
    inner = {file.parent for file in files}
    folders = sorted({root} | {folder for path in inner for folder in (path, *path.parents)})
    inside = [folder for folder in folders if folder == root or root in folder.parents]
    first = (next((f for n in METADATA if (f := folder / n).is_file()), None) for folder in inside)
    return [file for file in first if file is not None]


def _lines(table: Path) -> list[Line]:
    suffixes = (*RECORDS, *TABLES)
    if not table.is_file():
        raise UnveilError(f"{table}: no such file; `captions` is a file of names and texts, txt or auto")
    if not table.name.lower().endswith(suffixes):
        raise UnveilError(f"{table}: captions are read from {', '.join(suffixes)}; write one of these")
    read = _rows_of(table) if table.suffix.lower() in TABLES else _records_of(table)
    return [_line(record.value, record.place, table) for record in read]


def _records_of(table: Path) -> list[Record]:
    try:
        return list(records(table))
    except UnveilError as error:
        raise _as_utf8(error) from error


def _rows_of(table: Path) -> list[Record]:
    """The rows of a .csv or .tsv below its line of names."""
    reader = csv.DictReader(io.StringIO(_utf8(table), newline=""), delimiter=TABLES[table.suffix.lower()])
    try:
        return [Record(row, f"{table}, line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise UnveilError(f"{table}, line {reader.line_num}: not a row of a table ({error})") from error


def _line(value: object, place: str, table: Path) -> Line:
    if not isinstance(value, dict):
        raise UnveilError(f"{place}: not an object with a file name and a text")
    fields = cast("dict[object, object]", value)
    text = next((fields[name] for name in TEXT_FIELDS if fields.get(name) is not None), None)
    if not isinstance(text, str):
        there = ", ".join(str(name) for name in list(fields)[:6])
        raise UnveilError(f"{place}: no text in the field {' or '.join(TEXT_FIELDS)}; it has {there}")
    file = next((fields[name] for name in FILE_FIELDS if fields.get(name) is not None), "")
    if not isinstance(file, str):
        raise UnveilError(f"{place}: the file name of the image must be text, got {type(file).__name__}")
    return Line(file, _cleaned(text, place), place, table.parent)


def _cleaned(text: str, place: str) -> str:
    """A caption on one line; half a character (a lone surrogate) becomes U+FFFD."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not (caption := " ".join(whole.split())):
        raise UnveilError(f"{place}: the caption is empty; write one, or remove it to leave the image out")
    return caption


def _utf8(file: Path) -> str:
    try:
        return read_text(file)
    except UnveilError as error:
        raise _as_utf8(error) from error


def _as_utf8(error: UnveilError) -> UnveilError:
    """The error with advice that captions can follow: there is no setting for their encoding."""
    what, given, _ = str(error).partition("; give ")
    return UnveilError(f"{what}; save it as UTF-8") if given and "`encoding" in str(error) else error

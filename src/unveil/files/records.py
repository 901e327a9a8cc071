"""Read text files in any encoding, and records: JSON Lines, a JSON array, or a Parquet table."""

import gzip
import json
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

from unveil.errors import UnveilError
from unveil.files.hdf5 import room
from unveil.files.npz import unpacked
from unveil.files.reading import reading

RECORDS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz", ".parquet")
LONGEST_LINE = 2**26
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class Record(NamedTuple):
    """A value of a file, and its position in words, for messages."""

    value: Any  # as `json.loads` returns it, or a text
    place: str


def is_records(file: Path) -> bool:
    """Whether a file holds records, by its name, and not plain text."""
    return file.name.lower().endswith(RECORDS)


def read_text(file: Path, encoding: str = "utf-8") -> str:
    """Read a text file, or a .gz of one, without byte order mark and with "\\n" in place of "\\r\\n".

    Raises:
        UnveilError: it cannot be read, or is not of this encoding; the message names the byte.
        ValueError: no such encoding.
    """
    with reading(file):
        raw = unpacked(file) if file.name.lower().endswith(".gz") else file.read_bytes()
    text = _decoded(file, raw, encoding).removeprefix("\ufeff")
    return text.replace("\r\n", "\n") if "\r" in text else text


def records(file: Path, encoding: str = "utf-8") -> Iterator[Record]:
    """Yield the records of a file: lines of .jsonl and .ndjson, items of an array in .json, rows of .parquet.

    A .jsonl file that is one array of objects, and a .json file with one object per line, are read as such.

    Raises:
        UnveilError: it cannot be read, is not of this encoding, or a line is not JSON; the message names the
            line.
    """
    name = file.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        yield from _rows(file)
        return
    if name.endswith(".json") or _begins_an_array(file, encoding):
        text = read_text(file, encoding)
        value = _whole(text)
        if isinstance(value, list) and (name.endswith(".json") or (value and isinstance(value[0], dict))):
            del text
            for number, item in enumerate(cast(list[object], value), 1):
                yield Record(item, f"{file}, item {number}")
            return
        if isinstance(value, dict) and name.endswith(".json"):
            yield Record(value, str(file))
            return
    for number, line in _lines(file, encoding):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UnveilError(f"{file}, line {number}: not JSON ({str(error)[:80]})") from error
            yield Record(value, f"{file}, line {number}")


def _whole(text: str) -> object:
    """Parse the whole text as JSON; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _begins_an_array(file: Path, encoding: str) -> bool:
    _, first = next(((n, line) for n, line in _lines(file, encoding) if line.strip()), (0, ""))
    return first.lstrip().startswith("[")


def _lines(file: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines; the file is read line by line if its encoding has plain line ends."""
    if not _plain_ends(encoding):
        yield from enumerate(read_text(file, encoding).split("\n"), 1)
        return
    start, largest = 0, room(file.stat().st_size)
    try:
        with gzip.open(file, "rb") if file.name.lower().endswith(".gz") else open(file, "rb") as handle:
            number = 0
            while raw := handle.readline(min(largest - start, LONGEST_LINE) + 1):
                if start + len(raw) > largest:
                    raise UnveilError(
                        f"{file}: unpacks to more than {largest:,} bytes; if it is sound, unpack it first"
                    )
                if len(raw) > LONGEST_LINE:
                    raise UnveilError(
                        f"{file}, line {number + 1}: longer than {LONGEST_LINE:,} bytes; write one record "
                        "per line"
                    )
                line = _decoded(file, raw, encoding, start)
                start, number = start + len(raw), number + 1
                yield number, line.removeprefix("\ufeff") if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise UnveilError(f"{file}: cannot be read ({error})") from error


def _plain_ends(encoding: str) -> bool:
    try:
        return "\n{".encode(encoding) == b"\n{"
    except (LookupError, UnicodeError):
        return False


def _decoded(file: Path, raw: bytes, encoding: str, start: int = 0) -> str:
    """Decode bytes that begin at offset `start` of the file."""
    try:
        text = raw.decode(encoding)
    except LookupError as error:
        raise ValueError(
            f"`encoding` {encoding!r}: no such encoding of text; known are utf-8, utf-16, latin-1, cp1252, "
            "..."
        ) from error
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding.lower() in ("utf-8", "utf8") else encoding
        where = f"byte {start + error.start:,} is {error.object[error.start]:#x}"
        if start == 0 and raw[:2] in UTF16_BOMS:
            raise UnveilError(
                f"{file}: not {name} text: it begins as UTF-16 does ({where}); give `encoding=utf-16`"
            ) from error
        other = "utf-8" if name != "UTF-8" else "cp1252 or latin-1"
        raise UnveilError(
            f"{file}: not {name} text ({where}); give its own `encoding`, such as {other}"
        ) from error
    except (UnicodeError, ValueError) as error:
        raise UnveilError(
            f"{file}: cannot be read as {encoding} ({str(error)[:80]}); give another `encoding`"
        ) from error
    beginning = text[:4096] if start == 0 else ""
    if beginning.count("\0") * 4 > len(beginning) > 1:
        raise UnveilError(
            f"{file}: every other character is NUL, as in UTF-16 that is read as {encoding}; give "
            "`encoding=utf-16-le` or `encoding=utf-16-be`"
        )
    return text


def _rows(file: Path) -> Iterator[Record]:
    try:
        parquet: object = import_module("pyarrow.parquet")
    except ImportError as error:
        raise UnveilError(
            f"{file}: Parquet needs the package pyarrow: pip install pyarrow; or write the file as jsonl"
        ) from error
    number, taken, largest = 0, 0, room(file.stat().st_size)
    with reading(file, "cannot be read as Parquet"):
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
            if (taken := taken + batch.nbytes) > largest:
                raise UnveilError(
                    f"{file}: unpacks to more than {largest:,} bytes; if it is sound, write it without "
                    "compression"
                )
            for row in batch.to_pylist():
                number += 1
                yield Record(row, f"{file}, row {number}")

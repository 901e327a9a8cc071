"""Training text: files and folders as documents, documents as a stream of tokens, and pieces of it."""

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer
from numpy.lib import format as npy
from torch import Tensor

from unveil.checks import Bounds, whole, within
from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.notes import note
from unveil.files.npz import DAMAGE, HEADERS
from unveil.files.places import found
from unveil.files.records import RECORDS, Record, is_records, read_text, records
from unveil.text.data.tokens import FILE, Tokens, note_mended, parts_of, read_tokens, whole_text, write_tokens

SUFFIXES = (".txt", ".md", ".txt.gz", ".md.gz", *RECORDS)


def read_documents(source: str | Path, field: str = "text", encoding: str = "utf-8") -> list[str]:
    """The documents of a file or a folder, also below $UNVEIL_DATA and the cache.

    A text file is one document, and so is each line of jsonl. Byte order marks are removed, "\\r\\n" becomes
    "\\n", and half a character (a lone surrogate) becomes U+FFFD, with a note. Files of a folder that are
    left out are noted, too.

    Args:
        source: .txt or .md (any other name is also read as text), .jsonl, an array of objects in .json, each
            also as .gz, or .parquet; or a folder, of which all such files are read, sorted by name.
        field: the field of a JSON object that holds the document.
        encoding: character encoding of the files, such as "latin-1".
    Raises:
        UnveilError: nothing is there, it is damaged or in another encoding, or an object lacks the field.
        ValueError: an unknown encoding.
    """
    place = found(Path(source))
    if not place.is_dir() and not place.is_file():
        raise UnveilError(
            f"{source}: no such file or folder, here, below $UNVEIL_DATA or in the cache; give a text file, "
            "jsonl or a folder"
        )
    read = _folder(place, field, encoding) if place.is_dir() else _documents(place, field, encoding)
    documents = [whole_text(text) for text, _ in read]
    note_mended([at for (text, at), mended in zip(read, documents, strict=True) if mended is not text])
    return documents


def _folder(place: Path, field: str, encoding: str) -> list[Record]:
    inside = [p for p in sorted(place.rglob("*")) if p.is_file()]
    files = [
        p
        for p in inside
        if p.name.lower().endswith(SUFFIXES)
        and not any(part.startswith(".") or part == "__MACOSX" for part in p.relative_to(place).parts)
    ]
    if not files:
        raise UnveilError(f"{place}: no text in this folder; looked for {', '.join(SUFFIXES)}")
    if others := sorted(set(inside) - set(files)):
        kinds = sorted({p.suffix or p.name for p in others})
        note(
            f"{place}: {len(others)} files that are no text are left out "
            f"({', '.join(kinds[:5])}{', ...' if len(kinds) > 5 else ''})"
        )
    documents: list[Record] = []
    for file in files:
        try:
            documents += _documents(file, field, encoding)
        except UnveilError as error:
            # a .json file may describe the other files
            if not file.name.lower().removesuffix(".gz").endswith(".json"):
                raise
            note(f"left out: {error}")
    if not documents:
        raise UnveilError(f"{place}: no text in this folder; no file of it has a field {field!r}")
    return documents


def _documents(file: Path, field: str, encoding: str) -> list[Record]:
    """The documents of a file, and where they are."""
    if is_records(file):
        read = [Record(_field(value, place, field), place) for value, place in records(file, encoding)]
        why = f"; the field {field!r} is empty in every line"
    else:
        read, why = [Record(read_text(file, encoding), str(file))], ""
    if not read:
        raise UnveilError(
            f"{file}: no lines in it; needed is one JSON object a line, with the field {field!r}"
        )
    if not any(text.strip() for text, _ in read):
        raise UnveilError(f"{file}: no text in it{why}")
    return read


def _field(value: object, place: str, field: str) -> str:
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        has = ", ".join(map(str, value))[:80] if isinstance(value, dict) else type(value).__name__
        raise UnveilError(
            f"{place}: no text in the field {field!r} (it has {has or 'nothing'}); name another with `field`"
        )
    return value[field]


@dataclass(frozen=True, eq=False)
class Stream:
    """Documents packed one after another, end-of-text between them and at the end.

    Args:
        ids: (N,) token ids, of any integer type.
        characters: number of characters of the text, for bits per character.
    """

    ids: Integer[np.ndarray, " N"]
    characters: int

    def __len__(self) -> int:
        return len(self.ids)


def pack(documents: Iterable[str], tokens: Tokens) -> Stream:
    """Documents as one stream. The text of end-of-text within a document ends it there, as in files that hold
    many documents.

    Raises:
        UnveilError: a document holds the text of the mask token.
    """
    small = tokens.size <= 2**16
    ids = array("H" if small else "i")  # grows in place, at 2 or 4 bytes per token
    characters = 0
    for number, document in enumerate(documents, 1):
        for part in parts_of(tokens, document):
            piece = tokens.encode(part)
            if tokens.mask_id in piece:
                raise UnveilError(
                    f"document {number} holds the text of the mask token itself; take it out, or use another "
                    "tokenizer"
                )
            ids.extend(piece)
        ids.append(tokens.eos_id)
        characters += len(document)
    return Stream(np.frombuffer(ids, np.uint16 if small else np.int32), characters)


def split_documents(documents: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """The documents without, and only, the last `share` of all characters.

    Of a single text this is its end, as nanoGPT splits tiny-shakespeare.

    Raises:
        ValueError: share outside [0, 1).
    """
    within("the share held out", share, Bounds(0, 1, below=True))
    left = int((1.0 - share) * sum(map(len, documents)) + 0.5)
    kept: list[str] = []
    held: list[str] = []
    for document in documents:
        kept += [document[:left]] if left > 0 else []
        held += [document[max(left, 0) :]] if len(document) > left else []
        left -= len(document)
    return kept, held


@dataclass(frozen=True, eq=False)
class Prepared:
    """The content of a folder of `unveil data text`: a vocabulary, and the training and the held-out
    stream."""

    tokens: Tokens
    train: Stream
    held: Stream
    command: str = ""
    """command that made it"""


def write_prepared(prepared: Prepared, folder: Path) -> None:
    """Write tokenizer.json, train.npy, held.npy and, last, streams.json."""
    write_tokens(prepared.tokens, folder / FILE)
    small = np.uint16 if prepared.tokens.size <= 2**16 else np.int32
    for name, stream in (("train", prepared.train), ("held", prepared.held)):
        with replacing(folder / f"{name}.npy") as partial, open(partial, "wb") as handle:
            np.save(handle, stream.ids.astype(small, copy=False), allow_pickle=False)
    characters = {"train": prepared.train.characters, "held": prepared.held.characters}
    with replacing(folder / "streams.json") as partial:
        partial.write_text(
            json.dumps({"unveil": "text", "characters": characters, "command": prepared.command}) + "\n"
        )


def prepared_folder(data: str) -> Path | None:
    """The folder that `write_prepared` finished at a path, also below $UNVEIL_DATA and the cache, or None."""
    folder = found(Path(data))
    return folder if (folder / "streams.json").is_file() else None


def made_by_data_text(folder: Path) -> bool:
    """Whether a folder's streams.json says that `write_prepared` made it."""
    try:
        return json.loads((folder / "streams.json").read_text(encoding="utf-8-sig"))["unveil"] == "text"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_prepared(folder: Path) -> Prepared:
    """Read what `write_prepared` wrote.

    Raises:
        UnveilError: a file is missing or damaged, or holds tokens that the vocabulary lacks.
    """
    tokens = read_tokens(folder / FILE)
    try:
        described = json.loads((folder / "streams.json").read_text())
        characters = described["characters"]
        train, held = (
            Stream(_stored_ids(folder / f"{n}.npy"), int(characters[n])) for n in ("train", "held")
        )
    except DAMAGE as error:
        raise UnveilError(
            f"{folder}: not a whole folder of `unveil data text` ({error}); make it anew"
        ) from error
    if any(len(s) and not 0 <= int(s.ids.min()) <= int(s.ids.max()) < tokens.size for s in (train, held)):
        raise UnveilError(f"{folder}: its streams hold tokens that its tokenizer lacks; make it anew")
    return Prepared(tokens, train, held, str(described.get("command", "")))


def _stored_ids(file: Path) -> np.ndarray:
    """Token ids of a file, memory-mapped."""
    with open(file, "rb") as stream:
        shape, _, dtype = HEADERS[npy.read_magic(stream)](stream)
        begins = stream.tell()
    if len(shape) != 1 or dtype.kind not in "iu" or begins + shape[0] * dtype.itemsize != file.stat().st_size:
        raise ValueError(f"{file.name} holds no row of token ids, or is cut short")
    # an empty file cannot be mapped
    return np.memmap(file, dtype, "r", begins, shape) if shape[0] else np.zeros(0, dtype)


class Pieces:
    """Random pieces of a stream, on the CPU.

    Args:
        length: L; a stream that is shorter is a single piece.
        truncated: fraction of batches that are cut to a random length 1 .. L, so that the network learns all
            lengths; 1 % in Nie et al. 2025, section 2.2.
    Raises:
        UnveilError: an empty stream.
        ValueError: a length or a fraction out of range.
    """

    def __init__(self, stream: Stream, length: int, truncated: float = 0.01) -> None:
        if not len(stream):
            raise UnveilError("there is no text to learn from")
        whole("length", length)
        within("truncated", truncated, Bounds(0, 1))
        self.ids = stream.ids
        self.length, self.truncated = min(length, len(stream)), truncated

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
        """`count` pieces of one length."""
        length = self.length
        if float(torch.rand(1, generator=generator, device="cpu")) < self.truncated:
            length = 1 + int(torch.randint(self.length, (1,), generator=generator, device="cpu"))
        first = torch.randint(len(self.ids) - length + 1, (count,), generator=generator, device="cpu")
        positions = (first[:, None] + torch.arange(length, device="cpu")).numpy()
        return torch.from_numpy(self.ids[positions].astype(np.int64))


class Rows:
    """Random rows of texts of one length, on the CPU; used like `Pieces`.

    Args:
        rows: at least one, all with the same number of tokens.
    Raises:
        ValueError: no row, or rows of different lengths.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        lengths = {len(row) for row in rows}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"rows must be of one length, at least 1, got lengths {sorted(lengths)[:5]}")
        self.ids = torch.tensor(rows, device="cpu")

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
        """`count` random rows."""
        return self.ids[torch.randint(len(self.ids), (count,), generator=generator, device="cpu")]


def in_order(stream: Stream, length: int) -> tuple[Integer[np.ndarray, "N L"], Bool[np.ndarray, "N L"]]:
    """The whole stream in pieces of `length`, and a mask of its real tokens.

    The last piece is padded with the first token of the stream.
    """
    count = -(-len(stream) // length)
    ids = np.full((count, length), stream.ids[0], stream.ids.dtype)
    ids.reshape(-1)[: len(stream)] = stream.ids
    return ids, np.arange(count * length).reshape(count, length) < len(stream)

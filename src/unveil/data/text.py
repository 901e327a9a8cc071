"""Text to learn from: files and folders as documents, documents as one stream of tokens, pieces of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.data.files import found, replacing
from unveil.data.npz import npy_array, unpacked
from unveil.data.tokens import FILE, Tokens, read_tokens, write_tokens
from unveil.errors import UnveilError

SUFFIXES = (".txt", ".md", ".jsonl", ".txt.gz", ".md.gz", ".jsonl.gz")


def read_documents(source: str | Path, field: str = "text") -> list[str]:
    """The documents of a file or a folder, also below $UNVEIL_DATA and the cache: a text file is one, a line of jsonl is one.

    Args:
        source: .txt or .md (any other name is read as text, too), .jsonl, each also as .gz; of a folder all such files below it, by name.
        field: of a line of jsonl.
    Raises:
        UnveilError: nothing there, not UTF-8, damaged, or a line without the field.
    """
    place = found(Path(source))
    if place.is_dir():
        files = sorted(p for p in place.rglob("*") if p.is_file() and p.name.lower().endswith(SUFFIXES))
        if not files:
            raise UnveilError(f"{place}: no text in this folder; looked for {', '.join(SUFFIXES)}")
        return [document for file in files for document in _documents(file, field)]
    if not place.is_file():
        raise UnveilError(
            f"{source}: no such file or folder, here, below $UNVEIL_DATA or in the cache; give a text file, jsonl or a folder"
        )
    return _documents(place, field)


def read_text(file: Path) -> str:
    """The text of a file, unpacked if it is a .gz.

    Raises:
        UnveilError: it cannot be read, or is not UTF-8.
    """
    try:
        return (unpacked(file) if file.name.lower().endswith(".gz") else file.read_bytes()).decode()
    except UnicodeDecodeError as error:
        raise UnveilError(f"{file}: not UTF-8 text (byte {error.start} is {error.object[error.start]:#x})") from error
    except OSError as error:
        raise UnveilError(f"{file}: cannot be read ({error})") from error


def _documents(file: Path, field: str) -> list[str]:
    text = read_text(file)
    if not file.name.lower().removesuffix(".gz").endswith(".jsonl"):
        if not text.strip():
            raise UnveilError(f"{file}: no text in it")
        return [text]
    documents = [_line(file, number, line, field) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not documents:
        raise UnveilError(f"{file}: no lines in it; needed is one JSON object a line, with the field {field!r}")
    if not any(document.strip() for document in documents):
        raise UnveilError(f"{file}: no text in it; the field {field!r} is empty in every line")
    return documents


def _line(file: Path, number: int, line: str, field: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnveilError(f"{file}, line {number}: not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        has = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise UnveilError(f"{file}, line {number}: no text in the field {field!r} (it has {has or 'nothing'}); name another with --field")
    return value[field]


@dataclass(frozen=True, eq=False)
class Stream:
    """Documents packed one after another, end-of-text between them and at the end.

    Args:
        ids: (N,) tokens.
        characters: of the text they stand for, for bits a character.
    """

    ids: Int[np.ndarray, " N"]
    characters: int

    def __len__(self) -> int:
        return len(self.ids)


def pack(documents: Iterable[str], tokens: Tokens) -> Stream:
    """The stream of some documents; the text of end-of-text within one ends it there, as files of many documents have it.

    Raises:
        UnveilError: a document holds the mask's own text.
    """
    ids: list[int] = []
    characters = 0
    for number, document in enumerate(documents, 1):
        piece = tokens.encode(document)
        if tokens.mask_id in piece:
            raise UnveilError(f"document {number} holds the text of the mask token itself; take it out, or use another tokenizer")
        ids += [*piece, tokens.eos_id]
        characters += len(document)
    return Stream(np.asarray(ids, np.int32), characters)


def split_documents(documents: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """The documents without, and only, the last `share` of all characters: of a single text its tail, as nanoGPT splits tiny-shakespeare.

    Raises:
        ValueError: share outside [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"the share held out must lie in [0, 1), got {share}")
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
    """What `unveil data text` writes into a folder: a vocabulary, and the streams of training and of held-out text."""

    tokens: Tokens
    train: Stream
    held: Stream
    command: str = ""
    """what made it"""


def write_prepared(prepared: Prepared, folder: Path) -> None:
    """tokenizer.json, train.npy, held.npy and streams.json, the last of them last."""
    write_tokens(prepared.tokens, folder / FILE)
    small = np.uint16 if prepared.tokens.size <= 2**16 else np.int32
    for name, stream in (("train", prepared.train), ("held", prepared.held)):
        with replacing(folder / f"{name}.npy") as partial, open(partial, "wb") as handle:
            np.save(handle, stream.ids.astype(small), allow_pickle=False)
    characters = {"train": prepared.train.characters, "held": prepared.held.characters}
    with replacing(folder / "streams.json") as partial:
        partial.write_text(json.dumps({"unveil": "text", "characters": characters, "command": prepared.command}) + "\n")


def is_prepared(folder: Path) -> bool:
    """Whether `write_prepared` finished there."""
    return (folder / "streams.json").is_file()


def read_prepared(folder: Path) -> Prepared:
    """Read what `write_prepared` wrote.

    Raises:
        UnveilError: a file is missing or damaged, or holds tokens that the vocabulary lacks.
    """
    tokens = read_tokens(folder / FILE)
    try:
        described = json.loads((folder / "streams.json").read_text())
        characters = described["characters"]
        arrays = [npy_array(folder / f"{n}.npy") for n in ("train", "held")]
        if any(ids.ndim != 1 or ids.dtype.kind not in "iu" for ids in arrays):
            raise ValueError("its streams are not rows of whole numbers")
        ends = [int(end) for ids in arrays if len(ids) for end in (ids.min(), ids.max())]
        train, held = (Stream(ids.astype(np.int32), int(characters[n])) for n, ids in zip(("train", "held"), arrays, strict=True))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, UnveilError) as error:
        raise UnveilError(f"{folder}: not a whole folder of `unveil data text` ({error}); make it anew") from error
    if not all(0 <= end < tokens.size for end in ends):
        raise UnveilError(f"{folder}: its streams hold tokens that its tokenizer lacks; make it anew")
    return Prepared(tokens, train, held, str(described.get("command", "")))


class Pieces:
    """Random pieces of a stream, on the CPU.

    Args:
        length: L; a stream that is shorter is one piece of its own length.
        truncated: share of batches cut to a random length, 1 .. L, so that the network knows them all. Nie et al. 2025, section 2.2: 1 %.
    Raises:
        UnveilError: an empty stream.
    """

    def __init__(self, stream: Stream, length: int, truncated: float = 0.01) -> None:
        if not len(stream):
            raise UnveilError("there is no text to learn from")
        self.ids = torch.from_numpy(np.ascontiguousarray(stream.ids)).long()
        self.length, self.truncated = min(length, len(stream)), truncated

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
        """`count` pieces of one length."""
        length = self.length
        if float(torch.rand(1, generator=generator, device="cpu")) < self.truncated:
            length = 1 + int(torch.randint(self.length, (1,), generator=generator, device="cpu"))
        first = torch.randint(len(self.ids) - length + 1, (count,), generator=generator, device="cpu")
        return self.ids[first[:, None] + torch.arange(length, device="cpu")]


class Rows:
    """Random rows of texts that are all as long, on the CPU: what `Pieces` is for a stream.

    Args:
        rows: at least one, all of as many tokens.
    Raises:
        ValueError: none, or of different lengths.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        lengths = {len(row) for row in rows}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"rows must be of one length, at least 1, got lengths {sorted(lengths)[:5]}")
        self.ids = torch.tensor(rows, device="cpu")

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
        """`count` of them."""
        return self.ids[torch.randint(len(self.ids), (count,), generator=generator, device="cpu")]


def in_order(stream: Stream, length: int) -> tuple[Int[np.ndarray, "N L"], Bool[np.ndarray, "N L"]]:
    """The whole stream cut into pieces of `length`, and which tokens are real: the last piece is padded with its first token."""
    count = -(-len(stream) // length)
    ids = np.full((count, length), stream.ids[0], np.int64)
    ids.reshape(-1)[: len(stream)] = stream.ids
    return ids, np.arange(count * length).reshape(count, length) < len(stream)

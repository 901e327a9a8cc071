"""Tokenizers: bytes, byte-pair encoding by the `tokenizers` library, and third-party tokenizer.json."""

import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from unveil.errors import UnveilError
from unveil.files.atomic import replacing
from unveil.files.json_objects import JsonObject
from unveil.files.notes import note
from unveil.files.tokenizers import FILE as FILE
from unveil.files.tokenizers import encoded, tokenizer_of, tokenizers_library
from unveil.files.tokenizers import whole_text as whole_text

if TYPE_CHECKING:
    import tokenizers

EOS, MASK = "<|endoftext|>", "<|mask|>"
NEED, EXTRA = "byte-pair encoding", "text"
LONG = 2**18  # characters that are encoded at once, if the text may be cut
# a single blank belongs to the word after it, a line's end to none
_SEAM = re.compile(r"\S(?= \S)|\S\n(?=\S)")


@runtime_checkable
class Tokens(Protocol):
    """A vocabulary of `size` ids, including [MASK] and end-of-text.

    Half a character (a lone surrogate, which no encoding of Unicode can represent) is encoded as U+FFFD.
    """

    @property
    def size(self) -> int: ...
    @property
    def mask_id(self) -> int: ...
    @property
    def eos_id(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def written(self) -> str:
        """The content of a tokenizer.json from which `read_tokens` restores the vocabulary."""
        ...


@dataclass(frozen=True)
class ByteTokens:
    """UTF-8 bytes 0 .. 255, then end-of-text and [MASK]: every text can be encoded, and nothing is
    learned."""

    size: int = 258
    eos_id: int = 256
    mask_id: int = 257

    def encode(self, text: str) -> list[int]:
        return list(whole_text(text).encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Special tokens are left out; bytes that are no UTF-8 become the replacement character."""
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    def written(self) -> str:
        return json.dumps({"unveil": "bytes"}) + "\n"


@dataclass(frozen=True)
class BpeTokens:
    """Byte-level byte-pair encoding in the format of the `tokenizers` library.

    Args:
        text: the contents of a tokenizer.json whose added tokens include end-of-text and the mask.
    Raises:
        UnveilError: `tokenizers` is not installed, or cannot read the contents.
    """

    text: str
    size: int = field(init=False)
    eos_id: int = field(init=False)
    mask_id: int = field(init=False)

    def __post_init__(self) -> None:
        ids = {name: self._library.token_to_id(name) for name in (EOS, MASK)}
        if missing := [name for name, number in ids.items() if number is None]:
            raise UnveilError(
                f"tokenizer: it lacks the special tokens {', '.join(missing)}; make one with: unveil data "
                "text"
            )
        object.__setattr__(self, "size", int(self._library.get_vocab_size(with_added_tokens=True)))
        object.__setattr__(self, "eos_id", ids[EOS])
        object.__setattr__(self, "mask_id", ids[MASK])

    @cached_property
    def _library(self) -> "tokenizers.Tokenizer":
        return tokenizer_of(self.text, NEED, EXTRA)

    @cached_property
    def cuts_at_words(self) -> bool:
        """Whether no token spans two words: words are split as in GPT-2, and no added token contains
        blanks."""
        kind = json.loads(self.text)
        first, added = kind.get("pre_tokenizer") or {}, kind.get("added_tokens") or []
        plain = first.get("type") == "ByteLevel" and first.get("use_regex", True)
        return plain and not (
            first.get("add_prefix_space")
            or kind.get("normalizer")
            or any(
                it.get("lstrip") or it.get("rstrip") or re.search(r"\s", str(it.get("content")))
                for it in added
            )
        )

    def encode(self, text: str) -> list[int]:
        return encoded(self._library, text)

    def decode(self, ids: Sequence[int]) -> str:
        return _decoded(self._library, ids)

    def written(self) -> str:
        return self.text


@dataclass(frozen=True)
class LibraryTokens:
    """A third-party tokenizer.json, with the special ids of its weights. Plain text is never encoded to
    special tokens.

    Args:
        text: the contents of the file, in the format of the `tokenizers` library.
        size: V of the weights, which may have unused rows (LLaDA: 126,464 for 126,349 tokens).
        template: the chat template of the same folder; it is recognised, never run (`text/data/chat.py`).
    Raises:
        UnveilError: `tokenizers` is not installed or cannot read the contents, or the weights have another
            vocabulary.
    """

    text: str
    size: int
    mask_id: int
    eos_id: int
    template: str = ""

    def __post_init__(self) -> None:
        count = int(self._library.get_vocab_size(with_added_tokens=True))
        lacking = [i for i in (self.mask_id, self.eos_id) if self._library.id_to_token(i) is None]
        if count > self.size or lacking:
            why = (
                f"it lacks the ids {', '.join(map(str, lacking))} of the mask and end-of-text"
                if lacking
                else "there are fewer"
            )
            raise UnveilError(
                f"tokenizer: {count} tokens, but the weights are of {self.size}: {why}; give the tokenizer "
                "of these weights"
            )

    @cached_property
    def _library(self) -> "tokenizers.Tokenizer":
        library = tokenizer_of(self.text, NEED, EXTRA)
        library.encode_special_tokens = True  # "<|eot_id|>" in a text is text
        return library

    def special(self, name: str) -> int | None:
        """The id of a token by its exact text."""
        number = self._library.token_to_id(name)
        return None if number is None else int(number)

    def encode(self, text: str) -> list[int]:
        return encoded(self._library, text)

    def decode(self, ids: Sequence[int]) -> str:
        return _decoded(self._library, ids)

    def written(self) -> str:
        """The tokenizer with the ids and the template, which a tokenizer.json by itself lacks."""
        names = ("size", "mask_id", "eos_id", "template", "text")
        return json.dumps({"unveil": "library"} | {name: getattr(self, name) for name in names})


def note_mended(places: Sequence[str]) -> None:
    """Print a note about texts that `whole_text` changed, by where they were read."""
    if places:
        others = f", and so in {len(places) - 1:,} other documents" if len(places) > 1 else ""
        note(f"{places[0]}: half a character (a lone surrogate) is read as U+FFFD{others}")


def parts_of(tokens: Tokens, text: str, size: int = LONG) -> Iterator[str]:
    """Parts of about `size` characters whose tokens together are those of the text; the text itself if it
    cannot be cut."""
    if isinstance(tokens, ByteTokens):
        yield from (text[start : start + size] for start in range(0, max(1, len(text)), size))
    elif isinstance(tokens, BpeTokens) and len(text) > size and tokens.cuts_at_words:
        yield from _cut(text, size)
    else:
        yield text


def _cut(text: str, size: int) -> Iterator[str]:
    """Parts of a text that end between words, so that no word is cut."""
    start = 0
    while (seam := _SEAM.search(text, start + size)) is not None:
        yield text[start : seam.end()]
        start = seam.end()
    yield text[start:]


def _decoded(library: "tokenizers.Tokenizer", ids: Sequence[int]) -> str:
    """The text of tokens; special tokens are left out."""
    return str(library.decode(list(ids), skip_special_tokens=True))


def train_bpe(texts: Iterable[str], size: int) -> BpeTokens:
    """Learn `size` tokens from texts: the 256 bytes, merges of the most frequent neighbours, end-of-text and
    [MASK].

    Raises:
        ValueError: fewer than 258.
        UnveilError: `tokenizers` is not installed.
    """
    if size < 258:
        raise ValueError(
            "a byte-pair vocabulary needs at least 258 tokens (256 bytes, end-of-text and the mask), got "
            f"{size}"
        )
    library = tokenizers_library(NEED, EXTRA)
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[EOS, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((part for text in texts for part in _cut(whole_text(text), LONG)), trainer)
    return BpeTokens(str(tokenizer.to_str()))


def read_tokens(file: Path) -> Tokens:
    """The vocabulary of a tokenizer.json, ours of bytes or the library's.

    Raises:
        UnveilError: missing, or neither.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        stored: object = json.loads(text)
    except OSError as error:
        raise UnveilError(
            f"{file}: no tokenizer here ({error.strerror}); it lies beside the weights it was trained with"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UnveilError(f"{file}: not a tokenizer.json ({str(error)[:200]})") from error
    kind = cast(JsonObject, stored) if isinstance(stored, dict) else {}
    if kind.get("unveil") == "bytes":
        return ByteTokens()
    with named_errors(file):
        if kind.get("unveil") == "library":
            return _library_tokens(kind)
        if "model" in kind:
            return BpeTokens(text)
    raise UnveilError(
        f"{file}: an unknown kind of tokenizer; needed is a tokenizer.json of `unveil data text` or of the "
        "tokenizers library"
    )


def _library_tokens(kind: JsonObject) -> LibraryTokens:
    whole, words = ("size", "mask_id", "eos_id"), ("text", "template")
    numbers = all(type(kind.get(name)) is int and 0 <= kind[name] < 2**31 for name in whole)
    if not numbers or not all(isinstance(kind.get(name), str) for name in words):
        raise UnveilError(f"a damaged tokenizer; needed are {', '.join((*whole, *words))}")
    return LibraryTokens(**{name: kind[name] for name in (*whole, *words)})


@contextmanager
def named_errors(file: Path) -> Generator[None]:
    """Add the file's name to errors."""
    try:
        yield
    except UnveilError as error:
        raise UnveilError(f"{file}: {str(error).removeprefix('tokenizer: ')}") from error


def write_tokens(tokens: Tokens, file: Path) -> str:
    """Write a tokenizer.json; returns its SHA-256, by which weights know the vocabulary they were trained
    with."""
    text = tokens.written()
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return digest(tokens)


def digest(tokens: Tokens) -> str:
    """SHA-256 of what `write_tokens` writes."""
    return sha256(tokens.written().encode()).hexdigest()

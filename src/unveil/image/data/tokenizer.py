"""Prompts as ids of fixed length: one `Tokenizer` for CLIP's byte-pair encoding, BERT's WordPiece and our own
words."""

import html
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from unveil.checks import one_of, whole
from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.files.tokenizers import encoded, library_errors, tokenizer_of, tokenizers_library, whole_text

if TYPE_CHECKING:
    import tokenizers

NEED, EXTRA = "text to image", "image"
PAD, START, UNKNOWN = "<pad>", "<start>", "<unknown>"
LARGEST_LENGTH = 4096
NAMES = ("text", "length", "pad", "start", "end", "clean")
Cleaning = Literal["clip", "lower", "none"]


class TokenBatch(NamedTuple):
    """Tokens of B texts.

    Args:
        ids: (B, N) int64.
        valid: (B, N) bool, false at padding.
    """

    ids: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Tokenizer:
    """Texts to rows of `length` ids: start, the text's tokens, end, then padding.

    The tokens that do not fit are cut off, so that a long row also ends with the end token. Special tokens in
    a text, such as "<|endoftext|>", are plain text.

    Args:
        text: the contents of a tokenizer.json of the `tokenizers` library.
        length: N, the ids of a row.
        pad: id of padding.
        start, end: ids of the first and last token of a row; at most one of them may be None.
        clean: what is done to a text before the library sees it; "clip": `clip_clean`; "lower": lower case.
        bare: rows have neither start nor end, so that the empty text is all padding, which only an encoder
            with learned padding (GLIDE's) can read.
    Raises:
        UnveilError: `tokenizers` is not installed or cannot read the text, or an id is not in the vocabulary.
        ValueError: a length that has no room for a token, or neither a start nor an end without `bare`.
    """

    text: str
    length: int
    pad: int
    start: int | None
    end: int | None
    clean: Cleaning = "none"
    bare: bool = False

    def __post_init__(self) -> None:
        one_of("clean", self.clean, get_args(Cleaning))
        if self.start is None and self.end is None and not self.bare:
            raise ValueError("a tokenizer of prompts needs a start or an end token, or an empty text is none")
        whole("length", self.length, 1 + self.specials, LARGEST_LENGTH)
        for number in (self.pad, self.start, self.end):
            if number is not None and self._library.id_to_token(number) is None:
                raise UnveilError(f"tokenizer: its special id {number} is not in its vocabulary")

    @cached_property
    def _library(self) -> "tokenizers.Tokenizer":
        library = tokenizer_of(self.text, NEED, EXTRA)
        library.no_padding()
        library.no_truncation()
        library.encode_special_tokens = True  # "<|endoftext|>" in a text is text
        return library

    @property
    def specials(self) -> int:
        """The number of start and end tokens of a row."""
        return (self.start is not None) + (self.end is not None)

    @property
    def room(self) -> int:
        """The number of tokens of a text that a row has room for: 75 of CLIP's 77."""
        return self.length - self.specials

    @cached_property
    def size(self) -> int:
        """V: all ids are smaller."""
        return 1 + max(self._library.get_vocab(with_added_tokens=True).values())

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """The tokens of B texts, as `framed` makes them of `ids`.

        Raises:
            UnveilError: the library cannot encode a text.
        """
        return self.framed([self.ids(text) for text in texts])

    def ids(self, text: str) -> list[int]:
        """All ids of a text, without start, end and padding, for prompts that are longer than one row.

        Raises:
            UnveilError: the library cannot encode it.
        """
        return encoded(self._library, self._cleaned(text))

    def framed(self, rows: Sequence[Sequence[int]]) -> TokenBatch:
        """Add start, end and padding to each row of ids, of which the first `room` are used."""
        ids = torch.full((len(rows), self.length), self.pad, dtype=torch.int64)
        valid = torch.zeros((len(rows), self.length), dtype=torch.bool)
        first = [] if self.start is None else [self.start]
        last = [] if self.end is None else [self.end]
        for i, row in enumerate(rows):
            whole_row = [*first, *row[: self.room], *last]
            ids[i, : len(whole_row)] = torch.tensor(whole_row, dtype=torch.int64)
            valid[i, : len(whole_row)] = True
        return TokenBatch(ids, valid)

    def id_of(self, token: str) -> int | None:
        """The id of a token by its exact text, such as CLIP's ",</w>"; None if there is no such token."""
        return self._library.token_to_id(token)

    def token_of(self, number: int) -> str | None:
        """The text of a token; None if there is no such id."""
        return self._library.id_to_token(number)

    def extended(self, words: Sequence[str]) -> "Tokenizer":
        """A tokenizer that also knows these words, each as one token with the next free id.

        For textual inversion. A word is recognised where it stands by itself, in lower or upper case.

        Raises:
            ValueError: a word is in the vocabulary already, or twice.
        """
        library, names = tokenizer_of(self.text, NEED, EXTRA), [self._cleaned(word) for word in words]
        for name in names:
            if self.id_of(name) is not None or names.count(name) > 1 or not name:
                raise ValueError(
                    f"the word {name[:60]!r} is a token of this tokenizer already; choose another"
                )
        library.add_tokens([added_word(name) for name in names])
        return replace(self, text=str(library.to_str()))

    def _cleaned(self, text: str) -> str:
        if self.clean == "lower":
            return whole_text(text).lower()
        return clip_clean(text) if self.clean == "clip" else text

    def written(self) -> str:
        """The contents of a file from which `tokenizer_from` restores it."""
        fields = asdict(self)
        if not self.bare:  # the files of all other tokenizers stay as they are
            del fields["bare"]
        return json.dumps({"unveil": "prompts"} | fields)


def tokenizer_from(text: str) -> Tokenizer:
    """The tokenizer that `written` wrote.

    Raises:
        UnveilError: the text is something else, or damaged.
    """
    try:
        stored: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnveilError(f"tokenizer: not a tokenizer of prompts ({str(error)[:200]})") from error
    if not isinstance(stored, dict) or stored.get("unveil") != "prompts":
        raise UnveilError("tokenizer: not a tokenizer of prompts; those are written by `train image`")
    values: JsonObject = {name: stored.get(name) for name in NAMES}
    numbers = [values["length"], values["pad"]]
    numbers += [values[name] for name in ("start", "end") if values[name] is not None]
    values["bare"] = stored.get("bare", False)
    known = isinstance(values["text"], str) and values["clean"] in get_args(Cleaning)
    known = known and isinstance(values["bare"], bool)
    if not known or not all(type(number) is int and 0 <= number < 2**31 for number in numbers):
        raise UnveilError(f"tokenizer: damaged; needed are {', '.join(NAMES)}")
    try:
        return Tokenizer(**values)
    except ValueError as error:
        raise UnveilError(f"tokenizer: damaged ({error})") from error


def added_word(word: str, special: bool = False) -> "tokenizers.AddedToken":
    """A word beyond the vocabulary, which is recognised where it stands by itself.

    Args:
        special: such as padding, which no text contains.
    """
    added = tokenizers_library(NEED, EXTRA).AddedToken
    return added(word, single_word=not special, normalized=not special, special=special)


def clip_clean(text: str) -> str:
    """CLIP's cleaning: HTML entities replaced twice, whitespace squeezed and stripped, lower case.

    OpenAI's code first applies `ftfy.fix_text`. Here a text is only put into Unicode's form NFC, as
    transformers does: mojibake, typographic quotes, ligatures and full-width letters, which ftfy changes,
    stay as they are. Transformers replaces no HTML entities, and lower-cases a final sigma otherwise.
    """
    text = unicodedata.normalize("NFC", whole_text(text))
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def train_words(captions: Iterable[str], length: int = 32, size: int = 8192, least: int = 1) -> Tokenizer:
    """A tokenizer of whole words, from the captions of a data set.

    Captions are put into lower case and split into words and single punctuation marks. The vocabulary is
    padding, a start token, an unknown word, then the words by falling frequency, those of the same frequency
    by the alphabet; so it depends on no order.

    Args:
        captions: texts that are read once.
        length: ids of a row, including the start token.
        size: largest vocabulary.
        least: words that occur less often are unknown.
    Raises:
        UnveilError: `tokenizers` is not installed, or no caption has a word.
        ValueError: a size or length that is too small.
    """
    whole("size", size, 4)
    whole("length", length, 2, LARGEST_LENGTH)
    library = tokenizers_library(NEED, EXTRA)
    from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

    words = library.Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
    words.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=size,
        min_frequency=whole("least", least),
        special_tokens=[PAD, START, UNKNOWN],
        show_progress=False,
    )
    with library_errors("it cannot be trained"):
        words.train_from_iterator((whole_text(caption) for caption in captions), trainer)
    if words.get_vocab_size() <= 3:
        raise UnveilError(f"captions: no word occurs in them {least} times or more; give captions with words")
    pad, start = words.token_to_id(PAD), words.token_to_id(START)
    return Tokenizer(str(words.to_str()), length, pad, start, None)

"""Tokenizers of the `tokenizers` library: read from their text, with all errors as `UnveilError`."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from unveil.errors import UnveilError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
_HALF = re.compile("[\ud800-\udfff]")


def tokenizers_library(need: str, extra: str) -> ModuleType:
    """The package `tokenizers`.

    Args:
        need: what needs it, the subject of the message, such as "byte-pair encoding".
        extra: the optional dependencies of unveil that install it.
    Raises:
        UnveilError: it is not installed.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise UnveilError(f"{need} needs the package tokenizers: pip install 'unveil[{extra}]'") from error
    return tokenizers


def tokenizer_of(text: str, need: str, extra: str) -> Tokenizer:
    """The tokenizer whose tokenizer.json has this text; the arguments are those of `tokenizers_library`.

    Raises:
        UnveilError: `tokenizers` is not installed, or cannot read the text.
    """
    library = tokenizers_library(need, extra)
    with library_errors("not a tokenizer.json"):
        return library.Tokenizer.from_str(text)


@contextmanager
def library_errors(what: str) -> Generator[None]:
    """Turn errors of the library, also its panics, which are no `Exception`, into `UnveilError`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise UnveilError(
            f"tokenizer: {what} ({(str(error).splitlines() or [type(error).__name__])[0][:200]})"
        ) from error


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text, without special tokens.

    Raises:
        UnveilError: the tokenizer cannot encode it, such as one without an unknown token.
    """
    with library_errors("it cannot encode a text"):
        return list(tokenizer.encode(whole_text(text), add_special_tokens=False).ids)


def whole_text(text: str) -> str:
    """The text with U+FFFD for each lone surrogate; two halves side by side become one character."""
    if text.isascii() or _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

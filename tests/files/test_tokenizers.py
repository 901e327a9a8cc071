"""Errors of the tokenizers library, and its panics, are one `UnveilError`; half characters are mended."""

import sys

import pytest

from unveil.errors import UnveilError
from unveil.files.tokenizers import encoded, tokenizer_of, tokenizers_library, whole_text

WORDS = '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}}'


def test_what_the_library_refuses_is_one_error():
    for text in ("", "{}", "[", '{"model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}'):
        with pytest.raises(UnveilError, match=r"^tokenizer: not a tokenizer.json \("):
            tokenizer_of(text, "text", "text")
    words = tokenizer_of(WORDS, "text", "text")
    assert encoded(words, "a") == [0]
    with pytest.raises(UnveilError, match="cannot encode a text"):
        encoded(words, "b")  # it lacks its own unknown token


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        UnveilError, match=r"images needs the package tokenizers: pip install 'unveil\[image\]'"
    ):
        tokenizers_library("images", "image")


def test_halves_of_characters():
    assert whole_text("a\ud83d\ude00\ud800b") == "a\U0001f600\ufffdb"

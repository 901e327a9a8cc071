"""Prompts become ids of fixed length, by words of ours and by the vocabularies of CLIP and BERT."""

import json
import random
from dataclasses import replace

import pytest
import torch

from unveil.errors import UnveilError
from unveil.image.data.tokenizer import Tokenizer, clip_clean, tokenizer_from, train_words

CAPTIONS = [
    "A small red circle at the top left.",
    "a Red cross, left of a blue square!",
    "a café-au-lait",
] * 3


def test_words_are_split_counted_and_looked_up():
    """By hand: "a" occurs 9 times, then "-", "left" and "red" 6 times each, in the order of Unicode."""
    words = train_words(CAPTIONS, length=8)
    assert [words.token_of(i) for i in range(7)] == ["<pad>", "<start>", "<unknown>", "a", "-", "left", "red"]
    assert [words.token_of(i) for i in words.ids("The LEFT, a zebra-café")] == [
        "the", "left", ",", "a", "<unknown>", "-", "café",
    ]  # fmt: skip
    assert words.size == len(json.loads(words.text)["model"]["vocab"])


def test_the_vocabulary_does_not_depend_on_the_order_of_captions():
    words = train_words(CAPTIONS)
    for seed in range(5):
        mixed = random.Random(seed).sample(CAPTIONS, len(CAPTIONS))
        assert train_words(iter(mixed)) == words


def test_rare_words_and_words_beyond_the_size_are_unknown():
    assert train_words(CAPTIONS, size=5).size == 5
    often = train_words([*CAPTIONS, "once"], least=2)
    assert often.id_of("once") is None and often.id_of("red") is not None
    assert often.ids("once") == [often.id_of("<unknown>")]


def test_a_row_is_start_text_and_padding():
    words = train_words(CAPTIONS, length=4)
    a, red = words.ids("a red")
    ids, valid = words(["a red", "", "a red a red a"])
    assert ids.tolist() == [[1, a, red, 0], [1, 0, 0, 0], [1, a, red, a]]
    assert valid.tolist() == [[True, True, True, False], [True, False, False, False], [True] * 4]
    assert ids.dtype == torch.int64 and words.room == 3
    assert words.ids("a red a red a") == [a, red, a, red, a]


def test_special_tokens_in_a_prompt_are_text():
    words = train_words(CAPTIONS)
    assert 1 not in words.ids("<start> a <pad>") and 0 not in words.ids("<pad>")


def test_it_is_restored_from_what_it_writes():
    words = train_words(CAPTIONS, length=9)
    again = tokenizer_from(words.written())
    assert again == words
    torch.testing.assert_close(again(["a red zebra"]).ids, words(["a red zebra"]).ids)


def test_new_words_take_the_next_ids_and_change_no_other():
    words = train_words(CAPTIONS)
    more = words.extended(["<sks>", "sks"])
    assert more.ids("a <SKS> sks red") == [3, words.size, words.size + 1, 6]
    assert more.ids("asks") == [2]  # inside another word it is not that word
    assert more.size == words.size + 2 and more.ids(CAPTIONS[0]) == words.ids(CAPTIONS[0])
    assert tokenizer_from(more.written()) == more
    for bad in (["red"], ["<new>", "<new>"], [""]):
        with pytest.raises(ValueError, match="is a token of this tokenizer already"):
            words.extended(bad)


def test_cleaning_of_clip():
    assert clip_clean("  A\tphoto &amp;amp; <B>\n of\u00a0Cafe\u0301 ") == "a photo & <b> of café"
    assert clip_clean("\ud800") == "\ufffd"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not a tokenizer of prompts"),
        ("[1]", "not a tokenizer of prompts"),
        ('{"unveil": "bytes"}', "not a tokenizer of prompts"),
        ('{"unveil": "prompts", "text": "{}", "length": true, "pad": 0, "start": 1, "end": null}', "damaged"),
        ('{"unveil": "prompts", "text": "{}", "length": 4, "pad": 0, "start": 1, "end": null, "clean": []}', "damaged"),
        ('{"unveil": "prompts", "text": "{}", "length": 4, "pad": 0, "start": 1, "end": null, "clean": "none"}', "not a tokenizer.json"),
    ],
)  # fmt: skip
def test_damaged_tokenizers_are_refused_in_one_line(text, problem):
    with pytest.raises(UnveilError, match=problem):
        tokenizer_from(text)


def test_ids_that_are_not_in_the_vocabulary_are_refused():
    words = train_words(CAPTIONS)
    with pytest.raises(UnveilError, match="special id 999"):
        Tokenizer(words.text, 8, 999, 1, None)
    with pytest.raises(ValueError, match="length"):
        Tokenizer(words.text, 1, 0, 1, None)
    with pytest.raises(ValueError, match="a start or an end"):
        Tokenizer(words.text, 8, 0, None, None)
    with pytest.raises(UnveilError, match="give captions with words"):
        train_words(["", "  "])


def test_a_bare_row_is_the_text_alone_and_the_empty_one_all_padding():
    """GLIDE's: no start, no end; only lower-cased; the choice is in the file, and in no other file."""
    words = train_words(["A red circle"], length=5)
    bare = replace(words, start=None, bare=True, clean="lower")
    ids, valid = bare(["A RED circle", ""])
    assert valid.sum(1).tolist() == [3, 0] and ids[1].tolist() == [bare.pad] * 5
    assert bare.room == 5 and tokenizer_from(bare.written()) == bare
    assert "bare" not in words.written() and tokenizer_from(words.written()) == words
    with pytest.raises(ValueError, match="a start or an end token"):
        replace(words, start=None)

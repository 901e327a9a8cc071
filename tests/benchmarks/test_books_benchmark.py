"""Measures of passages, on text that is known: documents, words, copies, the chosen setting, gaps."""

import gzip
import json
import re
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from books import data, gaps, passages
from unveil.text.data.documents import Prepared, Stream, pack
from unveil.text.data.tokens import ByteTokens
from unveil.text.model import TextModel, TextShape

TOKENS = ByteTokens()
TRAIN = "The quick brown fox jumps over the lazy dog, and doesn't stop. " * 3
HELD = (
    "One came home late. Two went out early. Then three of them sat by the fire. Four was there too. Five.",
)


@pytest.fixture
def prepared(monkeypatch):
    made = Prepared(TOKENS, pack([TRAIN], TOKENS), pack(HELD, TOKENS), "")
    monkeypatch.setattr(passages, "prepared", lambda: made)
    monkeypatch.setattr(gaps, "prepared", lambda: made)
    for cached in (passages.known_words, passages.training_windows):
        cached.cache_clear()
    yield made
    for cached in (passages.known_words, passages.training_windows):
        cached.cache_clear()


def test_documents_are_whole_paragraphs_and_a_play_keeps_its_lines():
    text = "ONE\r\n\r\nIt was _late_\r\nand dark.\r\n[Illustration: a\r\nlamp]\r\n\r\nTwo."
    assert data.paragraphs(text, verse=False) == ["ONE", "It was late and dark.", "Two."]
    assert data.paragraphs("A:\nTo be,\nor not.\n\nB:\nNo.", verse=True) == ["A:\nTo be,\nor not.", "B:\nNo."]
    parts = ["a" * 6, "b" * 6, "c" * 20, "d"]
    assert list(data.documents(parts, 10)) == [f"{'a' * 6}\n\n{'b' * 6}", "c" * 20, "d"]


def test_documents_of_all_books_are_there_once_in_another_order(tmp_path, monkeypatch):
    (tmp_path / "data" / "text" / "books").mkdir(parents=True)
    texts = {
        f"book{k}": "\n\n".join(f"book {k} paragraph {n} " + "x" * 900 for n in range(10)) for k in range(2)
    }
    for name, text in texts.items():
        (tmp_path / "data" / "text" / "books" / f"{name}.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "data" / data.PLAY).write_bytes(gzip.compress(b"A:\nTo be."))
    monkeypatch.setenv("UNVEIL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(data, "DOCUMENTS", tmp_path / "runs" / "books.jsonl")
    made = [json.loads(line)["text"] for line in data.documents_file().read_text().splitlines()]
    found = re.findall(r"book \d paragraph \d", " ".join(made))
    assert sorted(found) == [f"book {k} paragraph {n}" for k in range(2) for n in range(10)] != found
    assert len(made) == 5 and "A:\nTo be." in made


def test_words_of_a_passage_but_for_the_cut_ones(prepared):
    assert passages.words("own fox doesn\u2019t “stop”. The la") == ["fox", "doesn\u2019t", "stop", "the"]
    words = "the quick brown fox jumps over lazy dog and doesn't stop"
    assert passages.known_words() == set(words.split(" "))


def test_a_window_has_its_own_number_and_a_copy_of_24_tokens_is_found_wherever_it_stands(prepared):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, 2_000)
    found = passages.windows(np.concatenate([ids, ids]))
    assert len(np.unique(found)) == 2_000 and (found[:1_000] == found[2_000:3_000]).all()
    assert len(passages.windows(ids[:23])) == 0
    turned = ids.copy()
    turned[[5, 6]] = turned[[6, 5]]
    assert passages.windows(ids)[0] != passages.windows(turned)[0]  # order counts
    train = np.frombuffer(TRAIN.encode(), np.uint8).astype(np.int64)
    other = np.frombuffer(b"%" * 128, np.uint8).astype(np.int64)
    rows = np.stack([other.copy() for _ in range(3)])
    rows[1, 40:64] = train[7:31]
    rows[2, 40:63] = train[7:30]  # one less
    assert passages.copies(rows).tolist() == [False, True, False]


def test_scores_are_the_closed_forms_of_a_judge_that_knows_nothing(prepared):
    judge = TextModel(TextShape(258, context=128, width=16, depth=1, heads=2, causal=True), TOKENS).eval()
    torch.nn.init.zeros_(judge.network.ff_out.weight)
    rows = np.array([[*f"x the dog zzz fox {number}".encode()] for number in (1, 2)])
    found = passages.scored(rows, judge)
    assert found["judge_nats"] == pytest.approx(log(257), abs=1e-5)  # [MASK] is ruled out
    assert found["known_words"] == 2 / 3 and found["known_words_n"] == 6  # "fox" may be cut
    assert found["copied"] == 0.0
    counts = np.unique(rows[0], return_counts=True)[1] / rows.shape[1]
    assert found["entropy"] == pytest.approx(-(counts * np.log(counts)).sum())


def test_the_setting_with_the_lowest_nats_among_those_as_varied_as_text():
    def row(nats, ratio):
        return {"judge_nats": nats, "entropy_ratio": ratio}

    assert passages.chosen({"a": row(4.0, 1.04), "b": row(3.0, 0.97), "c": row(2.0, 0.94)}) == "b"
    assert passages.chosen({"a": row(4.0, 1.2), "b": row(1.0, 0.7), "c": row(3.0, 0.88)}) == "c"


def test_gaps_have_as_many_tokens_as_were_taken_out_and_end_at_words(prepared, monkeypatch):
    monkeypatch.setattr(gaps, "SIZES", (1, 2))
    for number, (pattern, gone) in enumerate(gaps.patterns(6, 0)):
        before, count, after = gaps.GAP_IN.match(pattern).groups()
        assert int(count) == len(f" {gone}") and len(gone.split(" ")) == 1 + number % 2
        assert f"{before} {gone}{after}" in HELD[0] and "Then three" in pattern


def test_shuffled_passages_keep_their_words(prepared, monkeypatch):
    ids = np.frombuffer((HELD[0] * 3)[:256].encode(), np.uint8).astype(np.int32)
    monkeypatch.setattr(passages, "prepared", lambda: replace(prepared, held=Stream(ids, 256)))
    for plain, mixed in zip(passages.held_passages(2), passages.shuffled_passages(2), strict=True):
        texts = [TOKENS.decode(row.tolist()).split(" ") for row in (plain, mixed)]
        assert sorted(texts[0]) == sorted(texts[1]) and texts[0] != texts[1]

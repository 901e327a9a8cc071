"""Text becomes tokens and comes back; folders, jsonl and gz; streams, held-out tails and pieces."""

import gzip
import json

import numpy as np
import pytest
import torch

from unveil.data.text import (
    Pieces,
    Prepared,
    Stream,
    in_order,
    pack,
    read_documents,
    read_prepared,
    split_documents,
    write_prepared,
)
from unveil.data.tokens import EOS, MASK, BpeTokens, ByteTokens, digest, read_tokens, train_bpe, write_tokens
from unveil.errors import UnveilError

POEM = "To be, or not to be: that is the question.\nNaïve Œuvre, 你好 🙂\n" * 20


def test_bytes_come_back_and_special_tokens_do_not_show():
    tokens = ByteTokens()
    ids = tokens.encode(POEM)
    assert tokens.decode(ids) == POEM and max(ids) < 256
    assert tokens.decode([*tokens.encode("a"), tokens.eos_id, tokens.mask_id]) == "a"
    assert tokens.decode([0xE4, 0xBD]) == "�"  # half a character


def test_learned_tokens_come_back_and_are_fewer(tmp_path):
    tokens = train_bpe([POEM], 300)
    assert tokens.size == 300 and len({tokens.mask_id, tokens.eos_id}) == 2
    ids = tokens.encode(POEM)
    assert tokens.decode(ids) == POEM and len(ids) < len(POEM.encode()) / 2
    assert tokens.decode(tokens.encode("ünseen \x00 text")) == "ünseen \x00 text"
    assert tokens.decode([*ids[:3], tokens.mask_id, tokens.eos_id]) == tokens.decode(ids[:3])
    for made in (tokens, ByteTokens()):
        assert write_tokens(made, tmp_path / "tokenizer.json") == digest(made)
        again = read_tokens(tmp_path / "tokenizer.json")
        assert type(again) is type(made) and again.encode("to be") == made.encode("to be") and digest(again) == digest(made)
    with pytest.raises(ValueError, match="at least 258"):
        train_bpe([POEM], 100)


@pytest.mark.parametrize(("text", "message"), [("{}", "unknown kind"), ("{", "not a tokenizer.json"), ('{"model": 1}', "not a tokenizer")])
def test_unknown_tokenizers_are_refused(tmp_path, text, message):
    file = tmp_path / "tokenizer.json"
    file.write_text(text)
    with pytest.raises(UnveilError, match=message):
        read_tokens(file)
    with pytest.raises(UnveilError, match="no tokenizer here"):
        read_tokens(tmp_path / "none.json")
    lacking = json.loads(train_bpe([POEM], 258).text)
    lacking["added_tokens"] = [t for t in lacking["added_tokens"] if t["content"] != MASK]
    del lacking["model"]["vocab"][MASK]
    with pytest.raises(UnveilError, match="lacks the special tokens"):
        BpeTokens(json.dumps(lacking))


def test_files_folders_lines_and_gz(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt.gz").write_bytes(gzip.compress(b"two"))
    (tmp_path / "sub" / "c.jsonl").write_text('{"text": "three"}\n\n{"text": "four\\u2028"}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert read_documents(tmp_path) == ["one", "two", "three", "four\u2028"]
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"question": "q", "answer": "a"}\n'))
    assert read_documents(tmp_path / "d.jsonl.gz", "answer") == ["a"]
    monkeypatch.setenv("UNVEIL_DATA", str(tmp_path))
    assert read_documents("sub/b.txt.gz") == ["two"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("e.jsonl", b"\n", "no lines in it"),
        ("e.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', r"line 2: no text in the field 'text' \(it has txt\)"),
        ("e.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("e.jsonl", b"[1]\n", "line 1: no text in the field"),
        ("e.txt", b" \n", "no text in it"),
        ("e.txt", b"a\xff", "not UTF-8"),
        ("e.txt.gz", b"plain", "cannot be read"),
        ("e.txt.gz", gzip.compress(b"cut short" * 9, mtime=0)[:-9], "cannot be read"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnveilError, match=message):
        read_documents(tmp_path / name)
    with pytest.raises(UnveilError, match="no such file or folder"):
        read_documents(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnveilError, match="no text in this folder"):
        read_documents(tmp_path / "empty")


def test_streams_end_documents_and_count_characters():
    tokens = ByteTokens()
    stream = pack(["ab", "é"], tokens)
    assert stream.ids.tolist() == [97, 98, 256, 0xC3, 0xA9, 256] and stream.characters == 3
    learned = train_bpe([POEM], 258)
    assert learned.eos_id in pack(["x"], learned).ids
    with pytest.raises(UnveilError, match="document 2 holds the text of the mask"):
        pack(["fine", f"bad {MASK}"], learned)
    assert EOS != MASK


@pytest.mark.parametrize("documents", [["a" * 90 + "b" * 10], ["a" * 45, "a" * 45 + "b" * 5, "b" * 5]])
def test_the_tail_is_held_out(documents):
    kept, held = split_documents(documents, 0.1)
    assert "".join(kept) == "a" * 90 and "".join(held) == "b" * 10 and all(kept) and all(held)
    assert split_documents(documents, 0.0) == (documents, [])


def test_prepared_folders_come_back_and_damage_is_noticed(tmp_path):
    tokens = ByteTokens()
    write_prepared(Prepared(tokens, pack([POEM], tokens), pack(["held"], tokens), "unveil data text"), tmp_path)
    again = read_prepared(tmp_path)
    assert again.command == "unveil data text"
    assert again.tokens.decode(again.train.ids.tolist()) == POEM
    assert again.held.characters == 4 and len(again.held) == 5
    np.save(tmp_path / "held.npy", np.array([999]))
    with pytest.raises(UnveilError, match="tokens that its tokenizer lacks"):
        read_prepared(tmp_path)
    (tmp_path / "train.npy").unlink()
    with pytest.raises(UnveilError, match="not a whole folder"):
        read_prepared(tmp_path)


def test_pieces_are_consecutive_reach_both_ends_and_one_batch_in_a_hundred_is_cut(generator):
    stream = Stream(np.arange(12, dtype=np.int32), 12)
    pieces = Pieces(stream, 8, truncated=0.0).draw(400, generator)
    assert bool((pieces.diff(dim=1) == 1).all())
    assert sorted(pieces[:, 0].unique().tolist()) == [0, 1, 2, 3, 4]
    source = Pieces(stream, 8, truncated=0.25)
    lengths = [source.draw(1, generator).shape[1] for _ in range(2000)]
    cut = sum(length < 8 for length in lengths)
    assert cut == pytest.approx(2000 * 0.25 * 7 / 8, rel=0.15) and min(lengths) == 1
    assert Pieces(stream, 100).draw(2, generator).shape[1] <= 12
    with pytest.raises(UnveilError, match="no text to learn"):
        Pieces(Stream(np.zeros(0, np.int32), 0), 4)
    ids, real = in_order(stream, 5)
    assert ids.shape == (3, 5) and ids[real].tolist() == list(range(12)) and not real[2, 2:].any()
    assert torch.equal(torch.from_numpy(ids[0]), torch.arange(5))

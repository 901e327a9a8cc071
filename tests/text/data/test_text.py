"""Text becomes tokens and comes back; folders, jsonl and gz; streams, held-out tails and pieces."""

import gzip
import json

import numpy as np
import pytest
import torch

from unveil.errors import UnveilError
from unveil.text.data.documents import (
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
from unveil.text.data.tokens import (
    EOS,
    MASK,
    BpeTokens,
    ByteTokens,
    digest,
    read_tokens,
    train_bpe,
    write_tokens,
)

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
        assert (
            type(again) is type(made)
            and again.encode("to be") == made.encode("to be")
            and digest(again) == digest(made)
        )
    with pytest.raises(ValueError, match="at least 258"):
        train_bpe([POEM], 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "unknown kind"), ("{", "not a tokenizer.json"), ('{"model": 1}', "not a tokenizer")],
)
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
    write_prepared(
        Prepared(tokens, pack([POEM], tokens), pack(["held"], tokens), "unveil data text"), tmp_path
    )
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


HEAD = b"\xef\xbb\xbf"


def test_files_of_windows_programs_are_read_without_their_marks(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_bytes(HEAD + b'{"text": "one"}\r\n{"text": "two"}\r\n')
    (tmp_path / "b.txt").write_bytes(HEAD + b"one\r\ntwo\r\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(HEAD + b'{"text": "three"}\n'))
    (tmp_path / "d.json").write_bytes(HEAD + b'[{"text": "four"},\r\n {"text": "five"}]')
    (tmp_path / "config.json").write_text('{"text_is": "none"}')
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "p.png").write_bytes(b"")
    assert read_documents(tmp_path) == ["one", "two", "one\ntwo\n", "three", "four", "five"]
    said = capsys.readouterr().err.splitlines()
    assert (
        "2 files that are no text are left out (.png, .txt)" in said[0]
        and "config.json: no text in the field 'text'" in said[1]
    )
    for encoding in ("utf-16", "utf-16-be", "latin-1", "cp1252"):
        (tmp_path / "e.txt").write_bytes("Müller\r\n".encode(encoding))
        (tmp_path / "e.jsonl").write_bytes('{"text": "Müller"}\n{"text": "é"}\n'.encode(encoding))
        assert read_documents(tmp_path / "e.txt", encoding=encoding) == ["Müller\n"]
        assert read_documents(tmp_path / "e.jsonl", encoding=encoding) == ["Müller", "é"]
    tokens = train_bpe([POEM], 300)
    (tmp_path / "tokenizer.json").write_bytes(HEAD + tokens.written().encode())
    assert digest(read_tokens(tmp_path / "tokenizer.json")) == digest(tokens)


@pytest.mark.parametrize(
    ("name", "raw", "encoding", "message"),
    [
        (
            "a.txt",
            b"caf\xe9",
            "utf-8",
            r"a.txt: not UTF-8 text \(byte 3 is 0xe9\); give its own `encoding`, such as cp1252",
        ),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": "\xe9"}\n',
            "utf-8",
            "not UTF-8 text .byte 24 is 0xe9.*`encoding`",
        ),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": "\x81"}\n',
            "cp1252",
            "not cp1252 text .byte 24 is 0x81.*`encoding`, such as utf-8",
        ),
        ("a.txt", "one".encode("utf-16"), "utf-8", "begins as UTF-16 does .byte 0.*give `encoding=utf-16`"),
        (
            "a.txt",
            "one and two".encode("utf-16-le"),
            "utf-8",
            "every other character is NUL.*`encoding=utf-16-le`",
        ),
        ("a.json", b"{", "utf-8", "line 1: not JSON"),
        ("a.json", b'{"data": []}', "utf-8", r"a.json: no text in the field 'text' \(it has data\)"),
        ("a.json", b'["one"]', "utf-8", r"item 1: no text in the field 'text' \(it has str\)"),
    ],
)
def test_another_encoding_names_file_byte_and_flag(tmp_path, name, raw, encoding, message):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UnveilError, match=message):
        read_documents(tmp_path / name, encoding=encoding)
    for unknown in ("klingon", "hex"):
        with pytest.raises(ValueError, match=f"`encoding` '{unknown}': no such encoding"):
            read_documents(tmp_path / name, encoding=unknown)


def test_half_a_character_becomes_the_replacement_character_and_is_said(tmp_path, capsys):
    (tmp_path / "s.jsonl").write_text(
        '{"text": "fine"}\n{"text": "cut \\ud83d here"}\n{"text": "\\ud83d\\ude42"}\n'
    )
    assert read_documents(tmp_path / "s.jsonl") == ["fine", "cut \ufffd here", "🙂"]
    assert "s.jsonl, line 2: half a character" in capsys.readouterr().err
    learned = train_bpe([POEM, "a \udc80"], 300)
    for tokens in (ByteTokens(), learned):
        assert tokens.decode(tokens.encode("a\udcff b\ud83d\ude42")) == "a\ufffd b🙂"


def test_a_long_document_is_encoded_in_parts_as_it_is_at_once(monkeypatch):
    """Cut only where words are: "\\n\\n", two blanks, or a blank beside a line's end, may be one piece with
    what is beside them."""
    from unveil.text.data import tokens as module

    text = "".join(
        f"line {i}{end}"
        for i in range(60)
        for end in ("\n", "\n\n", " \n", "\n  ", ".\n", "。\n你", " ", "  ", " 's ")
    )
    for tokens in (train_bpe([POEM, text], 320), ByteTokens()):
        parts = list(module.parts_of(tokens, text, 17))
        assert len(parts) > 20 and "".join(parts) == text
        assert [token for part in parts for token in tokens.encode(part)] == tokens.encode(text)
    whole = train_bpe([POEM, text], 320)
    monkeypatch.setattr(module, "LONG", 17)
    assert digest(train_bpe([POEM, text], 320)) == digest(whole)
    other = json.loads(train_bpe([POEM], 300).text)
    other["pre_tokenizer"] = None
    assert len(list(module.parts_of(BpeTokens(json.dumps(other)), text, 17))) == 1


def test_damaged_tokenizers_and_streams_are_one_line(tmp_path):
    good = json.loads(train_bpe([POEM], 300).text)
    for change in (
        {"model": None},
        {"model": {**good["model"], "merges": [["a"]]}},
        {"added_tokens": [{"id": 10**12}]},
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(UnveilError, match=r"tokenizer.json: "):
            read_tokens(tmp_path / "tokenizer.json")
    write_prepared(Prepared(ByteTokens(), pack(["one"], ByteTokens()), pack([], ByteTokens())), tmp_path)
    assert len(read_prepared(tmp_path).held) == 0
    for ids in (np.array([0.5]), np.array([[1]]), np.array([-1])):
        np.save(tmp_path / "train.npy", ids)
        with pytest.raises(UnveilError, match="make it anew"):
            read_prepared(tmp_path)


def test_memory_of_reading_and_encoding_is_near_that_of_the_text(tmp_path):
    """2 million characters: one text, its bytes while it is read, and two bytes a token; a list of numbers
    would be 8 bytes each."""
    import tracemalloc

    size = 2_000_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "abcd " * (size // 5)}) + "\n")
    tracemalloc.start()
    stream = pack(read_documents(tmp_path / "a.jsonl"), ByteTokens())
    Pieces(stream, 16).draw(2, torch.Generator().manual_seed(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(stream) == size + 1 and peak < 6 * size, peak

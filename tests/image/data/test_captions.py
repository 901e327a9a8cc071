"""Captions come from tables, from text files and from arrays, and each stays with its own image."""

import gzip
import json

import numpy as np
import pytest
import torch
from PIL import Image

from unveil.errors import UnveilError
from unveil.image.data.caption_sampler import CaptionSampler, Drawing, caption_of
from unveil.image.data.captions import read_captions
from unveil.image.data.images import ImageSet, RandomImages, alike, split
from unveil.image.data.reading import Reading
from unveil.image.data.source import read_images

LEVELS = {"a/1.png": 10, "a/2.png": 20, "b/1.png": 30, "b/3.png": 40}


@pytest.fixture
def folder(tmp_path):
    """Four grey images, of which two have the same name; the level says which is which."""
    for name, level in LEVELS.items():
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), level, np.uint8)).save(file)
    return tmp_path / "data"


def captioned(folder, source="auto"):
    images = read_captions(read_images(str(folder), Reading()), str(source))
    return dict(zip(images.pixels[:, 0, 0, 0].tolist(), images.captions, strict=True)), images.notes


def lines(file, *values):
    file.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return file


def test_a_table_names_files_relative_to_itself_or_to_the_images(folder, tmp_path):
    inside = lines(
        folder / "metadata.jsonl",
        {"file_name": "b/1.png", "text": "of  b,\none"},
        {"file_name": "a\\1.png", "text": "of a, one"},
        {"file_name": "./3.png", "text": "three"},
        {"file_name": "data/a/2.png", "text": "half \ud83d a character"},
    )
    expected = {10: "of a, one", 20: "half \ufffd a character", 30: "of b, one", 40: "three"}
    inside.write_text(inside.read_text().replace("./3", "3"))
    assert captioned(folder) == (expected, ())  # no note: the table is no file that is left out
    apart = tmp_path / "elsewhere" / "c.jsonl"
    apart.parent.mkdir()
    inside.rename(apart)
    assert captioned(folder, apart)[0] == expected


@pytest.mark.parametrize("file", ["file_name", "file", "image", "path"])
@pytest.mark.parametrize(("suffix", "sign"), [(".csv", ","), (".tsv", "\t")])
def test_tables_of_values_have_quotes_and_names_of_fields(folder, file, suffix, sign):
    table = folder.parent / f"t{suffix}"
    table.write_text(
        f'\ufeff{file}{sign}score{sign}caption\r\na/1.png{sign}1{sign}"red, and ""green"""\r\n'
        f'"b/1.png"{sign}2{sign}"two\nlines"\r\n',
        encoding="utf-8",
    )
    texts, notes = captioned(folder, table)
    assert texts == {10: 'red, and "green"', 30: "two lines"}
    assert notes == ("left out 2 images without captions (2.png, 3.png)",)


def test_metadata_of_several_folders_is_read_together(folder):
    lines(folder / "a" / "metadata.jsonl", {"file_name": "1.png", "text": "a1"})
    (folder / "b" / "metadata.csv").write_text("file_name,text\n1.png,b1\n", encoding="utf-8")
    assert captioned(folder)[0] == {10: "a1", 30: "b1"}


def test_text_files_beside_the_images(folder):
    (folder / "a" / "2.txt").write_text("  a tree\n", encoding="utf-8")
    (folder / "b" / "1.txt").write_text("a house", encoding="utf-8")
    (folder / "b" / "notes.txt").write_text("no caption", encoding="utf-8")
    texts, notes = captioned(folder)
    assert texts == {20: "a tree", 30: "a house"}
    assert notes == (
        "left out 1 file that is no picture (1 .txt)",
        "left out 2 images without captions (1.png, 3.png)",
    )
    lines(folder / "metadata.jsonl", {"file_name": "a/1.png", "text": "table"})
    assert captioned(folder)[0] == {10: "table"}
    assert captioned(folder, "txt")[0] == {20: "a tree", 30: "a house"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"file_name": "c.png", "text": "x"}], r"names none of the images, which are .*1\.png .* 'c\.png'"),
        ([{"file_name": "1.png", "text": "which?"}], "names none of the images"),
        ([{"file_name": "a/1.png", "text": "x"}, {"file_name": "a/1.png", "text": "y"}], "line 2: a second "
         r"caption of a/1\.png, after .*line 1; keep one"),
        ([{"file_name": "a/1.png", "text": " \n"}], "line 1: the caption is empty"),
        ([{"file_name": "a/1.png", "words": "x"}], "no text in the field text or caption or prompt; it has file"),
        ([{"file_name": "a/1.png", "text": ["x"]}], "no text in the field"),
        ([{"file_name": 3, "text": "x"}], "must be text, got int"),
        (["x"], "line 1: not an object"),
        ([], "has no captions"),
        ([{"text": "x"}], "1 captions for 4 images"),
    ],
)  # fmt: skip
def test_tables_that_fit_no_images_are_refused(folder, values, message):
    with pytest.raises(UnveilError, match=message) as caught:
        captioned(folder, lines(folder.parent / "t.jsonl", *values))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(folder):
    with pytest.raises(UnveilError, match=r"no such file; `captions` is"):
        captioned(folder, "nothing.jsonl")
    with pytest.raises(UnveilError, match=r"captions are read from \.jsonl"):
        captioned(folder, folder / "a" / "1.png")
    table, text = folder.parent / "t.csv", folder / "a" / "1.txt"
    for file in (table, table.with_suffix(".jsonl"), text):
        file.write_bytes("file_name,\u00e9\n".encode("latin-1"))
        with pytest.raises(UnveilError, match=r"not UTF-8 text \(byte .*; save it as UTF-8$"):
            captioned(folder, "txt" if file == text else file)
    table.write_text("file_name,text\na/1.png\n")
    with pytest.raises(UnveilError, match=r"line 2: no text"):
        captioned(folder, table)
    table.write_text('file_name,text\n"' + "x" * 140_000)
    with pytest.raises(UnveilError, match=r"not a row of a table"):
        captioned(folder, table)
    text.unlink()
    with pytest.raises(UnveilError, match=r"no metadata\.jsonl, and no \.txt file beside"):
        captioned(folder)


def test_a_name_of_an_image_that_is_not_there_is_noted(folder):
    table = lines(
        folder.parent / "t.jsonl", *[{"image": n, "prompt": n} for n in ("a/1.png", "c/1.png", "c/2.png")]
    )
    texts, notes = captioned(folder, table)
    assert texts == {10: "a/1.png"}
    assert notes[0] == "left out 2 captions of images that are not there (c/1.png, c/2.png)"


def test_captions_of_arrays_are_stored_or_are_lines_in_order(tmp_path):
    pixels = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, captions=np.array(["zero", "one", "two "]))
    assert captioned(tmp_path / "a.npz")[0] == {0: "zero", 1: "one", 2: "two"}
    np.savez(tmp_path / "b.npz", images=pixels, captions=np.array([1, 2, 3]))
    assert "its array captions is not read" in read_images(str(tmp_path / "b.npz"), Reading()).notes[0]
    with pytest.raises(UnveilError, match="with a line for each image, in order"):
        captioned(tmp_path / "b.npz")
    table = lines(tmp_path / "t.jsonl", *[{"text": text} for text in "xyz"])
    assert captioned(tmp_path / "b.npz", table)[0] == {0: "x", 1: "y", 2: "z"}
    records = [{"style": s, "group": "g", "code": s, "caption": f"by {s}"} for s in ("noto", "openmoji", "x")]
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
    assert captioned(tmp_path / "b.npz")[0] == {0: "by noto", 2: "by x"}


RECORDS = [
    {"style": "fluent-emoji-flat", "group": "g", "code": "1", "name": "left arrow", "keywords": ["arrow", ":D"]},
    {"style": "openmoji", "group": "g", "code": "1", "name": "left arrow", "keywords": []},
    {"style": "noto-v1", "group": "h", "code": "2", "name": "cat", "keywords": ["cat", "pet", "animal", "fur"]},
]  # fmt: skip


def test_records_of_drawings_give_captions(tmp_path):
    np.savez(tmp_path / "e.npz", images=np.zeros((3, 4, 4), np.uint8))
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(json.dumps(RECORDS).encode()))
    plain = read_images(str(tmp_path / "e.npz"), Reading())
    assert plain.captions is None and RandomImages(plain).captions is None  # unless they are asked for
    images = read_captions(plain)
    assert images.captions == ("fluent flat emoji of left arrow", "noto v1 emoji of cat")
    assert images.drawings == (
        Drawing("fluent-emoji-flat", "left arrow", ("arrow",), "1", "g"),
        Drawing("noto-v1", "cat", ("pet", "animal", "fur"), "2", "h"),
    )
    table = lines(tmp_path / "t.jsonl", {"text": "x"}, {"text": "y"})
    images = read_captions(images, str(table))
    assert images.captions == ("x", "y") and images.drawings is None


def test_captions_of_drawings_are_drawn_evenly():
    """Each of the 2 x (1 + 3 + 6) captions of three keywords has probability 1/2 x 1/3 x 1/(count)."""
    cat = Drawing("noto", "cat", ("pet", "fur", "paw"))
    sampler = CaptionSampler(("a", "b"), (Drawing("x", "y"), cat))
    generator = torch.Generator().manual_seed(0)
    drawn = sampler(torch.ones(36_000, dtype=torch.int64), generator)
    for style in (True, False):
        for words in ((), ("pet",), ("fur",), ("paw",), ("pet", "paw"), ("paw", "pet"), ("fur", "paw")):
            share = drawn.count(caption_of(cat, style=style, keywords=words)) / len(drawn)
            expected = 0.5 / 3.0 / (1, 3, 6)[len(words)]
            assert abs(share - expected) < 4.0 * (expected / len(drawn)) ** 0.5
    always = CaptionSampler(("a",), (cat,), style_drop=0.0, most_keywords=0)
    assert always(torch.tensor([0]), generator) == ["noto emoji of cat"]
    never = CaptionSampler(("a",), (cat,), style_drop=1.0, most_keywords=0)
    assert never(torch.tensor([0]), generator) == ["emoji of cat"]


def test_plain_captions_draw_no_numbers():
    sampler, generator = CaptionSampler(("a", "b", "c")), torch.Generator().manual_seed(3)
    before = generator.get_state()
    assert sampler(torch.tensor([2, 0, 2]), generator) == ["c", "a", "c"]
    assert torch.equal(before, generator.get_state())


def numbered(count):
    """Images whose level, label, group, caption, drawing and file say the same number."""
    from pathlib import Path

    numbers = np.arange(count)
    pixels = np.ascontiguousarray(np.broadcast_to(numbers[:, None, None, None], (count, 3, 4, 4)), np.uint8)
    texts = tuple(map(str, range(count)))
    return ImageSet(
        pixels, numbers % 2, ("even", "odd"), numbers // 3, captions=texts, stored_captions=texts,
        drawings=tuple(Drawing(text, text) for text in texts), files=tuple(map(Path, texts)),
    )  # fmt: skip


@pytest.mark.parametrize("in_place", [False, True])
def test_captions_stay_with_their_images(in_place):
    images = numbered(30)
    parts = split(images, 0.3, in_place=in_place)
    for part in (*parts, parts[0].chosen(np.array([5, 2, 2])), alike(parts[1], parts[0])):
        levels = part.pixels[:, 0, 0, 0].tolist()
        assert [int(text) for text in part.captions] == levels
        assert part.stored_captions == part.captions
        assert [int(drawing.name) for drawing in part.drawings] == levels
        assert [int(str(file)) for file in part.files] == levels
        assert (np.array(levels) % 2 == part.labels).all() and (np.array(levels) // 3 == part.groups).all()
    assert set(parts[0].groups) & set(parts[1].groups) == set()


def test_batches_give_rows_and_the_numbers_that_they_gave_before():
    images = numbered(40)
    plain = ImageSet(images.pixels, images.labels)
    for flip in (False, True):
        one, other = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
        pixels, labels = RandomImages(plain, flip).draw(16, one)
        again, rows = RandomImages(images, flip).draw_rows(16, other)
        assert torch.equal(pixels, again) and torch.equal(labels, rows % 2)
        assert torch.equal(pixels[:, 0, 0, 0].long(), rows)
        assert torch.equal(one.get_state(), other.get_state())
    assert RandomImages(plain).captions is None
    texts = RandomImages(images).captions(rows, torch.Generator().manual_seed(0))
    assert all(f"emoji of {row}" in text for text, row in zip(texts, rows.tolist(), strict=True))


def test_images_whose_captions_say_left_or_right_are_not_mirrored():
    pixels = np.zeros((3, 1, 2, 2), np.uint8)
    pixels[:, :, :, 0] = 1
    captions = ("a cat", "a right-facing cat", "a cat at the Top Left")
    draw = RandomImages(ImageSet(pixels, captions=captions), flip=True).draw_rows
    drawn, rows = draw(300, torch.Generator().manual_seed(0))
    mirrored = drawn[:, 0, 0, 0] == 0
    assert not mirrored[rows > 0].any() and 20 < mirrored[rows == 0].sum() < 80

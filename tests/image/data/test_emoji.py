"""Held-out emoji: words stay known, pairs are of known concepts and styles, and no picture is on both sides."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.data.caption_sampler import Drawing
from unveil.image.data.emoji import (
    composable,
    concepts_of,
    concepts_with,
    split_emoji,
    unseen_concepts,
    words_of,
)
from unveil.image.data.images import ImageSet
from unveil.image.data.reading import Reading
from unveil.image.data.records import write_recorded
from unveil.image.data.source import read_images

STYLES = ("flat", "noto", "old", "tw")
WHO, DOES = ("man", "woman", "person", "child"), ("running", "walking", "cooking", "singing", "Sleeping")
NAMES = {f"p{i}{j}": f"{who} {does}" for i, who in enumerate(WHO) for j, does in enumerate(DOES)}
NAMES |= {"c1": "red car", "c2": "blue car", "c3": "car", "x": "astronaut", "y": "man: red hair"}
# of the flag, only two styles; of the astronaut, two
DRAWN = [(code, style) for code in NAMES for style in STYLES if code != "x" or style in ("flat", "tw")]


def drawings_of(drawn=DRAWN):
    some = [Drawing(s, NAMES[c], (), c, "People" if c.startswith("p") else "Things") for c, s in drawn]
    return (*some, Drawing("tw", "flag: man", (), "f", "Flags"))


def emoji(twins=()):
    """Random pictures; those of `twins` (pairs of (code, style)) are equal."""
    drawings = drawings_of()
    pixels = np.random.default_rng(0).integers(0, 256, (len(drawings), 1, 4, 4), dtype=np.uint8)
    for one, other in twins:
        pixels[DRAWN.index(one)] = pixels[DRAWN.index(other)]
    return ImageSet(pixels, drawings=drawings)


def test_words_have_no_signs_and_flags_do_not_count():
    assert words_of("Man: red-hair, O\u2019clock") == {"man", "red", "hair", "o", "clock"}
    concepts = concepts_of(drawings_of())
    assert "f" not in concepts and len(concepts) == 25
    count = concepts_with(concepts.values())
    assert (count["man"], count["running"], count["car"], count["red"], count["astronaut"]) == (6, 4, 3, 2, 1)
    assert set(composable(concepts)) == {code for code in NAMES if code.startswith("p")} | {"c3"}
    assert set(composable(concepts, 2)) >= {"c1"} and "c2" not in composable(concepts, 2)


@pytest.mark.parametrize("seed", range(4))
def test_words_of_unseen_concepts_stay_in_two_others(seed):
    concepts = concepts_of(drawings_of())
    groups = {code: "People" if code.startswith("p") else "Things" for code in concepts}
    held = unseen_concepts(concepts, groups, 6, seed)
    assert len(set(held)) == 6 and held[1] == "c3"  # a group in turn; the only car that can be held out
    assert (
        held == unseen_concepts(concepts, groups, 6, seed) != unseen_concepts(concepts, groups, 6, seed + 9)
    )
    every = unseen_concepts(concepts, groups, 100, seed)
    assert every[:6] == held and len(every) < 21
    rest = concepts_with(name for code, name in concepts.items() if code not in every)
    assert all(rest[word] >= 2 for code in every for word in words_of(concepts[code]))
    for code in set(composable(concepts)) - set(every):  # no further one could be held out
        assert any(rest[word] < 3 for word in words_of(concepts[code]))


def test_pairs_are_of_concepts_and_styles_that_are_trained_on():
    images = emoji()
    parts = split_emoji(images, unseen=5, pairs=12)
    flags = np.array([drawing.group == "Flags" for drawing in images.drawings])
    assert (parts.train.astype(int) + parts.pairs + parts.unseen + flags == 1).all()
    assert parts.pairs.sum() == 12
    rows = {
        kind: [images.drawings[k] for k in np.flatnonzero(mask)] for kind, mask in parts._asdict().items()
    }
    codes = {kind: {drawing.code for drawing in some} for kind, some in rows.items()}
    assert len(codes["unseen"]) == 5 and not codes["unseen"] & (codes["train"] | codes["pairs"])
    assert len(codes["pairs"]) == 12 and codes["pairs"] <= codes["train"] and "x" not in codes["pairs"]
    assert set(Counter(drawing.style for drawing in rows["pairs"]).values()) == {3}
    trained = Counter(drawing.code for drawing in rows["train"])
    assert all(trained[code] == 3 for code in codes["pairs"])
    again, other = split_emoji(images, 5, 12), split_emoji(images, 5, 12, seed=1)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    assert (parts.pairs != other.pairs).any() and (parts.unseen != other.unseen).any()


def test_pictures_that_occur_twice_are_never_held_out():
    """The car is the only thing that could be unseen, but it shares a picture with a person."""
    images = emoji(twins=[(("c3", "noto"), ("p00", "noto")), (("c1", "flat"), ("c1", "tw"))])
    for seed in range(5):
        parts = split_emoji(images, unseen=20, pairs=1000, seed=seed)
        unseen = {images.drawings[k].code for k in np.flatnonzero(parts.unseen)}
        assert unseen and not unseen & {"c3", "p00"}
        pairs = {(images.drawings[k].code, images.drawings[k].style) for k in np.flatnonzero(parts.pairs)}
        assert not pairs & {("c3", "noto"), ("p00", "noto"), ("c1", "flat"), ("c1", "tw")}
        assert len({code for code, _ in pairs}) == len(pairs)


def test_images_without_records_are_refused():
    with pytest.raises(UnveilError, match="no records with a name, a code and a style"):
        split_emoji(ImageSet(np.zeros((2, 1, 4, 4), np.uint8)))


REAL = Path(os.environ.get("UNVEIL_TEST_DATA", "nowhere")) / "emoji64" / "emoji64.npz"


@pytest.mark.skipif(not REAL.is_file(), reason="UNVEIL_TEST_DATA has no emoji64/emoji64.npz")
def test_emoji64():
    """The reference counts 1,415 words and 955 in one concept: it splits at signs, which leaves an empty
    word."""
    images = read_images(str(REAL), Reading())
    concepts = concepts_of(images.drawings)
    count = concepts_with(concepts.values())
    groups = {drawing.code: drawing.group for drawing in images.drawings}
    assert (len(concepts), len(count), sum(k == 1 for k in count.values())) == (1630, 1414, 954)
    some = composable(concepts)
    assert (len(some), sum(groups[code] == "People & Body" for code in some)) == (563, 320)
    parts = split_emoji(images)
    unseen = {images.drawings[k].code for k in np.flatnonzero(parts.unseen)}
    assert len(unseen) == 60 and parts.pairs.sum() == 300
    trained = concepts_with({images.drawings[k].code: images.drawings[k].name
                             for k in np.flatnonzero(parts.train)}.values())  # fmt: skip
    assert all(trained[word] >= 2 for code in unseen for word in words_of(concepts[code]))
    held = {images.pixels[k].tobytes() for k in np.flatnonzero(parts.unseen | parts.pairs)}
    assert not held & {images.pixels[k].tobytes() for k in np.flatnonzero(parts.train)}


def test_the_command_writes_the_three_parts(tmp_path, monkeypatch):
    whole = emoji()
    records = [drawing._asdict() for drawing in whole.drawings]
    colours = np.repeat(whole.pixels.transpose(0, 2, 3, 1), 3, axis=3)
    write_recorded(tmp_path / "all.npz", colours, records)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "emoji", "--data", "all.npz", "--pairs", "8", "--concepts", "4"]) == 0
    parts = {
        part: read_images(f"emoji-{part}.npz", Reading()).drawings for part in ("train", "pairs", "concepts")
    }
    masks = split_emoji(whole, 4, 8)
    assert {part: len(found) for part, found in parts.items()} == {
        "train": masks.train.sum(),
        "pairs": masks.pairs.sum(),
        "concepts": masks.unseen.sum(),
    }
    seen = {(drawing.code, drawing.style) for drawing in parts["train"]}
    codes, styles = ({pair[k] for pair in seen} for k in (0, 1))
    for drawing in parts["pairs"]:
        assert (drawing.code, drawing.style) not in seen and drawing.code in codes and drawing.style in styles
    assert not {drawing.code for drawing in parts["concepts"]} & codes
    assert parts["train"][0].name in NAMES.values() and "f" not in codes


def test_groups_that_are_kept_change_nothing_that_is_held_out(tmp_path, monkeypatch, capsys):
    whole = emoji()
    colours = np.repeat(whole.pixels.transpose(0, 2, 3, 1), 3, axis=3)
    write_recorded(tmp_path / "all.npz", colours, [drawing._asdict() for drawing in whole.drawings])
    monkeypatch.chdir(tmp_path)
    few = ["data", "emoji", "--data", "all.npz", "--pairs", "8", "--concepts", "4"]
    assert main([*few, "--out", "whole.npz"]) == 0
    assert main([*few, "--out", "some.npz", "--groups", "People"]) == 0
    for part in ("", "-pairs", "-concepts"):
        every, some = (read_images(f"{name}{part}.npz", Reading()).drawings for name in ("whole", "some"))
        assert list(some) == [drawing for drawing in every if drawing.group == "People"]
    assert main([*few, "--out", "none.npz", "--groups", "Animals"]) == 2
    assert "there are Flags, People, Things" in capsys.readouterr().err
    assert not (tmp_path / "none.npz").exists()

"""`unveil demo image`: a column for each class, pictures that can be made again, and a way on where nothing
is packaged."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stripes import SMALL, WORDS, write_captioned

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.data.caption_sampler import caption_of
from unveil.image.data.emoji import split_emoji
from unveil.image.data.reading import Reading
from unveil.image.data.shapes import caption_of_scene, drawn, held_out
from unveil.image.data.source import read_images
from unveil.image.evaluation.pages import captioned, grid, titled
from unveil.image.recipes.card import drawn_by
from unveil.image.recipes.contact_sheet.config import SEEN, UNSEEN
from unveil.image.recipes.contact_sheet.sentences import sentences, verdicts


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A zoo with a model of 8 x 8 stripes that lie or stand."""
    folder = tmp_path_factory.mktemp("demo")
    rng = np.random.default_rng(0)
    stripes = np.where(np.arange(8) // 2 % 2 == 0, 220, 30) + rng.integers(-20, 20, (24, 8, 8))
    np.savez(folder / "stripes.npz", images=stripes.astype(np.uint8), labels=np.arange(24) % 2)
    run = str(folder / "run")
    data = [
        "--data",
        str(folder / "stripes.npz"),
        "--classes",
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--out",
        run,
    ]
    assert main(["train", "image", "--preset", "tiny", *SMALL, *data]) == 0
    assert (
        main(
            [
                "weights",
                "pack",
                "--run",
                str(folder / "run"),
                "--name",
                "fashion-mnist",
                "--into",
                str(folder / "zoo"),
            ]
        )
        == 0
    )
    return folder / "zoo"


def test_the_packaged_model_is_shown_by_class_and_repeats(zoo, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("unveil.runs.checkpoints.ZOO", zoo)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "image", "--rows", "3", "--steps", "4", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert (
        "6 images, a column for each of 0, 1" in said
        and "guidance 2" in said
        and "sample image --checkpoint fashion-mnist" in said
    )
    with Image.open("demo/images.png") as image:
        parameters, shown = json.loads(image.text["unveil"]), np.asarray(image).copy()
    assert parameters["label"] == [0, 1] and shown.shape == (3 * (88 + 4) + 4 + 16, 2 * (88 + 4) + 4)
    with Image.open("demo/images.gif") as animation:
        assert animation.size == (2 * (48 + 2) + 2, 3 * (48 + 2) + 2)
    assert (
        main(["sample", "image", "--from-png", "demo/images.png", "--out", "again", "--device", "cpu"]) == 0
    )
    with Image.open("again/0001.png") as second:  # of class 1: the first row's second column
        assert (shown[20:108:11, 96:184:11] == np.asarray(second)).all()


def test_an_empty_zoo_says_how_to_train_and_a_run_is_shown(zoo, monkeypatch, tmp_path, capsys):
    (tmp_path / "zoo").mkdir()
    monkeypatch.setattr("unveil.runs.checkpoints.ZOO", tmp_path / "zoo")
    assert main(["demo", "image", "--out", str(tmp_path / "a")]) == 2
    error = capsys.readouterr().err
    assert "no image model is packaged" in error and "train image --data fashion-mnist --classes" in error
    assert main(["demo", "image", "--checkpoint", str(zoo.parent / "run"), "--rows", "0"]) == 2
    (tmp_path / "file").write_text("")
    assert (
        main(["demo", "image", "--checkpoint", str(zoo.parent / "run"), "--out", str(tmp_path / "file")]) == 2
    )
    assert "is a file, but --out needs a folder" in capsys.readouterr().err


def test_cards_of_emoji_name_who_drew_them():
    assert drawn_by("stripes.npz", ()) == "its licence is its own"
    assert "Twemoji (Twitter" in drawn_by("emoji64.npz", ()) and "CC-BY 4.0" in drawn_by("emoji64.npz", ())
    assert drawn_by("emoji64.npz", ("noto", "noto-v1")) == "drawings of Noto Emoji (Google, Apache-2.0)"


def test_titles_stand_over_their_columns_and_are_cut_to_fit():
    page = grid(np.full((2, 3, 30, 30), 255, np.uint8), 2)
    strip = titled(page, ["i", "a name that is far too long"])[: -len(page), :, 0] < 128
    inked = np.flatnonzero(strip.any(0))
    left = inked[inked < 33]
    assert abs(left.mean() - (2 + 16)) < 4 and inked.max() < page.shape[1] - 1 and len(inked) > len(left) > 0


def test_the_packaged_fashion_has_trousers_that_are_narrow_and_bags_that_are_wide(tmp_path):
    """Guided samples of two classes, by the columns of pixels that are lit: weights, classes and signs of
    guidance all as trained."""
    flags = ["--class", "1", "8", "--scale", "2", "--steps", "10", "-n", "8", "--device", "cpu"]
    assert (
        main(["sample", "image", "--checkpoint", "fashion-mnist", *flags, "--out", str(tmp_path / "a")]) == 0
    )
    widths = []
    for k in range(8):
        with Image.open(tmp_path / "a" / f"{k:04d}.png") as picture:
            lit = np.asarray(picture) > 60
        widths.append(int((lit.mean(0) > 0.2).sum()))
    trousers, bags = widths[::2], widths[1::2]
    assert max(trousers) < min(bags) and sum(trousers) / 4 < 17 and sum(bags) / 4 > 20, widths


REAL = Path(os.environ.get("UNVEIL_TEST_DATA", "nowhere")) / "emoji64" / "emoji64.npz"


@pytest.mark.skipif(not REAL.is_file(), reason="UNVEIL_TEST_DATA has no emoji64/emoji64.npz")
def test_prompts_of_the_contact_sheet_are_said_rightly():
    """The unseen prompts are of the held-out parts, the seen ones of the training part."""
    images = read_images(str(REAL), Reading())
    parts = {
        name: {caption_of(images.drawings[row]) for row in mask.nonzero()[0]}
        for name, mask in split_emoji(images)._asdict().items()
    }
    assert set(SEEN) <= parts["train"]
    assert set(UNSEEN) <= parts["pairs"] | parts["unseen"]


def test_the_contact_sheet_shows_prompts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stripes = write_captioned(tmp_path)
    flags = ["--data", str(stripes), *WORDS, "--steps", "2", "--batch-size", "4", "--out", "run"]
    assert main(["train", "image", "--preset", "tiny", *SMALL, *flags]) == 0
    one = ["--checkpoint", "run", "--steps", "3", "--device", "cpu", "--prompts", "stripes that lie", "lie"]
    assert main(["demo", "text-to-image", *one]) == 0
    said = capsys.readouterr().out
    assert "2 prompts" in said and "--checkpoint run --prompt lie" in said
    with Image.open(tmp_path / "demo" / "text-to-image.png") as page:
        first = page.tobytes()
    assert main(["demo", "text-to-image", *one, "--seed", "1"]) == 0
    with Image.open(tmp_path / "demo" / "text-to-image.png") as page:
        assert page.tobytes() != first


def test_the_contact_sheet_needs_captions(zoo, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("unveil.runs.checkpoints.ZOO", zoo)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "text-to-image", "--checkpoint", "fashion-mnist"]) != 0
    error = capsys.readouterr().err
    assert "was trained without captions" in error and error.count("\n") == 1


def test_captions_stand_below_their_pictures_in_lines():
    pixels = np.zeros((3, 3, 32, 32), np.uint8)
    page = captioned(pixels, ["one", "two words that do not fit in a line", ""], 2, 64)
    assert page.shape[1] == 2 * 80
    dark = (page < 128).all(2)
    tall = page.shape[0] // 2
    for k in range(3):
        y, x = k // 2 * tall, k % 2 * 80
        assert dark[y + 8 : y + 72, x + 8 : x + 72].all()
        rows = dark[y + 73 : y + tall, x : x + 80].any(1)
        lines = int((np.diff(np.concatenate([[0], rows.astype(int)])) == 1).sum())
        assert (lines >= 2, lines == 0) == (k == 1, k == 2)


def test_sentences_of_shapes_are_half_seen_half_held_out():
    scenes = sentences()
    parts = [[held_out(one.colour, one.shape) for one in scene.objects] for scene in scenes]
    assert parts == [[False, False]] * 6 + [[True, True]] * 6 and len({*map(caption_of_scene, scenes)}) == 12


def test_true_pictures_of_the_sentences_are_right_and_swapped_ones_wrong():
    scenes = sentences()
    pixels = np.stack([drawn(scene, 32) for scene in scenes])
    right, said = verdicts(pixels, scenes)
    assert (
        all(right) and said.startswith("12 of 12 are right: 6 of 6 of pairs") and "6 of 6 of others" in said
    )
    pixels[[0, 7]] = pixels[[7, 0]]
    right, said = verdicts(pixels, scenes)
    assert [k for k, good in enumerate(right) if not good] == [0, 7] and "10 of 12" in said
    with pytest.raises(UnveilError, match="these pictures are grey"):
        verdicts(pixels[:, :1], scenes)


def test_the_contact_sheet_of_shapes_is_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "shapes", "--n", "40", "--size", "24", "--objects", "2", "--out", "shapes.npz"]) == 0
    small = [*SMALL, *WORDS[2:], "--captions", "auto", "--attention", "6"]
    flags = ["--data", "shapes.npz", *small, "--steps", "2", "--batch-size", "4", "--out", "run"]
    assert main(["train", "image", "--preset", "tiny", *flags]) == 0
    one = ["demo", "text-to-image", "--model", "shapes", "--device", "cpu", "--steps", "2"]
    capsys.readouterr()
    assert main([*one, "--checkpoint", "run"]) == 0
    said = capsys.readouterr().out
    assert "0 of 12 are right: 0 of 6" in said and "12 prompts" in said  # after two steps
    assert main([*one, "--checkpoint", "run", "--prompts", "a"]) == 2
    error = capsys.readouterr().err
    assert "leave --prompts out" in error and error.count("\n") == 1


def test_the_packaged_model_of_shapes_binds_colours_to_shapes(tmp_path, capsys):
    """Ten steps suffice for eleven of the twelve sentences, half of which no training picture shows."""
    flags = ["--device", "cpu", "--steps", "10", "--scale", "2", "--out", str(tmp_path)]
    assert main(["demo", "text-to-image", "--model", "shapes", *flags]) == 0
    said = re.search(r"(\d+) of 12 are right", capsys.readouterr().out)
    assert said is not None and int(said[1]) >= 11

"""CLIP by the commands: towers of clean and of noisy pictures are trained, scored and loaded."""

import json
from pathlib import Path
from shlex import split

import pytest
import torch
from stripes import SMALL, WORDS, write_captioned

from unveil.cli import main
from unveil.image.recipes.clip.load import load_clip
from unveil.loading import load

TINY = [*split("--preset tiny --bfloat16 False --batch-size 16 --warmup 2 --embedding-width 6"), *SMALL]


def refused(capsys, command: list[str], *said: str) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said) and error.strip().count("\n") == 0, error


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    data = ["--data", str(write_captioned(folder)), *WORDS, "--hold-out", "0.3", "--steps", "30"]
    for name, noised in (("clean", []), ("noised", ["--noised"])):
        assert main(["train", "clip", *TINY, *data, *noised, "--out", str(folder / name)]) == 0
    return folder


def test_held_out_stripes_are_found_by_their_captions(runs, tmp_path):
    """Two captions, so that chance is near one half at R@1, and towers that confuse them are below it."""
    for name, flags in (("clean", []), ("noised", ["--time", "0.1"])):
        out = tmp_path / f"{name}.json"
        assert main(["eval", "clip", "--checkpoint", str(runs / name), *flags, "--json", str(out)]) == 0
        scores = json.loads(out.read_text())
        metrics, chance = scores["metrics"], scores["reference"]["chance"]
        assert metrics["n"] == 12 and metrics["captions"] == 2
        assert metrics["text_to_image_r1"] == 1.0 and metrics["image_to_text_r1"] > 0.9
        assert 0.3 < chance["text_to_image_r1"] < 0.7 and chance["image_to_text_r1"] == 0.5


def test_it_is_loaded_by_name_and_reads_pixels_and_prompts(runs):
    model = load(runs / "noised", "cpu")
    assert (model.noised, model.width, model.shape.schedule) == (True, 6, "cosine")
    (folder,) = (runs / "clean").glob("checkpoint-*")
    clean = load_clip(folder, "cpu")
    assert not clean.noised and clean.read(["stripes that lie"]).shape == (1, 6)
    x = torch.zeros(2, 1, 8, 8)
    assert torch.equal(clean.image_embedding(x), clean.image_embedding(x, torch.ones(2).double()))


def test_bad_input_is_refused_in_one_line(runs, capsys, tmp_path):
    at = ["--checkpoint", str(runs / "clean")]
    refused(capsys, ["eval", "clip", *at, "--time", "0.5"], "--time is for a CLIP of noisy images")
    (tmp_path / "one").mkdir()
    stripes = write_captioned(tmp_path / "one")
    for file in stripes.rglob("*.txt"):
        file.write_text("stripes")
    same = ["train", "clip", *TINY, "--data", str(stripes), *WORDS, "--out", str(tmp_path / "run")]
    refused(capsys, same, "a single caption")
    refused(capsys, ["train", "clip", *TINY, "--batch-size", "1"], "--batch-size must be at least 2")
    refused(capsys, ["train", "clip", *TINY, "--data", str(stripes), "--captions", ""], "give --captions")
    (run,) = (runs / "clean").glob("checkpoint-*")
    refused(capsys, ["sample", "image", "--checkpoint", str(run)], "trained by recipe 'clip'")

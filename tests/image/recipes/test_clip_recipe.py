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


@pytest.fixture(scope="module")
def model(runs) -> Path:
    """An unconditional model of the same pixels and schedule."""
    flags = ["--data", str(runs / "stripes"), "--method", "v", "--steps", "3", "--out", str(runs / "model")]
    small = split("--preset tiny --bfloat16 False --batch-size 8 --warmup 2")
    assert main(["train", "image", *small, *SMALL, *flags]) == 0
    return runs / "model"


def test_it_guides_an_unconditional_model_towards_a_prompt(runs, model, tmp_path, capsys):
    sample = ["sample", "image", "--checkpoint", str(model), "-n", "2", "--steps", "4"]
    clip = ["--clip-model", str(runs / "noised"), "--prompt", "stripes that lie", "stripes that stand"]
    assert main([*sample, "--out", str(tmp_path / "plain")]) == 0
    assert main([*sample, *clip, "--clip-scale", "20", "--out", str(tmp_path / "guided")]) == 0
    assert "stripes that stand" in capsys.readouterr().out
    grids = [(tmp_path / name / "0000.png").read_bytes() for name in ("plain", "guided")]
    assert grids[0] != grids[1]
    again = [
        "sample",
        "image",
        "--from-png",
        str(tmp_path / "guided" / "grid.png"),
        "--out",
        str(tmp_path / "b"),
    ]
    assert main(again) == 0
    assert (tmp_path / "b" / "0001.png").read_bytes() == (tmp_path / "guided" / "0001.png").read_bytes()
    refused(capsys, [*sample, *clip[:2]], "--clip-model guides towards texts; give --prompt")
    refused(capsys, [*sample, "--clip-scale", "2"], "--clip-scale needs --clip-model")
    refused(capsys, [*sample, "--clip-model", str(runs / "clean"), *clip[2:]], "trained on clean images")
    refused(capsys, [*sample, "--clip-model", str(model), *clip[2:]], "trained by recipe 'image'")


def test_weights_of_another_width_are_refused(runs, tmp_path, capsys):
    import shutil

    shutil.copytree(runs / "noised", tmp_path / "wide")
    described = json.loads((tmp_path / "wide" / "config.json").read_text())
    for file in (tmp_path / "wide").rglob("config.json"):
        file.write_text(json.dumps(described | {"embedding_width": 7}))
    refused(
        capsys, ["eval", "clip", "--checkpoint", str(tmp_path / "wide")], "has shape (6, ", "needed is (7, "
    )


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

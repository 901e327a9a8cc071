"""GLIDE by the commands, on tiny pictures: trained, sampled, enlarged, tuned to fill in parts."""

import json
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image
from stripes import TINY, WORDS, write_captioned

from unveil.cli import main
from unveil.image.networks.glide_text import GlideText
from unveil.image.networks.unet2d import UNet2d
from unveil.loading import load

EACH = [*TINY, *split("--save-every 3 --keep 0 --steps 3")]
GLIDE = [*WORDS, "--encoder", "glide"]


def read_picture(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


def refused(capsys, command: list[str], *said: str) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said) and error.strip().count("\n") == 0, error


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Stripes with a caption each, and a run on them."""
    folder = tmp_path_factory.mktemp("glide")
    flags = ["--data", str(write_captioned(folder)), *GLIDE, "--out", str(folder / "run")]
    assert main(["train", "image", *EACH, *flags]) == 0
    return folder


def test_a_run_has_glides_wiring_and_drops_a_fifth_of_the_captions(base):
    config = json.loads((base / "run" / "config.json").read_text())
    assert (config["encoder"], config["label_drop"]) == ("glide", 0.2)
    model = load(base / "run", "cpu")
    text, network = model.text, model.denoiser.network
    assert isinstance(text.network, GlideText) and isinstance(network, UNet2d)
    assert not network.shape.token_norm and isinstance(network.vector, torch.nn.Linear)
    assert text.tokenizer.bare and text.tokenizer([""]).valid.sum() == 0
    trained = text.network.padding.detach()
    fresh = load(base / "run" / "checkpoint-3", "cpu").text.network.padding.detach()
    assert torch.equal(trained, fresh) and trained.abs().max() > 0.0


def test_the_share_of_dropped_captions_can_be_chosen(base, tmp_path):
    flags = ["--data", str(base / "stripes"), *GLIDE, "--label-drop", "0.3", "--out", str(tmp_path / "run")]
    assert main(["train", "image", *EACH, *flags]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["label_drop"] == 0.3


def test_prompts_are_sampled_and_long_ones_cut_with_one_note(base, tmp_path, capsys):
    sample = ["sample", "image", "--checkpoint", str(base / "run"), "--steps", "2", "-n", "2"]
    assert main([*sample, "--prompt", "stripes that lie", "--out", str(tmp_path / "one")]) == 0
    assert "note" not in capsys.readouterr().err
    long = "stripes that lie that lie that lie that lie"
    assert main([*sample, "--prompt", long, "stripes", "--out", str(tmp_path / "two")]) == 0
    said = capsys.readouterr().err
    assert said.count("more than the 6 tokens") == 1
    cut = "stripes that lie that lie that"
    assert main([*sample, "--prompt", cut, "stripes", "--out", str(tmp_path / "three")]) == 0
    pixels = [read_picture(tmp_path / name / "0000.png") for name in ("two", "three")]
    assert np.array_equal(*pixels)


def test_a_transformer_trunk_is_refused(base, capsys, tmp_path):
    flags = ["--data", str(base / "stripes"), *GLIDE, "--trunk", "dit", "--out", str(tmp_path / "run")]
    refused(capsys, ["train", "image", *EACH[6:], *flags], "--encoder glide is for --trunk unet")

"""GLIDE by the commands, on tiny pictures: trained, sampled, enlarged, tuned to fill in parts."""

import json
from dataclasses import replace
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


def test_an_upsampler_reads_captions_and_small_pictures(base, tmp_path, capsys):
    """16 -> 64 in small: 2 -> 8; without guidance, as in GLIDE; refused without the base's pictures."""
    flags = ["--data", str(base / "stripes"), *GLIDE, "--upsample", "4", "--out", str(tmp_path / "up")]
    assert main(["train", "image", *EACH, *flags]) == 0
    sample = ["sample", "image", "--checkpoint", str(tmp_path / "up"), "-n", "2", "--steps", "2"]
    sample += ["--prompt", "stripes that lie"]
    pictures = ["--from", str(base / "stripes" / "lie"), "--degrade", "--json", "-"]
    capsys.readouterr()
    assert main([*sample, *pictures, "--out", str(tmp_path / "made")]) == 0
    printed = capsys.readouterr().out
    assert "scale 1.0" in printed and "bicubic" in printed
    refused(capsys, [*sample, "--out", str(tmp_path / "bare")], "an upsampler needs images", "--from")
    small = ["--from", str(base / "stripes" / "lie" / "0.png"), "--out", str(tmp_path / "large")]
    refused(capsys, [*sample, *small], "2 x 2 is needed")


def test_tuning_to_fill_in_parts_begins_as_the_base(base, tmp_path):
    """New channels of the first layer start at zero: before the first step it answers as the base does."""
    flags = ["--data", str(base / "stripes"), "--captions", "txt", "--start-from", str(base / "run")]
    tuned = [*flags, "--concat", "inpaint", "--encoder", "glide", "--out", str(tmp_path / "tuned")]
    assert main(["train", "image", *EACH, "--learning-rate", "1e-12", *tuned]) == 0
    one, other = load(base / "run", "cpu"), load(tmp_path / "tuned", "cpu")
    network = other.denoiser.network
    assert isinstance(network, UNet2d) and network.shape.concat == 2 and not network.shape.token_norm
    torch.manual_seed(0)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.8]).double()
    cond = one.text(["stripes that lie", ""], one.device)
    seen = replace(cond, concat=torch.randn(2, 2, 8, 8))
    with torch.no_grad():
        torch.testing.assert_close(
            other.denoiser(x, t, seen).mean, one.denoiser(x, t, cond).mean, rtol=1e-4, atol=1e-5
        )
        assert torch.equal(one.text(["stripes"], one.device).tokens, one.text(["stripes"], one.device).tokens)
    picture = base / "stripes" / "lie" / "0.png"
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    sample = ["sample", "image", "--checkpoint", str(tmp_path / "tuned"), "-n", "1", "--steps", "2"]
    given = ["--task", "inpaint", "--from", str(picture), "--mask", str(tmp_path / "mask.png")]
    assert main([*sample, *given, "--prompt", "stripes that lie", "--out", str(tmp_path / "made")]) == 0
    made = read_picture(tmp_path / "made" / "0000.png")
    assert np.array_equal(made[4:], read_picture(picture)[4:])  # known pixels stay, to the bit

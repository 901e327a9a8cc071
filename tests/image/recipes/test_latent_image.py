"""Latent diffusion by the commands: an autoencoder, a model in its latent space, samples, and its tasks."""

import json
import shutil
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image

from unveil.cli import main
from unveil.image.recipes.autoencoder.load import load_latents
from unveil.loading import load

AUTOENCODER = split(
    "train autoencoder --preset tiny --width 8 --groups 4 --latent 3 --batch-size 4 --warmup 2 --device cpu "
    "--adversarial 0 --save-every 3 --hold-out 0.2 --steps 3"
)
MODEL = split(
    "train image --preset tiny --width 8 --multiples 1 --groups 4 --diffusion-steps 25 --device cpu "
    "--batch-size 4 --warmup 2 --save-every 3 --keep 0 --hold-out 0.2 --bfloat16 False"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Pictures of coloured squares, an autoencoder of them, and a model of its codes."""
    folder, rng = tmp_path_factory.mktemp("latent"), np.random.default_rng(0)
    images = np.full((40, 16, 16, 3), 255, np.uint8)
    for image in images:
        y, x = rng.integers(0, 8, 2)
        image[y : y + 8, x : x + 8] = rng.integers(0, 255, 3)
    np.savez(folder / "squares.npz", images=images)
    Image.fromarray(images[0]).save(folder / "one.png")
    Image.fromarray((np.arange(16)[:, None] < 8).repeat(16, 1).astype(np.uint8) * 255).save(
        folder / "mask.png"
    )
    assert main([*AUTOENCODER, "--data", str(folder / "squares.npz"), "--out", str(folder / "ae")]) == 0
    assert main([*MODEL, *flags(folder), "--steps", "6", "--out", str(folder / "run")]) == 0
    return folder


def flags(base: Path) -> list[str]:
    return ["--data", str(base / "squares.npz"), "--latent", str(base / "ae"), "--flip"]


def test_a_model_of_codes_makes_pictures(base, tmp_path):
    config = json.loads((base / "run" / "config.json").read_text())
    model = load(base / "run", "cpu")
    assert model.latent is not None and model.picture == (3, 16, 16)
    assert (config["channels"], config["size"] * model.latent.factor, config["method"]) == (3, 16, "v")
    assert not any(name.startswith("latent") for name in model.state_dict())
    sample = ["sample", "image", "--checkpoint", str(base / "run"), "--steps", "3", "-n", "2"]
    assert main([*sample, "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "0000.png") as picture:
        assert picture.size == (16, 16)


def test_codes_of_pictures_decode_to_what_the_autoencoder_makes_of_them(base):
    model, latents = load(base / "run", "cpu"), load(base / "ae", "cpu")
    with Image.open(base / "one.png") as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    codes = model.clean(pixels)
    torch.testing.assert_close(codes, latents.encode(pixels / 127.5 - 1.0))
    again = latents.decode(codes)
    assert torch.equal(model.pixels(codes), ((again + 1.0) * 127.5).round().to(torch.uint8))


def test_a_model_gives_its_autoencoder_to_other_trainings(base, tmp_path, capsys):
    alone, kept = load_latents(str(base / "ae"), "cpu"), load_latents(str(base / "run"), "cpu")
    weights = kept.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in alone.state_dict().items())
    judge = ["eval", "autoencoder", "--data", str(base / "squares.npz"), "--extractor", "pixels", "--n", "8"]
    judge += ["--device", "cpu", "--checkpoint"]
    assert main([*judge, str(base / "run")]) == 0
    more = ["--data", str(base / "squares.npz"), "--latent", str(base / "run"), "--steps", "1"]
    assert main([*MODEL, *more, "--out", str(tmp_path / "more")]) == 0
    config = [json.loads((place / "config.json").read_text()) for place in (base / "run", tmp_path / "more")]
    assert config[0]["autoencoder"] == config[1]["autoencoder"]
    plain = [*MODEL, "--data", str(base / "squares.npz"), "--steps", "1", "--out", str(tmp_path / "plain")]
    assert main(plain) == 0
    capsys.readouterr()
    wrong = [*MODEL, *more[:3], str(tmp_path / "plain"), "--out", str(tmp_path / "wrong")]
    assert main(wrong) == 2
    assert "is a model of pixels, which has no autoencoder" in capsys.readouterr().err


def test_resuming_is_bit_exact_without_the_autoencoder(base, tmp_path):
    shutil.copytree(base / "ae", tmp_path / "ae")
    data = ["--data", str(base / "squares.npz"), "--latent", str(tmp_path / "ae"), "--flip"]
    assert main([*MODEL, *data, "--steps", "3", "--out", str(tmp_path / "run")]) == 0
    assert main([*MODEL, *data, "--steps", "6", "--out", str(tmp_path / "run"), "--resume"]) == 0
    one, two = load(base / "run", "cpu").state_dict(), load(tmp_path / "run", "cpu").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("task", ["img2img", "inpaint", "reconstruct"])
def test_tasks_change_codes(base, tmp_path, task):
    more = {"inpaint": ["--mask", str(base / "mask.png")], "reconstruct": ["--solver", "ddim"]}.get(task, [])
    sample = ["sample", "image", "--checkpoint", str(base / "run"), "--steps", "4", "-n", "2", "--task", task]
    assert main([*sample, *more, "--from", str(base / "one.png"), "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "0001.png") as picture:
        assert picture.size == (16, 16)


@pytest.mark.parametrize(
    ("words", "error"),
    [(["--threshold", "0.9"], "is of latents"), (["--restore", "denoise", "--from", "ONE"], "is of latents")],
)
def test_what_needs_pixels_is_refused(base, tmp_path, capsys, words, error):
    words = [str(base / "one.png") if word == "ONE" else word for word in words]
    run = ["sample", "image", "--checkpoint", str(base / "run"), "-n", "1", "--out", str(tmp_path / "x")]
    assert main([*run, *words]) == 2
    assert error in capsys.readouterr().err


def test_an_autoencoder_that_was_changed_is_refused(base, tmp_path, capsys):
    shutil.copytree(base / "run", tmp_path / "run")
    file = tmp_path / "run" / "autoencoder.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert main(["sample", "image", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "x")]) != 0
    assert "damaged" in capsys.readouterr().err
    file.unlink()
    assert main(["sample", "image", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "x")]) != 0
    assert "turns latents into images" in capsys.readouterr().err


def test_pictures_that_the_factor_does_not_divide_are_refused(base, tmp_path, capsys):
    np.savez(tmp_path / "odd.npz", images=np.zeros((8, 15, 15, 3), np.uint8))
    data = ["--data", str(tmp_path / "odd.npz"), "--latent", str(base / "ae"), "--out", str(tmp_path / "run")]
    assert main([*MODEL, *data, "--steps", "3"]) == 2
    assert "multiples of" in capsys.readouterr().err


def test_a_packaged_model_tells_the_training_of_its_autoencoder(base, tmp_path, capsys):
    pack = ["weights", "pack", "--run", str(base / "run"), "--name", "small", "--into", str(tmp_path)]
    assert main(pack) == 2
    assert "give its run as --autoencoder" in capsys.readouterr().err
    other = [
        *AUTOENCODER,
        "--seed",
        "1",
        "--data",
        str(base / "squares.npz"),
        "--out",
        str(tmp_path / "other"),
    ]
    assert main(other) == 0
    assert main([*pack, "--autoencoder", str(tmp_path / "other")]) == 2
    assert "is not the autoencoder that" in capsys.readouterr().err
    scores = str(tmp_path / "scores.json")
    judge = ["eval", "autoencoder", "--data", str(base / "squares.npz"), "--extractor", "pixels", "--n", "8"]
    assert main([*judge, "--device", "cpu", "--checkpoint", str(base / "run"), "--json", scores]) == 0
    assert main([*pack, "--autoencoder", str(base / "ae"), "--results", scores]) == 0
    card = (tmp_path / "small" / "card.md").read_text()
    model, autoencoder = card.split("## Its autoencoder")
    assert "unveil train image" in model and "psnr_mean" not in model
    assert "unveil train autoencoder" in autoencoder and "| psnr_mean |" in autoencoder
    assert "eval autoencoder --checkpoint small --data squares.npz" in autoencoder
    small = load(tmp_path / "small", "cpu")
    assert small.latent is not None and small.picture == (3, 16, 16)

"""Adapters of a small model of captioned stripes by the commands: train, resume, sample by run and by file."""

import json
import shutil
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image
from stripes import SMALL, TINY, TUNED, WORDS, write_captioned, write_rings

from unveil.cli import main
from unveil.files.safetensors import read_tensors
from unveil.image.adapters import adapted_layers
from unveil.image.recipes.tuned import adapter_shape
from unveil.loading import load

BASE = [*TINY, *split("--save-every 6 --no-samples --steps 6 --learning-rate 5e-2")]
SAMPLE = split("--steps 2 -n 2 --scale 2 --prompt")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Stripes with a caption each, a run on them, two pictures of rings, and adapters that learned them."""
    folder = tmp_path_factory.mktemp("lora")
    stripes = write_captioned(folder)
    flags = ["--data", str(stripes), *WORDS, "--out", str(folder / "base")]
    assert main(["train", "image", *BASE, *flags]) == 0
    write_rings(folder, 12)
    assert main(lora(folder, folder / "run", "--dreambooth", "stripes that ring")) == 0
    return folder


def lora(folder: Path, out: Path, *flags: str) -> list[str]:
    data = ["--base", str(folder / "base"), "--data", str(folder / "rings")]
    return ["train", "lora", *TUNED, *data, *flags, "--out", str(out)]


def sampled(checkpoint: Path, out: Path, *flags: str, prompt: str = "stripes that lie") -> np.ndarray:
    sample = ["sample", "image", "--checkpoint", str(checkpoint), *SAMPLE, prompt]
    assert main([*sample, *flags, "--out", str(out)]) == 0
    with Image.open(out / "0001.png") as picture:
        return np.array(picture)


def test_the_run_names_its_base_and_holds_the_adapters_alone(base):
    config = json.loads((base / "run" / "config.json").read_text())
    assert (config["recipe"], config["base"]) == ("lora", str((base / "base").resolve()))
    assert (config["rank"], config["alpha"], config["size"], config["channels"]) == (4, 4.0, 8, 1)
    stored = read_tensors(base / "run" / "checkpoint-6" / "network.safetensors")
    assert all(name.split(".")[-2] in ("lora_A", "lora_B") for name in stored)
    assert {name.split(".")[0] for name in stored} == {"unet"}
    assert any(bool(value.any()) for name, value in stored.items() if "lora_B" in name)


def test_the_model_of_a_run_is_its_base_plus_the_update(base):
    """W + (alpha / rank) B A, with the averaged matrices and a scale of 1/4; the other weights are the base's."""
    run = base / "quarter"
    assert main(lora(base, run, "--dreambooth", "rings", "--alpha", "1")) == 0
    before, after = load(base / "base", "cpu"), load(run, "cpu")
    shape = adapter_shape(json.loads((run / "config.json").read_text()))
    layers = adapted_layers(before, shape)["unet"]
    averaged = read_tensors(run / "checkpoint-6" / "ema.safetensors")
    assert layers
    changed = after.state_dict()
    for name, weight in before.state_dict().items():
        path = name.removeprefix("denoiser.network.").removesuffix(".weight")
        if path not in layers:
            assert torch.equal(changed[name], weight)
            continue
        a, b = (averaged[f"unet.{path}.lora_{it}.weight"].double() for it in "AB")
        torch.testing.assert_close(changed[name], (weight.double() + 0.25 * b @ a).float(), atol=1e-7, rtol=0)
        assert float((changed[name] - weight).abs().max()) > 0


def test_the_files_make_the_pictures_of_the_run(base, tmp_path):
    wanted = sampled(base / "run", tmp_path / "run")
    plain = sampled(base / "base", tmp_path / "plain")
    assert not np.array_equal(wanted, plain)
    for k, name in enumerate(("lora-kohya.safetensors", "pytorch_lora_weights.safetensors")):
        file = str(base / "run" / name)
        assert np.array_equal(sampled(base / "base", tmp_path / f"{k}", "--lora", file), wanted)
        assert np.array_equal(sampled(base / "base", tmp_path / f"{k}z", "--lora", f"{file}:0"), plain)
    twice = sampled(base / "run", tmp_path / "twice", "--lora", str(base / "run" / "lora-kohya.safetensors"))
    assert not np.array_equal(twice, wanted)
    again = ["--from-png", str(tmp_path / "run" / "grid.png"), "--out", str(tmp_path / "again")]
    assert main(["sample", "image", *again]) == 0
    assert (tmp_path / "again" / "0001.png").read_bytes() == (tmp_path / "run" / "0001.png").read_bytes()


@pytest.mark.parametrize("kind", ["captions", "text encoder", "prior"])
def test_resuming_is_bit_exact(base, tmp_path, kind):
    flags = ["--dreambooth", "stripes that ring"]
    if kind == "captions":
        shutil.copytree(base / "rings", tmp_path / "rings")
        for k in range(2):
            (tmp_path / "rings" / f"{k}.txt").write_text(f"ring {k}")
        flags = ["--data", str(tmp_path / "rings"), "--conv-rank", "2", "--label-drop", "0.3", "--flip"]
    if kind == "text encoder":
        flags += ["--text-encoder", "--layers", "transformer"]
    if kind == "prior":
        flags += ["--prior", "stripes that lie", "--prior-images", "3", "--prior-weight", "0.5"]
    assert main(lora(base, tmp_path / "whole", *flags)) == 0
    assert main([*lora(base, tmp_path / "parts", *flags), "--steps", "3"]) == 0
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "parts").glob("prior/*.png")}
    assert len(made) == 3 * (kind == "prior")
    assert main([*lora(base, tmp_path / "parts", *flags), "--resume"]) == 0
    assert all(file.stat().st_mtime_ns == time for file, time in made.items())
    for file in ("network", "ema", "optimizer"):
        one, two = (
            read_tensors(tmp_path / it / "checkpoint-6" / f"{file}.safetensors") for it in ("whole", "parts")
        )
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_prior_is_what_the_base_makes(base, tmp_path):
    """Picture i is that of seed + i, whatever is there already."""
    flags = ["--dreambooth", "rings", "--prior", "stripes that lie", "--prior-images", "3", "--steps", "3"]
    assert main(lora(base, tmp_path / "run", *flags)) == 0
    sample = [
        "sample",
        "image",
        "--checkpoint",
        str(base / "base"),
        "--prompt",
        "stripes that lie",
        "-n",
        "3",
    ]
    assert main([*sample, "--steps", "20", "--scale", "3", "--out", str(tmp_path / "s")]) == 0
    for k in range(3):
        with (
            Image.open(tmp_path / "s" / f"{k:04d}.png") as one,
            Image.open(tmp_path / "run" / "prior" / f"{k:04d}.png") as two,
        ):
            assert one.tobytes() == two.tobytes()
    broken = tmp_path / "run" / "prior" / "0001.png"
    wanted = broken.read_bytes()
    broken.unlink()
    assert main([*lora(base, tmp_path / "run", *flags), "--resume"]) == 0
    assert broken.read_bytes() == wanted


def test_samples_on_the_way_change_nothing(base, tmp_path):
    flags = ["--dreambooth", "stripes that ring", "--sample-every", "0", "--text-encoder"]
    for out, more in (("with", []), ("without", ["--no-samples"])):
        assert main([*lora(base, tmp_path / out, *flags), *more]) == 0
    assert (tmp_path / "with" / "samples" / "step-000006.png").is_file()
    one, two = (
        read_tensors(tmp_path / it / "checkpoint-6" / "network.safetensors") for it in ("with", "without")
    )
    assert any(name.startswith("text_encoder.") for name in one)
    assert all(torch.equal(one[name], two[name]) for name in one)
    sampled(tmp_path / "with", tmp_path / "s")


def test_a_base_that_changed_or_went_is_said(base, tmp_path, capsys):
    shutil.copytree(base / "base", tmp_path / "base")
    data = ["--base", str(tmp_path / "base"), "--data", str(base / "rings"), "--dreambooth", "rings"]
    assert main(["train", "lora", *TUNED, *data, "--out", str(tmp_path / "run")]) == 0
    run = str(tmp_path / "run")
    sample = ["sample", "image", "--checkpoint", run, "-n", "1", "--out", str(tmp_path / "x")]
    shutil.copytree(tmp_path / "base", tmp_path / "kept")
    shutil.rmtree(tmp_path / "base")
    assert main(sample) == 2
    assert "put that model there again" in capsys.readouterr().err
    more = [*SMALL, "--data", str(base / "stripes"), *WORDS, "--seed", "1", "--out", str(tmp_path / "base")]
    assert main(["train", "image", *BASE, *more]) == 0
    capsys.readouterr()
    assert main(sample) == 2
    assert "trained on other weights than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--base", ""], "--base: give the model to tune"),
        (["--base", "fashion-mnist"], "fashion-mnist was trained without captions and reads no prompts"),
        (["--data", ""], "--data: give the folder of the pictures"),
        (["--data", "EMPTY"], "EMPTY"),
        (["--base", "RUN"], "is tuned already; give its base"),
        (["--prior", "a cat", "--dreambooth", ""], "give --dreambooth, the prompt of the pictures"),
        (["--prior-weight", "2"], "are about --prior"),
        (["--captions", "txt"], "leave it or --captions out"),
        (["--dreambooth", ""], "no captions"),
        (["--batch-size", "0"], "--batch-size of this training must be at least 1"),
        (["--size", "9"], "sides must be multiples of"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(base, tmp_path, monkeypatch, capsys, flags, error):
    (tmp_path / "EMPTY").mkdir()
    shutil.copytree(base / "run", tmp_path / "RUN")
    monkeypatch.chdir(tmp_path)
    assert main([*lora(base, tmp_path / "new", "--dreambooth", "rings"), *flags]) == 2
    said = capsys.readouterr().err
    assert error in said and said.count("\n") == 1, said


def test_a_lora_of_another_base_is_refused(base, tmp_path, capsys):
    more = [*SMALL, "--width", "16", "--data", str(base / "stripes"), *WORDS, "--out", str(tmp_path / "wide")]
    assert main(["train", "image", *BASE, *more]) == 0
    file = base / "run" / "lora-kohya.safetensors"
    sample = ["sample", "image", "--checkpoint", str(tmp_path / "wide"), "--lora", str(file), "-n", "1"]
    capsys.readouterr()
    assert main([*sample, "--out", str(tmp_path / "x")]) == 2
    assert "LoRA for another base" in capsys.readouterr().err

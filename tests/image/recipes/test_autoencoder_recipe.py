"""Autoencoders by the commands: train, resume bit for bit, load, score; and what is refused in one line."""

import json
import re
import shutil
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.latents.latent import Latents
from unveil.loading import load

TINY = split(
    "train autoencoder --preset tiny --width 8 --groups 4 --latent 3 --batch-size 4 --warmup 2 --device cpu "
    "--adversarial 0.5 --discriminator-width 4 --save-every 3 --keep 0 --hold-out 0.2"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Pictures of coloured squares, and a run whose discriminator begins after four steps."""
    folder, rng = tmp_path_factory.mktemp("autoencoder"), np.random.default_rng(0)
    images = np.full((40, 16, 16, 3), 255, np.uint8)
    for image in images:
        y, x = rng.integers(0, 8, 2)
        image[y : y + 8, x : x + 8] = rng.integers(0, 255, 3)
    np.savez(folder / "squares.npz", images=images)
    flags = ["--data", str(folder / "squares.npz"), "--adversarial-from", "4", "--steps", "9"]
    assert main([*TINY, *flags, "--log", "none", "--out", str(folder / "run")]) == 0
    return folder


def flags(base: Path, out: Path) -> list[str]:
    return [*TINY, "--data", str(base / "squares.npz"), "--adversarial-from", "4", "--out", str(out)]


def said(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_run_holds_what_it_was_made_for_and_pairs_of_pictures(base):
    config = json.loads((base / "run" / "config.json").read_text())
    assert (config["recipe"], config["size"], config["channels"], config["images"]) == (
        "autoencoder",
        16,
        3,
        32,
    )
    with Image.open(base / "run" / "samples" / "step-000009.png") as picture:
        assert picture.size[0] > picture.size[1] > 128  # eight columns, two rows of 64 pixels
    records = [json.loads(line) for line in (base / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"l1", "psnr", "kl", "discriminator", "adaptive_weight"} <= set(records[-1])
    assert "perceptual" not in records[-1]  # without SqueezeNet's weights
    assert json.loads((base / "run" / "record.json").read_text())["recipe"] == "train autoencoder"


@pytest.mark.parametrize("step", [3, 6])
def test_a_killed_run_goes_on_bit_for_bit_with_its_discriminator(base, step, tmp_path, capsys):
    """Before its discriminator begins, which has no state in the optimizer then, and after."""
    shutil.copytree(base / "run", tmp_path / "run")
    for later in (9, 6):
        if later > step:
            shutil.rmtree(tmp_path / "run" / f"checkpoint-{later}")
    assert main([*flags(base, tmp_path / "run"), "--steps", "9", "--resume"]) == 0
    for name in ("network", "ema", "optimizer"):
        file = f"checkpoint-9/{name}.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (base / "run" / file).read_bytes(), name
    early, late = (load_file(base / "run" / f"checkpoint-{k}" / "optimizer.safetensors") for k in (3, 9))
    assert len(early) < len(late)
    weights = load_file(base / "run" / "checkpoint-9" / "ema.safetensors")
    assert {name.split(".")[0] for name in weights} == {"network", "discriminator", "scale", "batches"}
    assert int(weights["batches"]) == 9


def test_a_loaded_run_encodes_to_unit_variance_and_decodes(base, generator):
    latents = load(base / "run", "cpu")
    assert isinstance(latents, Latents) and not latents.training
    assert (latents.factor, latents.channels, latents.colours) == (4, 3, 3)
    with np.load(base / "squares.npz") as stored:
        x = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    with torch.no_grad():
        z = latents.encode(x, generator)
        assert z.shape == (40, 3, 4, 4) and latents.decode(z).shape == x.shape
    assert 0.7 < float(z.std()) < 1.4
    with pytest.raises(TypeError, match="an autoencoder takes no settings, got steps; leave them out"):
        load(base / "run", "cpu", steps=3)


def test_a_packed_run_has_no_discriminator_and_is_the_same_in_half_precision(base, tmp_path):
    scores, command = (
        str(tmp_path / "scores.json"),
        ["eval", "autoencoder", "--checkpoint", str(base / "run")],
    )
    assert main([*command, "--device", "cpu", "--json", scores]) == 0
    words = ["weights", "pack", "--run", str(base / "run"), "--name", "squares", "--into", str(tmp_path)]
    assert main([*words, "--results", scores]) == 0
    stored = load_file(tmp_path / "squares" / "weights.safetensors")
    assert {name.split(".")[0] for name in stored} == {"network", "scale"}
    assert stored["scale"].dtype == torch.float32
    small, whole = load(tmp_path / "squares", "cpu"), load(base / "run", "cpu")
    assert torch.equal(small.scale, whole.scale)
    x = torch.zeros(1, 3, 8, 8)
    torch.testing.assert_close(small.encode(x), whole.encode(x), rtol=0.01, atol=0.01)
    card = (tmp_path / "squares" / "card.md").read_text()
    assert "codes are 4 x 4 x 3" in card and "--adversarial-from 4" in card and "| psnr_mean |" in card


def test_scores_have_a_reference_and_pictures(base, tmp_path):
    command = ["eval", "autoencoder", "--checkpoint", str(base / "run"), "--device", "cpu"]
    common = [*command, "--out", str(tmp_path / "pairs.png"), "--json", str(tmp_path / "scores.json")]
    assert main(common) == 0
    result = json.loads((tmp_path / "scores.json").read_text())
    metrics = result["metrics"]
    assert metrics["n"] == 8 and metrics["psnr_min"] <= metrics["psnr_mean"]
    assert (
        "held-out images; 16 x 16 x 3 numbers as 4 x 4 x 3; means of the codes; features: pixels"
        in (result["protocol"])
    )
    assert 10.0 < result["reference"]["shrunk and enlarged"]["psnr_mean"] < 40.0
    with Image.open(tmp_path / "pairs.png") as picture:
        assert picture.mode == "RGB"
    assert main([*common, "--sampled", "--data", str(base / "squares.npz")]) == 0
    again = json.loads((tmp_path / "scores.json").read_text())
    assert "random codes" in again["protocol"] and again["metrics"]["psnr_mean"] != metrics["psnr_mean"]


def test_the_loss_falls(base, tmp_path):
    """A hundred steps without a discriminator halve the error."""
    plain = [*flags(base, tmp_path / "run"), "--adversarial", "0", "--learning-rate", "5e-3"]
    assert main([*plain, "--steps", "120", "--save-every", "120", "--no-samples"]) == 0
    assert not (tmp_path / "run" / "samples").exists()
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    first = json.loads((base / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["l1"] < 0.5 * first["l1"] and "discriminator" not in last


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--multiples 1 1 1 1 1",
            r"the images are 16 x 16, but the autoencoder divides sides by 32; give --size 32",
        ),
        ("--groups 5", r"--groups 5 must divide the channels of every level, and --width 8 times 1 is 8"),
        ("--batch-size 0", r"--batch-size of an autoencoder must be at least 1, got 0"),
        ("--compile", r"--compile: the adaptive weight .*; leave --compile out, or give --adversarial 0"),
        ("--kl -1", r"kl"),
        ("--data nowhere.npz", r"nowhere.npz: no such file or folder"),
        ("--preset huge", r"huge"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(base, words, message, tmp_path, capsys):
    assert main([*flags(base, tmp_path / "run"), *split(words)]) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(message, error) and len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "config.json").exists()


def test_other_losses_cannot_go_on_in_a_run(base, capsys):
    assert main([*flags(base, base / "run"), "--steps", "12", "--kl", "0.1", "--resume"]) == 2
    assert "was started with --kl 1e-06, not 0.1; to go on give --kl 1e-06" in said(capsys)


def test_damaged_runs_and_others_are_refused_in_one_line(base, tmp_path, capsys):
    shutil.copytree(base / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-[36]"))
    config = tmp_path / "run" / "config.json"
    described = json.loads(config.read_text())
    for change in ({"latent": "4"}, {"multiples": 3}, {"groups": 7}, {"adversarial": None}, {"width": -8}):
        config.write_text(json.dumps(described | change))
        with pytest.raises(UnveilError, match=r"config\.json: not a config of unveil"):
            load(tmp_path / "run", "cpu")
    config.write_text(json.dumps(described | {"latent": 4}))
    with pytest.raises(UnveilError, match="has shape"):
        load(tmp_path / "run", "cpu")
    config.write_text(json.dumps(described))
    (tmp_path / "run" / "checkpoint-9" / "ema.safetensors").write_bytes(b"{}")
    with pytest.raises(UnveilError, match="missing or damaged"):
        load(tmp_path / "run", "cpu")
    assert main(["eval", "autoencoder", "--checkpoint", "taef2", "--data", str(base / "squares.npz")]) == 2
    assert "TAEF2 needs models/taef2_encoder.npz" in said(capsys)
    with pytest.raises(UnveilError, match="TAEF2 needs"):
        load("taef2", "cpu")
    assert main(["sample", "image", "--checkpoint", str(base / "run")]) == 2
    assert "was trained by recipe 'autoencoder', but 'image' is needed" in said(capsys)

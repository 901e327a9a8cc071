"""Full fine-tuning: a training that starts from a model of text, or of latents, keeps its vocabulary, encoder
and autoencoder."""

import json
import shutil
from pathlib import Path
from shlex import split

import pytest
import torch
from stripes import SMALL, WORDS, write_stripes

from unveil.cli import main
from unveil.loading import load

BASE = split("--preset tiny --bfloat16 False --batch-size 8 --warmup 2 --save-every 3 --no-samples --steps 3")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Stripes with captions, a run on them, and the same stripes with other words."""
    folder = tmp_path_factory.mktemp("start")
    stripes = write_stripes(folder)
    shutil.copytree(stripes, folder / "other")
    for place, text in ((stripes, "stripes that {}"), (folder / "other", "new stripes {}")):
        for file in place.rglob("*.png"):
            file.with_suffix(".txt").write_text(text.format(file.parent.name))
    flags = ["--data", str(stripes), *WORDS, "--out", str(folder / "base")]
    assert main(["train", "image", *BASE, *SMALL, *flags]) == 0
    return folder


def tuned(base: Path, out: Path, *flags: str) -> list[str]:
    data = ["--data", str(base / "other"), "--start-from", str(base / "base"), "--captions", "txt"]
    return ["train", "image", *BASE, "--device", "cpu", *data, *flags, "--out", str(out)]


def test_the_training_begins_with_the_weights_and_the_words(base, tmp_path):
    assert main(tuned(base, tmp_path / "run", "--learning-rate", "1e-9")) == 0
    before, after = load(base / "base", "cpu"), load(tmp_path / "run", "cpu")
    assert before.text is not None and after.text is not None
    assert before.text.tokenizer == after.text.tokenizer
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight, atol=1e-6, rtol=0)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["text_width"], config["text_length"], config["captions"]) == (8, 6, "txt")


def test_it_resumes_without_the_model_it_began_with(base, tmp_path):
    shutil.copytree(base / "base", tmp_path / "base")
    flags = ["--start-from", str(tmp_path / "base"), "--save-every", "2", "--steps", "2"]
    assert main(tuned(base, tmp_path / "run", *flags)) == 0
    shutil.rmtree(tmp_path / "base")
    assert main([*tuned(base, tmp_path / "run", *flags), "--steps", "4", "--resume"]) == 0


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--captions", ""], "reads prompts; give --captions"),
        (["--text-width", "16"], "leave --text-width out"),
        (["--encoder", "minilm"], "leave --encoder out"),
        (["--start-from", "fashion-mnist"], "reads no prompts; leave out --captions"),
    ],
)
def test_another_text_side_is_refused(base, tmp_path, capsys, flags, error):
    assert main([*tuned(base, tmp_path / "run"), *flags]) == 2
    assert error in capsys.readouterr().err


def test_latents_are_those_of_the_start(base, tmp_path, capsys):
    small = split("--preset tiny --width 8 --groups 4 --steps 3 --save-every 3 --bfloat16 False --device cpu")
    small += ["--data", str(base / "stripes"), "--no-samples", "--perceptual", "0"]
    for seed, name in enumerate(("ae", "another")):
        out = ["--out", str(tmp_path / name), "--seed", str(seed)]
        assert main(["train", "autoencoder", *small, *out]) == 0
    flags = split("--width 8 --multiples 1 --groups 4 --attention 2 --diffusion-steps 25 --device cpu")
    run = ["--data", str(base / "stripes"), "--latent", str(tmp_path / "ae"), "--out", str(tmp_path / "base")]
    assert main(["train", "image", *BASE, *flags, *run]) == 0
    data = ["--data", str(base / "other"), "--start-from", str(tmp_path / "base"), "--device", "cpu"]
    assert main(["train", "image", *BASE, *data, "--out", str(tmp_path / "run")]) == 0
    one, two = (load(tmp_path / it, "cpu") for it in ("base", "run"))
    assert one.latent is not None and two.latent is not None
    for name, weight in one.latent.state_dict().items():
        assert torch.equal(two.latent.state_dict()[name], weight)
    before, after = (json.loads((tmp_path / it / "config.json").read_text()) for it in ("base", "run"))
    assert before["min_snr"] == after["min_snr"] and before["predicts"] == after["predicts"] == "v"
    named = ["--latent", str(tmp_path / "ae"), "--out", str(tmp_path / "named")]
    assert main(["train", "image", *BASE, *data, *named]) == 0  # the same one, said once more
    named = ["--latent", str(tmp_path / "another"), "--out", str(tmp_path / "refused")]
    assert main(["train", "image", *BASE, *data, *named]) == 2
    assert "was trained on the codes of another autoencoder" in capsys.readouterr().err

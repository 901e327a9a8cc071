"""Files of image commands: somebody else's are never replaced, and folders as people have them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unveil.cli import main

TINY = ["--preset", "tiny", "--width", "8", "--multiples", "1", "2", "--groups", "4", "--attention", "4", "--batch-size", "4"]
TINY += ["--diffusion-steps", "25", "--warmup", "1", "--device", "cpu", "--steps", "2"]


def save(path: Path, value: int = 9, mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).convert(mode).save(path)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Twelve classes in numbered folders, and a run on them."""
    folder = tmp_path_factory.mktemp("files")
    for k in range(24):
        save(folder / "data" / str(k % 12 + 1) / f"{k}.png", 10 * k)
    assert (
        main(["train", "image", *TINY, "--data", str(folder / "data"), "--classes", "--hold-out", "0", "--out", str(folder / "run")]) == 0
    )
    return folder


def refused(capsys, command: list[str], *parts: str) -> None:
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in parts), error


@pytest.mark.parametrize("name", ["grid.png", "0000.png", "0001.png", "denoising.gif"])
def test_samples_do_not_replace_somebody_elses_files(base, tmp_path, capsys, name):
    own = save(tmp_path / "mine" / name)
    before = own.read_bytes()
    flags = ["sample", "image", "--checkpoint", str(base / "run"), "-n", "2", "--steps", "2", "--device", "cpu", "--watch"]
    refused(capsys, [*flags, "--out", str(own.parent)], f"{own} exists and was not made by unveil")
    assert [file.name for file in own.parent.iterdir()] == [name] and own.read_bytes() == before
    own.rename(own.with_name("0002.png"))  # not written by -n 2
    for _ in range(2):  # and ours are
        assert main([*flags, "--out", str(own.parent)]) == 0
    assert own.with_name("0002.png").read_bytes() == before and len(list(own.parent.iterdir())) == 5


@pytest.mark.parametrize("name", ["images.png", "images.gif"])
def test_the_demo_and_json_do_not_replace_somebody_elses_files(base, tmp_path, capsys, name):
    own = save(tmp_path / "mine" / name)
    before = own.read_bytes()
    command = [
        "demo",
        "image",
        "--checkpoint",
        str(base / "run"),
        "--rows",
        "1",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--out",
        str(own.parent),
    ]
    refused(capsys, command, f"{own} exists and was not made by unveil")
    assert own.read_bytes() == before and len(list(own.parent.iterdir())) == 1
    (tmp_path / "r.json").write_text('{"mine": 1}')
    sample = [
        "sample",
        "image",
        "--checkpoint",
        str(base / "run"),
        "-n",
        "1",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "s"),
    ]
    refused(capsys, [*sample, "--json", str(tmp_path / "r.json")], "was not made by unveil")
    assert (tmp_path / "r.json").read_text() == '{"mine": 1}' and not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "checkpoint-2/unet/weights.bin"])
@pytest.mark.parametrize("recipe", ["image", "classifier"])
def test_a_training_does_not_replace_somebody_elses_files(base, tmp_path, capsys, name, recipe):
    own = tmp_path / "mine" / name
    own.parent.mkdir(parents=True)
    own.write_text('{"mine": 1}')
    command = ["train", recipe, *TINY, "--data", str(base / "data"), "--out", str(tmp_path / "mine")]
    refused(capsys, command, "exists and was not made by unveil")
    assert own.read_text() == '{"mine": 1}'

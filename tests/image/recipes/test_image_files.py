"""Files of image commands: somebody else's are never replaced, and folders as people have them."""

import json
import re
import shlex
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from PIL import Image

from foreign_images import trained, written
from unveil.cli import main
from unveil.files.pictures import read_parameters, write_picture
from unveil.image.recipes.images import images_of
from unveil.image.recipes.sample import classes_of, numbered

TINY = ["--preset", "tiny", "--width", "8", "--multiples", "1", "2", "--groups", "4", "--batch-size", "4"]
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
        main(
            [
                "train",
                "image",
                *TINY,
                "--data",
                str(folder / "data"),
                "--classes",
                "--hold-out",
                "0",
                "--out",
                str(folder / "run"),
            ]
        )
        == 0
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
    flags = [
        "sample",
        "image",
        "--checkpoint",
        str(base / "run"),
        "-n",
        "2",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--watch",
    ]
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


def test_classes_are_said_by_name_and_counted_as_numbers(base, tmp_path, capsys):
    said = json.loads((base / "run" / "config.json").read_text())
    assert said["names"] == [str(k) for k in range(1, 13)]  # 2 before 10
    named = tmp_path / "named"
    copytree(base / "run", named)
    names = ["Cat", "dog", *said["names"][2:]]
    (named / "config.json").write_text(json.dumps(said | {"names": names}))
    flags = [
        "sample",
        "image",
        "--checkpoint",
        str(named),
        "-n",
        "2",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--scale",
        "2",
    ]
    assert numbered(["Cat", "DOG", 3, "12"], names) == (0, 1, 3, 11) and numbered(
        ["cat", "Dog"], ["cat", "Dog", "DOG"]
    ) == (0, 1)
    assert classes_of(["dog", "Cat"], 3, names).tolist() == [1, 0, 1]
    assert main([*flags, "--class", "Cat", "DOG", "--negative", "dog", "--out", str(tmp_path / "a")]) == 0
    assert "2 images of Cat, dog" in capsys.readouterr().out
    again = [
        "sample",
        "image",
        "--from-png",
        str(tmp_path / "a" / "grid.png"),
        "--out",
        str(tmp_path / "again"),
        "--device",
        "cpu",
    ]
    assert main(again) == 0
    assert (tmp_path / "again" / "0001.png").read_bytes() == (tmp_path / "a" / "0001.png").read_bytes()
    refused(
        capsys,
        [*flags, "--class", "doog"],
        "--class doog: no such class (did you mean dog?); there are Cat, dog, 3",
    )
    refused(capsys, [*flags, "--class", "0", "--negative", "bird"], "--negative bird: no such class")
    refused(capsys, [*flags, "--class", "12"], "--class 12: there are 0 .. 11, or by name: Cat, dog, 3")
    assert main([*flags, "--class", "3", "--out", str(tmp_path / "d")]) == 0
    assert "--class counts from 0: 3 is the class named 4" in capsys.readouterr().out


def test_a_run_of_before_keeps_its_numbers(base, tmp_path):
    """Classes were once numbered 1, 10, 11, 12, 2, ...: such a run goes on so, and is scored so."""
    old = tmp_path / "old"
    copytree(base / "run", old)
    said = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps(said | {"names": sorted(said["names"])}))
    again = [
        "train",
        "image",
        *TINY,
        "--data",
        str(base / "data"),
        "--classes",
        "--hold-out",
        "0",
        "--out",
        str(old),
        "--resume",
    ]
    assert main([*again, "--steps", "3"]) == 0
    assert json.loads((old / "config.json").read_text())["names"] == sorted(said["names"])
    images, _ = images_of(json.loads((old / "config.json").read_text()))
    ten = images.labels == sorted(said["names"]).index("10")
    assert sorted(images.pixels[ten, 0, 0, 0].tolist()) == [90, 210]  # files 9 and 21 of folder 10
    score = [
        "eval",
        "image",
        "--checkpoint",
        str(old),
        "--n",
        "8",
        "--steps",
        "2",
        "--extractor",
        "pixels",
        "--device",
        "cpu",
    ]
    assert main(score) == 0


@pytest.mark.parametrize("recipe", ["image", "classifier"])
def test_what_is_left_out_is_said(recipe, tmp_path, capsys):
    for k in range(8):
        save(tmp_path / "d" / "train" / "ab"[k % 2] / f"{k}.png")
    save(tmp_path / "d" / "val" / "a" / "9.png")
    (tmp_path / "d" / "train" / "a" / "Thumbs.db").write_bytes(b"?")
    (tmp_path / "d" / "train" / "a" / "x.png").write_bytes(b"?")
    command = [
        "train",
        recipe,
        *TINY,
        "--data",
        str(tmp_path / "d"),
        "--skip-corrupt",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(command) == 0
    error = capsys.readouterr().err
    assert (
        "val/ is held out, train/ trained on" in error
        and "left out 1 file that is no picture (1 .db)" in error
    )
    assert "left out 1 files that cannot be read: a/x.png" in error


def test_classes_are_refused_where_some_have_none(tmp_path, capsys):
    for name in ("k_1", "k_2", "plain", "l_3"):
        save(tmp_path / "d" / f"{name}.png")
    command = ["--data", str(tmp_path / "d"), "--hold-out", "0", "--out", str(tmp_path / "run")]
    refused(
        capsys,
        ["train", "image", *TINY, *command, "--classes"],
        "plain.png has no class",
        "leave --classes out",
    )
    refused(capsys, ["train", "classifier", *TINY, *command], "plain.png has no class", "needs at least two")
    assert main(["train", "image", *TINY, *command]) == 0


def next_lines(text: str) -> list[list[str]]:
    """The commands of image recipes that are printed after `next:`."""
    begins = (
        re.search(r"(sample|eval|train|demo) (image|classifier) .*", line)
        for line in text[text.index("next:") :].splitlines()
    )
    return [shlex.split(found[0]) for found in begins if found]


def runs(lines: list[list[str]], tmp_path: Path, **said: str) -> None:
    """Each of them ends well, made small: few steps and images, and what stands for a person's own."""
    for line in lines:
        words = [said.get(word, word) for word in line]
        small = {
            "sample": ["--steps", "2"],
            "eval": ["--steps", "2", "--extractor", "pixels"],
            "train": TINY,
        }[words[0]]
        if "--from-png" in words:
            small = []
        if "--out" not in words and words[0] != "eval":
            small = [*small, "--out", str(tmp_path / f"next-{len(list(tmp_path.iterdir()))}")]
        assert main([*words, *small, *([] if words[0] == "train" else ["--device", "cpu"])]) == 0, words


@pytest.mark.parametrize(
    ("recipe", "flags", "wanted"),
    [
        ("image", ["--classes"], "sample image --checkpoint"),
        ("image", ["--upsample", "2"], "--degrade"),
        ("classifier", ["--schedule", "linear"], "--classifier"),
        ("classifier", ["--schedule", "cosine"], "train image --data"),
        ("classifier", ["--clean"], "eval image"),
    ],
)
def test_the_next_line_of_a_training_runs_as_it_is_printed(
    base, tmp_path, capsys, monkeypatch, recipe, flags, wanted
):
    """With a model that fits, which is found beside the run, or else the training of one; on a folder that is
    cropped."""
    monkeypatch.chdir(tmp_path)
    copytree(base / "run", tmp_path / "a model")
    out = ["--data", str(base / "data"), "--hold-out", "0", "--out", str(tmp_path / "new run")]
    assert main(["train", recipe, *TINY, *flags, *out]) == 0
    said = capsys.readouterr().out
    assert wanted in said and ("--n 12" in said) == (wanted == "eval image")
    runs(next_lines(said), tmp_path)


def test_the_next_line_of_an_upsampler_of_an_array_scores_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    out = [
        "--data",
        str(tmp_path / "x.npz"),
        "--hold-out",
        "0.2",
        "--out",
        str(tmp_path / "up"),
        "--upsample",
        "2",
    ]
    assert main(["train", "image", *TINY, *out]) == 0
    lines = next_lines(capsys.readouterr().out)
    assert lines[0][:2] == ["eval", "image"] and lines[0][-2:] == ["--n", "8"]
    runs(lines, tmp_path)


def test_the_next_lines_of_samples_and_demo_run(base, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--checkpoint", str(base / "run"), "--steps", "2", "--device", "cpu"]
    assert main(["sample", "image", *flags, "-n", "2"]) == 0
    said = capsys.readouterr().out
    again = shlex.split(said.split("again: unveil ")[1])
    assert main([*again, "--out", "again", "--device", "cpu"]) == 0
    assert (tmp_path / "again" / "0001.png").read_bytes() == (tmp_path / "samples" / "0001.png").read_bytes()
    capsys.readouterr()
    assert main(["demo", "image", *flags, "--rows", "1"]) == 0
    lines = [line for line in next_lines(capsys.readouterr().out) if line[0] != "demo"]
    assert {line[0] for line in lines} == {"sample", "train"}
    runs(lines, tmp_path, FOLDER=str(base / "data"))


@pytest.mark.parametrize("name", ["plain", "conditional"])
def test_the_next_line_of_a_conversion_runs(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, said = written(name, tmp_path / "theirs")
    more = [word for flag, value in said.items() for word in (f"--{flag}", str(value))]
    assert main(["weights", "convert", str(path), "our run", *more]) == 0
    runs(next_lines(capsys.readouterr().out), tmp_path)


def test_a_conversion_never_takes_the_place_of_what_is_converted(tmp_path, capsys):
    out = trained(tmp_path)
    before = sorted(str(file) for file in out.rglob("*"))
    refused(
        capsys,
        ["weights", "convert", str(out / "checkpoint-500"), str(out)],
        "a folder above",
        "give another",
    )
    refused(capsys, ["weights", "convert", str(out), str(out)], "is what is converted")
    (tmp_path / "other" / "checkpoint-500" / "unet").mkdir(parents=True)
    refused(
        capsys,
        ["weights", "convert", str(out / "checkpoint-500"), str(tmp_path / "other")],
        "was not made by unveil",
    )
    assert sorted(str(file) for file in out.rglob("*")) == before


def test_flags_that_would_do_nothing_or_begin_with_dashes(base, tmp_path, capsys):
    score = ["eval", "image", "--checkpoint", str(base / "run"), "--n", "4", "--steps", "2"]
    refused(capsys, [*score, "--classifier-scale", "2"], "--classifier-scale needs --classifier")
    refused(capsys, [*score, "--interval", "0.2", "0.4"], "--interval needs guidance")
    refused(capsys, [*score, "--bits", "0", "--bits-variance", "small"], "--bits-variance needs --bits")
    (tmp_path / "x.pt").write_bytes(b"?")
    refused(capsys, ["weights", "inspect", str(tmp_path / "x.pt"), "--flags", "--num_heads 4"], "x.pt")
    assert "Missing value" not in capsys.readouterr().err
    for verb in (
        ["train", "image"],
        ["train", "maze"],
        ["sample", "image"],
        ["eval", "image"],
        ["train", "text"],
        ["train", "locomotion"],
    ):
        refused(capsys, [*verb, "--threads", "-3"], "--threads must be")
    small = save(tmp_path / "p" / "whole.png")
    up = ["--data", str(base / "data"), "--upsample", "2", "--hold-out", "0", "--out", str(tmp_path / "up")]
    assert main(["train", "image", *TINY, *up]) == 0
    enlarge = [
        "sample",
        "image",
        "--checkpoint",
        str(tmp_path / "up"),
        "--from",
        str(small),
        "--out",
        str(tmp_path / "s"),
    ]
    refused(
        capsys,
        enlarge,
        "is 8 x 8, but 4 x 4 is needed: small images are enlarged; give --fit, or --degrade to shrink whole ones",
    )


def test_a_picture_of_an_older_version_is_told(base, tmp_path, capsys):
    flags = [
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
    ]
    assert main([*flags, "--out", str(tmp_path / "a")]) == 0
    said = json.loads(read_parameters(tmp_path / "a" / "grid.png"))
    assert said.pop("drawn") == "by image"
    write_picture(tmp_path / "old.png", np.zeros((8, 8, 1), np.uint8), json.dumps(said))
    for name, told in (("old.png", True), ("a/grid.png", False)):
        capsys.readouterr()
        assert (
            main(
                [
                    "sample",
                    "image",
                    "--from-png",
                    str(tmp_path / name),
                    "--out",
                    str(tmp_path / "b"),
                    "--device",
                    "cpu",
                ]
            )
            == 0
        )
        assert ("made by an older version with other noise" in capsys.readouterr().out) == told

"""The commands on a few tiny pictures: train, resume, make, make again, score; and what is refused in one
line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stripes import SMALL, write_stripes

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.files.pictures import read_parameters, write_picture
from unveil.loading import load
from unveil.runs.device import enough_memory

TINY = ["--preset", "tiny", *SMALL, "--batch-size", "8", "--warmup", "2", "--save-every", "3", "--keep", "0"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder of stripes that lie or stand, and a run of each kind on it."""
    folder = tmp_path_factory.mktemp("image")
    data = ["--data", str(write_stripes(folder)), "--hold-out", "0.2", "--steps", "6"]
    for name, flags in (
        ("ddpm", ["--classes"]),
        ("iddpm", ["--method", "iddpm"]),
        ("edm", ["--method", "edm", "--classes"]),
    ):
        flags = [*flags, *data, "--out", str(folder / name)]
        assert main(["train", "image", *TINY, *flags]) == 0
    return folder


def written(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_run_says_what_it_was_trained_for(base):
    config = written(base / "iddpm" / "config.json")
    assert (config["schedule"], config["predicts"], config["learned_variance"], config["names"]) == (
        "cosine",
        "eps",
        True,
        [],
    )
    config = written(base / "ddpm" / "config.json")
    assert (config["schedule"], config["size"], config["channels"], config["images"]) == ("linear", 8, 1, 32)
    assert config["names"] == ["lie", "stand"] and config["null"] is True
    model = load(base / "ddpm", "cpu")
    assert (model.shape.classes, model.shape.diffusion_steps) == (2, 25)
    with pytest.raises(TypeError, match="takes no settings"):
        load(base / "ddpm", "cpu", steps=3)


@pytest.mark.parametrize(
    ("run", "flags", "calls"),
    [
        ("ddpm", ["--class", "1", "--scale", "2", "--steps", "3"], 3),
        ("ddpm", ["--solver", "ddim", "--eta", "0.5", "--steps", "4", "--class=-1"], 4),
        ("iddpm", ["--solver", "ddpm", "--steps", "25"], 25),
        ("iddpm", ["--solver", "ddpm", "--respacing", "4,3"], 7),
        ("edm", ["--solver", "heun", "--steps", "3"], 5),
    ],
)
def test_pictures_are_made_again_bit_for_bit_from_any_of_them(base, run, flags, calls, tmp_path):
    common = [
        "sample",
        "image",
        "--checkpoint",
        str(base / run),
        "-n",
        "5",
        "--batch-size",
        "3",
        "--device",
        "cpu",
        "--seed",
        "7",
    ]
    assert main([*common, *flags, "--out", str(tmp_path / "a"), "--json", str(tmp_path / "a.json")]) == 0
    assert written(tmp_path / "a.json")["metrics"]["nfe"] == calls
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "0000.png",
        "0001.png",
        "0002.png",
        "0003.png",
        "0004.png",
        "grid.png",
    ]
    again = [
        "sample",
        "image",
        "--from-png",
        str(tmp_path / "a" / "0002.png"),
        "--out",
        str(tmp_path / "b"),
        "--device",
        "cpu",
    ]
    assert main([*again, "--watch"]) == 0
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    with Image.open(tmp_path / "b" / "denoising.gif") as animation:
        assert animation.n_frames == calls + 1 or animation.n_frames > 1  # equal frames are joined
    assert main([*common[:-1], "8", *flags, "--out", str(tmp_path / "c")]) == 0
    assert (tmp_path / "a" / "0002.png").read_bytes() != (tmp_path / "c" / "0002.png").read_bytes()


def test_other_weights_do_not_repeat_a_picture(base, tmp_path, capsys):
    from shutil import copytree

    copytree(base / "ddpm", tmp_path / "run")
    common = [
        "sample",
        "image",
        "--steps",
        "2",
        "-n",
        "1",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "a"),
        "--checkpoint",
    ]
    assert main([*common, str(tmp_path / "run")]) == 0
    (tmp_path / "run" / "checkpoint-6").rename(tmp_path / "away")
    assert (
        main(
            ["sample", "image", "--from-png", str(tmp_path / "a" / "grid.png"), "--out", str(tmp_path / "b")]
        )
        == 2
    )
    assert "made by other weights or" in capsys.readouterr().err


def test_parameters_that_were_edited_are_refused_and_the_device_is_kept(base, tmp_path, capsys):
    out = tmp_path / "a"
    assert (
        main(
            [
                "sample",
                "image",
                "--checkpoint",
                str(base / "ddpm"),
                "-n",
                "3",
                "--steps",
                "2",
                "--device",
                "cpu",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    said = json.loads(read_parameters(out / "grid.png"))
    assert said["device"] == "cpu"
    pixels = np.zeros((8, 8, 1), np.uint8)
    for change in (
        {"steps": "2"},
        {"label": [0.5]},
        {"solver": "rk4"},
        {"interval": [0.0]},
        {"n": True},
        {"scale": None},
    ):
        write_picture(tmp_path / "edited.png", pixels, json.dumps(said | change))
        capsys.readouterr()
        assert (
            main(
                ["sample", "image", "--from-png", str(tmp_path / "edited.png"), "--out", str(tmp_path / "b")]
            )
            == 2
        )
        error, name = capsys.readouterr().err, next(iter(change))
        assert "its settings are not those of unveil sample image (" in error
        assert (
            f"-{name} must be" in error or f"parameter '{name}'" in error
        )  # the tests check types on every call


def test_pictures_of_an_earlier_run_do_not_stay_behind(base, tmp_path, capsys):
    """Ours go, another's stay, and what is given is not replaced."""
    flags = ["sample", "image", "--checkpoint", str(base / "ddpm"), "--steps", "2", "--device", "cpu"]
    assert main([*flags, "-n", "3", "--watch", "--out", str(tmp_path / "a")]) == 0
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a" / "2024.png")
    assert main([*flags, "-n", "2", "--out", str(tmp_path / "a")]) == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "0000.png",
        "0001.png",
        "2024.png",
        "grid.png",
    ]
    again = [
        "-n",
        "1",
        "--from",
        str(tmp_path / "a" / "0000.png"),
        "--task",
        "img2img",
        "--out",
        str(tmp_path / "a"),
    ]
    capsys.readouterr()
    assert main([*flags, *again]) == 2 and "give another --out" in capsys.readouterr().err
    assert (tmp_path / "a" / "0001.png").is_file()


def test_attention_that_only_the_preset_asked_for_gives_way_to_the_size_of_the_images(base, tmp_path):
    data = [
        "--data",
        str(base / "stripes"),
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        "--diffusion-steps",
        "25",
    ]
    assert main(["train", "image", "--preset", "tiny", *data, "--out", str(tmp_path / "run")]) == 0
    assert written(tmp_path / "run" / "config.json")["attention"] == []


def test_scores_name_their_extractor_and_stand_beside_references(base, tmp_path, capsys):
    out = tmp_path / "e.json"
    flags = ["--n", "8", "--steps", "3", "--extractor", "pixels", "--device", "cpu", "--json", str(out)]
    assert main(["eval", "image", "--checkpoint", str(base / "ddpm"), *flags]) == 0
    result = written(out)
    wanted = {
        "frechet_distance",
        "kernel_distance",
        "precision",
        "recall",
        "memorised_share",
        "bits_per_dim",
        "class_hit_rate",
        "images_per_second",
        "nfe",
        "n",
    }
    assert wanted <= set(result["metrics"]) and "features: pixels" in result["protocol"]
    assert "hits by a linear classifier of these features" in result["protocol"]
    assert result["reference"]["held_out"]["class_hit_rate"] > 0.8
    assert (
        set(result["reference"]) == {"floor", "gaussian", "held_out"}
        and 1.0 < result["metrics"]["bits_per_dim"] < 60.0
    )
    assert result["reference"]["floor"]["frechet_distance"] < result["metrics"]["frechet_distance"]
    assert "FID" not in capsys.readouterr().out


def test_a_packaged_model_makes_the_same_pictures_but_for_rounding(base, tmp_path, capsys):
    out = tmp_path / "e.json"
    score = [
        "eval",
        "image",
        "--checkpoint",
        str(base / "edm"),
        "--n",
        "6",
        "--steps",
        "2",
        "--extractor",
        "pixels",
        "--json",
        str(out),
    ]
    assert main([*score, "--device", "cpu"]) == 0
    pack = [
        "weights",
        "pack",
        "--run",
        str(base / "edm"),
        "--name",
        "stripes",
        "--into",
        str(tmp_path),
        "--results",
        str(out),
    ]
    assert main(pack) == 0
    card = (tmp_path / "stripes" / "card.md").read_text()
    assert (
        "--method edm" in card
        and "--attention 4 " in card
        and "| frechet_distance |" in card
        and "lie, stand" in card
        and str(base) not in card
    )
    pictures = []
    for name, folder in (("a", base / "edm"), ("b", tmp_path / "stripes")):
        flags = ["-n", "2", "--steps", "3", "--device", "cpu", "--out", str(tmp_path / name)]
        assert main(["sample", "image", "--checkpoint", str(folder), *flags]) == 0
        with Image.open(tmp_path / name / "0001.png") as picture:
            pictures.append(np.asarray(picture).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 2
    assert main(["eval", "image", "--checkpoint", str(tmp_path / "stripes"), "--n", "6"]) == 2
    assert "give --data" in capsys.readouterr().err
    described = written(base / "edm" / "config.json")
    (base / "edm" / "config.json").write_text(json.dumps(described | {"styles": ["openmoji"]}))
    assert main(pack) == 2 and "share-alike" in capsys.readouterr().err
    (base / "edm" / "config.json").write_text(json.dumps(described))


def test_what_runs_out_of_memory_is_told_from_other_errors():
    with pytest.raises(UnveilError, match="out of memory; lower `batch_size`"), enough_memory():
        torch.empty(2**58)
    with pytest.raises(UnveilError, match="out of memory; lower --n"), enough_memory("lower --n"):
        np.empty(2**58)
    with pytest.raises(RuntimeError, match="size"), enough_memory():
        torch.ones(2) @ torch.ones(3)


def test_a_run_resumes_but_not_as_another(base, capsys):
    again = [
        "train",
        "image",
        *TINY,
        "--classes",
        "--data",
        str(base / "stripes"),
        "--out",
        str(base / "ddpm"),
        "--hold-out",
        "0.2",
    ]
    assert main([*again, "--steps", "7", "--resume", "--method", "v"]) == 2
    assert "was started with --method ddpm" in capsys.readouterr().err
    assert main([*again, "--steps", "7", "--resume"]) == 0
    assert (base / "ddpm" / "checkpoint-7").is_dir()


@pytest.mark.parametrize(
    "flags",
    [
        ["--method", "flow"],
        ["--method", "v", "--min-snr", "5", "--flip"],
        ["--method", "iddpm", "--loss", "vlb"],
        ["--big-gan", "--dropout", "0.1"],
    ],
)
def test_every_method_trains_and_what_it_makes_is_sampled(base, flags, tmp_path):
    common = ["--data", str(base / "stripes"), "--out", str(tmp_path / "run"), "--steps", "2"]
    assert main(["train", "image", *TINY, *common, *flags]) == 0
    assert (
        main(
            [
                "sample",
                "image",
                "--checkpoint",
                str(tmp_path / "run"),
                "-n",
                "2",
                "--steps",
                "2",
                "--out",
                str(tmp_path / "s"),
            ]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sample", "--class", "2"], "--class 2: there are 0 .. 1"),
        (["sample", "--steps", "26", "--solver", "ddpm"], "trained with 25 steps"),
        (["sample", "--steps", "26"], "trained with 25 steps"),
        (["sample", "-n", "0"], "-n must be a whole number of at least 1"),
        (["sample", "--from-png", "nowhere.png"], "nowhere.png: cannot be read (No such file"),
        (["sample", "--scale", "nan", "--class", "1"], "--scale must be a finite number of at least 0"),
        (["sample", "--scale", "2", "--class", "-1"], "give --class"),
        (["sample", "--checkpoint", "IDDPM", "--scale", "2"], "trained without --classes"),
        (["sample", "--checkpoint", "IDDPM", "--class", "0"], "trained without --classes"),
        (["eval", "--n", "17"], "needs 34 training images"),
        (["eval", "--data", "nowhere"], "no such file or folder"),
        (["train", "--method", "dpm"], "unknown method 'dpm'"),
        (["train", "--attention", "5"], "the levels have 4, 2"),
        (["train", "--size", "4"], "is 8 x 8, but 4 x 4 is needed"),
        (["train", "--dropout", "1"], "--dropout must be a number of at least 0 and below 1"),
        (["train", "--loss", "hybrid"], "take simple or vlb"),
        (["train", "--method", "edm", "--loss", "vlb"], "need a table of steps"),
        (["sample", "--solver", "ddim", "--respacing", "9,x"], "must be counts such as"),
        (["sample", "--respacing", "5"], "--respacing 5 needs ddim or ddpm on a table"),
        (["train", "--steps", "0"], "--steps must be a whole number of at least 1"),
        (["train", "--method", "flow", "--predicts", "eps"], "begins where alpha is 0"),
        (
            ["train", "--stem", "4", "--attention", "2"],
            "such models make noise; take --predicts x0 --min-snr 5",
        ),
        (["sample", "--temperature", "0.5"], "--temperature needs --solver ddpm"),
        (["sample", "--rescale", "0.5"], "--rescale changes guided predictions"),
        (
            ["sample", "--interval", "0.8", "0.2", "--scale", "2", "--class", "1"],
            "two rising times within 0 .. 1",
        ),
        (
            ["sample", "--interval", "0.2", "1.5", "--scale", "2", "--class", "1"],
            "two rising times within 0 .. 1",
        ),
        (["sample", "--strength", "0.5"], "--strength needs --task img2img"),
        (["sample", "--classifier-scale", "2"], "--classifier-scale needs --classifier"),
        (["sample", "--threads", "-3"], "--threads must be a whole number of at least 0"),
        (["sample", "--steps", "0"], "--steps must be a whole number of at least 1, got 0"),
        (["sample", "--checkpoint", "STRIPES"], "unveil weights convert"),
        (
            ["eval", "--checkpoint", "EDM", "--bits", "4", "--n", "4"],
            "--bits 4: bits per dimension need a model with a table",
        ),
        (["train", "--width", "9"], "not a multiple of 4 groups"),
        (["train", "--fit", "crop"], "needs --size"),
        (["train", "--batch-size", "100000000000000"], "a step of --batch-size 100000000000000 needs about"),
        (["sample", "-n", "100000000000000", "--batch-size", "100000000000000"], "out of memory; lower -n"),
    ],
)
def test_mistakes_are_one_line(base, command, message, capsys, tmp_path):
    verb, *flags = [
        str(base / word.lower()) if word in ("IDDPM", "EDM", "STRIPES") else word for word in command
    ]
    if verb in ("sample", "eval") and "--checkpoint" not in flags:
        flags += ["--checkpoint", str(base / "ddpm")]
    if verb == "train":
        flags = [*TINY, "--data", str(base / "stripes"), *flags]
    flags += ["--out", str(tmp_path / "out")] if verb != "eval" else []
    assert main([verb, "image", *flags, "--device", "cpu"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len([line for line in error.splitlines() if line.startswith("unveil: ")]) == 1

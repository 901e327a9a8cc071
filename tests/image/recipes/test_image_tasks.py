"""The commands that begin from pictures or need a classifier, on a few tiny ones; and what of them is refused
in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stripes import SMALL, write_stripes

from unveil.cli import main
from unveil.loading import load

COMMON = [*SMALL, "--batch-size", "8", "--warmup", "2", "--save-every", "50"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Stripes that lie or stand, a model of them, one of no class, an upsampler, a classifier and a judge; a
    mask of the left half."""
    folder = tmp_path_factory.mktemp("tasks")
    data = ["--data", str(write_stripes(folder)), "--hold-out", "0.2"]
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.full((4, 4), 99, np.uint8)).save(folder / "small.png")
    Image.fromarray(np.dstack([np.full((8, 8), 99, np.uint8), mask, mask])).save(folder / "colour.png")
    for name, flags in (("model", ["--classes"]), ("free", []), ("up", ["--upsample", "2"])):
        out = ["--steps", "4", "--out", str(folder / name)]
        assert main(["train", "image", "--preset", "tiny", *COMMON, *data, *flags, *out]) == 0
    for name, flags, steps in (("guide", [], "4"), ("judge", ["--clean"], "50")):
        out = ["--steps", steps, "--out", str(folder / name)]
        assert main(["train", "classifier", "--preset", "tiny", *COMMON, *data, *flags, *out]) == 0
    return folder


def sample(base: Path, model: str, *flags: str, n: int = 2) -> int:
    return main(
        ["sample", "image", "--checkpoint", str(base / model), "-n", str(n), "--device", "cpu", *flags]
    )


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).copy()


def test_a_classifier_leads_any_model_and_its_weights_belong_to_the_picture(base, tmp_path, capsys):
    flags = ["--classifier", str(base / "guide"), "--class", "1", "--steps", "3"]
    for k, (model, more) in enumerate(
        [("free", []), ("model", ["--solver", "ddpm", "--classifier-form", "mean"])]
    ):
        assert sample(base, model, *flags, *more, "--out", str(tmp_path / f"{k}")) == 0
        assert (
            sample(
                base, model, *flags, *more, "--classifier-scale", "0", "--out", str(tmp_path / f"{k}-free")
            )
            == 0
        )
        assert (picture(tmp_path / f"{k}" / "0000.png") != picture(tmp_path / f"{k}-free" / "0000.png")).any()
    again = ["sample", "image", "--from-png", str(tmp_path / "0" / "grid.png"), "--device", "cpu", "--out"]
    assert main([*again, str(tmp_path / "again")]) == 0
    assert (picture(tmp_path / "again" / "0001.png") == picture(tmp_path / "0" / "0001.png")).all()
    said = json.loads((base / "guide" / "config.json").read_text())
    assert said["recipe"] == "classifier" and said["names"] == ["lie", "stand"] and said["clean"] is False
    assert load(base / "judge", "cpu").clean
    capsys.readouterr()
    assert (
        main(["weights", "pack", "--run", str(base / "judge"), "--name", "x", "--into", str(tmp_path)]) == 2
    )
    assert "is a classifier" in capsys.readouterr().err


def test_hits_are_counted_by_a_judge_beside_its_accuracy(base, tmp_path):
    out = tmp_path / "e.json"
    judged = [
        "--judge",
        str(base / "judge"),
        "--extractor",
        "judge",
        "--n",
        "8",
        "--steps",
        "3",
        "--device",
        "cpu",
        "--json",
        str(out),
    ]
    assert (
        main(
            [
                "eval",
                "image",
                "--checkpoint",
                str(base / "free"),
                *judged,
                "--classifier",
                str(base / "guide"),
            ]
        )
        == 0
    )
    result = json.loads(out.read_text())
    assert (
        0.0 <= result["metrics"]["class_hit_rate"] <= 1.0
        and result["reference"]["held_out"]["class_hit_rate"] > 0.8
    )
    assert (
        "features: classifier judge, trained on the same data" in result["protocol"]
        and "classifier scale 1.0 on the belief" in result["protocol"]
    )
    assert result["reference"]["floor"]["frechet_distance"] < result["metrics"]["frechet_distance"]


def test_pictures_are_changed_filled_and_found_again(base, tmp_path):
    one, other = (str(next((base / "stripes" / kind).iterdir())) for kind in ("lie", "stand"))
    assert (
        sample(
            base,
            "free",
            "--from",
            one,
            "--task",
            "img2img",
            "--strength",
            "0.1",
            "--steps",
            "25",
            "--out",
            str(tmp_path / "a"),
        )
        == 0
    )
    assert np.abs(picture(tmp_path / "a" / "0000.png").astype(int) - picture(Path(one))).mean() < 60
    fill = [
        "--task",
        "inpaint",
        "--mask",
        str(base / "mask.png"),
        "--jumps",
        "2",
        "--jump-length",
        "2",
        "--solver",
        "ddpm",
        "--steps",
        "4",
    ]
    assert sample(base, "model", "--from", one, *fill, "--out", str(tmp_path / "b")) == 0
    made = picture(tmp_path / "b" / "0001.png")
    assert (made[:, 4:] == picture(Path(one))[:, 4:]).all() and (
        made[:, :4] != picture(Path(one))[:, :4]
    ).any()
    ddim, result = (
        ["--solver", "ddim", "--steps", "25", "--no-clip", "--json", str(tmp_path / "c.json")],
        tmp_path / "c.json",
    )
    assert (
        sample(
            base, "free", "--from", one, other, "--task", "reconstruct", *ddim, "--out", str(tmp_path / "c")
        )
        == 0
    )
    assert json.loads(result.read_text())["metrics"]["psnr_mean"] > 15.0
    assert (
        sample(
            base,
            "free",
            "--from",
            one,
            other,
            "--task",
            "interpolate",
            *ddim,
            "--out",
            str(tmp_path / "d"),
            n=3,
        )
        == 0
    )
    for k, end in ((0, "0000"), (2, "0001")):  # its ends are the pictures found again
        difference = picture(tmp_path / "d" / f"000{k}.png").astype(int) - picture(
            tmp_path / "c" / f"{end}.png"
        )
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("what", "more"), [("denoise", []), ("inpaint", ["--mask", "MASK"]), ("deblur", []), ("superres", [])]
)
def test_restored_pictures_are_measured_beside_methods_without_learning(base, what, more, tmp_path):
    flags = [str(base / "mask.png") if word == "MASK" else word for word in more]
    out = ["--json", str(tmp_path / "r.json"), "--out", str(tmp_path / "r"), "--steps", "4", "--noise", "10"]
    assert (
        sample(
            base, "free", "--from", str(base / "stripes"), "--restore", what, "--degrade", *flags, *out, n=4
        )
        == 0
    )
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["metrics"]["psnr_mean"] > 3.0 and result["reference"]["median"]["psnr_mean"] > 3.0
    assert ("bicubic" in result["reference"]) == (
        what == "superres"
    ) and f"restore {what}, noise 10" in result["protocol"]


def test_an_upsampler_enlarges_given_pictures(base, tmp_path):
    assert (
        sample(base, "up", "--from", str(base / "small.png"), "--steps", "3", "--out", str(tmp_path / "a"))
        == 0
    )
    assert picture(tmp_path / "a" / "0000.png").shape == (8, 8)
    more = ["--degrade", "--json", str(tmp_path / "u.json"), "--steps", "3", "--out", str(tmp_path / "b")]
    assert sample(base, "up", "--from", str(base / "stripes"), *more) == 0
    assert "bicubic" in json.loads((tmp_path / "u.json").read_text())["reference"]
    score = [
        "--n",
        "6",
        "--steps",
        "2",
        "--extractor",
        "pixels",
        "--bits",
        "2",
        "--device",
        "cpu",
        "--json",
        str(tmp_path / "e.json"),
    ]
    assert main(["eval", "image", "--checkpoint", str(base / "up"), *score]) == 0
    result = json.loads((tmp_path / "e.json").read_text())
    assert {"psnr_mean", "bits_per_dim"} <= set(result["metrics"]) and result["reference"]["bicubic"][
        "psnr_mean"
    ] > 3.0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["free", "--task", "img2img"], "give --from FILE or FOLDER"),
        (["free", "--from", "ONE"], "--from: choose what to do with the images, --task img2img|"),
        (["free", "--from", "ONE", "--task", "img2img", "--restore", "denoise"], "give one of them"),
        (["free", "--from", "ONE", "--task", "inpaint"], "needs --mask FILE"),
        (
            ["free", "--from", "ONE", "--task", "interpolate", "--solver", "ddim"],
            "needs two images in --from",
        ),
        (["free", "--from", "ONE", "--task", "reconstruct"], "needs --solver ddim"),
        (["free", "--from", "SMALL", "--task", "img2img"], "is 4 x 4, but 8 x 8 is needed"),
        (["free", "--from", "COLOUR", "--task", "img2img"], "is coloured, but grey is needed"),
        (["free", "--from", "nowhere.png", "--task", "img2img"], "nowhere.png: no such file or folder"),
        (["free", "--from", "ONE", "--restore", "superres", "--factor", "3"], "--factor 3 does not divide"),
        (
            ["free", "--from", "ONE", "--restore", "denoise", "--noise", "0"],
            "--noise must be a finite number above 0",
        ),
        (["free", "--jumps", "3"], "--jumps needs --task inpaint"),
        (["free", "--classifier", "JUDGE", "--class", "0"], "trained on clean images"),
        (["free", "--classifier", "FREE", "--class", "0"], "trained by recipe 'image'"),
        (["model", "--negative", "0", "--class", "1"], "give --scale above 1"),
        (
            ["free", "--from", "ONE", "--restore", "denoise", "--noise", "inf"],
            "--noise must be a finite number above 0",
        ),
        (["free", "--from", "ONE", "--restore", "denoise", "--blur", "2"], "--blur needs --restore deblur"),
        (["up"], "an upsampler needs images"),
        (["up", "--from", "ONE"], "is 8 x 8, but 4 x 4 is needed"),
    ],
)
def test_mistakes_are_one_line(base, command, message, capsys, tmp_path):
    words = {
        "ONE": str(next((base / "stripes" / "lie").iterdir())),
        "SMALL": str(base / "small.png"),
        "COLOUR": str(base / "colour.png"),
    }
    words |= {"JUDGE": str(base / "judge"), "GUIDE": str(base / "guide"), "FREE": str(base / "free")}
    model, *flags = [words.get(word, word) for word in command]
    status = sample(base, model, *flags, "--steps", "3", "--out", str(tmp_path / "out"))
    error = capsys.readouterr().err.strip()
    assert (
        status == 2
        and message in error
        and len([line for line in error.splitlines() if line.startswith("unveil: ")]) == 1
    )


def test_the_judge_must_not_be_the_guide(base, capsys):
    both = [
        "--judge",
        str(base / "guide"),
        "--classifier",
        str(base / "guide"),
        "--n",
        "4",
        "--device",
        "cpu",
    ]
    assert main(["eval", "image", "--checkpoint", str(base / "free"), *both]) == 2
    assert "must be another classifier" in capsys.readouterr().err
    assert (
        main(
            [
                "eval",
                "image",
                "--checkpoint",
                str(base / "free"),
                "--judge",
                str(base / "judge"),
                "--n",
                "4",
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    assert "leave it out" in capsys.readouterr().err
    assert (
        main(
            [
                "eval",
                "image",
                "--checkpoint",
                str(base / "free"),
                "--extractor",
                "judge",
                "--n",
                "4",
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    assert "needs --judge RUN" in capsys.readouterr().err
    assert (
        main(
            [
                "eval",
                "image",
                "--checkpoint",
                str(base / "model"),
                "--judge",
                str(base / "guide"),
                "--n",
                "4",
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    assert "trained on noisy images" in capsys.readouterr().err


def test_a_folder_of_samples_is_read_without_its_grid(base, tmp_path, capsys):
    made, again = tmp_path / "made", tmp_path / "again"
    assert sample(base, "model", "--steps", "2", "--out", str(made), n=3) == 0
    flags = ["--from", str(made), "--task", "img2img", "--steps", "2", "--out", str(again)]
    assert sample(base, "model", *flags, n=3) == 0
    assert f"left out {made / 'grid.png'}: a grid that unveil wrote" in capsys.readouterr().err
    one = ["--given", *(str(made / f"000{k}.png") for k in range(3)), "--task", "img2img", "--steps", "2"]
    assert sample(base, "model", *one, "--out", str(tmp_path / "one"), n=3) == 0
    for k in range(3):
        name = f"000{k}.png"
        np.testing.assert_array_equal(picture(again / name), picture(tmp_path / "one" / name))

"""How trainings of images begin: by defaults that follow from the pictures, from other weights, and with
pictures on the way."""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from unveil.cli import main
from unveil.files.safetensors import read_tensors
from unveil.image.recipes.train_config import TRAIN_PRESETS, TrainImage, for_method, resolved
from unveil.loading import load
from unveil.runs.flags import changed, flat

SMALL = [
    "--preset",
    "tiny",
    "--width",
    "16",
    "--multiples",
    "1",
    "2",
    "--groups",
    "4",
    "--batch-size",
    "4",
    "--device",
    "cpu",
]
SMALL += ["--diffusion-steps", "25", "--warmup", "1", "--hold-out", "0", "--bfloat16", "False"]
DIFFUSION = ("method", "schedule", "predicts", "learned_variance", "min_snr", "stem", "batch_size")


def chosen(config: TrainImage, channels: int, size: int) -> tuple:
    made = resolved(config, channels, size)
    return tuple(flat(made)[name] for name in DIFFUSION)


def test_colour_pictures_are_predicted_and_grey_ones_are_as_they_were():
    default = TRAIN_PRESETS["default"]
    assert chosen(default, 1, 28) == ("ddpm", "linear", "eps", False, 0.0, 2, 128)
    assert chosen(default, 1, 64) == ("ddpm", "linear", "eps", False, 0.0, 2, 128)
    assert chosen(default, 3, 64) == ("", "cosine", "x0", False, 5.0, 4, 32)
    assert chosen(default, 3, 32) == ("", "cosine", "x0", False, 5.0, 2, 32)
    assert [resolved(default, 3, size).network.stem for size in (47, 48, 50, 51, 96)] == [1, 4, 2, 1, 4]
    assert [resolved(default, 1, size).network.stem for size in (28, 27)] == [2, 1]
    assert chosen(TRAIN_PRESETS["tiny"], 3, 64) == ("", "cosine", "x0", False, 5.0, 4, 64)
    assert chosen(TRAIN_PRESETS["paper"], 3, 32) == ("ddpm", "linear", "eps", False, 0.0, 1, 128)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"predicts": "eps"}, ("ddpm", "linear", "eps", False, 0.0, 2, 128)),
        ({"predicts": "x0"}, ("ddpm", "linear", "x0", False, 0.0, 2, 128)),
        ({"schedule": "cosine"}, ("ddpm", "cosine", "eps", False, 0.0, 2, 128)),
        ({"learned_variance": True}, ("ddpm", "linear", "eps", True, 0.0, 2, 128)),
        ({"min_snr": 0.0}, ("", "cosine", "x0", False, 0.0, 4, 32)),
        ({"stem": 1}, ("", "cosine", "x0", False, 5.0, 1, 32)),
        ({"batch_size": 7}, ("", "cosine", "x0", False, 5.0, 4, 7)),
        ({"loss": "vlb"}, ("ddpm", "linear", "eps", False, 0.0, 2, 128)),
    ],
)
def test_what_is_said_of_colour_pictures_stays(flags, expected):
    assert chosen(changed(TrainImage(), **flags), 3, 64) == expected


def test_a_method_means_what_it_did():
    assert chosen(for_method(TrainImage(), "ddpm"), 3, 64) == ("ddpm", "linear", "eps", False, 0.0, 2, 128)
    assert chosen(for_method(TrainImage(), "v"), 3, 64) == ("v", "cosine", "v", False, 0.0, 2, 128)
    assert chosen(for_method(TrainImage(), "edm"), 3, 32) == ("edm", "karras", "edm", False, 0.0, 2, 128)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Colour and grey pictures, and a run on the colour ones as the defaults have it."""
    folder, rng = tmp_path_factory.mktemp("begin"), np.random.default_rng(0)
    colours = rng.integers(0, 255, (12, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "colour.npz", images=colours, labels=np.arange(12) % 2)
    np.savez(folder / "grey.npz", images=colours[..., 0], labels=np.arange(12) % 2)
    flags = [
        "--data",
        str(folder / "colour.npz"),
        "--out",
        str(folder / "run"),
        "--steps",
        "4",
        "--save-every",
        "2",
        "--keep",
        "0",
    ]
    assert main(["train", "image", *SMALL, *flags]) == 0
    return folder


def train(base: Path, out: Path, *flags: str, data: str = "colour") -> int:
    return main(["train", "image", *SMALL, "--data", str(base / f"{data}.npz"), "--out", str(out), *flags])


def config_of(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


def test_a_run_says_what_was_chosen_and_makes_pictures_of_it(base):
    config = config_of(base / "run")
    assert [config[name] for name in DIFFUSION] == ["", "cosine", "x0", False, 5.0, 2, 4]
    assert load(base / "run", "cpu").shape.predicts == "x0"


def test_pictures_appear_at_every_checkpoint_and_are_told_once(base, tmp_path, capsys):
    """They are what the averaged weights make, in a grid of 4 x 4, enlarged to 64 pixels; the same noise each
    time."""
    assert sorted(file.name for file in (base / "run" / "samples").iterdir()) == [
        "step-000002.png",
        "step-000004.png",
    ]
    first, last = (iio.imread(base / "run" / "samples" / f"step-00000{k}.png") for k in (2, 4))
    assert first.shape == last.shape == (4 * 66 + 2, 4 * 66 + 2, 3) and (first != last).any()
    assert train(base, tmp_path / "r", "--steps", "2", "--save-every", "1") == 0
    said = capsys.readouterr().err
    assert said.count("samples") == 1 and f"{tmp_path / 'r' / 'samples' / 'step-000001.png'}" in said
    assert train(base, tmp_path / "s", "--steps", "1", "--no-samples") == 0
    assert not (tmp_path / "s" / "samples").exists()


def test_drawing_them_changes_nothing_that_is_learned(base, tmp_path):
    for name, flag in (("a", "--samples"), ("b", "--no-samples")):
        assert (
            train(base, tmp_path / name, flag, "--steps", "4", "--save-every", "2", "--dropout", "0.2") == 0
        )
    a, b = ((tmp_path / name / "checkpoint-4" / "network.safetensors").read_bytes() for name in "ab")
    assert a == b


@pytest.mark.parametrize("flags", [["--classes"], ["--upsample", "2"], ["--classes", "--label-drop", "0"]])
def test_models_that_are_told_something_make_pictures_too(base, tmp_path, flags, recwarn):
    assert train(base, tmp_path / "r", *flags, "--steps", "1") == 0
    assert (tmp_path / "r" / "samples" / "step-000001.png").is_file() and not recwarn.list


def test_a_picture_that_cannot_be_written_is_a_warning(base, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "samples").write_text("a file of somebody's own")
    with pytest.warns(UserWarning, match="no picture of samples at step 1"):
        assert train(base, tmp_path / "r", "--steps", "1") == 0
    assert (tmp_path / "r" / "checkpoint-1").is_dir()


def test_colour_pictures_go_on_without_a_flag(base, tmp_path, capsys):
    """Also if the parts of their method are flags; another method is refused."""
    run = tmp_path / "r"
    assert train(base, run, "--steps", "1") == 0
    assert train(base, run, "--steps", "2", "--resume") == 0
    assert train(base, run, "--steps", "3", "--resume", "--schedule", "cosine", "--predicts", "x0") == 0
    assert config_of(run)["method"] == "" and (run / "checkpoint-3").is_dir()
    assert train(base, run, "--steps", "4", "--resume", "--method", "v") == 2
    assert "was started with --method" in capsys.readouterr().err


def test_an_older_run_goes_on_as_it_began(base, tmp_path):
    """Colour pictures by DDPM on patches of two, as the defaults had it, without a flag."""
    run = tmp_path / "r"
    assert train(base, run, "--method", "ddpm", "--steps", "1") == 0
    assert train(base, run, "--steps", "2", "--resume") == 0
    assert (config_of(run)["predicts"], config_of(run)["min_snr"]) == ("eps", 0.0)
    assert train(base, run, "--steps", "3", "--resume", "--predicts", "x0") == 2


def test_a_new_run_begins_with_the_weights_of_another(base, tmp_path, capsys):
    """Shape and diffusion are theirs, whatever the defaults are; after a step at almost no rate the weights
    are still theirs."""
    run = tmp_path / "r"
    begin = ["--start-from", str(base / "run"), "--learning-rate", "1e-12", "--weight-decay", "0"]
    assert train(base, run, *begin, "--steps", "1") == 0
    old, new = (
        read_tensors(folder / "network.safetensors")
        for folder in (base / "run" / "checkpoint-4", run / "checkpoint-1")
    )
    averaged = read_tensors(base / "run" / "checkpoint-4" / "ema.safetensors")
    assert all(torch.allclose(new[name], averaged[name], atol=1e-6) for name in new)
    assert not all(torch.allclose(new[name], old[name], atol=1e-6) for name in new)
    described = config_of(run)
    assert described["start_from"] == str((base / "run").resolve()) and described["predicts"] == "x0"
    assert (
        train(base, run, "--steps", "2", "--resume", "--learning-rate", "1e-12", "--weight-decay", "0") == 0
    )  # not from there again
    for flags, data, message in (
        (["--width", "64"], "colour", "--width 64: the shape is that of"),
        (["--predicts", "eps"], "colour", "--predicts eps: the shape is that of"),
        ([], "grey", "makes images of 3 channels and 8 pixels, these have 1 and 8"),
        (["--classes"], "colour", "knows no classes, this training 2 classes (0, 1); leave --classes out"),
    ):
        assert (
            train(
                base, tmp_path / "other", "--start-from", str(base / "run"), "--steps", "1", *flags, data=data
            )
            == 2
        )
        assert message in capsys.readouterr().err


def test_a_converted_run_offers_to_train_on_from_its_weights(base, tmp_path, capsys):
    run = tmp_path / "converted"
    assert train(base, run, "--steps", "1") == 0
    (run / "config.json").write_text(
        json.dumps(config_of(run) | {"origin": "diffusers", "options": {"norm_epsilon": 1e-3}})
    )
    for flags in (["--resume"], []):
        assert train(base, run, *flags, "--steps", "2") == 2
        said = capsys.readouterr().err
        assert "was converted from diffusers" in said
    offered = said.split("new folder: unveil ")[1].strip().replace("NEW", str(tmp_path / "new")).split()
    assert main([*offered, *SMALL, "--data", str(base / "colour.npz"), "--steps", "1"]) == 0
    assert config_of(tmp_path / "new")["options"] == {
        "norm_epsilon": 1e-3
    }  # what no flag says, but the weights need
    assert load(tmp_path / "new", "cpu").denoiser.network.norm.eps == 1e-3


def test_an_efficient_network_is_trained_and_read_again(base, tmp_path, capsys):
    """With attention at the sides that its levels have: pixels in squares of two, halved once more."""
    run = tmp_path / "r"
    assert train(base, run, "--efficient", "--steps", "1", "--attention", "2") == 0
    shape = load(run, "cpu").shape
    assert shape.efficient and shape.sides == (2, 1) and shape.levels == (0,)
    assert train(base, run, "--efficient", "--steps", "2", "--attention", "2", "--resume") == 0
    assert train(base, tmp_path / "s", "--efficient", "--trunk", "dit", "--steps", "1") == 2
    assert "leave it out" in capsys.readouterr().err
    flags = ["--data", str(base / "colour.npz"), "--out", str(tmp_path / "c"), "--efficient"]
    assert main(["train", "classifier", *flags]) == 2
    assert "--efficient is for diffusion models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "data"), [("image", "colour"), ("classifier", "labelled"), ("clip", "told")]
)
def test_a_training_takes_the_threads_that_it_is_given(base, tmp_path, verb, data):
    rng, before = np.random.default_rng(0), torch.get_num_threads()
    pixels = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "labelled.npz", images=pixels, labels=np.arange(12) % 2)
    np.savez(tmp_path / "told.npz", images=pixels, captions=np.array(["a red one", "a blue one"] * 6))
    np.savez(tmp_path / "colour.npz", images=pixels)
    flags = ["--data", str(tmp_path / f"{data}.npz"), "--out", str(tmp_path / "run"), "--steps", "1"]
    flags += [
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "--hold-out",
        "0",
        "--bfloat16",
        "False",
        "--threads",
        "1",
    ]
    torch.set_num_threads(2)
    try:
        assert main(["train", verb, "--preset", "tiny", *flags]) == 0
        assert torch.get_num_threads() == 1
        assert json.loads((tmp_path / "run" / "record.json").read_text())["threads"] == 1
    finally:
        torch.set_num_threads(before)

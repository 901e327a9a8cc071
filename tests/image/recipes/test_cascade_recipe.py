"""`unveil sample image --upsampler`: a model of captions and two upsamplers, again from the PNG, and bad input."""

from pathlib import Path
from shlex import split

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image
from stripes import WORDS, write_captioned

from unveil.cli import main

TRAIN = split(
    "train image --preset tiny --width 8 --multiples 1 --groups 4 --attention 4 8 --diffusion-steps 25 --stem 1 "
    "--device cpu --bfloat16 False --batch-size 4 --warmup 1 --steps 2 --save-every 2 --hold-out 0.2 --no-samples "
    "--predicts x0 --fit resize"
)
RUNS = {
    "base": [*split("--size 4"), *WORDS],
    "four": [*split("--size 8 --upsample 2 --concat lowres --noise-levels 1000 --attention 8"), *WORDS],
    "eight": split("--size 16 --upsample 2 --attention"),  # GLIDE's kind: no words, no noise
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cascade")
    stripes = write_captioned(folder)
    for name, flags in RUNS.items():
        assert main([*TRAIN, *flags, "--data", str(stripes), "--out", str(folder / name)]) == 0
    return folder


def sample(runs: Path, out: Path, *words: str) -> int:
    flags = [
        "--checkpoint",
        str(runs / "base"),
        "--device",
        "cpu",
        "-n",
        "3",
        "--steps",
        "2",
        "--out",
        str(out),
    ]
    named = (str(runs / word[1:]) if word.startswith("@") else word for word in words)
    return main(["sample", "image", *flags, "--prompt", "stripes that lie", *named])


def test_upsamplers_enlarge_the_images_in_turn(runs, tmp_path, capsys):
    """4 pixels become 8, then 16. An image depends on its seed alone, and is made again from its PNG; the first
    model's images, enlarged by `--from`, are the same."""
    how = ["--upsampler-steps", "3", "--upsampler-scale", "1.5", "--noise-level", "300"]
    assert sample(runs, tmp_path / "all", "--upsampler", "@four", "@eight", *how) == 0
    first = iio.imread(tmp_path / "all" / "0001.png")
    assert first.shape[:2] == (16, 16) and "8 calls each" in capsys.readouterr().out
    assert (
        sample(runs, tmp_path / "one", "--upsampler", "@four", "@eight", *how, "--seed", "1", "-n", "1") == 0
    )
    assert np.array_equal(iio.imread(tmp_path / "one" / "0000.png"), first)
    again = [
        "sample",
        "image",
        "--from-png",
        str(tmp_path / "all" / "0001.png"),
        "--out",
        str(tmp_path / "again"),
    ]
    assert main(again) == 0
    assert (tmp_path / "again" / "0001.png").read_bytes() == (tmp_path / "all" / "0001.png").read_bytes()


def test_noise_and_words_reach_the_upsampler(runs, tmp_path):
    for name, more in (("a", []), ("b", ["--noise-level", "900"]), ("c", ["--upsampler-scale", "3000"])):
        assert sample(runs, tmp_path / name, "--upsampler", "@four", "-n", "1", *more) == 0
    a, b, c = (iio.imread(tmp_path / name / "0000.png") for name in "abc")
    assert (a != b).any() and (a != c).any()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--upsampler", "@eight"], "enlarges images of 1 x 8 x 8, and these have 1 x 4 x 4"),
        (["--upsampler", "@four", "@four"], "enlarges images of 1 x 4 x 4, and these have 1 x 8 x 8"),
        (["--upsampler", "@base"], "is no upsampler"),
        (["--upsampler", "@nothing"], "nothing"),
        (["--upsampler-steps", "3"], "give --upsampler"),
        (["--upsampler", "@four", "@eight", "--noise-level", "1001"], "--noise-level"),
        (["--upsampler", "@four", "--hires", "2"], "leave --hires out"),
    ],
)
def test_cascades_that_do_not_fit_are_one_line(runs, tmp_path, capsys, words, error):
    assert sample(runs, tmp_path / "out", *words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert error in said[-1] and not (tmp_path / "out").exists()


def test_an_upsampler_alone_asks_for_images(runs, tmp_path, capsys):
    assert (
        main(
            ["sample", "image", "--checkpoint", str(runs / "eight"), "-n", "1", "--out", str(tmp_path / "o")]
        )
        == 2
    )
    assert "--from" in capsys.readouterr().err
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    given = ["--from", str(tmp_path / "small.png"), "--steps", "2", "-n", "1", "--out", str(tmp_path / "o")]
    assert main(["sample", "image", "--checkpoint", str(runs / "eight"), *given]) == 0

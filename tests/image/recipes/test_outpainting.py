"""Outpainting: the canvas, and that what was there stays there bit for bit."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unveil.image.recipes.outpainting import Margins, canvas, margins_for

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.mark.parametrize(
    ("wanted", "sides", "taken"),
    [
        ((8, 0, 8, 0), (16, 16), (8, 0, 8, 0)),
        ((5, 0, 0, 0), (16, 16), (8, 0, 0, 0)),
        ((5, 0, 5, 0), (16, 16), (5, 0, 11, 0)),
        ((0, 3, 0, 0), (16, 17), (0, 8, 7, 0)),
        ((0, 0, 0, 9), (15, 16), (0, 0, 0, 9)),
    ],
)
def test_margins_grow_until_the_canvas_fits(wanted, sides, taken):
    assert margins_for(Margins(*wanted), sides, 8) == taken


def test_margins_that_are_none_or_too_large_are_refused():
    with pytest.raises(ValueError, match="adds nothing"):
        margins_for(Margins(0, 0, 0, 0), (16, 16), 8)
    with pytest.raises(ValueError, match="more than 8192 pixels"):
        margins_for(Margins(8, 0, 8192, 0), (16, 16), 8)


def test_the_canvas_has_the_image_in_its_place_and_its_edges_around_it():
    pixels = torch.arange(6, dtype=torch.uint8).reshape(1, 1, 2, 3)
    large, known = canvas(pixels, Margins(1, 0, 0, 2))
    assert large[0, 0].tolist() == [[0, 0, 1, 2], [3, 3, 4, 5], [3, 3, 4, 5], [3, 3, 4, 5]]
    assert known[0, 0].tolist() == [[False, True, True, True]] * 2 + [[False] * 4] * 2


@pytest.mark.parametrize("use", ["text to image", "inpainting"])
def test_kept_pixels_are_exactly_kept_and_the_others_are_made(use, tmp_path, capsys):
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    import stable_diffusion_pipelines as pipelines
    from unveil.cli import main

    pipelines.save(tmp_path / "pipeline", pipelines.components("1", use), "1")
    pixels = np.random.default_rng(0).integers(0, 255, (14, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    sample = ["sample", "image", "--checkpoint", str(tmp_path / "pipeline"), "--steps", "2", "-n", "1"]
    files = ["--from", str(tmp_path / "picture.png"), "--prompt", "a cat"]
    out = ["--out", str(tmp_path / "one")]
    assert main([*sample, *files, *out, "--outpaint", "5", "2", "0", "0"]) == 0
    assert "--outpaint 6 2 0 0 was taken" in capsys.readouterr().out
    with Image.open(tmp_path / "one" / "0000.png") as picture:
        made = np.array(picture)
    assert made.shape == (16, 22, 3) and np.array_equal(made[2:, 6:], pixels)
    assert not np.array_equal(made[2:, :6], np.repeat(pixels[:, :1], 6, axis=1))
    again = ["--from-png", str(tmp_path / "one" / "0000.png"), "--out", str(tmp_path / "two")]
    assert main(["sample", "image", *again]) == 0
    assert (tmp_path / "one" / "0000.png").read_bytes() == (tmp_path / "two" / "0000.png").read_bytes()
    capsys.readouterr()
    for flags, message in (
        (["--outpaint", "8", "0", "8"], "four numbers"),
        (["--outpaint", "8", "0", "0", "0", "--task", "img2img"], "leave out --task"),
        (["--outpaint", "0", "0", "0", "0"], "adds nothing"),
        (["--outpaint", "8", "0", "0", "0", "--hires", "2"], "--hires"),
    ):
        assert main([*sample, *files, *out, *flags]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error

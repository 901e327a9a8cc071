"""Stable Diffusion's files by the commands and by `unveil.load`: whole pictures equal diffusers' pipelines."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))
import stable_diffusion_pipelines as pipelines
from unveil.cli import main
from unveil.image.generation import Given, generate
from unveil.image.settings import ImageSettings
from unveil.loading import load

PROMPT, NEGATIVE, STEPS, SCALE = "a cat", "dog", 5, 7.5


@pytest.fixture(scope="module", params=["1", "2"])
def model(request, tmp_path_factory):
    """A pipeline of diffusers of a version, and its folder."""
    parts = pipelines.components(request.param)
    folder = tmp_path_factory.mktemp("sd") / "pipeline"
    pipelines.save(folder, parts, request.param)
    return request.param, parts, folder


def theirs(version: str, parts: dict, noise: torch.Tensor) -> torch.Tensor:
    """The codes (1, 4, 8, 8) of diffusers' networks and DDIM, by the loop of its pipeline."""
    scheduler, words = pipelines.scheduler(version), pipelines.tokenizer()
    encoded = [parts["text_encoder"](words([text]).ids)[0] for text in (NEGATIVE, PROMPT)]
    scheduler.set_timesteps(STEPS)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        with torch.no_grad():
            null, cond = parts["unet"](torch.cat([x, x]), t, torch.cat(encoded)).sample.chunk(2)
        x = scheduler.step(null + SCALE * (cond - null), t, x).prev_sample
    return x


@torch.no_grad()
def test_whole_pictures_equal_those_of_diffusers(model):
    version, parts, folder = model
    ours, noise = load(folder, "cpu"), torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    settings = ImageSettings(solver="ddim", grid="leading", steps=STEPS, scale=SCALE, negative=NEGATIVE)
    beliefs: list[torch.Tensor] = []
    made = generate(
        ours,
        None,
        1,
        settings,
        0,
        noise=noise,
        given=Given(prompts=[PROMPT]),
        size=(16, 16),
        scaled=False,
        on_step=lambda belief, _: beliefs.append(belief),
    )
    codes = theirs(version, parts, noise)
    decoded = parts["vae"].decode(codes / parts["vae"].config.scaling_factor).sample
    wanted = ((decoded.clamp(-1, 1) + 1) * 127.5).round()
    assert float((made.pixels.float() - wanted).abs().max()) <= 1.0  # half a level of rounding
    assert ours.latent is not None
    torch.testing.assert_close(ours.pixels(codes).float(), wanted, atol=1.0, rtol=0)


def test_the_commands_use_the_files_as_they_are(model, tmp_path):
    _, _, folder = model
    sample = ["sample", "image", "--checkpoint", str(folder), "--steps", "2", "-n", "2", "--size", "24", "16"]
    words = ["--prompt", PROMPT, "--negative", NEGATIVE]
    assert main([*sample, *words, "--out", str(tmp_path / "one")]) == 0
    with Image.open(tmp_path / "one" / "0001.png") as picture:
        assert picture.size == (24, 16)
    again = [
        "sample",
        "image",
        "--from-png",
        str(tmp_path / "one" / "grid.png"),
        "--out",
        str(tmp_path / "two"),
    ]
    assert main(again) == 0
    assert (tmp_path / "one" / "0000.png").read_bytes() == (tmp_path / "two" / "0000.png").read_bytes()


def sampled(path: Path, out: Path) -> np.ndarray:
    flags = ["--steps", "3", "-n", "1", "--prompt", PROMPT, "--out", str(out)]
    assert main(["sample", "image", "--checkpoint", str(path), *flags]) == 0
    with Image.open(out / "0000.png") as picture:
        return np.array(picture)


def test_every_layout_that_is_written_makes_the_same_picture(model, tmp_path, capsys):
    _, _, folder = model
    before = sampled(folder, tmp_path / "0")
    convert = ["weights", "convert", str(folder)]
    for k, (layout, out) in enumerate(
        [("ours", "run"), ("diffusers", "folder"), ("single", "one.safetensors")], 1
    ):
        assert main([*convert, str(tmp_path / out), "--layout", layout]) == 0
        if layout == "single":
            continue  # needs CLIP's own vocabulary, which is not part of this test
        assert np.array_equal(sampled(tmp_path / out, tmp_path / str(k)), before)
    assert main(["weights", "inspect", str(tmp_path / "one.safetensors")]) == 0
    assert "Stable Diffusion" in capsys.readouterr().out

"""Models of Stable Diffusion that see depth or a small picture: whole samplings equal diffusers' pipelines."""

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
from unveil.errors import UnveilError
from unveil.image.generation import Given, generate
from unveil.image.recipes.stable_diffusion_maps import depth_map, map_of, noised
from unveil.image.settings import ImageSettings
from unveil.loading import load
from unveil.sampling.noise import generators, normal_like

PROMPT, NEGATIVE, STEPS, SCALE = "a cat", "dog", 5, 7.5
SETTINGS = ImageSettings(
    solver="ddim", grid="leading", steps=STEPS, scale=SCALE, negative=NEGATIVE, strength=0.6
)


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    parts, folder = pipelines.components("2", "depth to image"), tmp_path_factory.mktemp("depth")
    pipelines.save(folder / "pipeline", parts, "2")
    return parts, folder / "pipeline"


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    parts, folder = pipelines.components("2", "x4 upscaler"), tmp_path_factory.mktemp("upscaler")
    pipelines.save(folder / "pipeline", parts, "2")
    return parts, folder / "pipeline"


def encoded(parts: dict) -> dict[str, torch.Tensor]:
    words = pipelines.tokenizer()
    cond, null = (parts["text_encoder"](words([text]).ids)[0] for text in (PROMPT, NEGATIVE))
    return {"prompt_embeds": cond, "negative_prompt_embeds": null}


def close(made: torch.Tensor, wanted: torch.Tensor) -> None:
    assert made.shape == wanted.shape
    assert float((made - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


@torch.no_grad()
def test_depth_to_image_equals_diffusers_pipeline(depth):
    from diffusers import StableDiffusionDepth2ImgPipeline

    parts, folder = depth
    scheduler = pipelines.scheduler("2")
    pipe = StableDiffusionDepth2ImgPipeline(
        **parts, tokenizer=None, scheduler=scheduler, depth_estimator=None, feature_extractor=None
    )
    pipe.set_progress_bar_config(disable=True)
    random = torch.Generator().manual_seed(0)
    picture, near = torch.rand((1, 3, 16, 16), generator=random), torch.rand((1, 11, 13), generator=random)
    how = {"depth_map": near, "strength": 0.6, "num_inference_steps": STEPS, "guidance_scale": SCALE}
    generator, kind = torch.Generator().manual_seed(1), {"output_type": "latent", "return_dict": False}
    (wanted,) = pipe(image=picture, generator=generator, **how, **kind, **encoded(parts))

    generator = torch.Generator().manual_seed(1)
    code = (
        parts["vae"].encode(2 * picture - 1).latent_dist.sample(generator)
        * parts["vae"].config.scaling_factor
    )
    noise, model = torch.randn((1, 4, 8, 8), generator=generator), load(folder, "cpu")
    assert map_of(model) == "depth"
    beside = depth_map(near[:, None], (8, 8))
    assert float(beside.min()) == -1.0 and float(beside.max()) == 1.0
    given = Given(prompts=[PROMPT], begin=code, beside=beside)
    close(generate(model, None, 1, SETTINGS, 0, noise=noise, given=given, finish=lambda x: x).pixels, wanted)


def test_depth_is_a_picture_and_has_to_be_given(depth, tmp_path, capsys):
    _, folder = depth
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "picture.png")
    Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8)).save(tmp_path / "depth.png")
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(tmp_path / "flat.png")
    sample = ["sample", "image", "--checkpoint", str(folder), "--steps", "2", "-n", "1", "--prompt", PROMPT]
    picture = ["--from", str(tmp_path / "picture.png"), "--task", "img2img"]
    given, out = ["--depth", str(tmp_path / "depth.png")], ["--out", str(tmp_path / "out")]
    assert main([*sample, *picture, *given, *out]) == 0
    Image.fromarray(rng.integers(0, 255, (24, 16, 3), dtype=np.uint8)).save(tmp_path / "tall.png")
    tall = ["--from", str(tmp_path / "tall.png"), "--task", "img2img", "--size", "16", "24"]
    assert main([*sample, *tall, *given, *out]) == 0
    with Image.open(tmp_path / "out" / "0000.png") as made:
        assert made.size == (16, 24)
    assert main([*sample, *given, "--out", str(tmp_path / "noise")]) == 0
    again = ["--from-png", str(tmp_path / "noise" / "0000.png"), "--out", str(tmp_path / "again")]
    assert main(["sample", "image", *again]) == 0
    assert (tmp_path / "noise" / "0000.png").read_bytes() == (tmp_path / "again" / "0000.png").read_bytes()
    capsys.readouterr()
    for flags, message in (
        (picture, "give --depth FILE, a depth map"),
        ([*picture, "--depth", str(tmp_path / "flat.png")], "same everywhere"),
        ([*picture, *given, "--size", "16", "24"], "--size 16 24 is needed"),
        ([*given, "--hires", "2"], "--hires"),
    ):
        assert main([*sample, *flags, *out]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


@torch.no_grad()
def test_the_upscaler_equals_diffusers_pipeline(upscaler):
    from diffusers import DDPMScheduler, StableDiffusionUpscalePipeline

    parts, folder = upscaler
    low = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear")
    pipe = StableDiffusionUpscalePipeline(
        **parts, tokenizer=None, low_res_scheduler=low, scheduler=pipelines.scheduler("2")
    )
    pipe.set_progress_bar_config(disable=True)
    small = torch.rand((1, 3, 8, 12), generator=torch.Generator().manual_seed(0))
    noise = torch.randn((1, 4, 8, 12), generator=torch.Generator().manual_seed(1))
    how = {"noise_level": 7, "num_inference_steps": STEPS, "guidance_scale": SCALE, "latents": noise}
    kind = {"output_type": "latent", "return_dict": False}
    (drawn,) = generators(5, 1)
    wanted = pipe(image=small, generator=drawn, **how, **kind, **encoded(parts))[0]

    model = load(folder, "cpu")
    assert map_of(model) == "small picture" and model.levels == 20
    beside = noised(2 * small - 1, 7, 5)
    given = Given(prompts=[PROMPT], beside=beside, level=torch.tensor([7]))
    options = {"noise": noise, "size": (16, 24), "finish": lambda x: x}
    close(generate(model, None, 1, SETTINGS, 0, given=given, scaled=False, **options).pixels, wanted)
    for level, message in (
        (None, "got none"),
        (torch.tensor([20]), r"0 \.\. 19"),
        (torch.tensor([0.5]), "int64"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(
                model,
                None,
                1,
                SETTINGS,
                0,
                given=Given(prompts=[PROMPT], beside=beside, level=level),
                **options,
            )


def test_small_pictures_are_enlarged_by_the_commands(upscaler, tmp_path, capsys):
    _, folder = upscaler
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 10, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    sample = ["sample", "image", "--checkpoint", str(folder), "--steps", "2", "-n", "1", "--prompt", PROMPT]
    flags, out = (
        ["--upscale", str(tmp_path / "a.png"), "--noise-level", "7"],
        ["--out", str(tmp_path / "out")],
    )
    assert main([*sample, *flags, *out]) == 0
    with Image.open(tmp_path / "out" / "0000.png") as picture:
        assert picture.size == (20, 16)
    capsys.readouterr()
    for wrong, message in (
        ([], "--from"),
        ([*flags, "--task", "img2img"], "is an upscaler"),
        ([*flags[:2], "--noise-level", "351"], "--noise-level"),
    ):
        assert main([*sample, *wrong, *out]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


def test_a_flat_depth_map_is_refused():
    with pytest.raises(UnveilError, match="same everywhere"):
        depth_map(torch.ones(1, 1, 9, 9), (4, 4))


def test_noise_of_small_pictures_is_that_of_the_table():
    x = torch.ones((2, 3, 4, 4))
    bar = torch.cumprod(1 - torch.linspace(0.01, 0.02**0.5, 1000, dtype=torch.float64) ** 2, 0)[30]
    noise = normal_like(x, generators(9, 2))
    torch.testing.assert_close(noised(x, 30, 9), (bar.sqrt() * x + (1 - bar).sqrt() * noise).float())

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


def theirs(version: str, parts: dict, noise: torch.Tensor, scheduler=None) -> torch.Tensor:
    """The codes (1, 4, 8, 8) of diffusers' networks and DDIM, or another scheduler, by the loop of its pipeline."""
    scheduler, words = scheduler or pipelines.scheduler(version), pipelines.tokenizer()
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


@torch.no_grad()
def test_pndm_mixes_what_the_model_predicts_as_in_diffusers(model):
    """With v its raw outputs; mixing eps of the same model makes another picture."""
    from diffusers import PNDMScheduler

    version, parts, folder = model
    scheduler = PNDMScheduler.from_config(pipelines.scheduler(version).config, skip_prk_steps=True)
    ours, noise = load(folder, "cpu"), torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    wanted = theirs(version, parts, noise, scheduler)

    def codes(**options) -> torch.Tensor:
        settings = ImageSettings(solver="pndm", steps=STEPS, scale=SCALE, negative=NEGATIVE, **options)
        given, how = Given(prompts=[PROMPT]), {"noise": noise, "scaled": False, "size": (16, 16)}
        return generate(ours, None, 1, settings, 0, given=given, finish=lambda x: x, **how).pixels

    assert float((codes() - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    assert torch.equal(codes(mixes="v" if version == "2" else "eps"), codes())
    if version == "2":
        assert float((codes(mixes="eps") - wanted).abs().max()) > 1e-2 * float(wanted.abs().max())


def test_overflow_in_float16_says_which_flag_to_use(tmp_path, capsys):
    parts = pipelines.components("1")
    with torch.no_grad():
        parts["unet"].conv_out.weight.fill_(6e4)
    pipelines.save(tmp_path / "pipeline", parts, "1")
    flags = [
        "--steps",
        "1",
        "-n",
        "1",
        "--prompt",
        PROMPT,
        "--dtype",
        "float16",
        "--out",
        str(tmp_path / "out"),
    ]
    capsys.readouterr()  # what was said while writing
    assert main(["sample", "image", "--checkpoint", str(tmp_path / "pipeline"), *flags]) == 2
    error = capsys.readouterr().err
    assert "--dtype bfloat16 or float32" in error and error.count("\n") == 1


def test_solvers_and_sizes_that_are_none_are_one_line(model, tmp_path, capsys):
    _, _, folder = model
    sample = ["sample", "image", "--checkpoint", str(folder), "-n", "1", "--out", str(tmp_path / "out")]
    for flags, parts in (
        (["--solver", "euler_a"], ("euler_a", "euler_ancestral", "dpmpp_2m_sde")),
        (["--size", "24", "17"], ("24 x 17", "multiples of 2 pixels")),
        (["--depth", "map.png"], ("--depth", "this is none")),
        (["--noise-level", "3"], ("--noise-level", "models that know the noise")),
    ):
        assert main([*sample, "--prompt", PROMPT, *flags]) == 2
        error = capsys.readouterr().err
        assert all(part in error for part in parts) and error.count("\n") == 1, error


def test_a_second_pass_is_recorded_and_made_again(model, tmp_path):
    from unveil.files.pictures import read_parameters
    from unveil.image.prompts.infotext import parse_infotext

    _, _, folder = model
    sample = [
        "sample",
        "image",
        "--checkpoint",
        str(folder),
        "--steps",
        "2",
        "-n",
        "2",
        "--prompt",
        "a [cat:dog:1.5]",
    ]
    high = ["--hires", "1.5", "--hires-steps", "3", "--hires-strength", "0.6", "--hires-upscaler", "lanczos"]
    assert main([*sample, *high, "--watch", "--out", str(tmp_path / "one")]) == 0
    with Image.open(tmp_path / "one" / "0001.png") as picture:
        assert picture.size == (24, 24)
        said = parse_infotext(picture.text["parameters"]).settings
    assert said["Size"] == "16x16" and said["Denoising strength"] == "0.6"
    assert [said[f"Hires {name}"] for name in ("upscale", "steps", "upscaler")] == ["1.5", "3", "Lanczos"]
    with Image.open(tmp_path / "one" / "denoising.gif") as animation:
        assert animation.n_frames == 2 + 3  # the last belief is the image itself, and one frame
    again = ["--from-png", str(tmp_path / "one" / "0000.png"), "--out", str(tmp_path / "two")]
    assert main(["sample", "image", *again]) == 0
    assert (tmp_path / "one" / "0001.png").read_bytes() == (tmp_path / "two" / "0001.png").read_bytes()
    assert '"hires": 1.5' in read_parameters(tmp_path / "two" / "0000.png")


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


@torch.no_grad()
def test_an_inpainting_model_sees_the_mask_and_the_masked_picture(tmp_path, capsys):
    """Its first belief is that of diffusers' U-Net for the latent, the mask (1: repaint) and the masked code."""
    parts = pipelines.components("1", "inpainting")
    pipelines.save(tmp_path / "pipeline", parts, "1")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    sample = ["sample", "image", "--checkpoint", str(tmp_path / "pipeline"), "--steps", "2"]  # one image
    words = ["--prompt", PROMPT, "--scale", "1", "--out", str(tmp_path / "out")]
    assert main([*sample, *words]) == 2
    assert "--task" in capsys.readouterr().err
    files = [
        "--from",
        str(tmp_path / "picture.png"),
        "--mask",
        str(tmp_path / "mask.png"),
        "--task",
        "inpaint",
    ]
    assert main([*sample, *words, *files, "--size", "16", "16"]) == 0
    assert len(list((tmp_path / "out").glob("0*.png"))) == 1

    model = load(tmp_path / "pipeline", "cpu")
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    hole = torch.from_numpy(mask)[None, None] > 127
    scale = parts["vae"].config.scaling_factor
    code = parts["vae"].encode(x * ~hole).latent_dist.mean * scale
    small = torch.nn.functional.interpolate(hole.float(), code.shape[2:])
    beside = torch.cat([small, code], dim=1)
    noise, beliefs = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), []
    settings = ImageSettings(solver="ddim", grid="leading", steps=2, clip=False)
    given = Given(prompts=[PROMPT], beside=beside)
    generate(
        model,
        None,
        1,
        settings,
        0,
        noise=noise,
        scaled=False,
        given=given,
        size=(16, 16),
        on_step=lambda belief, _: beliefs.append(belief),
    )
    encoded = parts["text_encoder"](pipelines.tokenizer()([PROMPT]).ids)[0]
    eps = parts["unet"](torch.cat([noise, beside], dim=1), 501, encoded).sample
    bar = pipelines.scheduler("1").alphas_cumprod[501]
    torch.testing.assert_close(
        beliefs[0], (noise - (1 - bar).sqrt() * eps) / bar.sqrt(), atol=1e-4, rtol=1e-4
    )


def test_lora_files_change_pictures_by_flag_and_by_tag_alike(model, tmp_path, capsys):
    """A file of kohya with one layer; factor 0 leaves the picture as it is."""
    from safetensors.torch import save_file

    _, parts, folder = model
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    layer = parts["unet"].down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{name}.lora_down.weight": torch.randn(2, layer.in_features, generator=generator),
        f"{name}.lora_up.weight": torch.randn(layer.out_features, 2, generator=generator),
        f"{name}.alpha": torch.tensor(8.0),
    }
    (tmp_path / "loras").mkdir()
    save_file(tensors, tmp_path / "loras" / "ink.safetensors")
    file = str(tmp_path / "loras" / "ink.safetensors")
    made = {}
    for key, prompt, flags in (
        ("plain", PROMPT, []),
        ("zero", PROMPT, ["--lora", f"{file}:0"]),
        ("flag", PROMPT, ["--lora", f"{file}:0.5"]),
        ("tag", f"{PROMPT}<lora:ink:0.5>", ["--lora", str(tmp_path / "loras")]),
    ):
        out = tmp_path / key
        sample = [
            "sample",
            "image",
            "--checkpoint",
            str(folder),
            "--steps",
            "2",
            "-n",
            "1",
            "--size",
            "16",
            "16",
        ]
        assert main([*sample, "--prompt", prompt, *flags, "--out", str(out)]) == 0
        with Image.open(out / "0000.png") as picture:
            made[key] = np.array(picture)
    assert np.array_equal(made["plain"], made["zero"])
    assert np.array_equal(made["flag"], made["tag"]) and not np.array_equal(made["flag"], made["plain"])
    sample = ["sample", "image", "--checkpoint", str(folder), "-n", "1", "--out", str(tmp_path / "x")]
    assert main([*sample, "--prompt", "<lora:other:1> cat", "--lora", str(tmp_path / "loras")]) == 2
    assert "'other'" in capsys.readouterr().err


@torch.no_grad()
@pytest.mark.parametrize("strength", [0.45, 0.8, 1.0])
def test_img2img_does_the_last_steps_as_diffusers_does(model, strength):
    """n = int(steps * strength) of its last times, from the code noised to the first of them."""
    version, parts, folder = model
    ours, noise = load(folder, "cpu"), torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    code = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    beliefs: list[torch.Tensor] = []
    settings = ImageSettings(solver="ddim", grid="leading", steps=STEPS, strength=strength, clip=False)
    given = Given(prompts=[PROMPT], begin=code)
    generate(
        ours,
        None,
        1,
        settings,
        0,
        noise=noise,
        given=given,
        size=(16, 16),
        on_step=lambda belief, _: beliefs.append(belief),
    )
    scheduler, encoded = pipelines.scheduler(version), pipelines.tokenizer()([PROMPT]).ids
    scheduler.set_timesteps(STEPS)
    times = scheduler.timesteps[STEPS - int(STEPS * strength) :]
    x = scheduler.add_noise(code, noise, times[:1])
    for t in times:
        out = scheduler.step(parts["unet"](x, t, parts["text_encoder"](encoded)[0]).sample, t, x)
        x = out.prev_sample
    assert len(beliefs) == len(times)
    torch.testing.assert_close(beliefs[-1], out.pred_original_sample, atol=2e-4, rtol=2e-4)

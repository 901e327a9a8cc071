"""glide-text2im's models compute under our names what they compute there, and sample as there.

How the numbers were made: `images/README.md`.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from glide_files import (
    FIRST,
    IDS,
    IMAGE,
    KNOWN,
    LOW,
    LOW_PIXELS,
    PROMPTS,
    TIMES,
    VALID,
    X,
    write_clip,
    write_glide,
    write_vocabularies,
)

import unveil
from foreign_images import golden
from foreign_policies import filled
from tolerance import golden_close
from unveil.cli import main
from unveil.image.clip_model import ClipModel
from unveil.image.concat import enlarged, known_part
from unveil.image.generation import Given, generate
from unveil.image.model import ImageModel
from unveil.image.networks.glide_clip import GlideClipImage, GlideClipText
from unveil.image.networks.glide_text import GlideText, GlideTextShape
from unveil.image.networks.unet2d import UNet2d
from unveil.image.settings import ImageSettings
from unveil.image.weights.glide import RELEASE, describe_glide, placed_glide
from unveil.image.weights.glide_clip import image_shape, placed_tower, text_shape
from unveil.process.grid import respaced_by
from unveil.process.posterior import learned_log_variance, posterior_coefficients
from unveil.sampling.edit import potential_gradient
from unveil.sampling.guidance import Branch, cfg, clipped

NAMES = ("base", "upsample", "base_inpaint", "upsample_inpaint")
COUNTS = {
    "base": (783, 385_030_726),
    "upsample": (797, 398_361_286),
    "base_inpaint": (783, 385_037_638),
    "upsample_inpaint": (797, 398_368_198),
}


def loaded(name: str, folder) -> ImageModel:
    model = unveil.load(write_glide(name, folder), "cpu")
    assert isinstance(model, ImageModel) and model.text is not None
    return model


def beside(name: str, low: torch.Tensor = LOW) -> torch.Tensor | None:
    """What the U-Net sees beside x."""
    parts = [known_part(IMAGE, KNOWN)] if "inpaint" in name else []
    parts += [enlarged(low, 16)] if "upsample" in name else []
    return torch.cat(parts, dim=1) if parts else None


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_theirs(name, tmp_path):
    """Heads' orders, the text before the pixels, the vector into the time embedding, the mask's sign."""
    model = loaded(name, tmp_path)
    cond = replace(model.text(PROMPTS, model.device), concat=beside(name))
    y = golden("glide")[f"{name}.y"]
    with torch.no_grad():
        golden_close(model.denoiser.network(X, torch.tensor([3.0, 600.0]), cond), y)
        wrong = replace(cond, vector=-cond.vector)
        assert (model.denoiser.network(X, torch.tensor([3.0, 600.0]), wrong) - y).abs().max() > 1e-2


def test_prompts_become_their_ids_without_start_and_end(tmp_path):
    model = loaded("base", tmp_path)
    ids, valid = model.text.tokenizer([PROMPTS[0].upper(), PROMPTS[1]])
    assert torch.equal(ids, IDS) and torch.equal(valid, VALID)


def test_guidance_takes_the_variance_of_the_conditional_half(tmp_path):
    """Scale 3 on the three channels of eps, the respaced step from entry 404 or so to the one before."""
    model, wanted = loaded("base", tmp_path), golden("glide")
    entries = [int(wanted[f"guided.{name}"]) + 1 for name in ("entry", "before")]
    t, s = (torch.tensor(entry / 1000, dtype=torch.float64) for entry in entries)
    given, empty = (model.text(texts, model.device) for texts in (PROMPTS, ["", ""]))
    guided = clipped(cfg(model.denoiser, Branch(given), Branch(empty), 3.0), -1.0, 1.0)
    with torch.no_grad():
        belief = guided(X, t.expand(2))
    golden_close(belief.mean, wanted["guided.x0"])
    schedule = model.denoiser.schedule
    c = posterior_coefficients(schedule, t, s)
    golden_close(float(c.x_t_weight) * X + float(c.x_0_weight) * belief.mean, wanted["guided.mean"])
    golden_close(
        learned_log_variance(schedule, belief.variance_fraction, t, s), wanted["guided.log_variance"]
    )


LOOPS = {
    "base": ImageSettings("ddpm", respacing="5", scale=3.0, temperature=0.0),
    "upsample": ImageSettings("ddim", respacing="fast27", noise_factor=0.997),
    "base_inpaint": ImageSettings("ddpm", respacing="5", scale=5.0, temperature=0.0),
    "upsample_inpaint": ImageSettings("ddpm", respacing="5", temperature=0.0, noise_factor=0.997),
}


@pytest.mark.parametrize("name", LOOPS)
def test_whole_loops_are_theirs(name, tmp_path):
    """Ancestral without the steps' noise, or DDIM at fast27; known pixels in x_0 before clipping."""
    model = loaded(name, tmp_path)
    given = Given(prompts=PROMPTS, low=LOW_PIXELS if "upsample" in name else None)
    if "inpaint" in name:
        given = replace(given, beside=known_part(IMAGE, KNOWN), known=KNOWN, value=IMAGE, exact=True)
    made = generate(
        model, None, 2, LOOPS[name], 0, noise=FIRST, given=given, scaled=False, finish=torch.clone
    )
    golden_close(made.pixels, golden("glide")[f"loop.{name}"], roundings=4096)
    if "inpaint" in name:
        known = KNOWN.expand(-1, 3, -1, -1)
        assert torch.equal(made.pixels[known], IMAGE[known])


def test_fast27_is_theirs():
    entries = (respaced_by(1000, "fast27")[:-1] * 1000 - 1).round().flip(0)
    assert torch.equal(entries, golden("glide")["fast27"].double())


@pytest.mark.parametrize("name", NAMES)
def test_the_released_files_at_full_size(name):
    """Names, shapes and counts of the tensors that its code makes; ours fill from them, on the meta device."""
    shapes = golden("glide_released")[name]
    tensors = {n: torch.empty(shape, device="meta") for n, shape in shapes.items()}
    it = describe_glide(tensors)
    assert (it.tensors, it.parameters) == COUNTS[name]
    assert it.images.size == (256 if "upsample" in name else 64) and it.text == GlideTextShape()
    assert it.unet.attention == ((3, 4, 5) if "upsample" in name else (1, 2, 3))
    placed = placed_glide(it, tensors)
    with torch.device("meta"):
        ours = [*UNet2d(it.unet).parameters(), *GlideText(it.text).parameters()]
    assert sum(value.numel() for value in ours) == it.parameters
    assert sum(v.numel() for part in placed for v in part.values()) == it.parameters


def test_the_released_clip_at_full_size():
    released = golden("glide_released")
    blank = {
        part: {n: torch.empty(s, device="meta") for n, s in released[f"clip_{part}_enc"].items()}
        for part in ("image", "text")
    }
    image, text = image_shape(blank["image"]), text_shape(blank["text"])
    with torch.device("meta"):
        ours = {"image": GlideClipImage(image), "text": GlideClipText(text)}
    counts = {part: (len(blank[part]), sum(p.numel() for p in ours[part].parameters())) for part in ours}
    assert counts == {"text": (185, 71_679_488), "image": (188, 86_443_776)}
    for part, shape in (("image", image), ("text", text)):
        assert placed_tower(blank[part], part, shape).keys() == ours[part].state_dict().keys()


def test_the_towers_of_clip_are_theirs(tmp_path):
    """The time is the class token, q and k share a scale, keys have no bias, the text is read at its end."""
    model, wanted = unveil.load(write_clip(tmp_path), "cpu"), golden("glide")
    assert isinstance(model, ClipModel) and float(model.scale) == pytest.approx(100.0, rel=1e-6)
    with torch.no_grad():
        golden_close(model.text_embedding(["fh", "dlci"], unit=False), wanted["clip.text"])
        seen = model.image_embedding(X, TIMES, unit=False)
        golden_close(seen, wanted["clip.image"])
        later = model.image_embedding(X, TIMES + 1e-3, unit=False)
        assert (later - seen).abs().max() > 1e-3
    gradient = potential_gradient(model.log_similarity(["fh", "dlci"]), X, TIMES)
    golden_close(3.0 * gradient, wanted["clip.gradient"])


def test_guidance_by_clip_is_theirs(tmp_path):
    """`condition_mean`: the mean of an ancestral step moves by scale * variance * gradient, after clipping."""
    model, clip = loaded("base", tmp_path), unveil.load(write_clip(tmp_path), "cpu")
    settings = ImageSettings("ddpm", respacing="5", temperature=0.0, classifier_form="mean", clip_scale=3.0)
    given = Given(prompts=PROMPTS, clip=clip, texts=["fh", "dlci"])
    made = generate(model, None, 2, settings, 0, noise=FIRST, given=given, scaled=False, finish=torch.clone)
    golden_close(made.pixels, golden("glide")["loop.clip"], roundings=4096)
    plain = generate(
        model,
        None,
        2,
        settings,
        0,
        noise=FIRST,
        given=Given(prompts=PROMPTS),
        scaled=False,
        finish=torch.clone,
    )
    assert (plain.pixels - made.pixels).abs().max() > 1e-3


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_inspect_and_convert_and_sample(suffix, tmp_path, capsys):
    file, out = write_glide("base", tmp_path, suffix), tmp_path / "run"
    assert main(["weights", "inspect", str(file)]) == 0
    said = capsys.readouterr().out
    assert f"{RELEASE}, base" in said and "transformer_proj" in said and "16 x 16" in said
    assert main(["weights", "convert", str(file), str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert (config["captions"], config["encoder"], config["schedule"]) == ("glide", "glide", "cosine")
    model, again = unveil.load(out, "cpu"), loaded("base", tmp_path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    if suffix == ".safetensors":
        return
    made = tmp_path / "made"
    sample = ["sample", "image", "--checkpoint", str(out), "--prompt", "fh", "--out", str(made)]
    assert main([*sample, "--device", "cpu", "--json", "-"]) == 0
    printed = capsys.readouterr().out
    assert "ddpm, 100 steps, scale 3.0" in printed and len(list(made.glob("0*.png"))) == 1
    assert main([*sample, "--device", "cpu", "--respacing", "3", "--solver", "ddim", "--scale", "1"]) == 0


@pytest.mark.parametrize("name", ["upsample", "base_inpaint", "upsample_inpaint"])
def test_the_others_are_sampled_with_their_pictures(name, tmp_path, capsys):
    from PIL import Image

    out, rng = tmp_path / "run", np.random.default_rng(0)
    assert main(["weights", "convert", str(write_glide(name, tmp_path)), str(out)]) == 0
    for file, side in (("large", 16), ("small", 4), ("mask", 16)):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        if file == "mask":
            pixels = np.where(np.arange(side)[:, None, None] < 8, 255, 0).astype(np.uint8).repeat(16, 1)
            pixels = pixels.repeat(3, 2)
        Image.fromarray(pixels).save(tmp_path / f"{file}.png")
    large, small, mask = (str(tmp_path / f"{file}.png") for file in ("large", "small", "mask"))
    flags = {
        "upsample": ["--from", small],
        "base_inpaint": ["--task", "inpaint", "--from", large, "--mask", mask],
        "upsample_inpaint": ["--task", "inpaint", "--from", large, "--mask", mask, "--low", small],
    }
    sample = ["sample", "image", "--checkpoint", str(out), "--prompt", "fh", "--device", "cpu"]
    capsys.readouterr()
    assert main([*sample, "--out", str(tmp_path / "bare")]) == 2
    assert "--from" in capsys.readouterr().err
    made = tmp_path / "made"
    quick = ["--solver", "ddpm", "--steps", "4"] if name == "base_inpaint" else []
    assert main([*sample, *flags[name], *quick, "--out", str(made), "--json", "-"]) == 0
    printed = capsys.readouterr().out
    assert ("fast27" if "upsample" in name else "ddpm, 4 steps") in printed
    assert ("scale 5.0" if name == "base_inpaint" else "scale 1.0") in printed
    if "inpaint" in name:  # the upper half is generated
        with Image.open(made / "0000.png") as one, Image.open(large) as other:
            assert np.array_equal(np.asarray(one)[8:], np.asarray(other)[8:])
            assert not np.array_equal(np.asarray(one)[:8], np.asarray(other)[:8])


def test_what_cannot_be_used_is_one_line(tmp_path, capsys):
    def refused(command: list[str], *said: str) -> None:
        assert main(command) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert all(part in line for part in said), line

    file, out = write_glide("base", tmp_path), str(tmp_path / "run")
    convert = ["weights", "convert", str(file), out]
    (tmp_path / "short").mkdir()
    (short := tmp_path / "short" / "base.safetensors").write_bytes(
        write_glide("base", tmp_path, ".safetensors").read_bytes()[:-1000]
    )
    refused(["weights", "convert", str(short), out], "short")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(file.read_bytes()[:-1000])
    refused(["weights", "inspect", str(cut)], "cut.pt")
    tensors = filled(golden("glide")["base.shapes"])
    for change, told in (
        ({"out.2.weight": torch.zeros(3, 64, 3, 3)}, "makes 3"),
        ({"more": torch.zeros(2)}, "foreign"),
        ({"final_ln.bias": torch.full((128,), torch.nan)}, "not finite"),
    ):
        torch.save(tensors | change, tmp_path / "odd.pt")
        refused(["weights", "convert", str(tmp_path / "odd.pt"), out], "odd.pt", told)
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / "base.pt"
    alone.write_bytes(file.read_bytes())
    refused(["weights", "convert", str(alone), out], "no vocabulary beside it", "encoder.json", "--tokenizer")
    assert main(["weights", "convert", str(alone), out, "--tokenizer", str(tmp_path)]) == 0
    (tmp_path / "other").mkdir()
    write_vocabularies(tmp_path / "other")
    (tmp_path / "other" / "encoder.json").write_text(json.dumps({"a": 0, "b": 1}))
    wrong = [*convert[:3], str(tmp_path / "r"), "--tokenizer", str(tmp_path / "other")]
    refused(wrong, "a vocabulary of 2 tokens", "20")
    clip = write_clip(tmp_path)
    (tmp_path / "clip_text_enc.pt").unlink()
    refused(["weights", "inspect", str(clip)], "put the text tower beside it, as clip_text_enc.pt")


def test_clip_is_converted_and_the_same(tmp_path, capsys):
    file, out = write_clip(tmp_path), tmp_path / "clip"
    assert main(["weights", "inspect", str(file)]) == 0
    assert "image tower   clip_image_enc.pt" in capsys.readouterr().out
    assert main(["weights", "convert", str(file), str(out)]) == 0
    one, other = unveil.load(out, "cpu"), unveil.load(file, "cpu")
    assert isinstance(one, ClipModel) and one.counted_from == 0
    with torch.no_grad():
        assert torch.equal(one.image_embedding(X, TIMES), other.image_embedding(X, TIMES))
        assert torch.equal(one.text_embedding(["fh"]), other.text_embedding(["fh"]))

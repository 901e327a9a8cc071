"""Folders of unCLIP in Karlo's layout: each network equals that of diffusers."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import karlo_folders as karlo

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.image.data.tokenizer_files import read_clip_tokenizer
from unveil.image.settings import ImageSettings
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.image.unclip.unclip import Unclip
from unveil.image.weights.karlo import is_karlo, read_karlo
from unveil.loading import load
from unveil.network.condition import Condition
from unveil.process.schedule import cosine_betas

close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return karlo.write_karlo(tmp_path_factory.mktemp("karlo"))


@pytest.fixture(scope="module")
def read(folder):
    return read_karlo(folder)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def encoded(folder: Path, prompts: list[str]):
    """Ids, mask, and what the originals make of them."""
    ids, valid = read_clip_tokenizer(folder / "tokenizer", karlo.LENGTH)(prompts)
    with torch.no_grad():
        out = karlo.text()(ids)
    return ids, valid, out.last_hidden_state, out.text_embeds


def test_the_prior_is_that_of_diffusers(folder, read):
    ids, valid, hidden, pooled = encoded(folder, ["the cat", "a red photo of the cat !!"])
    assert valid.sum(1).tolist() != [karlo.LENGTH] * 2
    x = drawn(2, karlo.WIDTH)
    with torch.no_grad():
        theirs = karlo.prior()(x, torch.tensor([7, 981]), pooled, hidden, valid).predicted_image_embedding
        cond = Condition(tokens=hidden, token_valid=valid, vector=pooled)
        ours = read.prior(x, torch.tensor([7.0, 981.0]), cond)
        text = read.clip(ids, valid)
    close(ours, theirs)
    close(text.tokens, hidden)
    close(text.pooled, pooled)
    original = karlo.prior()
    torch.testing.assert_close(read.mean, original.clip_mean[0])
    torch.testing.assert_close(
        0.5 * read.std + read.mean, original.post_process_latents(torch.full((1, karlo.WIDTH), 0.5))[0]
    )


def test_the_decoder_is_that_of_diffusers_with_its_text_projection(folder, read):
    """As the pipeline calls it, for guidance: the learned embedding of no image and "", then the real ones."""
    prompts = ["", "a photo of the cat"]
    ids, valid, hidden, pooled = encoded(folder, prompts)
    z, x, time = drawn(1, karlo.WIDTH), drawn(2, 3, 16, 16), torch.tensor([3, 640])
    with torch.no_grad():
        tokens, shift = karlo.projection()(
            image_embeddings=z,
            prompt_embeds=pooled,
            text_encoder_hidden_states=hidden,
            do_classifier_free_guidance=True,
        )
        mask = F.pad(valid, (4, 0), value=True)
        theirs = karlo.decoder()(
            x, time, encoder_hidden_states=tokens, class_labels=shift, attention_mask=mask
        ).sample
        text = read.text(ids, valid)
        both = torch.cat([read.decoder.image.null[None], z])
        cond = Condition(tokens=text.tokens, token_valid=text.valid, vector=text.pooled, embedding=both)
        ours = read.decoder(x, time.float(), cond)
    close(ours, theirs)
    assert float(theirs.std()) > 0.1
    one, two = read.decoder.image(both)[1], tokens[:, :4]
    close(one, two)


def test_the_upsampler_has_two_networks_of_diffusers(read):
    x, low, time = drawn(2, 3, 32, 32), drawn(2, 3, 32, 32).flip(0), torch.tensor([0, 832])
    assert read.upsampler is not None and (read.size, read.large) == (16, 32)
    for ours, seed in zip(read.upsampler, (5, 6), strict=True):
        with torch.no_grad():
            theirs = karlo.upsampler(seed)(torch.cat([x, low], dim=1), time).sample
            close(ours(x, time.float(), Condition(concat=low)), theirs)


def test_schedulers_say_the_diffusion(read):
    assert (read.of_prior.steps, read.of_prior.clip, read.of_prior.learned) == (1000, 5.0, False)
    assert (read.of_decoder.clip, read.of_decoder.learned) == (1.0, True)


def changed(folder: Path, part: str, **values: object) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("part", "values", "error"),
    [
        ("prior", {"added_emb_type": None}, "its added_emb_type is None; prd can be read"),
        ("decoder", {"only_cross_attention": True}, "its only_cross_attention is True; False can be read"),
        ("decoder", {"cross_attention_dim": 20}, "its text_proj does not fit its decoder"),
        ("decoder", {"class_embed_type": None}, "its class_embed_type is None"),
        ("prior", {"num_layers": 3}, "tensors are missing"),
    ],
)
def test_other_variants_are_refused_in_one_line(folder, tmp_path, part, values, error):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert is_karlo(copy)
    changed(copy, part, **values)
    with pytest.raises(UnveilError) as raised:
        read_karlo(copy)
    assert error in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_component_is_named(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "text_proj")
    with pytest.raises(UnveilError, match=r"unCLIP without text_proj/config.json; copy this folder, too"):
        read_karlo(copy)


def test_the_whole_is_the_pipeline_of_diffusers(folder):
    """The same numbers are drawn in the same order, so that the images are equal but for rounding."""
    from diffusers import UnCLIPScheduler
    from diffusers.pipelines.deprecated.unclip import UnCLIPPipeline
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=karlo.LENGTH)
    schedulers: dict[str, Any] = {}
    for name in ("prior_scheduler", "decoder_scheduler", "super_res_scheduler"):
        scheduler: Any = UnCLIPScheduler.from_pretrained(folder / name)
        scheduler.betas = cosine_betas(1000)  # theirs are of float32, the last ones as 1 - 0.999
        scheduler.alphas = 1.0 - scheduler.betas
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
        schedulers[name] = scheduler
    pipeline: Any = UnCLIPPipeline(
        prior=karlo.prior(),
        decoder=karlo.decoder(),
        text_encoder=karlo.text(),
        tokenizer=tokenizer,
        text_proj=karlo.projection(),
        super_res_first=karlo.upsampler(5),
        super_res_last=karlo.upsampler(6),
        **schedulers,
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a photo of the cat",
        prior_num_inference_steps=4,
        decoder_num_inference_steps=5,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    model = load(folder, "cpu")
    assert isinstance(model, Unclip)
    ours = model.sample(
        ["a photo of the cat"],
        PriorSettings(prior_steps=4, prior_scale=4.0, candidates=1),
        ImageSettings("ddpm", steps=5, scale=8.0),
        [torch.Generator().manual_seed(3)],
    )
    difference = ours.pixels[0].permute(1, 2, 0).float() - torch.from_numpy(theirs[0]) * 255.0
    assert float(difference.abs().max()) < 1.0 and float(ours.pixels.float().std()) > 10.0


def test_a_folder_is_inspected_and_sampled_by_prompts(folder, tmp_path, capsys):
    assert main(["weights", "inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "unCLIP, Karlo's layout" in said and "16 x 16, enlarged to 32 x 32" in said
    sample = ["sample", "image", "--checkpoint", str(folder), "--steps", "3", "--prior-steps", "3"]
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*sample, *out, "--prompt", "a photo of the cat", "the cat"]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0000.png", "grid.png"]
    for words, error in (
        ([], "makes images of texts; give --prompt"),
        (["--prompt", "cat", "--interpolate", "a", "b"], "--from is not for this model"),
    ):
        capsys.readouterr()
        assert main([*sample, *out, *words]) == 2
        assert error in capsys.readouterr().err
    assert main(["weights", "convert", str(folder), str(tmp_path / "run")]) == 2
    assert "is used as it is" in capsys.readouterr().err

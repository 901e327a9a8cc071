"""Folders of unCLIP in Karlo's layout: each network equals that of diffusers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import karlo_folders as karlo

from unveil.errors import UnveilError
from unveil.image.data.tokenizer_files import read_clip_tokenizer
from unveil.image.weights.karlo import is_karlo, read_karlo
from unveil.network.condition import Condition

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


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
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.testing.assert_close(text.tokens, hidden, **CLOSE)
    torch.testing.assert_close(text.pooled, pooled, **CLOSE)
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
    torch.testing.assert_close(ours, theirs, **CLOSE)
    assert float(theirs.std()) > 0.1
    one, two = read.decoder.image(both)[1], tokens[:, :4]
    torch.testing.assert_close(one, two, **CLOSE)


def test_the_upsampler_has_two_networks_of_diffusers(read):
    x, low, time = drawn(2, 3, 32, 32), drawn(2, 3, 32, 32).flip(0), torch.tensor([0, 832])
    assert read.upsampler is not None and (read.size, read.large) == (16, 32)
    for ours, seed in zip(read.upsampler, (5, 6), strict=True):
        with torch.no_grad():
            theirs = karlo.upsampler(seed)(torch.cat([x, low], dim=1), time).sample
            torch.testing.assert_close(ours(x, time.float(), Condition(concat=low)), theirs, **CLOSE)


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

"""unCLIP by the commands, on stripes: a CLIP, priors of its embeddings, decoders."""

import json
import shutil
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image
from stripes import SMALL, WORDS, write_captioned

from unveil.cli import main
from unveil.image.generation import Given, generate
from unveil.image.model import ImageModel
from unveil.image.recipes.stored_clip import find_clip
from unveil.image.settings import ImageSettings
from unveil.image.unclip.autoregressive_prior import AutoregressivePrior
from unveil.image.unclip.prior_model import PriorModel
from unveil.image.unclip.prior_settings import PriorSettings
from unveil.loading import load

CLIP = [*split("--preset tiny --bfloat16 False --batch-size 16 --warmup 2 --embedding-width 6"), *SMALL]
DECODER = split(
    "--preset tiny --bfloat16 False --batch-size 8 --warmup 2 --steps 40 --save-every 20 --hold-out 0.3 --method v"
)
PRIOR = split(
    "--preset tiny --bfloat16 False --batch-size 32 --warmup 2 --device cpu --width 32 --layers 1 --heads 2 "
    "--diffusion-steps 50 --hold-out 0.3 --steps 60 --save-every 30 --keep 0 --captions txt"
)


def refused(capsys, command: list[str], *said: str) -> None:
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said) and error.strip().count("\n") == 0, error


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Stripes with captions, two CLIPs of them, and a prior of each."""
    folder = tmp_path_factory.mktemp("unclip")
    stripes = write_captioned(folder)
    data = ["--data", str(stripes), *WORDS, "--hold-out", "0.3", "--steps", "30"]
    for k, name in enumerate(("clip", "other")):
        run = ["--seed", str(k), "--out", str(folder / name)]
        assert main(["train", "clip", *CLIP, *data, *run]) == 0
    train = ["train", "prior", *PRIOR, "--data", str(stripes)]
    for clip, name in (("clip", "prior"), ("other", "other-prior")):
        run = ["--image-embedding", str(folder / clip), "--out", str(folder / name)]
        assert main([*train, *run]) == 0
    return folder


def test_a_prior_draws_embeddings_near_those_of_images(runs, tmp_path):
    """Images are of two kinds. The text's embedding is a CLIP's, whose images lie elsewhere than its texts;
    the prior's lies with the images."""
    out = tmp_path / "prior.json"
    assert main(["eval", "prior", "--checkpoint", str(runs / "prior"), "--json", str(out)]) == 0
    scores = json.loads(out.read_text())
    metrics, reference = scores["metrics"], scores["reference"]
    assert metrics["n"] == 12 and "held-out pairs" in scores["protocol"]
    assert metrics["cosine_image"] > 0.9 > metrics["cosine_other_images"]
    assert metrics["cosine_image"] > reference["mean image embedding"]["cosine_image"]
    assert reference["text embedding"]["cosine_text"] == pytest.approx(1.0)


def test_an_autoregressive_prior_does_so_too(runs, tmp_path, capsys):
    train = ["train", "prior", *PRIOR, "--data", str(runs / "stripes"), "--kind", "autoregressive", "--flip"]
    train += ["--image-embedding", str(runs / "clip"), "--bins", "16", "--out", str(tmp_path / "run")]
    refused(capsys, train, "--dimensions 32: the embeddings have 6 numbers; take at most as many")
    assert main([*train, "--dimensions", "4", "--steps", "400"]) == 0
    out = tmp_path / "prior.json"
    assert main(["eval", "prior", "--checkpoint", str(tmp_path / "run"), "--json", str(out)]) == 0
    scores = json.loads(out.read_text())
    assert "autoregressive prior, scale 2" in scores["protocol"]
    assert scores["metrics"]["cosine_image"] > 0.8 > scores["metrics"]["cosine_other_images"]
    assert isinstance(load(tmp_path / "run", "cpu"), AutoregressivePrior)


def test_a_prior_is_loaded_with_its_clip_and_is_a_clip_for_others(runs):
    prior = load(runs / "prior", "cpu")
    assert isinstance(prior, PriorModel)
    assert float((prior.std - 1.0).abs().min()) > 0.0 and not any("clip" in k for k in prior.state_dict())
    made = prior.sample(["stripes that lie", "stripes that stand"], PriorSettings(prior_steps=5), 3)
    assert made.shape == (2, 6)
    torch.testing.assert_close(made.norm(dim=1), torch.ones(2))
    kept, first = find_clip(str(runs / "prior")), find_clip(str(runs / "clip"))
    assert kept.weights.read_bytes() == first.weights.read_bytes() and kept.config == first.config


def test_a_resumed_prior_is_the_same_without_its_clip(runs, tmp_path):
    shutil.copytree(runs / "prior", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint-60")
    data = ["--data", str(runs / "stripes"), "--out", str(tmp_path / "run"), "--resume"]
    clip = ["--image-embedding", str(runs / "clip")]
    (runs / "clip").rename(runs / "moved")
    try:
        assert main(["train", "prior", *PRIOR, *data, *clip]) == 0
    finally:
        (runs / "moved").rename(runs / "clip")
    one, two = load(runs / "prior", "cpu"), load(tmp_path / "run", "cpu")
    assert isinstance(one, PriorModel) and isinstance(two, PriorModel)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_captions_that_are_cut_are_said(runs, tmp_path, capsys):
    stripes = write_captioned(tmp_path)
    next(stripes.rglob("*.txt")).write_text("stripes " * 9)
    data = ["--data", str(stripes), "--steps", "1", "--out", str(tmp_path / "run")]
    assert main(["train", "prior", *PRIOR, *data, "--image-embedding", str(runs / "clip")]) == 0
    assert "texts of more than the 5 tokens that the text encoder reads are cut" in capsys.readouterr().err


def test_bad_input_of_priors_is_refused_in_one_line(runs, tmp_path, capsys):
    data = ["--data", str(runs / "stripes"), "--out", str(tmp_path / "run")]
    train = ["train", "prior", *PRIOR, *data, "--image-embedding"]
    refused(
        capsys,
        [*train, str(runs / "clip"), "--size", "12", "--fit", "resize"],
        "reads images of 1 channels, of 8 pixels or a multiple of them, got 1 channels and 12 x 12; give "
        "--size 8 and --fit resize",
    )
    refused(capsys, [*train, "fashion-mnist"], "without a CLIP; give one of `unveil train clip`")
    refused(capsys, [*train, str(runs / "clip"), "--heads", "3"], "--heads 3 and 2 must divide --width 32")
    refused(capsys, ["eval", "prior", "--checkpoint", str(runs / "clip")], "by recipe 'clip'")
    shutil.copytree(runs / "prior", tmp_path / "prior")
    shutil.copy(runs / "other" / "tokenizer.json", tmp_path / "prior" / "clip-tokenizer.json")
    (last,) = (runs / "other").glob("checkpoint-*")
    shutil.copy(last / "ema.safetensors", tmp_path / "prior" / "clip.safetensors")
    refused(capsys, ["eval", "prior", "--checkpoint", str(tmp_path / "prior")], "is not the CLIP that")


@pytest.fixture(scope="module")
def decoders(runs) -> Path:
    """Decoders of the CLIP's embeddings, with and without captions."""
    train = ["train", "image", *DECODER, *SMALL, "--data", str(runs / "stripes"), "--flip"]
    train += ["--image-embedding", str(runs / "clip")]
    assert main([*train, *WORDS, "--out", str(runs / "decoder")]) == 0
    assert main([*train, "--no-samples", "--out", str(runs / "bare")]) == 0
    return runs


def test_a_decoder_keeps_its_clip(decoders):
    config = json.loads((decoders / "decoder" / "config.json").read_text())
    prior = json.loads((decoders / "prior" / "config.json").read_text())
    assert (config["embedding"], config["context"], config["label_drop"]) == (6, 8, 0.5)
    assert config["clip_digest"] == prior["clip_digest"]
    assert (decoders / "decoder" / "samples" / "step-000040.png").is_file()
    assert find_clip(str(decoders / "decoder")).config == find_clip(str(decoders / "clip")).config
    model = load(decoders / "decoder", "cpu")
    assert isinstance(model, ImageModel) and model.shape.embedding == 6 and model.text is not None
    bare = load(decoders / "bare", "cpu")
    assert isinstance(bare, ImageModel) and bare.text is None and bare.shape.context == 96


def test_a_decoder_goes_on_from_a_decoder_of_the_same_clip(decoders, tmp_path, capsys):
    train = ["train", "image", *DECODER, *SMALL, "--data", str(decoders / "stripes"), "--no-samples"]
    start = ["--start-from", str(decoders / "bare"), "--out", str(tmp_path / "run")]
    refused(capsys, [*train, *start], "reads image embeddings; give --image-embedding")
    other = ["--image-embedding", str(decoders / "other")]
    refused(capsys, [*train, *start, *other], "was trained with the embeddings of another CLIP")
    assert main([*train, *start, "--image-embedding", str(decoders / "bare"), "--steps", "3"]) == 0
    refused(capsys, [*train, *other, "--trunk", "dit"], "--image-embedding is for --trunk unet")
    refused(capsys, [*train, *other, "--size", "12", "--fit", "resize"], "reads images of 1 channels")
    assert main([*train, *other, "--size", "16", "--fit", "resize", "--out", str(tmp_path / "large")]) == 0


def sampled(folder: Path, *words: str) -> list[np.ndarray]:
    command = ["sample", "image", "--steps", "4", "--device", "cpu", "--out", str(folder), *words]
    assert main(command) == 0
    return [np.asarray(Image.open(file)) for file in sorted(folder.glob("0*.png"))]


def test_prompts_become_embeddings_become_images(decoders, tmp_path):
    """The prior's embeddings are those of its method `sample` for the seeds of the images; a decoder without
    captions reads prompts by the prior alone."""
    bare = ["--checkpoint", str(decoders / "bare"), "--prior", str(decoders / "prior"), "--prior-steps", "5"]
    prompts = ["stripes that lie", "stripes that stand"]
    made = sampled(tmp_path / "bare", *bare, "--prompt", *prompts, "-n", "3", "--seed", "7", "--scale", "2")
    prior, model = load(decoders / "prior", "cpu"), load(decoders / "bare", "cpu")
    assert isinstance(prior, PriorModel) and isinstance(model, ImageModel)
    z = prior.sample([*prompts, prompts[0]], PriorSettings(prior_steps=5), 7)
    settings = ImageSettings(steps=4, scale=2.0)
    again = generate(model, None, 3, settings, 7, given=Given(embeddings=z)).pixels
    assert all(np.array_equal(one, two[0]) for one, two in zip(made, again.numpy(), strict=True))
    png = ["--from-png", str(tmp_path / "bare" / "grid.png"), "--out", str(tmp_path / "again")]
    assert main(["sample", "image", *png]) == 0
    for file in ("grid.png", "0002.png"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "bare" / file).read_bytes()
    worded = ["--checkpoint", str(decoders / "decoder"), "--prompt", prompts[0], "-n", "1"]
    kinds = {
        sampled(tmp_path / kind, *worded, *words)[0].tobytes()
        for kind, words in (
            ("none", []),
            ("text", ["--prior", "text"]),
            ("prior", ["--prior", str(decoders / "prior")]),
        )
    }
    assert len(kinds) == 3


def test_images_are_varied_interpolated_and_edited(decoders, tmp_path):
    at = ["--checkpoint", str(decoders / "bare")]
    one, two = (str(decoders / "stripes" / file) for file in ("lie/0.png", "stand/1.png"))
    varied = sampled(tmp_path / "v", *at, "--variations", one, "-n", "2")
    assert not np.array_equal(varied[0], varied[1])
    between = sampled(tmp_path / "i", *at, "--interpolate", one, two, "-n", "3")
    ends = [
        sampled(tmp_path / f"r{k}", *at, "--task", "reconstruct", "--from", it, "-n", "1", "--solver", "ddim")
        for k, it in enumerate((one, two))
    ]
    assert np.abs(between[0].astype(int) - ends[0][0]).max() <= 1
    assert np.abs(between[2].astype(int) - ends[1][0]).max() <= 1
    edit = ["--from", one, "--edit", "stripes that lie", "stripes that stand", "-n", "3"]
    edited = sampled(tmp_path / "e", *at, *edit)
    assert np.abs(edited[0].astype(int) - ends[0][0]).max() <= 1
    assert not np.array_equal(edited[0], edited[2])


def test_a_packaged_decoder_keeps_its_clip(decoders, tmp_path):
    pack = ["weights", "pack", "--run", str(decoders / "bare"), "--name", "small", "--into", str(tmp_path)]
    assert main(pack) == 0
    one, at = str(decoders / "stripes" / "lie" / "0.png"), ["--checkpoint", str(tmp_path / "small")]
    assert len(sampled(tmp_path / "v", *at, "--variations", one, "-n", "2")) == 2
    prior = ["--prior", str(decoders / "prior"), "--prompt", "stripes that lie"]
    assert len(sampled(tmp_path / "p", *at, *prior, "-n", "1")) == 1


def test_bad_input_of_decoders_is_refused_in_one_line(decoders, tmp_path, capsys):
    one = str(decoders / "stripes" / "lie" / "0.png")
    plain = ["train", "image", *DECODER, *SMALL, "--data", str(decoders / "stripes"), "--no-samples"]
    assert main([*plain, "--steps", "1", "--out", str(tmp_path / "plain")]) == 0
    sample = ["sample", "image", "--steps", "3", "-n", "1", "--out", str(tmp_path / "out"), "--checkpoint"]
    bare, prompt = str(decoders / "bare"), ["--prompt", "stripes"]
    other = [*sample, bare, *prompt, "--prior", str(decoders / "other-prior")]
    refused(capsys, other, "draws embeddings of another CLIP than the decoder's")
    refused(capsys, [*sample, bare, *prompt], "reads no prompts: give --prior")
    refused(
        capsys, [*sample, bare, "--prior", str(decoders / "prior")], "for --prompt; images of --from have"
    )
    refused(capsys, [*sample, bare, *prompt, "--prior-scale", "3"], "need --prior, a run folder")
    refused(capsys, [*sample, bare, "--edit", "a"], "--edit is two texts, before and after; got 1")
    refused(capsys, [*sample, bare, "--edit", "a", "b"], "edit needs images: give --from")
    refused(capsys, [*sample, bare, "--from", one, "--edit", "stripes", "stripes"], "have the same embedding")
    refused(
        capsys, [*sample, bare, "--variations", one, "--eta", "0"], "give --solver ddim and --eta above 0"
    )
    refused(capsys, [*sample, bare, "--interpolate", one], "needs two images in --from, got 1")
    alone = [*sample, str(tmp_path / "plain")]
    refused(capsys, [*alone, "--variations", one], "this model reads no image embedding; give --task img2img")
    refused(
        capsys, [*alone, *prompt, "--prior", "text"], "--prior draws image embeddings, and this model reads"
    )
    refused(capsys, [*sample, bare, *prompt, "--prior", bare], "by recipe 'image', but 'prior' is needed")

"""Adapters and words that are trained on Stable Diffusion's layout: diffusers and transformers load the files
and compute what our model computes."""

import sys
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("peft")
sys.path.insert(0, str(Path(__file__).parents[2]))
import stable_diffusion_pipelines as pipelines
from unveil.cli import main
from unveil.image.weights.textual_inversion import read_words
from unveil.loading import load

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = split(
    "--bfloat16 False --device cpu --batch-size 1 --steps 2 --save-every 2 --no-samples --learning-rate 1e-1"
)


@pytest.fixture(scope="module", params=["1", "2"])
def version(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def base(version, tmp_path_factory) -> Path:
    """A pipeline's folder, and two pictures."""
    folder = tmp_path_factory.mktemp("sd")
    pipelines.save(folder / "pipeline", pipelines.components(version), version)
    (folder / "cats").mkdir()
    rng = np.random.default_rng(0)
    for k in range(2):
        pixels = rng.integers(0, 255, (20, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "cats" / f"{k}.png")
    return folder


def train(verb: str, base: Path, out: Path, *flags: str) -> None:
    data = ["--base", str(base / "pipeline"), "--data", str(base / "cats")]
    assert main(["train", verb, *QUICK, *data, *flags, "--out", str(out)]) == 0


@torch.no_grad()
def test_diffusers_computes_with_both_files_what_the_run_computes(base, version, tmp_path, monkeypatch):
    import diffusers
    import transformers.integrations.peft as integration

    monkeypatch.setattr(integration, "check_peft_version", lambda **_: None)  # it demands a newer one
    flags = split(
        "--dreambooth 'a cat' --rank 3 --alpha 1.5 --layers transformer --conv-rank 2 --text-encoder"
    )
    with torch.enable_grad():
        train("lora", base, tmp_path / "run", *flags, "--prior", "cat", "--prior-images", "1")
    ours, plain = load(tmp_path / "run", "cpu"), load(base / "pipeline", "cpu")
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500.0])
    cond = ours.text(["a cat"], torch.device("cpu"))
    wanted = ours.denoiser.network(x, t, cond)
    before = plain.denoiser.network(x, t, plain.text(["a cat"], torch.device("cpu")))
    assert float((wanted - before).abs().max()) > 1e-2
    ids = pipelines.tokenizer()(["a cat"]).ids
    for name in ("lora-kohya.safetensors", "pytorch_lora_weights.safetensors"):
        parts = pipelines.components(version)
        pipeline = diffusers.StableDiffusionPipeline(
            None,
            parts["text_encoder"],
            None,
            parts["unet"],
            pipelines.scheduler(version),
            None,
            None,
            None,
            False,
        )
        pipeline.load_lora_weights(str(tmp_path / "run"), weight_name=name)
        encoded = pipeline.text_encoder(ids)[0]
        torch.testing.assert_close(encoded, cond.tokens, atol=1e-5, rtol=1e-5)
        made = pipeline.unet(x, t, encoded).sample
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_word_in_the_table_of_transformers_is_ours(base, version, tmp_path):
    with torch.enable_grad():
        train("inversion", base, tmp_path / "run", *split("--token '<cat>' --init cat --vectors 2"))
    ours = load(tmp_path / "run", "cpu")
    (word,) = read_words(tmp_path / "run" / "learned_embeds.safetensors")
    encoder = pipelines.components(version)["text_encoder"]
    count = encoder.get_input_embeddings().weight.shape[0]
    encoder.resize_token_embeddings(count + 2)
    encoder.get_input_embeddings().weight[count:] = word.vectors
    (cat,) = ours.text.tokenizer.ids("cat")
    assert bool((word.vectors != encoder.get_input_embeddings().weight[cat]).any(1).all())
    assert ours.text.ids("a <cat>")[-2:] == [count, count + 1]
    ids, _ = ours.text.tokenizer.framed([ours.text.ids("a <cat>")])
    cond = ours.text(["a <cat>"], torch.device("cpu"))
    torch.testing.assert_close(encoder(ids)[0], cond.tokens, atol=1e-5, rtol=1e-5)

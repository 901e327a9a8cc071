"""Runs that began with Stable Diffusion, written back: diffusers and our readers find what was learned."""

import sys
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))
import stable_diffusion_pipelines as pipelines
from unveil.cli import main
from unveil.files.safetensors import read_tensors
from unveil.image.weights.stable_diffusion import find_stable_diffusion, read_unet
from unveil.loading import load
from unveil.runs.checkpoints import find_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = split(
    "--bfloat16 False --device cpu --batch-size 2 --steps 2 --save-every 2 --sample-every -1 --learning-rate 1e-2"
)
TUNE = split("--hold-out 0 --captions txt --warmup 0 --final-fraction 1")


@pytest.fixture(scope="module", params=["1", "2"])
def base(request, tmp_path_factory) -> Path:
    """A pipeline's folder, two captioned pictures, the pipeline as a run, one that was trained on, and a LoRA."""
    folder, rng = tmp_path_factory.mktemp("sd"), np.random.default_rng(0)
    pipelines.save(folder / "pipeline", pipelines.components(request.param), request.param)
    (folder / "cats").mkdir()
    for k in range(2):
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "cats" / f"{k}.png")
        (folder / "cats" / f"{k}.txt").write_text("a cat")
    assert main(["weights", "convert", str(folder / "pipeline"), str(folder / "same")]) == 0
    data = ["--data", str(folder / "cats")]
    start = ["--start-from", str(folder / "same"), "--out", str(folder / "tuned")]
    assert main(["train", "image", *QUICK, *TUNE, *data, *start]) == 0
    lora = ["--base", str(folder / "same"), "--rank", "2", "--no-samples", "--out", str(folder / "lora")]
    few = [word for word in QUICK if word not in ("--sample-every", "-1")]
    assert main(["train", "lora", *few, *data, "--dreambooth", "a cat", *lora]) == 0
    return folder


def written(base: Path, run: str, out: Path, *flags: str) -> Path:
    assert main(["weights", "convert", str(base / run), str(out), *flags]) == 0
    return out


def test_what_nobody_trained_is_written_back_as_it_was(base, tmp_path):
    out = written(base, "same", tmp_path / "back", "--layout", "diffusers")
    for part, name in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")):
        one, other = (read_tensors(it / part / f"{name}.safetensors") for it in (base / "pipeline", out))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@torch.no_grad()
@pytest.mark.parametrize("run", ["tuned", "lora"])
def test_diffusers_computes_what_the_run_computes(base, tmp_path, run):
    import diffusers

    ours, before = load(base / run, "cpu"), load(base / "same", "cpu")
    out = written(base, run, tmp_path / "back", "--layout", "diffusers")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        out, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500.0])
    ids = pipeline.tokenizer(["a cat"], padding="max_length", return_tensors="pt").input_ids
    cond = ours.text(["a cat"], torch.device("cpu"))
    encoded = pipeline.text_encoder(ids)[0]
    torch.testing.assert_close(encoded, cond.tokens, atol=1e-5, rtol=1e-5)
    wanted = ours.denoiser.network(x, t, cond)
    torch.testing.assert_close(pipeline.unet(x, t, encoded).sample, wanted, atol=1e-5, rtol=1e-5)
    change = before.denoiser.network(x, t, before.text(["a cat"], torch.device("cpu"))) - wanted
    assert float(change.abs().max()) > 1e-3
    wanted_type = "v_prediction" if ours.shape.predicts == "v" else "epsilon"
    assert pipeline.scheduler.config.prediction_type == wanted_type
    assert pipeline.vae.config.scaling_factor == 0.18215


def test_one_file_is_read_again(base, tmp_path):
    flags = ["--layout", "single", "--dtype", "float16"]
    out = written(base, "tuned", tmp_path / "one.safetensors", *flags)
    found = find_stable_diffusion(out)
    ours = load(base / "tuned", "cpu")
    one, other = (it.state_dict() for it in (ours.denoiser.network, read_unet(found)))
    assert all(torch.equal(one[name].half(), other[name]) for name in one)
    assert found.described.predicts == ours.shape.predicts


def test_other_networks_are_refused(base, tmp_path, capsys):
    out = str(tmp_path / "out")
    for run in ("shapes-text", "emoji-text"):
        place = str(find_checkpoint(run))
        capsys.readouterr()
        assert main(["weights", "convert", place, out, "--layout", "diffusers"]) == 2
        error = capsys.readouterr().err
        assert "not Stable Diffusion's" in error and error.count("\n") == 1
    written(base, "tuned", tmp_path / "there", "--layout", "diffusers")
    assert (
        main(["weights", "convert", str(base / "tuned"), str(tmp_path / "there"), "--layout", "diffusers"])
        == 2
    )
    assert "is in the way" in capsys.readouterr().err


def test_what_cannot_be_written_is_said_in_one_line(base, tmp_path, capsys):
    word = ["--base", str(base / "same"), "--token", "<cat>", "--no-samples", "--out", str(tmp_path / "word")]
    few = [flag for flag in QUICK if flag not in ("--sample-every", "-1")]
    assert main(["train", "inversion", *few, "--data", str(base / "cats"), *word]) == 0
    convert = ["weights", "convert", "--layout", "diffusers"]
    for run, flags, said in (
        (tmp_path / "word", [], "learned_embeds.safetensors"),
        (base / "tuned", ["--raw"], "leave --raw out"),
    ):
        capsys.readouterr()
        assert main([*convert, str(run), str(tmp_path / "out"), *flags]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error
        assert not (tmp_path / "out").exists()

"""`unveil weights push` to a hub on this machine, and the models loaded back from it."""

import json
import shutil
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("huggingface_hub")

import unveil
from foreign_images import pipeline
from hub_server import READER, WRITER, serving
from unveil.cli import main
from unveil.commands.push import MARK, Push, push
from unveil.errors import UnveilError
from unveil.runs.checkpoints import ZOO
from unveil.training.checkpoint import save_checkpoint

# what huggingface_hub does by itself
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of images as a training leaves it, of two checkpoints; the averaged weights are not the raw ones."""
    folder = tmp_path_factory.mktemp("push")
    assert main(["weights", "convert", str(pipeline("ddpm", folder / "theirs")), str(folder / "run")]) == 0
    (checkpoint,) = (folder / "run").glob("checkpoint-*")
    weights = load_file(checkpoint / "ema.safetensors")
    for step in (2, 4):
        ema = {name: value * step for name, value in weights.items()}
        parts = {"ema": ema, "network": weights, "optimizer": {"0.step": torch.ones(1)}}
        save_checkpoint(folder / "run" / f"checkpoint-{step}", parts, {"step": step})
    shutil.rmtree(checkpoint)
    file = folder / "run" / "config.json"
    described = json.loads(file.read_text()) | {"data": "/home/secret-name/data.npz", "out": "secret-name"}
    del described["origin"]
    file.write_text(json.dumps(described))
    records = [{"step": step, "loss": 0.5 / step, "steps_per_second": 0.01} for step in (2, 4)]
    (folder / "run" / "metrics.jsonl").write_text("".join(json.dumps(it) + "\n" for it in records))
    return folder / "run"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with serving(tmp_path / "home", monkeypatch) as hub:
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield hub


def refused(config: Push) -> str:
    with pytest.raises(UnveilError) as caught:
        push(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_pushed_loads_back(hub, run, capsys):
    """The averaged weights of the newest checkpoint, in full precision, and nothing that names this machine."""
    assert main(["weights", "push", str(run), "me/images"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{hub.url}/me/images\n") and 'unveil.load("me/images")' in said
    files = hub.repositories["me/images"].branches["main"]
    assert set(files) == {
        ".gitattributes",
        "README.md",
        "config.json",
        "manifest.json",
        "weights.safetensors",
    }
    assert files["weights.safetensors"] == (run / "checkpoint-4" / "ema.safetensors").read_bytes()
    assert b"secret-name" not in files["config.json"] + files["README.md"]
    theirs, ours = unveil.load("me/images", "cpu").state_dict(), unveil.load(run, "cpu").state_dict()
    raw = unveil.load(run / "checkpoint-2", "cpu").state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    assert any(not torch.equal(theirs[name], value) for name, value in raw.items())
    assert (
        main(["sample", "image", "--checkpoint", "me/images", "-n", "1", "--steps", "1", "--device", "cpu"])
        == 0
    )


def test_the_card_says_what_it_is_and_how_to_use_it(hub, run):
    push(Push(run, "me/images"))
    card = hub.repositories["me/images"].branches["main"]["README.md"].decode()
    front, text = card.removeprefix("---\n").split("\n---\n")
    assert "library_name: unveil" in front and "pipeline_tag: unconditional-image-generation" in front
    assert 'unveil.load("me/images")' in text and "unveil sample image --checkpoint me/images" in text
    assert (
        "trained by `unveil train image`: 4 steps in 7 minutes, final loss 0.1250" in text
        and '"recipe": "image"' in text
        and MARK in text
    )


def test_a_card_of_ones_own_is_kept_here_and_there(hub, run, tmp_path):
    """On the Hub until its mark is taken out; in the run folder always."""
    files = (hub.put("me/images", {}).branches)["main"]
    push(Push(run, "me/images"))
    before = files["README.md"]
    files["README.md"] = before + b"edited"
    push(Push(run, "me/images"))
    assert files["README.md"] == before
    files["README.md"] = b"# my own page"
    hub.sent.clear()
    push(Push(run, "me/images"))
    assert files["README.md"] == b"# my own page"
    (run / "README.md").write_text("# Flowers\n\nOf my garden.\n")
    try:
        push(Push(run, "me/other"))
    finally:
        (run / "README.md").unlink()
    card = hub.repositories["me/other"].branches["main"]["README.md"].decode()
    assert (
        card.startswith("---\nlibrary_name: unveil\n")
        and "# Flowers\n\nOf my garden.\n" in card
        and MARK in card
    )


@pytest.mark.parametrize("name", ["text-shakespeare", "hopper-medium"])
def test_packaged_models_with_their_tokenizer_or_value(hub, name):
    push(Push(Path(name), f"me/{name}"))
    files = hub.repositories[f"me/{name}"].branches["main"]
    beside = {"text-shakespeare": "tokenizer.json", "hopper-medium": "value.safetensors"}[name]
    assert files[beside] == (ZOO / name / beside).read_bytes()
    assert f"# {name}".encode() in files["README.md"] and b"Licence of the weights: MIT" in files["README.md"]
    theirs, ours = unveil.load(f"me/{name}", "cpu"), unveil.load(name, "cpu")
    theirs, ours = (getattr(it, "model", it).state_dict() for it in (theirs, ours))
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())


@pytest.mark.parametrize("kind", ["lora", "inversion"])
def test_what_was_learned_for_a_packaged_model_finds_it_again(hub, tmp_path, kind):
    """LoRA and learned words are pushed alone, and applied to the packaged model where they are loaded."""
    (tmp_path / "rings").mkdir()
    for k, name in enumerate("ab"):
        picture = np.full((64, 64, 3), 200 + 20 * k, np.uint8)
        iio.imwrite(tmp_path / "rings" / f"{name}.png", picture)
        (tmp_path / "rings" / f"{name}.txt").write_text("a wall")
    flags = ["--base", "emoji-text", "--data", str(tmp_path / "rings"), "--out", str(tmp_path / "run")]
    flags += ["--steps", "2", "--batch-size", "1", "--device", "cpu", "--no-samples", "--bfloat16", "False"]
    flags += {"lora": ["--captions", "txt"], "inversion": ["--token", "<wall>", "--init", "rocket"]}[kind]
    assert main(["train", kind, *flags]) == 0
    push(Push(tmp_path / "run", "me/walls"))
    weights = hub.repositories["me/walls"].branches["main"]["weights.safetensors"]
    assert len(weights) < 2**20  # not the whole model
    theirs, ours = (unveil.load(it, "cpu") for it in ("me/walls", str(tmp_path / "run")))
    state = theirs.state_dict()
    assert all(torch.equal(state[name], value) for name, value in ours.state_dict().items())
    theirs, ours = (model.condition(None, 1, prompts=["a <wall>"]).tokens for model in (theirs, ours))
    assert torch.equal(theirs, ours)


def test_private_repositories_and_branches(hub, run, monkeypatch):
    said = push(Push(run, "me/images", private=True, revision="v2"))
    it = hub.repositories["me/images"]
    assert (
        it.private and set(it.branches) == {"main", "v2"} and "weights.safetensors" not in it.branches["main"]
    )
    assert said.startswith(f"{hub.url}/me/images/tree/v2\n") and 'unveil.load("me/images@v2")' in said
    assert unveil.load("me/images@v2", "cpu")
    push(Push(run, "me/images", revision="v2"))
    monkeypatch.delenv("HF_TOKEN")
    hub.repositories["me/open"] = it
    with pytest.raises(UnveilError, match="no such repository, or a private one"):
        unveil.load("me/open@v2", "cpu")


def test_what_is_no_run_or_may_not_be_written_is_one_line(hub, run, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    assert "no good checkpoint here" in refused(Push(tmp_path / "empty", "me/it"))
    assert "no such run folder" in refused(Push(Path("some/run"), "me/it"))
    for name in ("it", "me/it/x", "me/it@v1", "a b/c", "me/it:fp16"):
        assert "no name of a repository; give ORG/NAME" in refused(Push(run, name))
    hub.put("me/photos", {"photo.jpg": b"1", "config.json": b"{}"})
    assert "me/photos holds something else (config.json, photo.jpg)" in refused(Push(run, "me/photos"))
    assert set(hub.repositories["me/photos"].branches["main"]) == {"photo.jpg", "config.json"}
    damaged = tmp_path / "damaged" / "checkpoint-4"
    damaged.mkdir(parents=True)
    for file in (run / "checkpoint-4").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged.parent / "config.json").write_bytes((run / "config.json").read_bytes())
    weights = bytearray((damaged / "ema.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "ema.safetensors").write_bytes(weights)
    assert "its checksum differs from the manifest" in refused(Push(damaged.parent, "me/it"))
    lora = tmp_path / "lora"
    (lora / "checkpoint-4").mkdir(parents=True)
    for file in (run / "checkpoint-4").iterdir():
        (lora / "checkpoint-4" / file.name).write_bytes(file.read_bytes())
    (lora / "config.json").write_text(
        json.dumps({"recipe": "text", "lora_rank": 2, "checkpoint": "/runs/base"})
    )
    assert "LoRA weights for /runs/base, a folder of this machine" in refused(Push(lora, "me/it"))
    monkeypatch.setenv("HF_TOKEN", READER)
    assert "the token (HF_TOKEN, hf auth login) may not write here (HTTP 403)" in refused(Push(run, "me/it"))
    monkeypatch.delenv("HF_TOKEN")
    assert "a token is needed: set HF_TOKEN, or run hf auth login" in refused(Push(run, "me/it"))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it" in refused(Push(run, "me/it"))
    assert "me/it" not in hub.repositories


def test_without_huggingface_hub_one_line_says_how_to_install_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'unveil[hub]'" in refused(Push(run, "me/it"))

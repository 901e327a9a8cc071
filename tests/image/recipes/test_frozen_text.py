"""A frozen text encoder of transformers in the training of images: found again, never stored, never changed."""

import json
from pathlib import Path

import pytest
import torch
from stripes import TINY, write_captioned

from unveil.cli import main
from unveil.loading import load

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "stripes", "that", "lie", "stand"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Captioned stripes, a random BERT, and a run with it, the memory of whose steps is counted first."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("frozen")
    stripes = write_captioned(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    transformers.BertModel(config).save_pretrained(folder / "bert")
    (folder / "bert" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    flags = ["--data", str(stripes), "--captions", "txt", "--encoder", str(folder / "bert")]
    flags += ["--text-length", "8", "--save-every", "3", "--steps", "3", "--out", str(folder / "run")]
    assert main(["train", "image", *TINY, *flags]) == 0
    return folder


def test_the_encoder_is_not_part_of_the_weights(base):
    config = json.loads((base / "run" / "config.json").read_text())
    assert (config["context"], config["pooled"]) == (16, 16)
    model = load(base / "run", "cpu")
    assert model.text is not None and not any(name.startswith("text.") for name in model.state_dict())
    one, two = (
        model.text([text], torch.device("cpu")).tokens for text in ("stripes that lie", "stripes that stand")
    )
    assert one is not None and two is not None and not torch.equal(one, two)
    again = model.text(["a", "stripes that lie"], torch.device("cpu")).tokens
    assert again is not None and torch.equal(again[1:], one)


def test_the_memory_of_a_step_is_counted_without_the_encoder(base):
    """On `meta` nothing is encoded, and the sizes are those of real texts."""
    text = load(base / "run", "cpu").text
    assert text is not None
    real, empty = (text(["stripes", "lie"], torch.device(device)) for device in ("cpu", "meta"))
    for name in ("tokens", "token_valid", "vector"):
        assert getattr(real, name).shape == getattr(empty, name).shape
        assert getattr(real, name).dtype == getattr(empty, name).dtype


def test_its_prompts_are_sampled(base, tmp_path):
    sample = ["sample", "image", "--checkpoint", str(base / "run"), "--steps", "2", "-n", "2"]
    assert main([*sample, "--prompt", "stripes that lie", "--out", str(tmp_path / "out")]) == 0


def test_another_encoder_in_its_place_is_refused(base, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    file = base / "bert" / "model.safetensors"
    before = file.read_bytes()
    tensors = load_file(file)
    tensors["embeddings.word_embeddings.weight"][5] += 1.0
    save_file(tensors, file)
    try:
        sample = ["sample", "image", "--checkpoint", str(base / "run"), "-n", "1", "--prompt", "stripes"]
        assert main([*sample, "--out", str(tmp_path / "x")]) != 0
        assert "not the text encoder" in capsys.readouterr().err
    finally:
        file.write_bytes(before)

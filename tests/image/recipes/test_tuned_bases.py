"""Adapters and words for bases of each kind: a frozen BERT, codes of an autoencoder, and in bfloat16."""

import json
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from stripes import TINY, TUNED, WORDS, write_captioned, write_rings

from unveil.cli import main
from unveil.files.safetensors import read_tensors
from unveil.loading import load

KINDS = ("bert", "codes", "bfloat16")
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "stripes", "that", "lie", "stand", "ring"]
PROMPT = "stripes that ring"
AUTOENCODER = split(
    "train autoencoder --preset tiny --width 8 --groups 4 --latent 3 --batch-size 4 --warmup 2 --device cpu "
    "--adversarial 0 --perceptual 0 --save-every 2 --steps 2 --hold-out 0 --bfloat16 False"
)


def flags_of(kind: str, folder: Path, stripes: Path) -> list[str]:
    """The flags of a base, after what it needs was made."""
    if kind == "bert":
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        config = transformers.BertConfig(vocab_size=len(TOKENS), max_position_embeddings=12, **sizes)
        transformers.BertModel(config).save_pretrained(folder / "bert")
        (folder / "bert" / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
        return ["--captions", "txt", "--encoder", str(folder / "bert"), "--text-length", "8"]
    if kind == "codes":
        assert main([*AUTOENCODER, "--data", str(stripes), "--out", str(folder / "ae")]) == 0
        return [*WORDS, "--latent", str(folder / "ae"), "--multiples", "1", "--attention", "2"]
    return [*WORDS, "--bfloat16", "True"]


@pytest.fixture(scope="module", params=KINDS)
def tuned(request, tmp_path_factory) -> tuple[str, Path]:
    """A base, adapters and a word for it."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    stripes = write_captioned(folder)
    rings = write_rings(folder, 8)
    train = ["--data", str(stripes), "--no-samples", "--save-every", "4", "--steps", "4", "--learning-rate"]
    assert (
        main(
            ["train", "image", *TINY, *train, "5e-2", *flags_of(kind, folder, stripes), *out(folder, "base")]
        )
        == 0
    )
    few = [*TUNED, "--base", str(folder / "base"), "--data", str(rings)]
    few += ["--bfloat16", str(kind == "bfloat16")]
    assert main(["train", "lora", *few, "--dreambooth", PROMPT, "--text-encoder", *out(folder, "lora")]) == 0
    word = ["--token", "<ring>", "--init", "stripes"]
    assert main(["train", "inversion", *few, *word, *out(folder, "inversion")]) == 0
    return kind, folder


def out(folder: Path, name: str) -> list[str]:
    return ["--out", str(folder / name)]


def predicted(model, prompt: str) -> torch.Tensor:
    """The network's answer to fixed noise and a prompt."""
    shape = model.shape
    x = torch.randn(1, shape.channels, shape.size, shape.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.denoiser.network(x, torch.tensor([10.0]), model.text([prompt], torch.device("cpu")))


def test_adapters_change_what_is_predicted_and_files_say_the_same(tuned):
    _, folder = tuned
    base, ours = load(folder / "base", "cpu"), load(folder / "lora", "cpu")
    change = predicted(ours, PROMPT) - predicted(base, PROMPT)
    assert float(change.abs().max()) > 1e-3
    names = read_tensors(folder / "lora" / "lora-kohya.safetensors")
    assert {name.split("_")[1] for name in names} == {"unet", "te"}


def test_pictures_of_a_file_are_those_of_the_run(tuned, tmp_path):
    _, folder = tuned
    sample = ["sample", "image", *split("--steps 2 -n 2 --scale 2"), "--prompt", PROMPT, "--device", "cpu"]
    assert main([*sample, "--checkpoint", str(folder / "lora"), *out(tmp_path, "run")]) == 0
    file = ["--lora", str(folder / "lora" / "lora-kohya.safetensors")]
    assert main([*sample, "--checkpoint", str(folder / "base"), *file, *out(tmp_path, "file")]) == 0
    for name in ("0000.png", "0001.png"):
        pixels = [np.asarray(_read(tmp_path / it / name), np.int16) for it in ("run", "file")]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


def _read(file: Path) -> np.ndarray:
    import imageio.v3 as iio

    return iio.imread(file)


def test_a_learned_word_is_a_word_of_its_own(tuned):
    _, folder = tuned
    base, ours = load(folder / "base", "cpu"), load(folder / "inversion", "cpu")
    assert torch.equal(predicted(ours, "stripes that lie"), predicted(base, "stripes that lie"))
    change = predicted(ours, "<ring> that lie") - predicted(base, "stripes that lie")
    assert float(change.abs().max()) > 1e-4


def test_adapters_in_bfloat16_are_stored_in_float32(tuned):
    kind, folder = tuned
    config = json.loads((folder / "lora" / "config.json").read_text())
    assert config["bfloat16"] == (kind == "bfloat16")
    (checkpoint,) = sorted((folder / "lora").glob("checkpoint-6"))
    stored = read_tensors(checkpoint / "network.safetensors")
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in stored.values())

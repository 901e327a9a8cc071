"""A learned word of a small model of captioned stripes by the commands, and of Stable Diffusion's layout."""

import json
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import torch
from PIL import Image
from stripes import TINY, TUNED, WORDS, write_captioned, write_rings

from unveil.cli import main
from unveil.files.safetensors import read_tensors
from unveil.image.prompts.learned_words import table_of
from unveil.image.weights.textual_inversion import read_words
from unveil.loading import load

BASE = [*TINY, *split("--save-every 6 --no-samples --steps 6 --learning-rate 5e-2")]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Stripes with a caption each, a run on them, two pictures of rings, and a word of two vectors for these."""
    folder = tmp_path_factory.mktemp("word")
    stripes = write_captioned(folder)
    flags = ["--data", str(stripes), *WORDS, "--out", str(folder / "base")]
    assert main(["train", "image", *BASE, *flags]) == 0
    write_rings(folder, 8)
    assert main(word(folder, folder / "run", "--init", "stripes", "--vectors", "2")) == 0
    return folder


def word(folder: Path, out: Path, *flags: str) -> list[str]:
    data = ["--base", str(folder / "base"), "--data", str(folder / "rings"), "--token", "<ring>"]
    return ["train", "inversion", *TUNED, *data, *flags, "--out", str(out)]


def sampled(checkpoint: Path, out: Path, *flags: str, prompt: str) -> np.ndarray:
    sample = ["sample", "image", "--checkpoint", str(checkpoint), *split("--steps 2 -n 1 --scale 2 --prompt")]
    assert main([*sample, prompt, *flags, "--out", str(out)]) == 0
    with Image.open(out / "0000.png") as picture:
        return np.array(picture)


def test_only_the_rows_of_the_word_change(base):
    before, after = load(base / "base", "cpu"), load(base / "run", "cpu")
    assert before.text is not None and after.text is not None
    table, grown = table_of(before.text), table_of(after.text)
    assert torch.equal(grown[: len(table)], table) and len(grown) == len(table) + 2
    changed = {name.replace("words.table.", "words."): value for name, value in after.state_dict().items()}
    assert all(torch.equal(changed[name], weight) for name, weight in before.state_dict().items())
    (begun,) = before.text.ids("stripes")
    assert bool((grown[-2:] != table[begun]).any(1).all())
    stored = read_tensors(base / "run" / "checkpoint-6" / "ema.safetensors")
    assert list(stored) == ["vectors"] and torch.equal(stored["vectors"], grown[-2:])


def test_the_files_hold_the_word_and_make_the_pictures_of_the_run(base, tmp_path):
    wanted = sampled(base / "run", tmp_path / "run", prompt="a <ring>")
    assert not np.array_equal(wanted, sampled(base / "run", tmp_path / "plain", prompt="a"))
    vectors = read_tensors(base / "run" / "checkpoint-6" / "ema.safetensors")["vectors"]
    for k, name in enumerate(("learned_embeds.safetensors", "<ring>.pt")):
        (read,) = read_words(base / "run" / name)
        assert read.token == "<ring>" and torch.equal(read.vectors, vectors)
        flags = ["--embedding", str(base / "run" / name)]
        made = sampled(base / "base", tmp_path / str(k), *flags, prompt="a <ring>")
        assert np.array_equal(made, wanted)
    same = sampled(base / "base", tmp_path / "no", *flags, prompt="stripes that lie")
    assert np.array_equal(same, sampled(base / "base", tmp_path / "none", prompt="stripes that lie"))
    again = ["--from-png", str(tmp_path / "0" / "grid.png"), "--out", str(tmp_path / "again")]
    assert main(["sample", "image", *again]) == 0
    assert (tmp_path / "again" / "0000.png").read_bytes() == (tmp_path / "0" / "0000.png").read_bytes()


def test_resuming_is_bit_exact(base, tmp_path):
    flags = ["--templates", "stripes {}", "that {} lie", "--label-drop", "0.3"]
    assert main(word(base, tmp_path / "whole", *flags)) == 0
    assert main([*word(base, tmp_path / "parts", *flags), "--steps", "3"]) == 0
    assert main([*word(base, tmp_path / "parts", *flags), "--resume"]) == 0
    for file in ("network", "ema", "optimizer"):
        one, two = (
            read_tensors(tmp_path / it / "checkpoint-6" / f"{file}.safetensors") for it in ("whole", "parts")
        )
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    config = json.loads((tmp_path / "parts" / "config.json").read_text())
    assert config["templates"] == ["stripes {}", "that {} lie"] and config["example"] == "stripes <ring>"


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--base", "fashion-mnist"], "was trained without captions"),
        (["--token", "stripes"], "is a token of this tokenizer already"),
        (["--token", "a cat"], "take one word without spaces"),
        (["--init", "elephant"], "'elephant' is not in the vocabulary"),
        (["--init", "stripes that"], "is 2 tokens, not one"),
        (["--templates", "a photo"], "has no {} for the word"),
        (["--captions", "CAPTIONS"], "does not contain the word <ring>"),
        (["--base", "RUN"], "is tuned already"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(base, tmp_path, capsys, flags, error):
    (tmp_path / "c.csv").write_text("file,text\n0.png,a <ring>\n1.png,a rong\n")
    flags = [{"CAPTIONS": str(tmp_path / "c.csv"), "RUN": str(base / "run")}.get(it, it) for it in flags]
    assert main([*word(base, tmp_path / "new"), *flags]) == 2
    said = capsys.readouterr().err
    assert error in said and said.count("\n") == 1, said


def test_words_that_do_not_fit_are_refused_when_they_are_used(base, tmp_path, capsys):
    from safetensors.torch import save_file

    save_file({"<wide>": torch.ones(1, 9)}, tmp_path / "wide.safetensors")
    sample = ["sample", "image", "-n", "1", "--out", str(tmp_path / "x")]
    for checkpoint, file, error in (
        (base / "base", tmp_path / "wide.safetensors", "learned word for another base"),
        (base / "run", base / "run" / "learned_embeds.safetensors", "is a token of this tokenizer already"),
        (base / "base", tmp_path / "none.pt", "no such file"),
        ("fashion-mnist", base / "run" / "<ring>.pt", "trained without captions"),
    ):
        assert main([*sample, "--checkpoint", str(checkpoint), "--embedding", str(file)]) == 2
        assert error in capsys.readouterr().err

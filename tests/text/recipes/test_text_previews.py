"""Samples on the way of a text training: written at checkpoints, and without any effect on it."""

import json
from pathlib import Path

import pytest

from unveil.cli import main
from unveil.text.recipes import previews

TINY = ["--preset", "tiny", "--width", "16", "--depth", "1", "--heads", "2", "--context", "48"]
COMMON = [
    *TINY,
    "--batch-size",
    "4",
    "--device",
    "cpu",
    "--steps",
    "4",
    "--save-every",
    "2",
    "--keep",
    "0",
    "--bfloat16",
    "False",
]
POEM = "To be, or not to be, that is the question.\n" * 12


def train(folder: Path, name: str, *flags: str) -> Path:
    (folder / "poem.txt").write_text(POEM)
    words = [
        "train",
        "text",
        *COMMON,
        "--data",
        str(folder / "poem.txt"),
        "--out",
        str(folder / name),
        *flags,
    ]
    assert main(words) == 0
    return folder / name


def weights(run: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(run.glob("checkpoint-*/*.safetensors"))]


@pytest.mark.parametrize(
    "kind",
    [(), ("--block", "4"), ("--causal",), ("--sft", "PAIRS"), ("--checkpoint", "RUN", "--lora-rank", "2")],
)
def test_samples_are_written_at_checkpoints_and_training_is_the_same_without_them(kind, tmp_path):
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n")
    if "RUN" in kind:
        train(tmp_path, "base", "--sample-every", "-1")
    names = {"PAIRS": str(tmp_path / "pairs.jsonl"), "RUN": str(tmp_path / "base")}
    flags = [names.get(word, word) for word in kind]
    with_samples = train(tmp_path, "with", *flags)
    without = train(tmp_path, "without", "--sample-every", "-1", *flags)
    files = sorted((with_samples / "samples").iterdir())
    assert [file.name for file in files] == ["step-000002.txt", "step-000004.txt"]
    assert all(file.read_text().strip() for file in files) and not (without / "samples").exists()
    assert len(weights(without)) >= 2 and weights(with_samples) == weights(without)
    if not kind:
        rarely = train(tmp_path, "rarely", "--sample-every", "4")
        assert [file.name for file in (rarely / "samples").iterdir()] == ["step-000004.txt"]
        assert (rarely / "samples" / "step-000004.txt").read_text() == files[1].read_text()


def test_a_failing_sample_is_a_warning(tmp_path, monkeypatch):
    def fail(*_: object) -> list[str]:
        raise RuntimeError("no room")

    monkeypatch.setattr(previews, "_texts", fail)
    with pytest.warns(UserWarning, match="no samples at step .: no room"):
        run = train(tmp_path, "run")
    assert (run / "checkpoint-4").is_dir()
    monkeypatch.undo()
    assert weights(run) == weights(train(tmp_path, "again", "--sample-every", "-1"))

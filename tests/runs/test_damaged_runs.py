"""Runs whose state or log was damaged: resuming says which file, and a foreign line of a log is let go."""

import json

import pytest
import torch

from unveil.errors import UnveilError
from unveil.image.recipes.load import read_image_config
from unveil.runs.config import read_recipe
from unveil.runs.resuming import write_config
from unveil.training.checkpoint import save_checkpoint, verify_checkpoint
from unveil.training.trainer import Training, train

LONG = "x" * 300


def going(run, steps):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    training = Training(steps, save_every=2, log_every=1, keep=0)
    draw = lambda generator: torch.randn((4, 2), generator=generator)  # noqa: E731
    return train(model, draw, lambda m, x: ((m(x) - 1.0).square().mean(), {}), training, run, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"generator": 3},
        {"generator": "00ff"},
        {"generator": "xyz"},
        {"step": "2"},
        {"step": -1},
        {"step": True},
        {"step": 1e400},
        {"counted": None},
        {"sums": [1]},
        {"sums": {"loss": "0"}},
        None,
    ],
    ids=str,
)
def test_a_state_that_is_none_is_named(change, tmp_path):
    going(tmp_path, 2)
    place = tmp_path / "checkpoint-2"
    state = json.loads((place / "state.json").read_text())
    (place / "state.json").write_text("[" * 100_000 if change is None else json.dumps(state | change))
    manifest = {
        p.name: {"bytes": p.stat().st_size, "sha256": _digest(p)}
        for p in place.iterdir()
        if p.name != "manifest.json"
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnveilError, match=r"checkpoint-2/state\.json: not the state of a training"):
        going(tmp_path, 3)


def _digest(file):
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_foreign_lines_of_a_log_are_let_go(tmp_path):
    going(tmp_path, 2)
    log = tmp_path / "metrics.jsonl"
    lines = log.read_bytes()
    log.write_bytes(b'\xff\xfe\n[]\n3\n{"step": []}\n{"loss": 1}\n' + b"[" * 100_000 + b"\n" + lines)
    going(tmp_path, 3)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    "manifest",
    ["[" * 100_000, '{"a": {"bytes": 1e400, "sha256": ""}}', json.dumps({LONG: {"bytes": 1, "sha256": ""}})],
)
def test_manifests_that_are_none(manifest, tmp_path):
    save_checkpoint(tmp_path / "c", {}, {})
    verify_checkpoint(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_text(manifest)
    with pytest.raises(UnveilError, match=r"no readable manifest|missing or damaged"):
        verify_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("config", ["[" * 100_000, "[3]", "3", '{"recipe": "image", "size": 8, "names": 3}'])
def test_configs_that_are_none(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    assert read_recipe(tmp_path) in ("", "image")
    with pytest.raises(UnveilError, match="not a config of unveil"):
        read_image_config(tmp_path)
    save_checkpoint(tmp_path / "checkpoint-1", {}, {})
    with pytest.raises(
        UnveilError, match=r"cannot be read|not the config of a run|is made for data with size 8, now 9"
    ):
        write_config(tmp_path, {"recipe": "image", "size": 9}, None, resume=True)


def test_a_folder_in_the_way_of_the_log_is_named(tmp_path):
    going(tmp_path, 2)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UnveilError, match=r"metrics\.jsonl: a folder has the name of the log file"):
        going(tmp_path, 3)

"""A checkpoint begins to load at once, however large it is, and what is read is verified once, bit for
bit."""

import json
import struct

import pytest
import torch

from unveil.errors import UnveilError
from unveil.files import safetensors
from unveil.runs.checkpoints import find_checkpoint, load_weights, read_weights
from unveil.training import checkpoint
from unveil.training.checkpoint import save_checkpoint


class HashedError(Exception):
    """A file began to be read."""


@pytest.fixture
def huge(tmp_path):
    """A checkpoint whose averaged weights and optimizer are 4 GB each, in sparse files that take no room."""
    folder = tmp_path / "run" / "checkpoint-1"
    folder.mkdir(parents=True)
    count = 2**30
    header = json.dumps({"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    manifest = {}
    for name in ("ema.safetensors", "optimizer.safetensors"):
        with open(folder / name, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + 4 * count)
        manifest[name] = {"bytes": (folder / name).stat().st_size, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder, torch.empty(count, device="meta")


def test_four_gigabytes_begin_to_load_at_once(huge, monkeypatch):
    """No byte of a tensor is read until all else is known to fit; then the averaged weights alone are."""
    folder, like = huge
    hashed = []

    def digest(file):
        hashed.append(file.name)
        raise HashedError

    monkeypatch.setattr(safetensors, "digest", digest)
    monkeypatch.setattr(checkpoint, "digest", digest)
    assert find_checkpoint(str(folder)) == find_checkpoint(str(folder.parent)) == folder
    with pytest.raises(UnveilError, match=r"shape \(1073741824,\), needed is \(3,\)"):
        read_weights(folder, {"w": torch.empty(3)})
    assert hashed == []
    with pytest.raises(UnveilError):
        read_weights(folder, {"w": like})
    assert hashed == ["ema.safetensors"]


def test_files_of_another_length_are_told_at_once(huge):
    folder, _ = huge
    with open(folder / "optimizer.safetensors", "r+b") as file:
        file.truncate(100)
    with pytest.raises(UnveilError, match=r"optimizer\.safetensors is missing or damaged"):
        find_checkpoint(str(folder))


def test_one_flipped_bit_is_found_and_the_older_checkpoint_named(tmp_path):
    model = torch.nn.Linear(2, 2)
    for step in (1, 2):
        save_checkpoint(tmp_path / f"checkpoint-{step}", {"ema": model.state_dict()}, {"step": step})
    newest = find_checkpoint(str(tmp_path))
    assert newest.name == "checkpoint-2"
    file = newest / "ema.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UnveilError, match=r"checksum differs .*checkpoint-1 may serve instead"):
        load_weights(model, newest)
    load_weights(model, tmp_path / "checkpoint-1")


def test_weights_come_back_as_they_were(tmp_path):
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    save_checkpoint(tmp_path / "checkpoint-1", {"ema": model.state_dict(), "network": other.state_dict()}, {})
    for raw, kept in ((False, model), (True, other)):
        found = torch.nn.Linear(3, 2)
        load_weights(found, find_checkpoint(str(tmp_path)), raw=raw)
        assert torch.equal(found.weight, kept.weight) and not found.training

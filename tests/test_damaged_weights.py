"""Weights whose lengths, names and numbers lie: refused before memory is taken for them, in a line."""

import json
from io import BytesIO

import pytest
import torch

from foreign_images import pipeline
from foreign_policies import lerobot
from lladas import save_llada
from unveil.errors import UnveilError
from unveil.files.pickles import nothing, read_pickle
from unveil.files.shards import header, stored_tensors
from unveil.image.weights.releases import read_images
from unveil.policy.weights.lerobot import read_policy_folder
from unveil.text.recipes.convert import load_llada

SMALL = {"d_model": 8, "mlp_hidden_size": 8, "n_heads": 2, "n_kv_heads": 1, "n_layers": 1}


class Counted(BytesIO):
    """A file that notes the largest length that was asked for."""

    largest = 0

    def read(self, size=-1):
        self.largest = max(self.largest, size)
        return super().read(size)

    def readline(self, size=-1):
        self.largest = max(self.largest, size if size >= 0 else 2**63)
        return super().readline(size)


@pytest.mark.parametrize(
    "operation",
    [
        b"X\xff\xff\xff\x7f",
        b"\x8d" + b"\xff" * 7 + b"\0",
        b"\x8e" + b"\xff" * 7 + b"\0",
        b"B\xff\xff\xff\x7f",
        b"\x96" + b"\xff" * 7 + b"\0",
        b"T\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"I" + b"9" * 10**6,
        b"c" + b"a" * 10**6,
    ],
    ids=lambda operation: operation[:1].hex(),
)
def test_lengths_that_a_pickle_claims_are_not_allocated(operation):
    """A file read in blocks takes memory for the length that it is asked for."""
    file = Counted(b"\x80\x02" + operation)
    with pytest.raises(ValueError, match=r"\w"):
        read_pickle(file, nothing)
    assert file.largest <= 4 * 65_536


def test_strings_of_a_pickle_up_to_the_bound_are_read():
    text = "é" * 65_536
    data = b"\x80\x02X" + len(text.encode()).to_bytes(4, "little") + text.encode() + b"."
    assert read_pickle(Counted(data), nothing) == text


def changed(file, change):
    """A safetensors file with another header."""
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    change(head)
    text = json.dumps(head).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def test_headers_that_only_safetensors_itself_refuses(tmp_path):
    save_llada(tmp_path, torch.float32, 1, **SMALL)
    load_llada(tmp_path, "cpu")
    changed(tmp_path / "model.safetensors", lambda head: head.update(__metadata__={"format": True}))
    with pytest.raises(UnveilError, match=r"model\.safetensors: truncated or damaged"):
        load_llada(tmp_path, "cpu")


@pytest.mark.parametrize("number", [1e400, "x", None, [1]], ids=str)
def test_headers_of_numbers_that_are_none(number, tmp_path):
    save_llada(tmp_path, torch.float32, 1, **SMALL)
    changed(
        tmp_path / "model.safetensors",
        lambda head: head["model.transformer.ln_f.weight"].update(data_offsets=[0, number]),
    )
    with pytest.raises(UnveilError, match="truncated or damaged"):
        header(tmp_path / "model.safetensors")


def test_shards_whose_names_no_system_takes(tmp_path):
    save_llada(tmp_path, torch.float32, 2, **SMALL)
    file = tmp_path / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    index["weight_map"]["model.transformer.ln_f.weight"] = "x" * 300 + ".safetensors"
    file.write_text(json.dumps(index))
    with pytest.raises(UnveilError, match="no safetensors file of this folder"):
        stored_tensors(tmp_path)


@pytest.mark.parametrize("kind", [["linear"], {"linear": 1}, None, 3], ids=str)
def test_schedules_of_diffusers_that_are_no_names(kind, tmp_path):
    folder = pipeline("ddpm", tmp_path / "d")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"beta_schedule": kind}))
    with pytest.raises(UnveilError, match="its scheduler's table is"):
        read_images(folder)


@pytest.mark.parametrize("feature", [None, 3, "STATE", []], ids=str)
def test_outputs_of_lerobots_policies_that_are_no_descriptions(feature, tmp_path):
    folder = lerobot(tmp_path, "lerobot_state")
    read_policy_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    config["output_features"] = {"action": feature}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnveilError, match="it normalises action by"):
        read_policy_folder(folder)

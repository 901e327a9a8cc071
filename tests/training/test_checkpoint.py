"""Checkpoints on bad disks and with bad bits: whole or absent, noticed, and what is read is what was asked
for."""

import json
import os
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_trainer import network, records, run

from unveil.errors import UnveilError
from unveil.files.safetensors import read_tensors
from unveil.training.checkpoint import (
    latest_checkpoint,
    pack_optimizer,
    read_optimizer,
    save_checkpoint,
    verify_checkpoint,
)

FILES = ["network.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(folder, 40)
    return folder


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, "header", 0.5, 1.0])
def test_a_flipped_bit_is_noticed_wherever_it_is(copied, capsys, name, place):
    """And the one line that says so names the damaged checkpoint and the one that serves."""
    file = copied / "checkpoint-40" / name
    data = bytearray(file.read_bytes())
    at = 9 if place == "header" else min(int(place * len(data)), len(data) - 1)
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(UnveilError, match=r"damaged|no readable"):
        verify_checkpoint(copied / "checkpoint-40")
    assert capsys.readouterr().err == ""
    assert latest_checkpoint(copied) == copied / "checkpoint-30"
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and f"{copied / 'checkpoint-40'}: " in said
        and said.endswith("; checkpoint-30 serves instead\n")
    )
    assert latest_checkpoint(copied, warn=False) == copied / "checkpoint-30" and capsys.readouterr().err == ""


def test_where_no_checkpoint_is_whole_that_is_said(copied, capsys):
    for step in (30, 40):
        (copied / f"checkpoint-{step}" / "manifest.json").unlink()
    assert latest_checkpoint(copied) is None
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.endswith("no older one serves") for line in said)


@pytest.mark.parametrize("name", ["network.safetensors", "optimizer.safetensors", "state.json"])
def test_a_write_cut_short_is_one_line_and_the_run_goes_on_from_the_last_checkpoint(trained, tmp_path, name):
    """After step 10 the system writes only so many bytes of a file and refuses the rest (EFBIG; Python
    ignores the signal). Once there is room the run goes on, bit for bit."""
    sizes = {file: (trained / "checkpoint-30" / file).stat().st_size for file in FILES}
    assert (
        sizes["network.safetensors"]
        == sizes["ema.safetensors"]
        < 0.8 * sizes["optimizer.safetensors"]
        < 0.5 * sizes["state.json"]
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(step, weights):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(0.9 * sizes[name]), before[1]))

    try:
        with pytest.raises(UnveilError, match=r"checkpoint-20: cannot write the checkpoint .*too large"):
            run(tmp_path, 40, log_every=40, on_save=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "checkpoint-10"]
    run(tmp_path, 40, log_every=40, resume=True)
    for file in FILES[:3]:
        a, b = (read_tensors(folder / "checkpoint-40" / file) for folder in (trained, tmp_path))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_record_that_cannot_be_written_is_one_line(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(UnveilError, match=r"metrics.jsonl: cannot write \(File too large\)"):
            run(tmp_path, 40)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run(tmp_path, 40)
    assert [r["step"] for r in records(tmp_path)] == list(range(4, 41, 4))


@pytest.mark.parametrize("call", range(5))  # three files, the manifest, the folder
def test_a_disk_that_fills_at_any_file_leaves_nothing(tmp_path, monkeypatch, call):
    calls, fsync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) == call + 1:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("unveil.training.checkpoint.os.fsync", full)
    with pytest.raises(
        UnveilError, match=r"checkpoint-1: cannot write the checkpoint \(No space left on device\)"
    ):
        save_checkpoint(
            tmp_path / "checkpoint-1",
            {"network": {"w": torch.ones(2)}, "ema": {"w": torch.ones(2)}},
            {"step": 1},
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        UnveilError, match=r"file/checkpoint-1: cannot write the checkpoint \(Not a directory\)"
    ):
        save_checkpoint(tmp_path / "file" / "checkpoint-1", {}, {})
    with pytest.raises(UnveilError, match=r"file/run: cannot write there \(Not a directory\)"):
        run(tmp_path / "file" / "run", 40)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("unveil.training.checkpoint.os.rename", refuse)
    with pytest.raises(UnveilError, match="Read-only file system"):
        run(tmp_path / "run", 40)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", "metrics.jsonl"]


def test_the_manifest_is_written_last_and_all_is_synced_before_the_rename(tmp_path, monkeypatch):
    """What each inode was called, in the order of the system's calls; a manifest before a synced file could
    vouch for lost bytes."""
    done, fsync, rename = [], os.fsync, os.rename

    def noted(handle):
        done.append(
            (
                os.fstat(handle).st_ino,
                (found := list(tmp_path.glob("*.tmp-*"))) and (found[0] / "manifest.json").exists(),
            )
        )
        fsync(handle)

    monkeypatch.setattr("unveil.training.checkpoint.os.fsync", noted)
    monkeypatch.setattr(
        "unveil.training.checkpoint.os.rename", lambda *paths: (done.append(("rename", True)), rename(*paths))
    )
    folder = tmp_path / "checkpoint-1"
    save_checkpoint(folder, {"network": {"w": torch.ones(2)}, "ema": {"w": torch.ones(2)}}, {"step": 1})
    names = {path.stat().st_ino: path.name for path in (*folder.iterdir(), folder, tmp_path)}
    order = [names.get(inode, inode) for inode, _ in done]
    assert sorted(order[:3]) == ["ema.safetensors", "network.safetensors", "state.json"]
    assert order[3:] == ["manifest.json", "checkpoint-1", "rename", tmp_path.name]
    assert [there for _, there in done[:4]] == [False, False, False, True]


def test_dtypes_must_be_those_asked_for_but_halves_where_they_are_meant(tmp_path):
    file = tmp_path / "w.safetensors"
    wanted = {"w": torch.zeros(2)}
    for dtype in (torch.float16, torch.bfloat16):
        save_file({"w": torch.ones(2, dtype=dtype)}, file)
        assert read_tensors(file, wanted, halves=True)["w"].dtype == dtype
        with pytest.raises(UnveilError, match=r"w has dtype B?F16, needed is F32"):
            read_tensors(file, wanted)
        with pytest.raises(UnveilError, match=r"w has dtype B?F16, needed is I64"):
            read_tensors(file, {"w": torch.zeros(2, dtype=torch.int64)}, halves=True)
    for dtype, name in (
        (torch.int32, "I32"),
        (torch.int64, "I64"),
        (torch.float64, "F64"),
        (torch.bool, "BOOL"),
        (torch.uint8, "U8"),
    ):
        save_file({"w": torch.ones(2, dtype=dtype)}, file)
        assert read_tensors(file, {"w": torch.ones(2, dtype=dtype)})["w"].dtype == dtype
        for halves in (False, True):
            with pytest.raises(UnveilError, match=f"w has dtype {name}, needed is F32"):
                read_tensors(file, wanted, halves=halves)


def stepped() -> tuple[torch.nn.Module, torch.optim.AdamW]:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_an_optimizers_file_must_hold_its_moments_and_nothing_else(tmp_path):
    _, optimizer = stepped()
    packed, file = pack_optimizer(optimizer), tmp_path / "optimizer.safetensors"
    save_file(packed, file)
    fresh = torch.optim.AdamW(network().parameters(), 0.1)
    read_optimizer(file, fresh)
    again = pack_optimizer(fresh)
    assert again.keys() == packed.keys() and all(torch.equal(again[name], packed[name]) for name in packed)
    wrong = [
        (
            {k: v for k, v in packed.items() if k != "1.exp_avg_sq"},
            r"1 tensors are missing \['1.exp_avg_sq'\]",
        ),
        (packed | {"4.step": torch.tensor(1.0)}, r"1 are foreign \['4.step'\]"),
        (packed | {"0.momentum": torch.ones(16, 3)}, r"1 are foreign \['0.momentum'\]"),
        (packed | {"0.exp_avg": torch.ones(3, 16)}, r"0.exp_avg has shape \(3, 16\), needed is \(16, 3\)"),
        (
            packed | {"0.exp_avg": torch.ones(16, 3, dtype=torch.int32)},
            "0.exp_avg has dtype I32, needed is F32",
        ),
        ({}, "it is empty"),
    ]
    for tensors, said in wrong:
        save_file(tensors, file)
        with pytest.raises(UnveilError, match=said):
            read_optimizer(file, torch.optim.AdamW(network().parameters(), 0.1))


def test_a_parameter_that_no_loss_reaches_has_no_moments(tmp_path):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    model[2](torch.ones(2, 16)).sum().backward()
    optimizer.step()
    packed, file = pack_optimizer(optimizer), tmp_path / "optimizer.safetensors"
    save_file(packed, file)
    read_optimizer(file, fresh := torch.optim.AdamW(network().parameters(), 0.1))
    assert {name.split(".")[0] for name in pack_optimizer(fresh)} == {"2", "3"}


def test_a_resumed_run_refuses_the_optimizer_of_another_network(copied):
    """Although its manifest vouches for it."""
    folder = copied / "checkpoint-40"
    tensors = read_tensors(folder / "optimizer.safetensors")
    save_checkpoint(
        folder,
        {
            "network": read_tensors(folder / "network.safetensors"),
            "ema": read_tensors(folder / "ema.safetensors"),
            "optimizer": {re.sub(r"^0\.", "7.", name): value for name, value in tensors.items()},
        },
        json.loads((folder / "state.json").read_text()),
    )
    with pytest.raises(UnveilError, match=r"optimizer.safetensors: not the weights .*foreign \['7\."):
        run(copied, 50, total=50, resume=True)

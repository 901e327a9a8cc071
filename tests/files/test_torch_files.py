"""Files of torch.save come back bit for bit in both formats; what lies about itself is refused before
anything is allocated or run."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from originals import Runs
from unveil.errors import UnveilError
from unveil.files.torch_save import read_torch

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain"])


def saved(path: Path, value: object, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def state() -> dict:
    torch.manual_seed(0)
    whole = torch.randn(4, 6)
    tensors = OrderedDict(
        a=torch.randn(3, 2),
        part=whole[1:3],
        one=torch.tensor(2.5),
        none=torch.empty(0),
        half=torch.randn(3).half(),
    )
    tensors |= {
        "int": torch.arange(5),
        "double": torch.randn(2, dtype=torch.float64),
        "whole": whole,
        "turned": torch.randn(1, 5, 1),
    }
    return {"step": 7, "model": tensors, "note": ["x", 1.5, None, True]}


@FORMATS
def test_what_was_saved_comes_back(tmp_path, zipped):
    wanted = state()
    found = read_torch(saved(tmp_path / "s.pt", wanted, zipped))
    assert (
        found["step"] == 7
        and found["note"] == wanted["note"]
        and list(found["model"]) == list(wanted["model"])
    )
    for name, value in wanted["model"].items():
        assert found["model"][name].dtype == value.dtype
        torch.testing.assert_close(found["model"][name], value, rtol=0, atol=0)


@FORMATS
def test_it_agrees_with_torch_on_a_module(tmp_path, zipped):
    module = torch.nn.Sequential(
        torch.nn.Conv1d(2, 8, 3), torch.nn.GroupNorm(8, 8)
    )  # its state dict carries _metadata
    file = saved(tmp_path / "s.pt", {"model": module.state_dict()}, zipped)
    found, wanted = read_torch(file)["model"], torch.load(file, weights_only=True)["model"]
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@FORMATS
def test_payloads_are_refused_and_do_not_run(tmp_path, zipped):
    marker = tmp_path / "ran"
    for value in (Runs(marker), {"step": 1, "model": {"a": Runs(marker)}}, [torch.zeros(2), Runs(marker)]):
        file = saved(tmp_path / "s.pt", value, zipped)
        with pytest.raises(UnveilError, match=r"no code in it was run: it names posix\.system"):
            read_torch(file)
    assert not marker.exists()


@FORMATS
def test_modules_parameters_and_other_objects_are_refused(tmp_path, zipped):
    for value in (
        torch.nn.Linear(2, 2),
        torch.nn.Parameter(torch.zeros(2)),
        {"a": torch.float32},
        {"a": (1, 2)},
        torch.zeros(2).to_sparse(),
    ):
        with pytest.raises(UnveilError, match="refused"):
            read_torch(saved(tmp_path / "s.pt", value, zipped))


@FORMATS
def test_truncated_files_are_refused(tmp_path, zipped):
    data = saved(tmp_path / "s.pt", state(), zipped).read_bytes()
    cut = tmp_path / "cut.pt"
    for end in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 1]:
        cut.write_bytes(data[:end])
        with pytest.raises(UnveilError, match="refused"):
            read_torch(cut)
    if not zipped:
        cut.write_bytes(data + b"\0")
        with pytest.raises(UnveilError, match="truncated"):
            read_torch(cut)


def test_a_flipped_bit_in_a_zip_is_seen(tmp_path):
    file = saved(tmp_path / "s.pt", {"a": torch.full((1000,), 1.5)}, True)
    data = bytearray(file.read_bytes())
    data[data.index(struct.pack("<f", 1.5) * 10) + 400] ^= 16
    file.write_bytes(data)
    with pytest.raises(UnveilError, match="CRC"):
        read_torch(file)


def rezipped(file: Path, change, method: int = zipfile.ZIP_STORED, again: bool = False) -> Path:
    """The same zip with its members changed."""
    with zipfile.ZipFile(file) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, change(name, data))
        if again:
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(members[0][0], members[0][1])
    return file


def test_zip_bombs_and_lies_are_refused(tmp_path):
    value = {"a": torch.zeros(1000)}
    same = lambda name, data: data  # noqa: E731
    assert read_torch(rezipped(saved(tmp_path / "ok.pt", value, True), same))["a"].shape == (1000,)
    cases = {
        "compressed": rezipped(saved(tmp_path / "a.pt", value, True), same, zipfile.ZIP_DEFLATED),
        "twice": rezipped(saved(tmp_path / "b.pt", value, True), same, again=True),
        "not in the file": rezipped(
            saved(tmp_path / "c.pt", value, True), lambda n, d: d[:-4] if n.endswith("data/0") else d
        ),
        "not little-endian": rezipped(
            saved(tmp_path / "d.pt", value, True), lambda n, d: b"big" if n.endswith("byteorder") else d
        ),
    }
    with zipfile.ZipFile(tmp_path / "e.pt", "w") as archive:
        archive.writestr("e/other", b"x")
    cases["without its data.pkl"] = tmp_path / "e.pt"
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/data.pkl", b"\0" * 50_000_000)
    cases["is compressed"] = bomb
    for message, file in cases.items():
        with pytest.raises(UnveilError, match=message):
            read_torch(file)


def test_members_that_share_bytes_are_refused(tmp_path):
    file = saved(tmp_path / "s.pt", {"a": torch.zeros(1000), "b": torch.ones(1000)}, True)
    data = bytearray(file.read_bytes())
    entries = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    for at in entries[1:]:  # every member declares the size of the whole file
        data[at + 20 : at + 28] = struct.pack("<II", len(data), len(data))
    file.write_bytes(data)
    with pytest.raises(UnveilError, match="larger than the file"):
        read_torch(file)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x00K\x07\x85", b"K\x00K\x08\x85"),  # shape (8,) in a storage of 7
        (b"K\x00K\x07\x85", b"K\x01K\x07\x85"),  # offset 1
        (b"K\x00K\x07\x85", b"K\x00J\xff\xff\xff\x7f\x85"),  # shape (2 ** 31 - 1,)
        (b"K\x00K\x07\x85", b"K\x00J\xff\xff\xff\xff\x85"),  # shape (-1,)
        (b"K\x00K\x07\x85", b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x0f\x85"),  # shape about 2 ** 60
        (b"K\x07t", b"K\x40t"),  # a storage of 64
        (b"K\x07t", b"J\xff\xff\xff\x7ft"),  # a storage of 2 ** 31 - 1
    ],
)
@FORMATS
def test_shapes_that_do_not_fit_are_refused(tmp_path, zipped, old, new):
    def without_memo(data: bytes) -> bytes:
        import pickletools

        return pickletools.optimize(data)

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        plain = without_memo(data)
        assert old in plain
        return plain.replace(old, new)

    if zipped:
        file = rezipped(saved(tmp_path / "s.pt", {"a": torch.arange(7.0)}, True), change)
    else:
        file = saved(tmp_path / "s.pt", {"a": torch.arange(7.0)}, False)
        parts, rest = [], io.BytesIO(file.read_bytes())
        for _ in range(5):
            began = rest.tell()
            list(__import__("pickletools").genops(rest))
            parts.append(rest.getvalue()[began : rest.tell()])
        tree = without_memo(parts[3]).replace(b"NtQ", b"tQ")  # the sixth part of the identity is optional
        assert old in tree
        file.write_bytes(b"".join([*parts[:3], tree.replace(old, new), parts[4]]) + rest.read())
    with pytest.raises(UnveilError, match="refused"):
        read_torch(file)


def test_expanded_and_turned_tensors_are_refused(tmp_path):
    for tensor in (torch.zeros(1).expand(1000), torch.randn(3, 4).T):
        with pytest.raises(UnveilError, match="refused"):
            read_torch(saved(tmp_path / "s.pt", {"a": tensor}, True))


def test_a_huge_count_in_the_old_format_allocates_nothing(tmp_path):
    file = saved(tmp_path / "s.pt", {"a": torch.arange(7.0)}, False)
    data = file.read_bytes()
    at = data.rindex(struct.pack("<q", 7))
    file.write_bytes(data[:at] + struct.pack("<q", 2**40) + data[at + 8 :])
    with pytest.raises(UnveilError, match="not as long"):
        read_torch(file)


def test_other_files_are_refused(tmp_path):
    for name, data in {
        "text": b"hello",
        "empty": b"",
        "pickle": pickle.dumps([1, 2]),
        "zip": b"PK\x03\x04rest",
        "noise": bytes(range(256)) * 8,
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnveilError, match="refused"):
            read_torch(tmp_path / name)
    with pytest.raises(UnveilError, match="cannot be read"):
        read_torch(tmp_path / "nothing")
    with open(tmp_path / "large", "wb") as handle:
        handle.truncate(3 * 2**30)
    with pytest.raises(UnveilError, match="more than"):
        read_torch(tmp_path / "large")

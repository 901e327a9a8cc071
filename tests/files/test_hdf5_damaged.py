"""D4RL and Minari files that are damaged, foreign or hostile: each is refused in one line, whatever is wrong
with it."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from recorded import EXAMPLE, refusal
from unveil.errors import UnveilError
from unveil.planning.data.d4rl import read_d4rl, write_d4rl
from unveil.planning.data.minari import read_minari, write_minari


@pytest.mark.usefixtures("unchecked")
def test_cut_files(kind):
    path, read, _ = kind
    whole = path.read_bytes()
    for size in {
        0,
        1,
        7,
        8,
        9,
        len(whole) - 1,
        *np.random.default_rng(0).integers(1, len(whole), 60).tolist(),
    }:
        path.write_bytes(whole[:size])
        refusal(read, path)


@pytest.mark.usefixtures("unchecked")
def test_flipped_bytes(kind):
    """Most flips hurt nothing that is read or only a number's value; the others are refused, and nothing else
    ever comes out."""
    path, read, _ = kind
    whole, generator, refused = path.read_bytes(), np.random.default_rng(0), 0
    for k in range(400):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole) if k % 2 else 2000, 1 + k % 3):
            damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read(path)
        except UnveilError:
            refused += 1
            refusal(read, path)
    assert refused > 40
    path.write_bytes(b"\x00" + whole[1:])  # the signature
    assert "not a whole HDF5 file" in refusal(read, path)


@pytest.mark.usefixtures("unchecked")
def test_not_hdf5_at_all(kind, tmp_path):
    _, read, _ = kind
    (tmp_path / "text.hdf5").write_text("observations, actions\n1, 2\n" * 100)
    (tmp_path / "empty.hdf5").write_bytes(b"")
    (tmp_path / "folder.hdf5").mkdir()
    assert "not a whole HDF5 file" in refusal(read, tmp_path / "text.hdf5")
    assert "not a whole HDF5 file" in refusal(read, tmp_path / "empty.hdf5")
    assert "a folder" in refusal(read, tmp_path / "folder.hdf5")
    assert "no such file" in refusal(read, tmp_path / "missing.hdf5")
    assert "no such file" in refusal(read, tmp_path / ("x" * 300))
    with h5py.File(tmp_path / "bare.hdf5", "w") as file:
        file["other"] = np.zeros(3)
    assert "'rewards' is missing; the file has ['other']" in refusal(read_d4rl, tmp_path / "bare.hdf5")
    assert "no group episode_0" in refusal(read_minari, tmp_path / "bare.hdf5")


def swap(path: Path, name: str, values) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        if values is not None:
            file[name] = values


D4RL = {
    "observations": (25, 3),
    "actions": (25, 2),
    "rewards": (25,),
    "terminals": (25,),
    "timeouts": (25,),
    "infos/goal": (25, 2),
}
MINARI = {
    "observations": (5, 3),
    "actions": (4, 2),
    "rewards": (4,),
    "terminations": (4,),
    "truncations": (4,),
}  # of episode_1
WRONG = [(read_d4rl, write_d4rl, name, shape) for name, shape in D4RL.items()]
WRONG += [(read_minari, write_minari, f"episode_1/{name}", shape) for name, shape in MINARI.items()]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("read", "write", "name", "shape"), WRONG, ids=[name for _, _, name, _ in WRONG])
def test_missing_misshapen_or_foreign_arrays(tmp_path, read, write, name, shape):
    count, *rest = shape
    broken = [
        np.ones((count - 1, *rest)),
        np.ones((count + 1, *rest)),
        np.ones(()),
        b"text",
        h5py.Empty("f4"),
    ]
    broken += [
        h5py.SoftLink("/rewards"),
        h5py.SoftLink("/nowhere"),
        h5py.ExternalLink("other.hdf5", "/rewards"),
    ]
    if name not in ("timeouts", "infos/goal"):  # these two may be missing
        broken += [None, np.zeros((0, *rest))]
    if name != "infos/goal":
        broken += [np.ones((*shape, 2))]
    if not name.endswith(("als", "outs", "ations")) or "obs" in name:
        broken += [np.full(shape, np.nan), np.full(shape, 1e300)]  # 1e300 is infinite in float32
    for values in broken:
        write(tmp_path / "a.hdf5", EXAMPLE)
        swap(tmp_path / "a.hdf5", name, values)
        if name == "infos/goal":  # nobody asked for it
            assert "goal" not in read(tmp_path / "a.hdf5").infos
            continue
        refusal(read, tmp_path / "a.hdf5")
    write(tmp_path / "a.hdf5", EXAMPLE)
    assert len(read(tmp_path / "a.hdf5")) == 25


def test_numbers_kept_elsewhere_are_not_read(tmp_path):
    path, other = tmp_path / "a.hdf5", tmp_path / "other.hdf5"
    for read, write, group in ((read_d4rl, write_d4rl, "infos"), (read_minari, write_minari, "episode_1")):
        for link in (h5py.ExternalLink(other.name, f"/{group}"), h5py.SoftLink("/elsewhere")):
            write(path, EXAMPLE)
            write(other, EXAMPLE)
            with h5py.File(path, "r+") as file:
                file.copy(group, "elsewhere")
            swap(path, group, link)
            assert "is a link to somewhere else" in refusal(read, path)
    (tmp_path / "raw").write_bytes(bytes(100))
    virtual = h5py.VirtualLayout((25,), np.float32)
    virtual[:] = h5py.VirtualSource(str(other), "rewards", (25,))
    for outside in (True, False):
        write_d4rl(path, EXAMPLE)
        swap(path, "rewards", None)
        with h5py.File(path, "r+") as file:
            if outside:
                file.create_dataset("rewards", (25,), np.float32, external=[(str(tmp_path / "raw"), 0, 100)])
            else:
                file.create_virtual_dataset("rewards", virtual)
        assert "keeps its numbers in another file" in refusal(read_d4rl, path)


def test_a_header_that_claims_too_much_is_refused_before_memory_is(tmp_path):
    write_d4rl(tmp_path / "a.hdf5", EXAMPLE)
    for count in (2**40, 2**28):
        swap(tmp_path / "a.hdf5", "rewards", None)
        with h5py.File(tmp_path / "a.hdf5", "r+") as file:
            file.create_dataset("rewards", (count,), np.float32, chunks=(1024,))  # nothing is stored
        assert f"claims {count:,} numbers" in refusal(read_d4rl, tmp_path / "a.hdf5")

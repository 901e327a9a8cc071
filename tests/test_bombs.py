"""Files that unpack to far more than they are: each reader refuses before it takes the memory, and sound
files of their kind are read."""

import gzip
import io
import json
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from numcodecs import LZ4, Blosc, Zlib, Zstd

from recorded import EXAMPLE, FEW
from replay_buffers import write_lerobot, write_robomimic, write_zarr
from unveil.errors import UnveilError
from unveil.files import hdf5, npz, records
from unveil.files.npz import unpacked
from unveil.image.data import source as image_sets
from unveil.image.data.reading import Reading
from unveil.image.data.source import read_images
from unveil.planning.data.minari import read_minari
from unveil.policy.data import lerobot
from unveil.policy.data.demonstrations import read_demonstrations_npz, write_demonstrations
from unveil.policy.data.lerobot import read_lerobot
from unveil.policy.data.robomimic import read_robomimic
from unveil.policy.data.zarr import read_zarr
from unveil.text.data.documents import read_documents
from unveil.text.data.instructions import read_chats

LARGE = 4 * 2**20


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """4 MiB of zeros as raw deflate, for readers whose floor of 64 MiB is lowered to one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * 4 + b"\x03\x00"


@pytest.fixture(scope="module")
def bomb(zeros) -> bytes:
    """The same as a .gz file."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + zeros + struct.pack("<II", zlib.crc32(bytes(LARGE)), LARGE)


def test_gzip_bombs_are_refused_wherever_gzip_is_read(bomb, tmp_path, monkeypatch):
    for module in (npz, records, image_sets):
        monkeypatch.setattr(module, "room", lambda size: 2**20 + 50 * size)
    (tmp_path / "a.jsonl.gz").write_bytes(bomb)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(bomb)
    np.savez(tmp_path / "e.npz", images=np.zeros((2, 4, 4), np.uint8))
    (tmp_path / "e.json.gz").write_bytes(bomb)
    readers = [lambda: read_documents(tmp_path / "a.jsonl.gz"), lambda: read_chats(tmp_path / "a.jsonl.gz")]
    readers += [
        lambda: read_images(str(tmp_path), Reading()),
        lambda: read_images(str(tmp_path / "e.npz"), Reading()),
    ]
    for read in readers:
        with pytest.raises(
            UnveilError,
            match=r"unpacks to more than [\d,]+ bytes; if it is sound, unpack|not an IDX file of bytes",
        ):
            read()


def test_sound_gzip_is_read_whole_even_in_several_members(tmp_path):
    parts = [np.random.default_rng(k).bytes(5000) for k in range(2)]
    (tmp_path / "a.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    assert unpacked(tmp_path / "a.gz") == b"".join(parts)
    (tmp_path / "a.gz").write_bytes(gzip.compress(parts[0])[:-9])
    with pytest.raises(UnveilError, match="not a whole"):
        unpacked(tmp_path / "a.gz")


@pytest.mark.parametrize("said", [16, LARGE])
def test_npz_members_unpack_to_what_they_say_or_are_refused(said, zeros, tmp_path, monkeypatch):
    """A directory may say 16 bytes of a member of 4 MiB."""
    monkeypatch.setattr(npz, "room", lambda size: 2**20 + 50 * size)
    write_demonstrations(tmp_path / "d.npz", FEW)
    whole = (tmp_path / "d.npz").read_bytes()
    assert read_demonstrations_npz(tmp_path / "d.npz").actions.sum() == 24.0
    stream = io.BytesIO(whole)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(zipfile.ZipInfo("more.npy"), zeros)
        directory = archive.start_dir
    out = bytearray(stream.getvalue())
    entry = out.rfind(b"more.npy") - 46  # in the directory
    out[entry + 10 : entry + 12], out[entry + 24 : entry + 28] = struct.pack("<H", 8), struct.pack("<I", said)
    local = out.find(b"more.npy", 0, directory) - 30
    out[local + 8 : local + 10] = struct.pack("<H", 8)
    (tmp_path / "d.npz").write_bytes(out)
    with pytest.raises(UnveilError, match=r"numpy.savez instead|not a whole .npz file"):
        read_demonstrations_npz(tmp_path / "d.npz")


def test_npz_is_not_read_in_packings_whose_pieces_have_no_bound(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_BZIP2) as archive:
        for name in ("action", "episode_ends"):
            stream = io.BytesIO()
            np.save(stream, np.ones((3, 1)))
            archive.writestr(f"{name}.npy", stream.getvalue())
    with pytest.raises(UnveilError, match="by a method that numpy does not use"):
        read_demonstrations_npz(tmp_path / "d.npz")


@pytest.mark.parametrize("codec", [Zlib(9), Zstd(), LZ4(), Blosc("zstd")], ids=lambda codec: codec.codec_id)
def test_zarr_chunks_unpack_to_their_numbers_and_no_more(codec, tmp_path):
    write_zarr(tmp_path / "d.zarr", FEW)
    root = zarr.open_group(str(tmp_path / "d.zarr"), mode="r+", zarr_format=2)
    root.create_array(
        "data/state", data=FEW.observations["state"], chunks=(12, 2), compressors=codec, overwrite=True
    )
    assert (read_zarr(tmp_path / "d.zarr").observations["state"] == FEW.observations["state"]).all()
    (tmp_path / "d.zarr" / "data" / "state" / "0.0").write_bytes(bytes(codec.encode(bytes(2**24))))
    with pytest.raises(
        UnveilError,
        match=r"'data/state' is damaged or cut short \(chunk 0.0 (unpacks to more than|has .* for) .*96 bytes",
    ):
        read_zarr(tmp_path / "d.zarr")


def test_zarr_arrays_claim_no_more_than_their_chunks_can_hold(tmp_path):
    write_zarr(tmp_path / "d.zarr", FEW)
    file = tmp_path / "d.zarr" / "data" / "state" / ".zarray"
    said = json.loads(file.read_text())
    for shape, chunks in (((2**28, 2), (2**28, 2)), ((2**22, 2), (1, 1))):
        file.write_text(json.dumps(said | {"shape": shape, "chunks": chunks}))
        with pytest.raises(UnveilError, match="more than its chunks can hold"):
            read_zarr(tmp_path / "d.zarr")


@pytest.mark.parametrize("write", [write_robomimic, None], ids=["robomimic", "minari"])
def test_hdf5_arrays_that_nobody_filled_are_bounded_together(write, tmp_path, monkeypatch):
    """Each of 4 MB, of a file that may claim a megabyte a piece once the floor is as low."""
    from unveil.planning.data.minari import write_minari

    path = tmp_path / "d.hdf5"
    read = read_minari if write is None else read_robomimic
    write_minari(path, EXAMPLE) if write is None else write(path, FEW)
    read(path)
    monkeypatch.setattr(hdf5, "room", lambda size: 2**20)
    name, group = ("observations", "episode_{}") if write is None else ("obs/state", "data/demo_{}")
    with h5py.File(path, "r+") as file:
        first = file[group.format(0)]
        rows = len(first["actions"])
        for i in range(40):
            file.copy(first, group.format(i)) if group.format(i) not in file else None
            del file[group.format(i)][name]
            count = len(file[group.format(i)]["actions"]) + (write is None)
            file[group.format(i)].create_dataset(name, (count, 2**17 // rows), "f4", chunks=True)
    with pytest.raises(UnveilError, match="together, more than this file can hold"):
        read(path)


def test_parquet_rows_without_end_are_refused_before_they_are_read(tmp_path, monkeypatch):
    """Runs of one number, and one cell many times: both are a few bytes in the file."""
    folder = write_lerobot(tmp_path / "d", FEW, "v3.0")
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    monkeypatch.setattr(lerobot, "room", lambda size: 2**20)
    assert len(read_lerobot(folder)) == 12
    numbers = {
        "observation.state": np.zeros(2**19),
        "episode_index": np.zeros(2**19, int),
        "index": np.zeros(2**19, int),
    }
    pq.write_table(pa.table({"action": np.zeros(2**19), **numbers}), file)
    with pytest.raises(UnveilError, match="unpacks to more than 1,048,576 bytes"):
        read_lerobot(folder)
    cells = pa.table(
        {"action": pa.array([bytes(2**14)] * 200), **{name: values[:200] for name, values in numbers.items()}}
    )
    pq.write_table(cells, file)
    assert file.stat().st_size < 2**16
    with pytest.raises(UnveilError, match="unpacks to more than 1,048,576 bytes"):
        read_lerobot(folder)

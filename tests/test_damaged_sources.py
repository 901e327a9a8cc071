"""Malformed sources that once ended in a traceback: JSON nested without end, records that are none, other
kinds of numbers."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recorded import FEW
from replay_buffers import write_lerobot, write_zarr
from unveil.errors import UnveilError
from unveil.image.data.reading import Reading
from unveil.image.data.source import read_images
from unveil.policy.data.lerobot import read_lerobot
from unveil.policy.data.zarr import read_zarr
from unveil.text.data.documents import Prepared, pack, read_documents, read_prepared, write_prepared
from unveil.text.data.tokens import ByteTokens, read_tokens

DEEP = "[" * 100_000


def test_json_nested_without_end_is_refused_by_every_reader(tmp_path):
    write_zarr(tmp_path / "a.zarr", FEW)
    (tmp_path / "a.zarr" / "data" / "state" / ".zarray").write_text(DEEP)
    folder = write_lerobot(tmp_path / "b", FEW, "v3.0")
    (folder / "meta" / "info.json").write_text(DEEP)
    (tmp_path / "c.jsonl").write_text(DEEP)
    (tmp_path / "tokenizer.json").write_text(DEEP)
    write_prepared(
        Prepared(ByteTokens(), pack(["a"], ByteTokens()), pack(["b"], ByteTokens())), tmp_path / "p"
    )
    (tmp_path / "p" / "streams.json").write_text(DEEP)
    for read, place in (
        (read_zarr, tmp_path / "a.zarr"),
        (read_lerobot, folder),
        (read_documents, tmp_path / "c.jsonl"),
        (read_tokens, tmp_path / "tokenizer.json"),
        (read_prepared, tmp_path / "p"),
    ):
        with pytest.raises(UnveilError, match=place.name):
            read(place)


@pytest.mark.parametrize(
    "stream", [np.array([3.0]), np.array([[1]]), np.array([-1]), np.array([2**32]), np.array(["a"])], ids=str
)
def test_streams_are_rows_of_tokens(stream, tmp_path):
    """-1 would be the last row of an embedding, and 2^32 the token 0 once it is cut to 32 bits."""
    write_prepared(Prepared(ByteTokens(), pack(["a"], ByteTokens()), pack(["b"], ByteTokens())), tmp_path)
    np.save(tmp_path / "held.npy", stream)
    with pytest.raises(UnveilError, match="make it anew"):
        read_prepared(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2**40,)}",
        b"(" * 5000,
        b"'" * 9,
        b"{'descr': '<f4'",
    ],
)
def test_headers_of_npy_that_are_none(header, tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UnveilError, match="not an array of images"):
        read_images(str(tmp_path / "a.npy"), Reading())


@pytest.mark.parametrize("said", [None, 3, [1], "image"])
def test_features_of_lerobot_that_are_no_descriptions(said, tmp_path):
    folder = write_lerobot(tmp_path / "d", FEW, "v2.1")
    info = json.loads((folder / "meta" / "info.json").read_text())
    info["features"]["observation.state"] = said
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    with pytest.raises(UnveilError, match=r"no valid description of 'observation\.state'"):
        read_lerobot(folder)


@pytest.mark.parametrize(
    ("name", "values"), [("index", ["a"] * 12), ("episode_index", [[0]] * 12), ("index", [0.5] * 12)], ids=str
)
def test_indices_of_lerobot_are_whole_numbers(name, values, tmp_path):
    folder = write_lerobot(tmp_path / "d", FEW, "v3.0")
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), file)
    with pytest.raises(UnveilError, match=rf"{name!r} (must be whole numbers|has dtype string)"):
        read_lerobot(folder)


def test_files_of_lerobot_with_unlike_rows(tmp_path):
    folder = write_lerobot(tmp_path / "d", FEW, "v2.1")
    file = folder / "data" / "chunk-000" / "episode_000001.parquet"
    table = pq.read_table(file)
    pq.write_table(
        table.set_column(table.column_names.index("action"), "action", pa.array([[1.0, 2.0, 3.0]] * 7)), file
    )
    with pytest.raises(UnveilError, match="rows of different shapes"):
        read_lerobot(folder)


def test_columns_of_parquet_in_a_form_that_is_not_read(tmp_path):
    folder = write_lerobot(tmp_path / "d", FEW, "v3.0")
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    words = pa.array(["a"] * 12).dictionary_encode()
    pq.write_table(table.set_column(table.column_names.index("action"), "action", words), file)
    with pytest.raises(UnveilError, match=r"file-000\.parquet"):
        read_lerobot(folder)

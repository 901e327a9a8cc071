"""One form of demonstrations from every format; what is wrong with a file is told in one line, and nothing
strange is run."""

import json
import shutil
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from numcodecs import Blosc

from pusht_recorded import TWO, recorded
from replay_buffers import FORMATS, write_lerobot, write_robomimic, write_zarr, zipped
from unveil.errors import UnveilError
from unveil.policy.data.demonstrations import Demonstrations
from unveil.policy.data.source import read_demonstrations


@pytest.fixture(autouse=True)
def _unchecked(unchecked, tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("UNVEIL_DATA", raising=False)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_reads_as_the_same_demonstrations(kind, tmp_path):
    two = recorded()
    read = read_demonstrations(str(FORMATS[kind](tmp_path, two)))
    np.testing.assert_array_equal(read.actions, two.actions)
    np.testing.assert_array_equal(read.episode_ends, two.episode_ends)
    assert set(read.observations) == {"state", "keypoint"}
    for name, values in two.observations.items():
        np.testing.assert_array_equal(read.observations[name], values)


def test_many_robomimic_demonstrations_are_in_the_order_of_their_numbers(tmp_path):
    rows = np.arange(12, dtype=np.float32)[:, None]
    read = read_demonstrations(
        str(write_robomimic(tmp_path / "d.h5", Demonstrations({"x": rows}, rows, np.arange(1, 13))))
    )
    np.testing.assert_array_equal(read.actions, rows)  # demo_10 is not between demo_1 and demo_2


def test_pictures_are_read_when_asked_for_and_become_bytes(tmp_path):
    two = recorded()
    pictures = np.random.default_rng(0).integers(0, 256, (len(two), 4, 4, 3)).astype(np.float32)
    path = write_zarr(tmp_path / "d.zarr", two, 2, img=pictures)
    assert "img" not in read_demonstrations(str(path)).observations
    read = read_demonstrations(str(path), pictures=True).observations["img"]
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pictures)


@pytest.mark.parametrize("kind", ["npz", "zarr2", "zarr3", "zip", "robomimic"])
def test_pictures_of_every_format_are_the_same_bytes_and_left_out_when_not_asked_for(kind, tmp_path):
    two = recorded()
    pictures = np.random.default_rng(0).integers(0, 256, (len(two), 4, 4, 3), dtype=np.uint8)
    path = str(
        FORMATS[kind](
            tmp_path, Demonstrations({**two.observations, "img": pictures}, two.actions, two.episode_ends)
        )
    )
    assert "img" not in read_demonstrations(path).observations
    read = read_demonstrations(path, pictures=True).observations["img"]
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pictures)


def pictured():
    two = recorded()
    pictures = np.random.default_rng(0).integers(0, 256, (len(two), 16, 16, 3), dtype=np.uint8)
    return Demonstrations(
        {"state": two.observations["state"][:, :2], "image": pictures}, two.actions, two.episode_ends
    )


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("video", [False, True])
def test_lerobots_pictures_in_cells_and_videos_are_those_of_their_rows(version, video, tmp_path):
    demonstrations = pictured()
    path = write_lerobot(tmp_path / "d", demonstrations, version, video=video)
    assert set(read_demonstrations(str(path)).observations) == {"state"}
    read = read_demonstrations(str(path), pictures=True).observations
    assert read["image"].dtype == np.uint8
    np.testing.assert_allclose(
        read["image"].astype(int), demonstrations.observations["image"], atol=2 * video
    )  # colours pass through ffmpeg
    np.testing.assert_array_equal(read["state"], demonstrations.observations["state"])


def test_what_is_wrong_with_lerobots_pictures_is_told(tmp_path, monkeypatch):
    path = write_lerobot(tmp_path / "d", pictured(), "v2.1", video=True)
    second = path / "videos" / "chunk-000" / "observation.image" / "episode_000001.mp4"
    whole = second.read_bytes()
    second.unlink()
    with pytest.raises(UnveilError, match=r"60 frames of 'observation\.image', but 144 steps"):
        read_demonstrations(str(path), pictures=True)
    second.write_bytes(whole[:100])
    with pytest.raises(UnveilError, match=r"episode_000001\.mp4: not a complete video"):
        read_demonstrations(str(path), pictures=True)
    monkeypatch.setattr("unveil.policy.data.lerobot_pictures.find_spec", lambda name: None)
    with pytest.raises(UnveilError, match="is video, which needs a decoder: pip install av or torchcodec"):
        read_demonstrations(str(path), pictures=True)
    shutil.rmtree(path / "videos")
    with pytest.raises(UnveilError, match=r"no videos/\*\*/observation\.image"):
        read_demonstrations(str(path), pictures=True)
    broken = write_lerobot(tmp_path / "b", pictured(), "v3.0")
    file = broken / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    place = table.column_names.index("observation.image")
    for cell, message in (
        ({"bytes": b"GIF89a", "path": "x"}, "row 0 of a picture column is not a complete PNG"),
        ({"path": "x"}, "no picture"),
    ):
        cells = pa.array([cell, *table["observation.image"].to_pylist()[1:]], table.schema.field(place).type)
        pq.write_table(table.set_column(place, "observation.image", cells), file)
        with pytest.raises(UnveilError, match=message):
            read_demonstrations(str(broken), pictures=True)


def test_chosen_episodes_keep_their_rows():
    two = recorded()
    second = two.chosen(np.array([False, True]))
    np.testing.assert_array_equal(second.actions, two.actions[two.starts[1] :])
    assert second.episode_ends.tolist() == [len(two) - two.starts[1]]
    assert two.observed("keypoint", "state").shape == (len(two), 23)
    with pytest.raises(ValueError, match="no episode"):
        two.chosen(np.zeros(2, bool))
    with pytest.raises(UnveilError, match="no observation 'image'"):
        two.observed("image")


def changed(**arrays):
    stored = dict(np.load(TWO)) | arrays
    return {name: values for name, values in stored.items() if values is not None}


NAN = np.load(TWO)["action"].copy()
NAN[17, 1] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"action": None}, "'action' is missing"),
        ({"episode_ends": None}, "'episode_ends' is missing"),
        ({"episode_ends": np.array([60, 60])}, "must increase"),
        ({"episode_ends": np.array([90, 60])}, "must increase"),
        ({"episode_ends": np.array([0, 144])}, "must increase"),
        ({"episode_ends": np.array([60, 143])}, "number of actions, 144, got 143"),
        ({"episode_ends": np.array([60.0, 144.0])}, "whole numbers"),
        ({"action": NAN}, "'actions' holds a number that is not finite in row 17"),
        ({"state": np.zeros((7, 5), np.float32)}, "'state' must have 144 rows"),
        ({"action": np.zeros((144, 2), np.complex64)}, "array of numbers"),
        ({"action": np.array(["a"] * 144)}, "array of numbers"),
    ],
)
def test_what_is_wrong_with_an_npz_is_told(arrays, message, tmp_path):
    np.savez(tmp_path / "d.npz", **changed(**arrays))
    with pytest.raises(UnveilError, match=message) as told:
        read_demonstrations(str(tmp_path / "d.npz"))
    assert str(tmp_path) in str(told.value) and "\n" not in str(told.value)


def cut_short(path):
    file = next(
        f
        for f in sorted((path / "data" / "action").rglob("*"))
        if f.is_file() and f.suffix != ".json" and f.name[0] != "."
    )
    file.write_bytes(file.read_bytes()[:40])


def removed(path):
    next(
        f
        for f in sorted((path / "data" / "action").rglob("*"))
        if f.is_file() and f.suffix != ".json" and f.name[0] != "."
    ).unlink()


def unpickling(path):
    told = json.loads((path / "data" / "action" / ".zarray").read_text())
    told["filters"] = [{"id": "pickle"}]
    (path / "data" / "action" / ".zarray").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "'data/action' is damaged or cut short"),
        (removed, "lacks 1 of its 3 chunks"),
        (unpickling, "codec 'pickle', which is not supported"),
        (lambda p: shutil.rmtree(p / "data" / "action"), "'data/action' is missing"),
        (lambda p: shutil.rmtree(p / "meta" / "episode_ends"), "'meta/episode_ends' is missing"),
        (lambda p: (p / "data" / "state" / ".zarray").write_text("{"), "not a zarr array"),
    ],
)
def test_what_is_wrong_with_a_zarr_store_is_told(damage, message, tmp_path):
    path = write_zarr(tmp_path / "d.zarr", recorded(), 2)
    damage(path)
    with pytest.raises(UnveilError, match=message) as told:
        read_demonstrations(str(path))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("lacking", [1, 500])
def test_a_chunk_that_blosc_stored_as_it_was_cannot_be_cut_short_unnoticed(lacking, tmp_path):
    """What does not shrink is stored as it is, and blosc copies as much of it as its header says, past the
    file's end, too."""
    path = tmp_path / "d.zarr"
    actions = np.random.default_rng(0).random((144, 2), np.float32)
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    root.create_array(
        "data/action", data=actions, chunks=(144, 2), compressors=Blosc("lz4", 5, Blosc.NOSHUFFLE)
    )
    root.create_array("data/state", data=actions)
    root.create_array("meta/episode_ends", data=np.array([60, 144]))
    np.testing.assert_array_equal(read_demonstrations(str(path)).actions, actions)
    chunk = path / "data" / "action" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:-lacking])
    with pytest.raises(UnveilError, match=r"'data/action' is damaged or cut short \(chunk 0\.0"):
        read_demonstrations(str(path))


def test_an_archive_is_held_to_one_whole_store(tmp_path):
    store = write_zarr(tmp_path / "d.zarr", recorded(), 2)
    whole = zipped(tmp_path / "d.zip", store)
    whole.write_bytes(whole.read_bytes()[:-400])
    with pytest.raises(UnveilError, match="zip"):
        read_demonstrations(str(whole))
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../meta/episode_ends/0", "x")
    with pytest.raises(UnveilError, match="outside itself"):
        read_demonstrations(str(tmp_path / "out.zip"))
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a", "x")
    with pytest.raises(UnveilError, match="0 replay buffers"):
        read_demonstrations(str(tmp_path / "none.zip"))


def test_what_is_wrong_with_a_lerobot_folder_is_told(tmp_path):
    path = write_lerobot(tmp_path / "d", recorded(), "v2.1")
    second = path / "data" / "chunk-000" / "episode_000001.parquet"
    whole = second.read_bytes()
    second.write_bytes(whole[:-50])
    with pytest.raises(UnveilError, match="not a complete parquet file"):
        read_demonstrations(str(path))
    table = pq.read_table(path / "data" / "chunk-000" / "episode_000000.parquet")
    pq.write_table(table.drop_columns(["episode_index"]), second)
    with pytest.raises(UnveilError, match="column 'episode_index' is missing; the file has"):
        read_demonstrations(str(path))
    again = pq.read_table(path / "data" / "chunk-000" / "episode_000000.parquet").slice(0, 1)
    pq.write_table(pa.concat_tables([again] * 84), second)
    with pytest.raises(UnveilError, match=r"index does not count the steps 0 \.\. 143"):
        read_demonstrations(str(path))
    second.unlink()
    with pytest.raises(UnveilError, match=r"60 steps, but meta/info\.json states 144"):
        read_demonstrations(str(path))
    info = json.loads((path / "meta" / "info.json").read_text())
    (path / "meta" / "info.json").write_text(json.dumps(info | {"codebase_version": "v1.6"}))
    with pytest.raises(UnveilError, match=r"version v1\.6 are not read"):
        read_demonstrations(str(path))


def test_what_is_wrong_with_a_robomimic_file_is_told(tmp_path):
    path = write_robomimic(tmp_path / "d.hdf5", recorded())
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs/keypoint"]
    with pytest.raises(UnveilError, match="other observations"):
        read_demonstrations(str(path))
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs"]
    with pytest.raises(UnveilError, match="'data/demo_1/obs' is missing"):
        read_demonstrations(str(path))
    with h5py.File(tmp_path / "e.hdf5", "w") as file:
        file["observations"] = np.zeros((3, 2))
    with pytest.raises(UnveilError, match="not robomimic's layout"):
        read_demonstrations(str(tmp_path / "e.hdf5"))


def test_sources_that_are_not_there_or_of_no_known_format(tmp_path):
    with pytest.raises(UnveilError, match="no such file or folder"):
        read_demonstrations(str(tmp_path / "d.zarr"))
    (tmp_path / "d.txt").write_text("hello")
    with pytest.raises(UnveilError, match="unknown format"):
        read_demonstrations(str(tmp_path / "d.txt"))
    with pytest.raises(UnveilError, match="only https"):
        read_demonstrations("http://example.com/d.npz")

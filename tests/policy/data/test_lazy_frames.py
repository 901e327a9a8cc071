"""Pictures that are decoded when they are needed are those that are read at once, whatever the format."""

from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pusht_recorded import recorded
from replay_buffers import write_lerobot, write_robomimic, write_zarr, zipped
from unveil.errors import UnveilError
from unveil.policy.data import video_frames
from unveil.policy.data.chunks import Chunks
from unveil.policy.data.demonstrations import Demonstrations
from unveil.policy.data.fields import Unread
from unveil.policy.data.frames import ChosenFrames, Held, ResizedFrames, in_memory, resized
from unveil.policy.data.source import read_demonstrations
from unveil.policy.data.stored_frames import in_file, scaled_frames


@pytest.fixture(autouse=True)
def _unchecked(unchecked, tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))


def two_with(**pictures):
    two = recorded()
    return Demonstrations({"state": two.observations["state"], **pictures}, two.actions, two.episode_ends)


def bytes_like(shape=(24, 32, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (len(recorded()), *shape)).astype(np.uint8)


WRITERS = {
    "zarr": lambda path, it: write_zarr(path / "d.zarr", it),
    "zarr3": lambda path, it: write_zarr(path / "d.zarr", it, 3),
    "zip": lambda path, it: zipped(path / "d.zip", write_zarr(path / "d.zarr", it)),
    "robomimic": lambda path, it: write_robomimic(path / "d.hdf5", it),
    "lerobot": lambda path, it: write_lerobot(path / "le", it, "v3.0"),
    "lerobot videos": lambda path, it: write_lerobot(path / "le", it, "v2.1", video=True),
    "lerobot video": lambda path, it: write_lerobot(path / "le", it, "v3.0", video=True),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_are_those_that_are_read_at_once(kind, tmp_path):
    """In any order, twice, and at the ends of episodes and of videos."""
    pictures = bytes_like()
    path = str(WRITERS[kind](tmp_path, two_with(image=pictures)))
    at_once = read_demonstrations(path, True).observations["image"]
    lazy = read_demonstrations(path, ["image"], lazy=True)
    assert "image" not in lazy.observations and set(lazy.observations) == {"state"}
    frames = lazy.cameras["image"]
    assert frames.shape == pictures.shape and frames.dtype == np.uint8
    rows = np.array([143, 0, 59, 60, 61, 7, 7, 100])
    np.testing.assert_array_equal(frames.read(rows), at_once[rows])
    np.testing.assert_array_equal(frames.read(rows), pictures[rows])  # videos here are without loss
    second = lazy.chosen(np.array([False, True])).cameras["image"]
    np.testing.assert_array_equal(second.read(np.array([0, 5])), pictures[[60, 65]])


@pytest.mark.parametrize("kind", ["zarr", "robomimic"])
@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).random((144, 6, 5, 3)).astype(np.float32),
        np.random.default_rng(0).random((144, 3, 6, 5)) * 255.0,
        np.random.default_rng(0).integers(400, 1800, (144, 6, 5, 1)).astype(np.uint16),
        np.random.default_rng(0).random((144, 6, 5, 1)).astype(np.float32),
    ],
    ids=["unit", "first", "millimetres", "metres"],
)
def test_scales_and_depth_are_as_those_read_at_once(kind, values, tmp_path):
    path = str(WRITERS[kind](tmp_path, two_with(view=values)))
    at_once = read_demonstrations(path, True).observations["view"]
    frames = read_demonstrations(path, True, lazy=True).cameras["view"]
    assert frames.shape == at_once.shape and frames.dtype == at_once.dtype
    np.testing.assert_array_equal(frames.read(np.array([3, 99])), at_once[[3, 99]])


def test_colours_without_a_scale_are_refused(tmp_path):
    for low, high in ((-1.0, 1.0), (0.0, 1.5), (0.0, 300.0)):
        values = np.linspace(low, high, 144 * 6, dtype=np.float32).reshape(144, 1, 2, 3)
        with pytest.raises(UnveilError, match="'obs/view' has colours from"):
            read_demonstrations(str(WRITERS["robomimic"](tmp_path, two_with(view=values))), True, lazy=True)
    with pytest.raises(Unread, match="has shape"):
        scaled_frames(Held(np.zeros((2, 3, 4, 5, 3), np.uint8)))


def test_pictures_in_files_beside_the_data(tmp_path):
    """LeRobot's cells with a path; one that leads out of the folder is not read."""
    pictures = bytes_like()
    path = write_lerobot(tmp_path / "le", two_with(image=pictures), "v3.0")
    (file,) = (path / "data").rglob("*.parquet")
    table = pq.read_table(file)
    for i, picture in enumerate(pictures):
        iio.imwrite(path / f"frame{i}.png", picture)
    place = table.column_names.index("observation.image")

    def with_paths(name):
        cells = pa.array([{"bytes": None, "path": name(i)} for i in range(len(pictures))])
        pq.write_table(table.set_column(place, "observation.image", cells), file)

    with_paths(lambda i: f"frame{i}.png")
    frames = read_demonstrations(str(path), True, lazy=True).cameras["image"]
    np.testing.assert_array_equal(frames.read(np.array([9, 140])), pictures[[9, 140]])
    (path / "frame0.png").rename(tmp_path / "outside.png")
    with_paths(lambda i: "../outside.png" if i == 0 else f"frame{i}.png")
    with pytest.raises(UnveilError, match=r"row 0 of 'observation.image' holds no picture"):
        read_demonstrations(str(path), True, lazy=True)


def test_damage_is_one_error_when_it_is_met(tmp_path):
    path = WRITERS["robomimic"](tmp_path, two_with(view=bytes_like()))
    frames = read_demonstrations(str(path), True, lazy=True).cameras["view"]
    missing = replace(frames.stored, places=((path, "data/nothing"),) * 2)
    with pytest.raises(UnveilError, match=r"'data/nothing' cannot be read"):
        missing.read(np.array([143]))
    folder = WRITERS["lerobot video"](tmp_path, two_with(image=bytes_like()))
    (video,) = folder.rglob("*.mp4")
    video.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(UnveilError, match=r"not a complete video|frames of"):
        read_demonstrations(str(folder), True, lazy=True)


def test_windows_of_two_cameras_decode_every_row_once(tmp_path):
    wrist, front = bytes_like(), bytes_like((10, 12, 3), 1)
    asked = []

    class Counting:
        shape, dtype = wrist.shape, wrist.dtype

        def read(self, rows):
            asked.append(rows.tolist())
            return wrist[rows]

    two = two_with()
    ends = two.episode_ends
    cameras = (Counting(), ResizedFrames(Held(front), (5, 6)))
    chunks = Chunks(two.observed("state"), two.actions, ends, 2, 16, 8, cameras)
    import torch

    seen, _ = chunks.windows(torch.tensor([0, 1]))  # rows 0, 0 and 0, 1
    assert asked == [[0, 1]] and seen.shape == (2, 2, 5 + 24 * 32 * 3 + 90)
    pixels = seen[1, 1, 5 : 5 + 24 * 32 * 3].reshape(3, 24, 32).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, wrist[1])
    small = seen[1, 1, -90:].reshape(3, 5, 6).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(small, resized(front[1:2], (5, 6))[0])


def test_resizing_keeps_means_of_colours_and_numbers_of_depth():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (2, 40, 80, 3)).astype(np.uint8)
    small = resized(colours, (10, 20))
    np.testing.assert_allclose(small.mean((1, 2)), colours.mean((1, 2)), atol=3.0)
    assert small.std() < 0.5 * colours.std()  # antialiased
    depth = np.where(rng.random((2, 40, 80, 1)) < 0.5, 0.0, 1.7).astype(np.float32)
    assert set(np.unique(resized(depth, (10, 20)))) == {np.float32(0.0), np.float32(1.7)}


def test_frames_in_memory_and_in_a_file_are_the_same(tmp_path):
    frames = ChosenFrames(Held(bytes_like((6, 5, 3))), np.arange(10, 90))
    done = []
    rows = np.array([0, 79, 3])
    for kept in (
        in_memory(frames, lambda *it: done.append(it)),
        in_file(frames, tmp_path / "new", lambda *it: done.append(it)),
    ):
        assert kept.shape == frames.shape and done[-1] == (80, 80)
        np.testing.assert_array_equal(kept.read(rows), frames.read(rows))


def test_a_run_of_near_frames_is_sought_once(tmp_path, monkeypatch):
    frames = read_demonstrations(
        str(WRITERS["lerobot video"](tmp_path, two_with(image=bytes_like()))), True, lazy=True
    ).cameras["image"]
    sought, found = [], video_frames._sought
    monkeypatch.setattr(video_frames, "_sought", lambda *it: sought.append(it[1:3]) or found(*it))
    frames.read(np.array([5, 6, 10, 60]))
    assert sought == [(5, 6), (60, 1)]

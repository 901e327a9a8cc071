"""Episodes of ALOHA: numbers, raw cameras and JPEG files in padded rows, of episodes of different length."""

import h5py
import imageio.v3 as iio
import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.policy.data.source import read_demonstrations

LENGTHS = (5, 3, 4)
RNG = np.random.default_rng(0)
ACTIONS = [RNG.random((n, 14)).astype(np.float32) for n in LENGTHS]
HIGH = [RNG.integers(0, 256, (n, 8, 10, 3)).astype(np.uint8) for n in LENGTHS]


@pytest.fixture(autouse=True)
def _unchecked(unchecked, tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))


def episodes(folder, numbers=(0, 2, 10)):
    folder.mkdir()
    for i, number in enumerate(numbers):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file["action"] = ACTIONS[i]
            file["observations/qpos"] = 2.0 * ACTIONS[i]
            file["observations/said"] = np.array([b"pick"] * LENGTHS[i])
            file["observations/images/cam_high"] = HIGH[i]
            smooth = np.linspace(0, 200, LENGTHS[i] * 64).reshape(-1, 8, 8, 1).repeat(3, 3).astype(np.uint8)
            files = [iio.imwrite("<bytes>", one, extension=".jpg", quality=95) for one in smooth]
            longest = max(map(len, files))
            rows = [np.frombuffer(one.ljust(longest, b"\0"), np.uint8) for one in files]
            file["observations/images/cam_low"] = np.stack(rows)
    return folder


def test_episodes_are_in_the_order_of_their_numbers_and_pictures_are_decoded(tmp_path):
    folder = str(episodes(tmp_path / "d"))
    for lazy in (False, True):
        read = read_demonstrations(folder, True, lazy)
        np.testing.assert_array_equal(read.actions, np.concatenate(ACTIONS))
        np.testing.assert_array_equal(read.observations["qpos"], 2.0 * np.concatenate(ACTIONS))
        assert read.episode_ends.tolist() == [5, 8, 12] and "said" in read.left
        rows = np.array([11, 5, 4])
        got = {
            it: read.cameras[it].read(rows) if lazy else read.observations[it][rows]
            for it in ("cam_high", "cam_low")
        }
        np.testing.assert_array_equal(got["cam_high"], np.concatenate(HIGH)[rows])
        expected = np.linspace(0, 200, 4 * 64).reshape(4, 8, 8)[3]
        assert np.abs(got["cam_low"][0].astype(float) - expected[..., None]).max() < 8  # JPEG
    some = read_demonstrations(folder, ["cam_low"], True)
    assert set(some.cameras) == {"cam_low"} and some.recording.unread == {"cam_high": (8, 10, 3)}
    assert len(read_demonstrations(folder + "/episode_2.hdf5").actions) == 3


def test_what_is_wrong_is_one_line_with_the_file(tmp_path):
    folder = episodes(tmp_path / "d")
    with h5py.File(folder / "episode_2.hdf5", "a") as file:
        del file["observations/images/cam_high"]
        file["observations/images/cam_high"] = HIGH[0]
    with pytest.raises(
        UnveilError, match=r"episode_2.hdf5: 'observations/images/cam_high' has shape .* for 3 actions"
    ):
        read_demonstrations(str(folder), True)
    with h5py.File(folder / "episode_2.hdf5", "a") as file:
        del file["observations/images/cam_high"]
        del file["observations/qpos"]
    with pytest.raises(UnveilError, match=r"episode_2.hdf5 has other observations than"):
        read_demonstrations(str(folder))
    (folder / "episode_10.hdf5").write_bytes(b"none")
    with pytest.raises(UnveilError, match=r"episode_10.hdf5: not a whole HDF5 file"):
        read_demonstrations(str(folder))

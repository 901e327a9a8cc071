"""D4RL and Minari files: what is written comes back, and a write that fails leaves the old file."""

import os
import subprocess

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorded import EXAMPLE, assert_same, make
from unveil.errors import UnveilError
from unveil.planning.data.d4rl import read_d4rl, write_d4rl
from unveil.planning.data.minari import read_minari, write_minari


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hdf5")


SHAPES = st.tuples(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 12), min_size=1, max_size=13),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, 3),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_d4rl_round_trip(folder, shape):
    episodes = make(*shape)
    write_d4rl(folder / "d4rl.hdf5", episodes)
    back = read_d4rl(folder / "d4rl.hdf5")
    assert_same(back, episodes)
    assert list(back.infos) == ["goal", "score"] and back.final_observations is None
    assert all(back.infos[name].tobytes() == episodes.infos[name].tobytes() for name in back.infos)


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_minari_round_trip(folder, shape):
    episodes = make(*shape)
    write_minari(folder / "minari.hdf5", episodes)
    back = read_minari(folder / "minari.hdf5")
    assert_same(back, episodes, ("observations", "actions", "rewards", "terminals", "final_observations"))
    assert back.timeouts[-1] == (episodes.timeouts[-1] or not shape[-1])  # a group's end is an episode's end
    np.testing.assert_array_equal(back.timeouts[:-1], episodes.timeouts[:-1])
    np.testing.assert_array_equal(back.ends, episodes.ends)


def test_minari_needs_what_was_seen_last(tmp_path):
    write_d4rl(tmp_path / "a.hdf5", EXAMPLE)
    with pytest.raises(ValueError, match="final_observations are needed"):
        write_minari(tmp_path / "b.hdf5", read_d4rl(tmp_path / "a.hdf5"))
    assert not (tmp_path / "b.hdf5").exists()


def test_minari_dictionary_observations_in_numeric_order(tmp_path):
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "w") as file:
        file.attrs["total_episodes"] = 12
        for i in range(12):  # as text, episode_10 stands before episode_2
            group, steps = file.create_group(f"episode_{i}"), 2 + i % 3
            for name, add in (("observation", 0.0), ("desired_goal", 0.25), ("achieved_goal", 0.5)):
                group[f"observations/{name}"] = i + np.arange(steps + 1.0)[:, None] / 100 + add
            group["actions"], group["rewards"] = np.full((steps, 2), i, np.float64), np.full(steps, i)
            group["terminations"], group["truncations"] = np.zeros(steps, bool), np.arange(steps) == steps - 1
    episodes = read_minari(tmp_path)
    expected = np.concatenate([i + np.arange(2 + i % 3) / 100 for i in range(12)]).astype(np.float32)
    np.testing.assert_allclose(episodes.observations[:, 0], expected)
    np.testing.assert_allclose(episodes.infos["goal"][:, 0], expected + 0.25, rtol=1e-6)
    np.testing.assert_allclose(
        episodes.final_observations[:, 0], [i + (2 + i % 3) / 100 for i in range(12)], rtol=1e-6
    )
    np.testing.assert_array_equal(episodes.rewards, np.floor(expected))
    assert (
        np.diff(episodes.ends, prepend=0).tolist() == [2 + i % 3 for i in range(12)]
        and episodes.actions.dtype == np.float32
    )


def test_d4rl_of_the_oldest_kind_and_of_other_numbers(tmp_path):
    with h5py.File(tmp_path / "old.hdf5", "w") as file:
        file["observations"], file["actions"], file["rewards"] = (
            np.ones((5, 2), np.float64),
            np.ones((5, 1), np.float16),
            np.arange(5),
        )
        file["terminals"] = np.array([0, 0, 1, 0, 0], np.uint8)
        file["infos/deep/group"], file["metadata"] = np.zeros(3), "text"
    episodes = read_d4rl(tmp_path / "old.hdf5")
    assert episodes.ends.tolist() == [3, 5] and not episodes.timeouts.any() and episodes.infos == {}
    assert episodes.rewards.tolist() == [0, 1, 2, 3, 4] and episodes.actions.dtype == np.float32


def test_a_failed_write_leaves_the_old_file(kind, monkeypatch):
    path, read, write = kind
    before = path.read_bytes()
    other = make(1, [3, 2], [1])
    with monkeypatch.context() as patch:
        create, calls = h5py.Group.create_dataset, []

        def fails(self, *args, **kwargs):
            calls.append(args)
            if len(calls) > 3:
                raise RuntimeError("in the middle")
            return create(self, *args, **kwargs)

        patch.setattr(h5py.Group, "create_dataset", fails)
        patch.setattr(h5py.Group, "__setitem__", lambda self, name, value: fails(self, name, data=value))
        with pytest.raises(RuntimeError, match="in the middle"):
            write(path, other)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    with pytest.raises(UnveilError, match="a folder is in the way"):
        write(path.parent, other)
    for impossible in (
        path / "below" / "a.hdf5",
        path.with_name("x" * 250),
    ):  # in a file; too long with the temporary's suffix
        with pytest.raises(UnveilError, match="cannot write"):
            write(impossible, other)
    with path.open("rb") as reader:
        write(path, other)
        assert reader.read() == before  # replaced, not overwritten
    write(path.parent / "new" / "folder" / "a.hdf5", other)
    assert_same(read(path.parent / "new" / "folder" / "a.hdf5"), other)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False, timeout=300).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        for write in (write_d4rl, write_minari):
            (tmp_path / "a.hdf5").write_text("old, made by unveil")
            with pytest.raises(UnveilError, match=r"a\.hdf5: cannot write \(No space left on device\)"):
                write(tmp_path / "a.hdf5", make(0, [4000], [1]))
            assert (tmp_path / "a.hdf5").read_text() == "old, made by unveil" and os.listdir(tmp_path) == [
                "a.hdf5"
            ]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, timeout=300)

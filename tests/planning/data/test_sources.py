"""One name, one data set: paths, D4RL names, Minari ids and our own, and what is said when there is no such
thing."""

import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from recorded import COLUMNS, EXAMPLE, assert_same
from unveil.errors import UnveilError
from unveil.planning.data import source as sources
from unveil.planning.data.d4rl import write_d4rl
from unveil.planning.data.minari import write_minari
from unveil.planning.data.names import D4RL, OWN
from unveil.planning.data.source import read_episodes


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A machine with nothing on it: (folder here, $UNVEIL_DATA, the cache, Minari's folder)."""
    folders = [tmp_path / name for name in ("here", "data", "home", "minari")]
    for folder, name in zip(
        folders, (None, "UNVEIL_DATA", "UNVEIL_HOME", "MINARI_DATASETS_PATH"), strict=True
    ):
        folder.mkdir()
        if name:
            monkeypatch.setenv(name, str(folder))
    monkeypatch.chdir(folders[0])
    monkeypatch.setattr(sources, "download", lambda url, path: pytest.fail(f"downloads {url}"))
    return folders


def refusal(source: str) -> str:
    with pytest.raises(UnveilError) as caught:
        read_episodes(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def placed(folder, name: str, write=write_d4rl, episodes=EXAMPLE):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write(folder / name, episodes)
    return folder / name


def test_paths_of_every_layout_here_and_in_the_search_path(places):
    here, data, home, _ = places
    placed(here, "a.hdf5")
    placed(data, "sub/b.hdf5", write_minari)
    placed(home, "c/data/main_data.hdf5", write_minari)
    np.savez(here / "d.npz", **{name: getattr(EXAMPLE, name) for name in COLUMNS})
    placed(here, "hopper-medium-v2.hdf5")
    for source in (
        "a.hdf5",
        str(here / "a.hdf5"),
        "sub/b.hdf5",
        "c",
        "c/data/main_data.hdf5",
        "d.npz",
        "hopper-medium-v2.hdf5",
    ):
        got = read_episodes(source)
        assert_same(got, EXAMPLE, ("observations", "actions", "rewards", "terminals"))
        assert (got.final_observations is None) == (source[0] in "ad/h")


def test_d4rl_names_lead_to_d4rls_files(places, monkeypatch):
    _, data, home, _ = places
    assert len(D4RL) == 24
    asked = []

    def fetch(url, path):
        asked.append(url)
        return placed(path.parent, path.name)

    monkeypatch.setattr(sources, "download", fetch)
    assert_same(read_episodes("hopper-medium-replay-v2"), EXAMPLE)
    assert asked == [
        "https://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_medium_replay-v2.hdf5"
    ]
    assert (home / "d4rl" / "hopper_medium_replay-v2.hdf5").is_file()
    read_episodes("hopper-medium-replay-v2")
    placed(data, "walker2d_full_replay-v2.hdf5")
    read_episodes("walker2d-full-replay-v2")
    assert len(asked) == 1
    (home / "d4rl" / "hopper_medium_replay-v2.hdf5.sha256").write_text("0" * 64)
    assert "damaged" in refusal("hopper-medium-replay-v2")


def test_our_own_sets_or_the_command_that_makes_them(places):
    _, _, home, _ = places
    message = refusal("walker2d-medium-replay")
    assert "`unveil data locomotion --body walker2d --mix medium-replay --policies DIR`" in message
    assert (
        str(home / "locomotion" / "walker2d-medium-replay.hdf5") in message
        and "walker2d-medium-replay-v2" in message
    )
    placed(home, "locomotion/walker2d-medium-replay.hdf5")
    assert_same(read_episodes("walker2d-medium-replay"), EXAMPLE)
    assert not set(OWN) & set(D4RL)


def test_minari_ids(places, monkeypatch):
    _, data, _, minari = places
    monkeypatch.setitem(sys.modules, "minari", None)
    assert "pip install 'unveil[rl]'" in refusal("mujoco/hopper/medium-v0")
    placed(data, "minari/mujoco/hopper/medium-v0/data/main_data.hdf5", write_minari)
    assert_same(read_episodes("mujoco/hopper/medium-v0"), EXAMPLE, COLUMNS[:4])
    placed(minari, "D4RL/pen/human-v2/data/main_data.hdf5", write_minari)
    assert_same(read_episodes("D4RL/pen/human-v2"), EXAMPLE, COLUMNS[:4])

    def fetch(name):
        if "nowhere" in name:
            raise ConnectionError("no route\nto host")
        placed(minari, f"{name}/data/main_data.hdf5", write_minari)

    monkeypatch.setitem(sys.modules, "minari", SimpleNamespace(download_dataset=fetch))
    assert_same(read_episodes("mujoco/walker2d/expert-v0"), EXAMPLE, COLUMNS[:4])
    assert "cannot download mujoco/nowhere/medium-v0 with minari (no route)" in refusal(
        "mujoco/nowhere/medium-v0"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hoper-medium-v2", "did you mean hopper-medium-v2?"),
        ("hopper-medium-expert-v1", "did you mean hopper-medium-expert-v2?"),
        ("walker2d-medum", "did you mean walker2d-medium?"),
        ("ant-medium", "did you mean"),  # D4RL has it, we do not
        ("nothing", "unknown data 'nothing'; give a path"),
        ("", "unknown data ''"),
        (" ", "unknown data ' '"),
        ("no.hdf5", "no.hdf5: no such file"),
        ("./no", "./no: no such file"),
        ("x" * 400, "unknown data"),
        ("a\0b", "unknown data"),
        (".", "a folder without data/main_data.hdf5"),
    ],
)
def test_unknown_names_are_one_line(source, message):
    assert message in refusal(source)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_array_names_the_file_and_the_key(places, key):
    path = placed(places[0], "a.hdf5")
    with h5py.File(path, "r+") as file:
        del file[key]
    message = refusal(str(path))
    assert str(path) in message and f"{key!r} is missing" in message

"""Recordings as people store them: marks as numbers, an axis too many or too few, fields that nobody asked
for, the other byte order."""

import h5py
import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.planning.data.d4rl import read_d4rl, read_npz
from unveil.planning.data.minari import read_minari
from unveil.planning.data.source import read_file

COUNT = 20
RNG = np.random.default_rng(0)
GOOD = {
    "observations": RNG.normal(size=(COUNT, 3)).astype(np.float32),
    "actions": RNG.uniform(-1, 1, (COUNT, 1)).astype(np.float32),
    "rewards": RNG.random(COUNT).astype(np.float32),
    "terminals": np.arange(COUNT) == 9,
    "timeouts": np.arange(COUNT) == COUNT - 1,
}


def written(path, kind, **changed):
    """A file in either layout with some arrays changed, and its episodes."""
    arrays = {name: values for name, values in (GOOD | changed).items() if values is not None}
    if kind == "npz":
        np.savez(path / "a.npz", **arrays)
        return path / "a.npz"
    with h5py.File(path / "a.hdf5", "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path / "a.hdf5"


pytestmark = pytest.mark.usefixtures("unchecked")
both = pytest.mark.parametrize("kind", ["npz", "hdf5"])


@both
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8, ">f4", ">i2", bool])
def test_marks_are_marks_in_any_type_and_shape(kind, dtype, tmp_path):
    for shape in ((COUNT,), (COUNT, 1)):
        marks = {name: GOOD[name].astype(dtype).reshape(shape) for name in ("terminals", "timeouts")}
        read = read_file(written(tmp_path, kind, **marks, rewards=GOOD["rewards"].reshape(shape)))
        assert (
            read.ends.tolist() == [10, COUNT]
            and read.terminals.dtype == bool
            and read.rewards.shape == (COUNT,)
        )


@both
@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, np.nan])
def test_marks_that_are_no_marks_are_refused(kind, value, tmp_path):
    marks = np.zeros(COUNT)
    marks[7] = value
    for name in ("terminals", "timeouts"):
        with pytest.raises(
            UnveilError, match=rf"'{name}' must be true or false, or 0 or 1, got {value} in row 7"
        ):
            read_file(written(tmp_path, kind, **{name: marks}))


@both
def test_single_numbers_and_the_other_byte_order(kind, tmp_path):
    read = read_file(
        written(
            tmp_path,
            kind,
            actions=GOOD["actions"][:, 0].astype(">f8"),
            observations=GOOD["observations"].astype(">f4"),
        )
    )
    np.testing.assert_array_equal(read.actions, GOOD["actions"])
    np.testing.assert_array_equal(read.observations, GOOD["observations"])
    assert read.observations.dtype.isnative


@both
def test_numbers_that_are_not_finite_are_named_with_their_row(kind, tmp_path):
    spoiled = GOOD["observations"].copy()
    spoiled[[4, 17], [2, 0]] = np.inf, np.nan
    with pytest.raises(
        UnveilError, match=r"observations holds .* in 2 of 20 rows; the first is inf in row 4, column 2"
    ):
        read_file(written(tmp_path, kind, observations=spoiled))
    with pytest.raises(UnveilError, match=r"rewards holds .* in 1 of 20 rows; the first is nan in row 3"):
        read_file(written(tmp_path, kind, rewards=np.where(np.arange(COUNT) == 3, np.nan, 1.0)))


def test_what_nobody_asked_for_does_not_stand_in_the_way(tmp_path, capsys):
    path = written(
        tmp_path, "npz", language=np.array(["pick"] * COUNT), notes=np.array([{"a": 1}], dtype=object)
    )
    assert len(read_npz(path)) == COUNT
    large = 2**40 + np.arange(COUNT)
    with h5py.File(written(tmp_path, "hdf5"), "a") as file:
        file["language"], file["infos/language"] = np.array([b"pick"] * COUNT), np.array([b"pick"] * COUNT)
        file["infos/names"], file["infos/short"], file["infos/nan"] = (
            large,
            np.zeros(3),
            np.full(COUNT, np.nan),
        )
        file["infos/deep/group"], file["infos/goal"] = np.zeros(COUNT), GOOD["observations"].astype(">f4")
        file["infos/elsewhere"] = h5py.ExternalLink("b.hdf5", "/x")
    read = read_d4rl(tmp_path / "a.hdf5")
    assert sorted(read.infos) == ["goal", "names"]
    np.testing.assert_array_equal(read.infos["names"], large)  # whole numbers are kept exactly
    np.testing.assert_array_equal(read.infos["goal"], GOOD["observations"])
    said = capsys.readouterr().err
    assert "unveil: note: " in said and "deep, elsewhere, language, nan, short" in said


def minari(path, observations, steps=3):
    with h5py.File(path, "w") as file:
        for i in range(2):
            group, count = file.create_group(f"episode_{i}"), steps * (i if steps == 0 else 1)
            for name, values in observations.items():
                group[name] = values[: count + 1]
            group["actions"], group["rewards"] = np.zeros((count, 1)), np.arange(count)
            group["terminations"], group["truncations"] = (
                np.zeros(count),
                (np.arange(count) == count - 1).astype(float),
            )
    return path


def test_minaris_dictionaries_become_their_numbers_side_by_side(tmp_path, capsys):
    speed, angle = RNG.normal(size=(4, 2)), RNG.normal(size=4)
    path = minari(
        tmp_path / "a.hdf5",
        {
            "observations/speed": speed,
            "observations/angle": angle,
            "observations/mission": np.array([b"go"] * 4),
            "observations/view": np.zeros((4, 8, 8, 3), np.uint8),
        },
    )
    read = read_minari(path)
    np.testing.assert_allclose(
        read.observations[:3], np.concatenate([angle[:3, None], speed[:3]], axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(read.final_observations[1], [angle[3], *speed[3]], rtol=1e-6)
    said = capsys.readouterr().err
    assert said.count("note") == 1 and "mission, view" in said
    with pytest.raises(UnveilError, match="no arrays of numbers of one length"):
        read_minari(minari(tmp_path / "b.hdf5", {"observations/mission": np.array([b"go"] * 4)}))


def test_minaris_episodes_without_a_transition_are_left_out_and_said(tmp_path, capsys):
    path = minari(tmp_path / "a.hdf5", {"observations": RNG.normal(size=(4, 2))})
    with h5py.File(path, "a") as file:
        group = file.create_group("episode_2")
        group["observations"], group["actions"], group["rewards"] = (
            np.zeros((1, 2)),
            np.zeros((0, 1)),
            np.zeros(0),
        )
        group["terminations"], group["truncations"] = np.zeros(0, bool), np.zeros(0, bool)
    assert read_minari(path).ends.tolist() == [3, 6]
    assert "1 of 3 episodes have no transition and are left out" in capsys.readouterr().err


def test_what_is_there_but_of_another_kind_is_called_so(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.hdf5").write_bytes(b"")
    (tmp_path / "table.csv").write_text("a,b")
    for name, message in (
        ("folder", "folder without data/main_data.hdf5"),
        ("empty.hdf5", "it is empty"),
        ("table.csv", "not a whole HDF5"),
    ):
        with pytest.raises(UnveilError, match=message) as caught:
            read_file(tmp_path / name)
        assert "no such" not in str(caught.value)
    renamed = written(tmp_path, "npz").rename(tmp_path / "renamed.dat")
    assert len(read_file(renamed)) == COUNT


def test_whole_numbers_beyond_float32_are_said(tmp_path, capsys):
    read_npz(written(tmp_path, "npz", observations=2**40 + np.arange(3 * COUNT).reshape(COUNT, 3)))
    assert "'observations' holds whole numbers beyond 2^24" in capsys.readouterr().err

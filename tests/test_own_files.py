"""Files that people named are replaced if unveil made them, and never if it did not."""

import json

import h5py
import numpy as np
import pytest

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.files.atomic import check_output, made_by_unveil, output
from unveil.files.pictures import (
    read_parameters,
    video_suffixes,
    write_animation,
    write_gif,
    write_picture,
    write_png,
    write_video,
)
from unveil.planning.data.d4rl import write_d4rl
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.source import read_file
from unveil.policy.data.demonstrations import Demonstrations, read_demonstrations_npz, write_demonstrations

FRAME = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def episodes():
    rng = np.random.default_rng(0)
    flags = np.zeros(20_000, bool)
    numbers = rng.normal(size=(20_000, 7)).astype(np.float32)
    return Episodes(numbers[:, :4], numbers[:, 4:6], numbers[:, 6], flags, flags)


def demonstrations():
    rng = np.random.default_rng(0)
    return Demonstrations(
        {"state": rng.normal(size=(9000, 9)).astype("f4")},
        rng.normal(size=(9000, 2)).astype("f4"),
        np.array([9000]),
    )


WRITERS = {
    "picture.png": lambda path: write_picture(path, FRAME, "made so"),
    "plain.png": lambda path: write_picture(path, FRAME),
    "figure.png": lambda path: write_png(path, FRAME, {"unveil": "{}"}),
    "animation.gif": lambda path: write_animation(path, [FRAME, 255 - FRAME]),
    "plan.gif": lambda path: write_gif(path, [FRAME, 255 - FRAME]),
    "data.hdf5": lambda path: write_d4rl(path, episodes()),
    "data.npz": lambda path: write_demonstrations(path, demonstrations()),
} | (
    {"video.mp4": lambda path: write_video(path, [FRAME, 255 - FRAME])} if ".mp4" in video_suffixes() else {}
)


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_file_of_ours_is_replaced_and_another_is_not(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path)
    assert made_by_unveil(path)
    WRITERS[name](path)
    path.write_bytes(b"mine")
    with pytest.raises(UnveilError, match="was not made by unveil"):
        WRITERS[name](path)
    assert path.read_bytes() == b"mine"
    path.write_bytes(b"")
    WRITERS[name](path)
    assert made_by_unveil(path)


def test_marks_change_nothing_that_is_read(tmp_path):
    write_d4rl(tmp_path / "data.hdf5", episodes())
    write_demonstrations(tmp_path / "data.npz", demonstrations())
    write_picture(tmp_path / "a.png", FRAME, "made so")
    np.testing.assert_array_equal(read_file(tmp_path / "data.hdf5").actions, episodes().actions)
    read = read_demonstrations_npz(tmp_path / "data.npz")
    assert list(read.observations) == ["state"]
    np.testing.assert_array_equal(read.actions, demonstrations().actions)
    assert read_parameters(tmp_path / "a.png") == "made so"


def test_other_programs_files_have_no_mark(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["x"] = np.zeros(3)
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.json").write_text(json.dumps({"recipe": "pancakes"}, indent=1))
    assert not any(made_by_unveil(path) for path in (tmp_path / "a.hdf5", tmp_path / "a.npz"))


def test_text_without_a_place_for_a_mark_is_known_by_its_beginning(tmp_path):
    path = tmp_path / "table.csv"
    for _ in range(2):
        with output(path, "a,b\n") as partial:
            partial.write_text("a,b\n1,2\n")
    with pytest.raises(UnveilError, match="was not made by unveil"):
        check_output(path, "a,c\n")
    with pytest.raises(UnveilError, match="was not made by unveil"):
        check_output(path)


def test_what_commands_write_is_replaced_by_the_same_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["results", ".", "--json", "a.json", "--csv", "a.csv", "--markdown", "a.md", "--latex", "a.tex"]
    for _ in range(2):
        assert main(command) == 0
    for name in ("a.json", "a.csv", "a.md", "a.tex"):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_text("mine")
        assert main(command) == 2 and f"{name} exists and was not made by unveil" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).write_bytes(before)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["data", "maze", "--maze", "umaze", "--steps", "50", "--out", "own"], "own"),
        (["data", "maze", "--maze", "umaze", "--steps", "50", "--out", "new", "--json", "own"], "own"),
        (["data", "locomotion", "--out", "own.hdf5"], "own.hdf5"),
        (["data", "locomotion", "--out", "own.hdf5"], "own.card.json"),
        (["sample", "maze", "--start", "1,1", "--goal", "7,9", "--out", "own.png"], "own.png"),
        (["demo", "--out", "."], "plan.gif"),
        (["demo", "--out", "."], "rollout.gif"),
        (["demo", "pusht", "--out", "."], "pusht.gif"),
        (["eval", "maze", "--episodes", "1", "--json", "own"], "own"),
    ],
)
def test_refused_before_the_work(command, name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine")
    assert main(command) == 2
    assert f"{name} exists and was not made by unveil" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"

"""The command line: one clear line and status 2 for every mistake, help in a blink, and each verb end to
end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unveil.cli import main
from unveil.runs.checkpoints import ZOO

LARGE = str(ZOO / "maze-large")


def fails(capsys, *arguments: str) -> str:
    """Run, expect status 2 and exactly one line on standard error, notes before it aside; returns it."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = [
        line
        for line in captured.err.splitlines()
        if line.startswith("unveil: ") and not line.startswith("unveil: note: ")
    ]
    assert len(lines) == 1
    assert captured.err.rstrip().endswith(lines[0])
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean train?"),
        (["--vrsion"], "did you mean --version?"),
        (["train"], "train needs a recipe"),
        (["train", "maz"], "did you mean maze?"),
        (["train", "maze", "--mazze", "large"], "unknown flag --mazze (did you mean --maze?)"),
        (["train", "maze", "--steps", "many"], "many"),
        (["train", "maze", "--preset", "tinny"], "did you mean tiny?"),
        (["train", "maze", "--maze", "larg"], "unknown maze 'larg' (did you mean large?)"),
        (["train", "maze", "--maze", "nowhere.txt"], "no such map file"),
        (["eval", "maze", "--maze", "huge"], "unknown maze 'huge'"),
        (["eval", "maze", "--maze", "umaze"], "was trained on maze 'large', not on 'umaze'"),
        (["eval", "maze", "--checkpoint", "maze-larg"], "did you mean maze-large?"),
        (["eval", "maze", "--episodes", "0"], "at least 1"),
        (["eval", "maze", "--threads", "-1"], "--threads must be a whole number of at least 0"),
        (["train", "maze", "--heads", "5"], "--width must be a multiple of twice --heads"),
        (["train", "maze", "--save-every", "0"], "--save-every must be a whole number of at least 1"),
        (["train", "maze", "--steps", "0"], "--steps must be a whole number of at least 1"),
        (["train", "maze", "--to-end", "2"], "--to-end must be a number of at least 0 and at most 1"),
        (["sample", "maze", "--via", "3,6", "--out", "p.gif"], "give each --via its @index"),
        (["sample", "maze", "--via", "3,6@0"], "rise from 1"),
        (["eval", "maze", "--json", "."], "--json . is a folder"),
        (["eval", "maze", "--device", "gpu9"], "device 'gpu9'"),
        (["sample", "maze", "--start", "2,2"], "--start (2.0, 2.0) lies inside a wall"),
        (["sample", "maze", "--goal", "0,5"], "--goal (0.0, 5.0) lies inside a wall"),
        (["sample", "maze", "--goal", "40,5"], "--goal (40.0, 5.0) lies outside maze large"),
        (["sample", "maze", "--goal", "1"], "--goal must be row,column"),
        (["sample", "maze", "--goal", "1,2,3"], "--goal must be row,column"),
        (["sample", "maze", "--goal", "nan,1"], "finite"),
        (["sample", "maze", "--via", "3,6@x"], "row,column@index"),
        (["sample", "maze", "--horizon", "1"], "horizon 1 is impossible"),
        (["sample", "maze", "--horizon", "99999"], "horizon 99999 is impossible"),
        (["sample", "maze", "--out", "plan.tiff"], "must end in .png or .gif"),
        (["sample", "maze", "--checkpoint", "nowhere"], "neither a folder nor a packaged model"),
        (["data", "maze", "--steps", "0"], "steps >= 1"),
        (["doctor", "--all"], "unexpected --all"),
        (["weights", "pck"], "did you mean pack?"),
        (["results", "a", "b"], "unexpected word b"),
    ],
)
def test_mistakes_get_one_line_and_status_2(capsys, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *arguments)


def test_bad_folders_and_files(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is a file, but a run needs a folder" in fails(capsys, "train", "maze", "--out", str(file))
    assert "is a file, but --out needs a folder" in fails(capsys, "demo", "--out", str(file))
    assert "is a folder; --out needs a file name" in fails(
        capsys, "data", "maze", "--steps", "10", "--out", str(empty)
    )
    assert "is a file, but a checkpoint is a folder" in fails(
        capsys, "eval", "maze", "--checkpoint", str(file)
    )
    assert "no good checkpoint" in fails(capsys, "eval", "maze", "--checkpoint", str(empty))
    assert "no such file" in fails(
        capsys, "train", "maze", "--data", str(tmp_path / "no.hdf5"), "--out", str(tmp_path / "r")
    )
    assert "not a whole HDF5 file" in fails(
        capsys, "train", "maze", "--data", str(file), "--out", str(tmp_path / "r")
    )


def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in Path(LARGE).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_damaged_and_foreign_checkpoints(capsys, tmp_path):
    folder = copied(tmp_path)
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-100] ^= 4
    (folder / "weights.safetensors").write_bytes(weights)
    assert "checksum differs from the manifest" in fails(capsys, "eval", "maze", "--checkpoint", str(folder))
    (folder / "manifest.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps({"recipe": "image"}))
    assert "was trained by recipe 'image'" in fails(capsys, "eval", "maze", "--checkpoint", str(folder))
    config = json.loads((Path(LARGE) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"width": 64}))
    assert "not the weights that are needed" in fails(capsys, "eval", "maze", "--checkpoint", str(folder))
    (folder / "config.json").write_text(json.dumps(config | {"width": "x"}))
    assert "not a config of unveil" in fails(capsys, "eval", "maze", "--checkpoint", str(folder))
    (folder / "config.json").unlink()
    assert "no config.json" in fails(capsys, "eval", "maze", "--checkpoint", str(folder))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(capsys, tmp_path, monkeypatch):
    """Text that is written goes to /dev/full, where every write fails as on a full disk."""
    real = open
    monkeypatch.setattr(Path, "write_text", lambda self, text, *a, **k: _write_to_full(real, text))
    assert "No space left on device" in fails(
        capsys, "train", "maze", "--data-steps", "2000", "--maze", "umaze", "--out", str(tmp_path / "r")
    )


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small file system needs root"
)
def test_a_small_disk_that_fills_up_is_one_line(capsys, home, tmp_path):
    """A 600 kB tmpfs: the run's config fits, its first checkpoint does not, and no half of it stays."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True, timeout=300
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        train = [
            "train",
            "maze",
            "--maze",
            "umaze",
            "--preset",
            "tiny",
            "--data-steps",
            "3000",
            "--steps",
            "2",
            "--batch-size",
            "8",
        ]
        assert "No space left on device" in fails(capsys, *train, "--out", str(disk / "r"))
        assert not list((disk / "r").glob("checkpoint-*"))
        assert "No space left on device" in fails(capsys, "sample", "maze", "--out", str(disk / "p.gif"))
        assert not (disk / "p.gif").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=300)


def _write_to_full(real, text: str) -> int:
    with real("/dev/full", "w") as handle:
        return handle.write(text)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """No test touches the user's cache."""
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_data_train_resume_eval_sample_and_results(home, tmp_path, capsys, monkeypatch):
    """The whole main job on the smallest maze, a few steps: files, flags and JSON; not quality."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "u.hdf5"
    assert (
        main(
            ["data", "maze", "--maze", "umaze", "--steps", "6000", "--out", str(data), "--json", "data.json"]
        )
        == 0
    )
    described = json.loads(Path("data.json").read_text())
    assert described["metrics"]["n"] == 6000
    assert described["metrics"]["observation_std"] == pytest.approx([0.9, 0.71, 2.21, 2.47], rel=0.25)
    train = [
        "train",
        "maze",
        "--maze",
        "umaze",
        "--preset",
        "tiny",
        "--data",
        str(data),
        "--out",
        "r",
        "--batch-size",
        "16",
        "--seed",
        "3",
    ]
    assert main([*train, "--steps", "6", "--save-every", "3"]) == 0
    assert sorted(p.name for p in Path("r").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    assert main([*train, "--steps", "8", "--save-every", "3", "--resume"]) == 0
    before = Path("r/config.json").read_bytes()
    assert "already holds checkpoint-8" in fails(capsys, *train, "--steps", "8", "--width", "64")
    assert "was started with --width 96, not 64" in fails(
        capsys, *train, "--steps", "9", "--width", "64", "--resume"
    )
    assert Path("r/config.json").read_bytes() == before
    wrong = ["train", "maze", "--maze", "medium", "--data", str(data), "--out", "s"]
    assert "lie inside walls of maze medium" in fails(capsys, *wrong)
    config = json.loads(Path("r/config.json").read_text())
    assert (config["recipe"], config["maze"], config["width"]) == ("maze", "umaze", 96)
    evaluate = [
        "eval",
        "maze",
        "--maze",
        "umaze",
        "--checkpoint",
        "r/checkpoint-8",
        "--episodes",
        "3",
        "--plan-pairs",
        "3",
    ]
    capsys.readouterr()
    assert main([*evaluate, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) >= {
        "recipe",
        "checkpoint",
        "protocol",
        "metrics",
        "config",
        "seeds",
        "commit",
        "device",
        "threads",
        "seconds",
        "reference",
    }
    wanted = {
        "score_mean",
        "score_ci95",
        "latched_score_mean",
        "success_rate",
        "arrival_step_mean",
        "plans_per_second",
        "act_ms_p95",
    }
    assert set(result["metrics"]) >= wanted | {"wall_crossing_rate", "plan_deviation_mean", "n"}
    for name in ("controller", "oracle"):
        assert result["reference"][name]["n"] == 3
        assert result["reference"][name]["score_mean"] > 50
        assert set(result["reference"][name]) >= wanted | {"wall_crossing_rate", "plan_deviation_mean"}
    assert (
        main(
            [
                "sample",
                "maze",
                "--checkpoint",
                "r",
                "--start",
                "3,1",
                "--goal",
                "1,1",
                "--out",
                "plan.png",
                "--json",
                "plan.json",
            ]
        )
        == 0
    )
    assert len(json.loads(Path("plan.json").read_text())["path"]) >= 2
    assert main(["results", "."]) == 0
    assert "r " in capsys.readouterr().out
    assert main(["weights", "pack", "--run", "r", "--name", "mine", "--into", "zoo"]) == 0
    assert (
        main(
            [
                "sample",
                "maze",
                "--checkpoint",
                "zoo/mine",
                "--start",
                "3,1",
                "--goal",
                "1,1",
                "--out",
                "plan.gif",
            ]
        )
        == 0
    )


def test_a_custom_map_is_a_maze_of_its_own(home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ring.txt").write_text("#####\n#OOO#\n#O#O#\n#OOG#\n#####\n")
    train = [
        "train",
        "maze",
        "--maze",
        "ring.txt",
        "--preset",
        "tiny",
        "--data-steps",
        "4000",
        "--steps",
        "2",
        "--batch-size",
        "8",
    ]
    assert main([*train, "--out", "r"]) == 0
    evaluate = [
        "eval",
        "maze",
        "--maze",
        "ring.txt",
        "--checkpoint",
        "r",
        "--episodes",
        "2",
        "--plan-pairs",
        "1",
        "--json",
        "e.json",
    ]
    assert main(evaluate) == 0
    metrics = json.loads(Path("e.json").read_text())["metrics"]
    assert "return_mean" in metrics  # no published constants, so no score
    assert "score_mean" not in metrics


HELP = """
import contextlib, io, sys
from unveil.cli import main
before = len(sys.modules)
for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(line.split()) == 0, line
    assert "unveil " in said.getvalue() and ("Example" in said.getvalue() or "unveil train maze" in said.getvalue()), line
    heavy = {"torch", "numpy", "scipy", "mujoco", "gymnasium", "PIL", "matplotlib", "h5py"} & set(sys.modules)
    assert not heavy, (line, heavy)
print(len(sys.modules) - before, before)
"""
HELPED = [
    ["--help"],
    ["train", "maze", "--help"],
    ["eval", "maze", "-h"],
    ["demo", "--help"],
    ["sample", "--help"],
    ["train", "locomotion", "--help"],
    ["eval", "locomotion", "--help"],
    ["data", "text", "--help"],
    ["sample", "text", "--help"],
]


def test_help_shows_an_example_and_imports_little():
    """What makes help slow is what it imports: no library that computes or draws, few modules. Seconds:
    benchmarks/speed.py."""
    asked = "".join(" ".join(arguments) + "\n" for arguments in HELPED)
    done = subprocess.run(
        [sys.executable, "-c", HELP], input=asked, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sum(map(int, done.stdout.split())) < 600


def test_data_of_different_maps_noise_and_seeds_never_share_a_file(home):
    from unveil.planning.recipes.maze.data import data_path
    from unveil.planning.worlds.maze.layout import named_layout, parse_layout

    ring = parse_layout("#####\n#OOO#\n#O#O#\n#OOG#\n#####", name="large")
    large = named_layout("large")
    paths = {
        data_path(large, 10, 0),
        data_path(ring, 10, 0),
        data_path(large, 10, 1),
        data_path(large, 11, 0),
        data_path(large, 10, 0, 0.1),
    }
    assert len(paths) == 5


def test_a_pipe_is_not_replaced_by_a_file(capsys, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "a device or pipe" in fails(
        capsys, "sample", "maze", "--json", str(pipe), "--out", str(tmp_path / "p.png")
    )
    assert pipe.is_fifo()


def test_a_folder_that_is_named_like_the_zoo_is_ambiguous(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copied(tmp_path).rename(tmp_path / "maze-large")
    assert "write ./maze-large" in fails(capsys, "sample", "maze")
    assert main(["sample", "maze", "--checkpoint", "./maze-large"]) == 0


def test_parsing_imports_neither_torch_nor_numpy():
    code = "import sys, unveil, unveil.cli; assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_version_and_doctor(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unveil 0.")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "torch" in out
    assert "maze-large" in out


def test_the_demo_makes_pictures_and_names_the_next_commands(tmp_path, capsys):
    import imageio.v3 as iio

    assert main(["demo", "--episodes", "2", "--out", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    assert out.count("sample maze --start") == 1
    for name, least in (("plan.gif", 30), ("rollout.gif", 30)):
        frames = iio.imread(tmp_path / "demo" / name)
        assert len(frames) >= least
        assert float(np.abs(frames[0].astype(float) - frames[-1]).mean()) > 1.0


def test_debug_shows_where_an_error_came_from():
    with pytest.raises(ValueError, match="unknown maze"):
        main(["data", "maze", "--maze", "x", "--debug"])


def test_the_module_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, "-m", "unveil.cli", "nope"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr.startswith("unveil: unknown verb")

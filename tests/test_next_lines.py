"""No dead ends: what a command says comes next runs as it is said, and what cannot go on says what can."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from originals import DATASET, PLAIN, unpacked
from unveil.cli import main
from unveil.loading import load
from unveil.planning.recipes.maze import demo

QUICK = ["--n-train-steps", "1", "--save-freq", "1", "--batch-size", "8", "--threads", "1"]


def next_line(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    return line.removeprefix("next: ")


def own_data(path: Path, observations: int = 4, actions: int = 1) -> str:
    rng, ends = np.random.default_rng(0), np.zeros(120, bool)
    ends[29::30] = True
    rows = {
        "observations": rng.standard_normal((120, observations)),
        "actions": rng.uniform(-1, 1, (120, actions)),
    }
    np.savez(path, **rows, rewards=rng.random(120), terminals=np.zeros(120, bool), timeouts=ends)
    return str(path)


@pytest.mark.parametrize("name", ["own.npz", "my hopper.npz"])
def test_own_data_end_in_python_which_plans(name, tmp_path, monkeypatch, capsys):
    """Four observations are no Hopper's, whatever the file is called; a name with a space is quoted."""
    monkeypatch.chdir(tmp_path)
    own_data(tmp_path / name)
    assert (
        main(["train", "locomotion", "--dataset", name, "--logbase", "logs", "--preset", "tiny", *QUICK]) == 0
    )
    command = shlex.split(next_line(capsys))
    assert command[:3] == ["unveil", "train", "value"]
    assert main([*command[1:], *QUICK]) == 0
    said = re.match(
        r"in Python, planner = unveil\.load\((.+?)\); action = planner\.act\(observation\)", next_line(capsys)
    )
    assert said is not None
    folder = said[1].strip("'")
    for preset in ({}, {"preset": "default"}):  # asked for returns, and with the value
        planner = load(folder, "cpu", batch_size=2, sampling_steps=2, **preset)
        assert (planner.score is not None) == bool(preset) and planner.act(np.zeros(4)).shape == (1,)
    assert (
        main(
            [
                "eval",
                "locomotion",
                "--dataset",
                name,
                "--logbase",
                "logs",
                "--horizon",
                "32",
                "--episodes",
                "1",
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert ("unveil.load(" in error) if name == "own.npz" else ("4 observations" in error)


def test_what_follows_a_maze_and_its_demo_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    train = [
        "--data-steps",
        "1500",
        "--steps",
        "1",
        "--save-every",
        "1",
        "--batch-size",
        "8",
        "--threads",
        "1",
        "--no-samples",
    ]
    evaluate = ["--episodes", "1", "--plan-pairs", "1", "--no-reference"]
    assert main(["train", "maze", "--maze", "umaze", "--preset", "tiny", *train]) == 0
    command = shlex.split(next_line(capsys))
    assert command[:3] == ["unveil", "eval", "maze"] and main([*command[1:], *evaluate]) == 0
    text = Path(demo.__file__).read_text()
    lines = re.findall(r"^  \{program\} (.+?)(?:\"\"\")?$", text, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["sample", "eval", "train"]
    for line in lines:
        more = {"sample": [], "eval": evaluate, "train": [*train, "--out", "new"]}[line.split()[0]]
        assert main([*shlex.split(line), *more]) == 0, line


def test_a_converted_run_says_that_a_new_one_can_begin_with_its_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    logs, data = unpacked(tmp_path / "theirs"), own_data(tmp_path / "own.npz", 3, 2)
    run = Path("logs/own/diffusion/mine_H8_T20")
    assert main(["weights", "convert", str(logs / DATASET / PLAIN), str(run), "--dataset", data]) == 0
    described = json.loads((run / "config.json").read_text())
    shape = [
        "--horizon",
        "8",
        "--n-diffusion-steps",
        "20",
        "--model",
        "unet",
        "--dim",
        str(described["width"]),
        "--shortest",
        "0",
    ]
    shape += ["--dim-mults", *map(str, described["multiples"])]
    command = ["train", "locomotion", "--dataset", data, "--logbase", "logs", *shape, *QUICK]
    for more in ([], ["--resume"]):
        assert main([*command, "--prefix", "diffusion/mine", *more]) == 2
        said = capsys.readouterr().err
        assert (
            f"{run} was converted from jannerm/diffuser" in said
            and f"--start-from {run}" in said
            and "--prefix" in said
        )
    assert (
        main(
            [
                *command,
                "--prefix",
                "diffusion/new",
                "--start-from",
                str(run),
                "--learning-rate",
                "1e-12",
                "--ema-decay",
                "0",
            ]
        )
        == 0
    )
    theirs, ours = (
        load(run, "cpu", sampling_steps=3),
        load("logs/own/diffusion/new_H8_T20", "cpu", sampling_steps=3),
    )
    noise = np.random.default_rng(0).normal(size=(theirs.settings.candidates, 8, 5))
    np.testing.assert_allclose(
        ours.plan(np.ones(3), noise=noise), theirs.plan(np.ones(3), noise=noise), atol=1e-3
    )
    assert (
        main([*command, "--prefix", "diffusion/third", "--start-from", str(run), "--n-diffusion-steps", "10"])
        == 2
    )
    assert "has diffusion_steps 20, here 10; train with the same" in capsys.readouterr().err

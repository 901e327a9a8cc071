"""Training a maze planner, from data to samples on the way; the tiny preset learns umaze within minutes."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from unveil.cli import main
from unveil.planning.data.d4rl import read_d4rl
from unveil.planning.direct_trips import direct_windows
from unveil.planning.recipes.maze.config import TRAIN_PRESETS, TrainMaze
from unveil.planning.recipes.maze.data import unmarked
from unveil.planning.recipes.maze.train import find_windows


def quiet(*_: object) -> None:
    pass


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    return tmp_path


TRAIN = [
    "train",
    "maze",
    "--maze",
    "umaze",
    "--preset",
    "tiny",
    "--data-steps",
    "3000",
    "--batch-size",
    "8",
    "--threads",
    "1",
]


def test_pictures_of_plans_appear_at_every_checkpoint(home):
    assert main([*TRAIN, "--steps", "4", "--save-every", "2", "--out", str(home / "r")]) == 0
    assert sorted(p.name for p in (home / "r" / "samples").iterdir()) == [
        "step-000002.png",
        "step-000004.png",
    ]
    assert main([*TRAIN, "--steps", "2", "--no-samples", "--out", str(home / "s")]) == 0
    assert not (home / "s" / "samples").exists()


def test_drawing_samples_changes_nothing_that_is_learned(home):
    weights = []
    for name, flag in (("a", "--samples"), ("b", "--no-samples")):
        assert (
            main(
                [
                    *TRAIN,
                    "--steps",
                    "4",
                    "--save-every",
                    "2",
                    flag,
                    "--bfloat16",
                    "False",
                    "--out",
                    str(home / name),
                ]
            )
            == 0
        )
        weights.append((home / name / "checkpoint-4" / "network.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_without_cuts_windows_cross_marks_and_stay_short(home, monkeypatch):
    path = home / "data.hdf5"
    assert main(["data", "maze", "--maze", "umaze", "--steps", "10000", "--out", str(path)]) == 0
    fewer = partial(
        direct_windows, steps=200, rows=512, proposals=70_000
    )  # 2,000 steps and four million in earnest
    monkeypatch.setattr("unveil.planning.direct_trips.direct_windows", fewer)
    episodes = read_d4rl(path)
    crossing = {}
    for cut in (True, False):
        windows = find_windows(
            episodes if cut else unmarked(episodes),
            TrainMaze(maze="umaze", cut=cut, window_steps=200, stride=5),
            quiet,
        )
        assert cut or windows.longest <= 40
        if not cut:
            first, strides = windows.first.numpy(), windows.strides.numpy()
            marks = np.concatenate([[0], np.cumsum(episodes.timeouts)])
            crossing[cut] = float((marks[first + 5 * strides] != marks[first]).mean())
    assert 0.02 < crossing[False] < 0.9  # trips through a goal count too, if they are as direct


@pytest.mark.slow
def test_the_tiny_preset_scores_120_on_umaze(home):
    """Chance is about 30 and D4RL's controller, with the map, 147: 2,000 steps must give 120."""
    assert TRAIN_PRESETS["tiny"].steps == 2_000
    run, result = home / "run", home / "result.json"
    assert main(["train", "maze", "--maze", "umaze", "--preset", "tiny", "--out", str(run)]) == 0
    evaluate = [
        "eval",
        "maze",
        "--maze",
        "umaze",
        "--checkpoint",
        str(run),
        "--episodes",
        "300",
        "--no-reference",
    ]
    assert main([*evaluate, "--json", str(result)]) == 0
    metrics = json.loads(result.read_text())["metrics"]
    assert metrics["score_mean"] - metrics["score_ci95"] >= 120


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_the_packaged_cards_say_what_the_committed_results_say(maze):
    from unveil.runs.checkpoints import ZOO

    results = Path(__file__).resolve().parents[4] / "benchmarks" / "results"
    card = (ZOO / f"maze-{maze}" / "card.md").read_text().splitlines()
    said = [line.split("|")[2].strip() for line in card if line.startswith("| score_mean |")]
    found = [
        json.loads((results / f"maze-{maze}-{task}.json").read_text())["metrics"]["score_mean"]
        for task in ("single", "multi")
    ]
    assert said == [f"{score:.4g}" for score in found]

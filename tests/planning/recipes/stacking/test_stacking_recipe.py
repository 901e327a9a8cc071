"""Train, evaluate and load by the command line."""

import json

import numpy as np
import pytest

import unveil
from unveil.cli import main
from unveil.planning.data.stacking_states import SIZE
from unveil.planning.worlds.stacking.tasks import UNSEEN


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stacking")
    data, run = folder / "data.hdf5", folder / "run"
    assert main(["data", "stacking", "--episodes", "2", "--out", str(data)]) == 0
    words = [
        "train",
        "stacking",
        "--preset",
        "tiny",
        "--data",
        str(data),
        "--steps",
        "3",
        "--batch-size",
        "4",
    ]
    assert main([*words, "--out", str(run), "--device", "cpu"]) == 0
    return run


def test_a_run_is_evaluated_and_loaded(run, capsys):
    words = ["eval", "stacking", "--checkpoint", str(run), "--episodes", "1", "--candidates", "1"]
    assert main([*words, "--task", "rearrangement", "--sampling-steps", "2", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["n"] == 1 and 0 <= result["metrics"]["score"] <= 100
    assert "rearrangement" in result["protocol"]
    planner = unveil.load(run, "cpu", candidates=2)
    state = np.zeros(SIZE)
    assert planner.plan(state).shape == (96, SIZE) and planner.settings.candidates == 2


def test_unseen_goals_have_held_out_pairs_only(run):
    from unveil.planning.recipes.stacking.config import EvalStacking
    from unveil.planning.recipes.stacking.evaluate import unseen_goals

    for task in ("conditional", "rearrangement"):
        goals = unseen_goals(EvalStacking(task=task, episodes=3))
        assert len(goals) == 3 and all(set(goal.pairs) <= UNSEEN for goal in goals)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "stacking", "--task", "tower"], "tower"),
        (["eval", "stacking", "--composition", "unseen", "--task", "unconditional"], "needs a"),
        (["train", "stacking", "--width", "30", "--heads", "4"], "multiple of twice"),
        (["train", "stacking", "--data", "nothing.hdf5"], "nothing.hdf5"),
    ],
)
def test_bad_input_is_one_line(run, words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words[0] == "eval":
        words = [*words, "--checkpoint", str(run)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0

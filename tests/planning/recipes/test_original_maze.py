"""Checkpoints of the branch maze2d: the published planner to a goal, straight from the original's folder and
converted."""

import json

import numpy as np
import pytest

from originals import forge
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.loading import load
from unveil.planning.data.d4rl import write_d4rl
from unveil.planning.data.episodes import Episodes
from unveil.planning.diffuser import Diffuser
from unveil.planning.recipes.maze.diffuser import maze_rows
from unveil.planning.weights.diffuser import Original
from unveil.planning.weights.diffuser_models import read_original

UMAZE = Original(
    "diffusion",
    16,
    3,
    2,
    4,
    8,
    (1, 2),
    False,
    "x0",
    "LimitsNormalizer",
    "maze2d-umaze-v1",
    "GoalDataset",
    True,
)
START, GOAL = np.array([3.0, 1.0, 0.1, 0.0]), np.array([1.0, 1.0])


@pytest.fixture
def experiment(tmp_path):
    return forge(tmp_path / "logs" / "maze2d-umaze-v1" / "diffusion" / "H16_T3", UMAZE)


@pytest.fixture
def recorded(tmp_path):
    """40 steps from (3, 1) to the goal (1, 1) and back, twice; the goal is left after steps 12 and 32."""
    rng = np.random.default_rng(0)
    x = 2.0 - np.cos(2 * np.pi * (np.arange(40) - 2) / 20 + np.pi) * -1.0
    at = np.column_stack([x, np.ones(40), rng.normal(size=(40, 2))]).astype(np.float32)
    none = np.zeros(40, bool)
    write_d4rl(
        tmp_path / "umaze.hdf5",
        Episodes(at, rng.uniform(-1, 1, (40, 2)).astype(np.float32), np.zeros(40, np.float32), none, none),
    )
    return tmp_path / "umaze.hdf5"


def test_it_plans_to_the_goal_in_the_datas_units_as_its_conversion_does(experiment, recorded, tmp_path):
    planner = load(experiment.parent.parent, "cpu", dataset=str(recorded))
    assert isinstance(planner, Diffuser) and planner.model.shape.multiples == (1, 2)
    plan = planner.plan(START, GOAL)
    assert len(plan.path) == 16
    np.testing.assert_allclose(plan.path[[0, -1]], [START[:2], GOAL], atol=1e-5)
    assert (
        main(["weights", "convert", str(experiment), str(tmp_path / "run"), "--dataset", str(recorded)]) == 0
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["recipe"], config["preset"], config["maze"], config["origin"]) == (
        "maze",
        "paper",
        "umaze",
        "jannerm/diffuser",
    )
    np.testing.assert_array_equal(load(tmp_path / "run", "cpu").plan(START, GOAL).path, plan.path)


def test_without_statistics_it_plans_in_normalised_units_only(experiment):
    planner = load(experiment, "cpu")
    with pytest.raises(UnveilError, match="dataset=NAME"):
        planner.plan(START, GOAL)
    path = planner.plan(START / 4, GOAL / 4, normalized=True).path
    np.testing.assert_allclose(path[[0, -1]], [START[:2] / 4, GOAL / 4], atol=1e-6)


def test_statistics_are_those_of_episodes_that_end_where_the_goal_is_left(experiment, recorded):
    from unveil.planning.data.source import read_episodes

    x = read_episodes(str(recorded)).observations[:, 0]
    left = [i for i in range(39) if abs(x[i] - 1) < 0.5 <= abs(x[i + 1] - 1)]
    assert len(left) == 2
    rows = maze_rows(read_original(experiment)[1], str(recorded))
    np.testing.assert_array_equal(rows[:, 2], np.delete(x[: left[-1] + 1], left))


def test_both_are_scored_alike_and_on_their_own_maze_only(experiment, recorded, tmp_path, capsys):
    assert (
        main(["weights", "convert", str(experiment), str(tmp_path / "run"), "--dataset", str(recorded)]) == 0
    )
    scores = []
    for place, more in ((experiment, ["--dataset", str(recorded)]), (tmp_path / "run", [])):
        flags = [
            "--checkpoint",
            str(place),
            "--episodes",
            "2",
            "--plan-pairs",
            "1",
            "--no-reference",
            "--device",
            "cpu",
            *more,
        ]
        assert main(["eval", "maze", "--maze", "umaze", *flags, "--json", str(tmp_path / "r.json")]) == 0
        scores.append(
            {
                k: v
                for k, v in json.loads((tmp_path / "r.json").read_text())["metrics"].items()
                if "second" not in k and "_ms" not in k
            }
        )
    assert scores[0] == scores[1] and scores[0]["n"] == 2
    capsys.readouterr()
    assert main(["eval", "maze", "--maze", "large", "--checkpoint", str(experiment)]) == 2
    assert "was trained on maze 'umaze', not on 'large'" in capsys.readouterr().err
    assert main(["eval", "locomotion", "--dataset", "hopper-x", "--checkpoint", str(experiment.parent)]) == 2
    assert "use it with `unveil eval maze`" in capsys.readouterr().err


def test_foreign_worlds_are_refused(tmp_path):
    from dataclasses import replace

    kitchen = forge(tmp_path / "kitchen", replace(UMAZE, dataset="kitchen-mixed-v0"))
    with pytest.raises(UnveilError, match="plans to goals, in kitchen-mixed-v0"):
        load(kitchen, "cpu")

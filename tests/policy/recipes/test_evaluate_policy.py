"""Errors of a policy on demonstrations, and its chunks drawn beside the recorded ones."""

import json
import shlex

import imageio.v3 as iio
import numpy as np
import pytest

from unveil.cli import main

QUICK = shlex.split(
    "--preset tiny --widths 8 16 --steps 2 --save-every 2 --batch-size 4 --threads 1 --device cpu"
)
FEW = ["--sampling-steps", "2", "--candidates", "3", "--windows", "9", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def recorded(path="two.npz", seed=0, **more):
    """Actions that are the observed numbers: the nearest neighbour is exact where the same ones come again."""
    rng = np.random.default_rng(seed)
    one = rng.random((30, 3)).astype(np.float32)
    rows = np.concatenate([one, one, rng.random((30, 3))]).astype(np.float32)
    np.savez(path, state=rows, action=rows[:, :2], episode_ends=np.array([30, 60, 90]), **more)
    return path


def test_errors_stand_beside_the_nearest_neighbour_and_the_mean(tmp_path, capsys):
    recorded()
    # episode 0 or 1 is held out: its twin is trained on, so the nearest neighbour makes no error
    seeds = [s for s in range(9) if np.random.default_rng(s).choice(3, 1, replace=False)[0] < 2]
    held = ["--hold-out", "0.3", "--split-seed", str(seeds[0])]
    assert main(["train", "policy", "--data", "two.npz", *held, *QUICK, "--out", "run"]) == 0
    assert main(["eval", "policy", "--checkpoint", "run", *FEW, "--json", "r.json"]) == 0
    said = capsys.readouterr().out
    assert "nearest neighbour" in said and "step 8" in said and "energy score" in said
    result = json.loads((tmp_path / "r.json").read_text())
    reference = result["reference"]
    assert reference["nearest neighbour"]["action_mse"] == pytest.approx(0.0, abs=1e-9)
    assert 0.1 < reference["mean action"]["action_mse"] < 0.6  # uniform on -1 .. 1: 1 / 3
    assert result["metrics"]["n"] == 9 and len(result["mse_by_step"]["policy"]) == 15
    assert "9 windows of 1 held-out episodes" in result["protocol"]


def test_without_held_out_episodes_it_says_so_and_other_data_are_compared(tmp_path, capsys):
    recorded()
    recorded("other.npz", 1)
    assert main(["train", "policy", "--data", "two.npz", "--hold-out", "0", *QUICK, "--out", "run"]) == 0
    assert main(["eval", "policy", "--checkpoint", "run", *FEW]) == 0
    said = capsys.readouterr()
    assert "no episode was held out" in said.err and "nearest neighbour" not in said.out
    assert main(["eval", "policy", "--checkpoint", "run", *FEW, "--data", "other.npz"]) == 0
    assert "3 held-out episodes" in (said := capsys.readouterr().out) and "nearest neighbour" in said
    (tmp_path / "two.npz").unlink()
    assert main(["eval", "policy", "--checkpoint", "run", *FEW, "--data", "other.npz"]) == 0
    said = capsys.readouterr()
    assert "no baselines: " in said.err and "mean action" not in said.out
    np.savez("wide.npz", state=np.zeros((30, 4)), action=np.zeros((30, 2)), episode_ends=np.array([30]))
    assert main(["eval", "policy", "--checkpoint", "run", *FEW, "--data", "wide.npz"]) == 2
    assert "the policy observes [('state', (3,))]" in capsys.readouterr().err


def test_chunks_are_drawn_beside_the_recorded_actions(tmp_path, capsys):
    assert main(["train", "policy", "--data", recorded(), *QUICK, "--out", "run"]) == 0
    words = [
        "--checkpoint",
        "run",
        "--episode",
        "2",
        "--moment",
        "29",
        "--candidates",
        "3",
        "--device",
        "cpu",
    ]
    assert main(["sample", "policy", *words, "--out", "c.png"]) == 0
    assert "3 chunks of 16 actions from step 29 of episode 2" in capsys.readouterr().out
    assert iio.imread(tmp_path / "c.png").shape == (120, 600, 3)
    for more, said in (
        (["--episode", "3"], "there are 3, from 0 to 2"),
        (["--moment", "30"], "steps 0 to 29"),
    ):
        assert main(["sample", "policy", *words, *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["eval", "policy", "--checkpoint", "pusht-keypoints"]) == 2
    assert "not from `unveil train policy`" in capsys.readouterr().err


OWN = """
import gymnasium
import numpy as np


class Hand(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Dict(hand=gymnasium.spaces.Box(-9, 9, (3,)))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self, render_mode=None, success=True):
        self.render_mode, self.success = render_mode, success

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return {"hand": self.np_random.random(3)}, {}

    def step(self, action):
        self.steps += 1
        told = {"is_success": True} if self.success else {}
        return {"hand": self.np_random.random(3)}, 0.0, self.steps == 4, False, told

    def render(self):
        return np.full((40, 60, 3), 100, np.uint8)
"""


def test_an_environment_of_ones_own_reports_success_and_is_filmed(tmp_path, capsys):
    (tmp_path / "unveil_own_hand.py").write_text(OWN)
    assert main(["train", "policy", "--data", recorded(), *QUICK, "--out", "run"]) == 0
    words = [
        "--checkpoint",
        "run",
        "--sampling-steps",
        "2",
        "--device",
        "cpu",
        "--env",
        "unveil_own_hand:Hand",
    ]
    more = ["--mapping", "state=hand", "--episodes", "3", "--parallel", "2", "--seed", "5"]
    assert main(["eval", "policy", *words, *more, "--video", "v.gif", "--json", "r.json"]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    metrics = result["metrics"]
    assert (metrics["success_rate"], metrics["n"], metrics["length_mean"]) == (1.0, 3, 4.0)
    assert 0.4 < metrics["success_low"] < 0.5 and metrics["success_high"] == 1.0  # Wilson, 3 of 3
    assert metrics["decision_ms_p50"] <= metrics["decision_ms_p95"] and result["lengths"] == [4, 4, 4]
    assert iio.imread(tmp_path / "v.gif").shape[1:] == (40, 124, 3)
    silent = [
        "--env-args",
        '{"success": false}',
        "--max-steps",
        "2",
        "--delay",
        "1",
        "--asynchronous",
        "naive",
    ]
    assert main(["eval", "policy", *words, *more, *silent, "--n-action", "4"]) == 0
    said = capsys.readouterr()
    assert "reports no success" in said.err and "delay 1 steps (naive)" in said.out
    for wrong, text in (
        (["--mapping", "state=arm"], "no observation 'arm'; it gives hand (3,)"),
        (["--mapping", "state=hand", "--env-args", "x"], "--env-args must be JSON"),
        (["--video", "v.avi"], "--video must end in .gif"),
    ):
        assert main(["eval", "policy", *words, *wrong]) == 2
        assert text in capsys.readouterr().err
    assert main(["eval", "policy", "--checkpoint", "run", "--video", "v.gif"]) == 2
    assert "--video needs an environment" in capsys.readouterr().err

"""The changed task of the benchmark of fine-tuning: a scene turned by 90 degrees, and its rows."""

import json
import sys

import numpy as np
import pytest

import fine_tuning as bench
from pusht_recorded import TWO, recorded
from unveil.policy.worlds.pusht.block import GOAL, keypoints


def test_a_turned_scene_is_the_same_scene():
    """Keypoints turn with the block, four turns are none, and the target's angle grows by 90 degrees."""
    states = np.random.default_rng(0).uniform(0, 512, (7, 5))
    states[:, 4] %= 2 * np.pi
    np.testing.assert_allclose(
        keypoints(bench.turned_states(states)), bench.turned_points(keypoints(states)), atol=1e-9
    )
    four = states
    for _ in range(4):
        four = bench.turned_states(four)
    np.testing.assert_allclose(four, states, atol=1e-9)
    np.testing.assert_allclose(bench.turned_back(bench.turned_points(states[:, :2])), states[:, :2])
    target = bench.turned_states(np.array([0.0, 0.0, *GOAL]))
    np.testing.assert_allclose(target[2:], [256.0, 256.0, 3 * np.pi / 4])


def test_a_turned_demonstration_does_to_the_turned_block_what_the_recorded_one_does():
    """By the physics: actions of the changed task, turned back, move the block as recorded."""
    pytest.importorskip("gym_pusht")
    from unveil.policy.worlds.pusht.episodes import PushTEpisodes

    chosen = recorded()
    turned = bench.turned_demonstrations(chosen, 0)
    assert len(turned) == len(chosen)
    plain, other = PushTEpisodes(1, 0), PushTEpisodes(1, 0)
    start = chosen.observed("state")[:1].astype(np.float64)
    plain.reset_to(start)
    other.reset_to(bench.turned_states(start))
    for k in range(20):
        a = plain.step(chosen.actions[k : k + 1].astype(np.float64))
        b = other.step(turned.actions[k : k + 1].astype(np.float64))
        np.testing.assert_allclose(b[0, :4], bench.turned_states(a)[0, :4], atol=0.5)


def test_rows_are_made_once_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "--data",
        str(TWO),
        "--steps",
        "1",
        "--episodes",
        "2",
        "--max-steps",
        "4",
        "--results",
        "look.json",
    ]
    rows = ["--rows", "packaged", "tuned-1-s0", "scratch-1-s0"]
    monkeypatch.setattr(sys, "argv", ["fine_tuning.py", *words, *rows, "--train", "--batch-size", "2"])
    bench.main()
    made = json.loads((tmp_path / "look.json").read_text())
    assert list(made["rows"]) == ["packaged", "tuned-1-s0", "scratch-1-s0"]
    assert made["differences"]["tuned-1-s0"]["minus"] == "scratch-1-s0"
    described = json.loads((tmp_path / "runs/fine-tuning/tuned-1-s0/config.json").read_text())
    assert described["source"] == "pusht-keypoints" and described["demonstrations"] == 2
    assert described["learning_rate"] == pytest.approx(5e-5)
    monkeypatch.setattr(bench, "row", lambda *_: pytest.fail("made again"))
    capsys.readouterr()
    bench.main()
    assert capsys.readouterr().out.count("score") == 3


def test_a_quick_look_does_not_write_into_the_results(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fine_tuning.py", "--episodes", "2"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "give --results" in capsys.readouterr().err

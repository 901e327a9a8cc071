"""`unveil data locomotion` from policies to a file that reads by its name, with a card that says what it
is."""

import json

import numpy as np
import pytest

from policies import write_actor, write_snapshots
from unveil.cli import main
from unveil.planning.data.source import read_episodes
from unveil.planning.worlds.locomotion.body import BODIES, normalized_score

HOPPER = BODIES["hopper"]


@pytest.fixture
def policies(tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNVEIL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "mujoco_policies"
    folder.mkdir(parents=True)
    write_snapshots(folder, HOPPER, [0, 20, 40, 60])
    write_actor(folder, HOPPER)
    return folder


def fails(capsys, *arguments: str) -> str:
    assert main(["data", "locomotion", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    return error[0]


def test_a_set_is_made_described_and_found_by_name(policies, tmp_path, capsys):
    assert main(["data", "locomotion", "--mix", "medium-expert", "--steps", "300", "--json", "-"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    home = tmp_path / "home" / "locomotion"
    card = json.loads((home / "hopper-medium-expert.card.json").read_text())
    episodes = read_episodes("hopper-medium-expert")
    assert (
        "D4RL-style" in captured.err and "D4RL-style" in card["kind"] and result["protocol"] == "D4RL-style"
    )
    assert result["path"] == str(home / "hopper-medium-expert.hdf5") and result["card"] == card
    returns = episodes.returns
    scores = normalized_score(HOPPER, returns)
    numbers = card["metrics"]
    assert numbers["n"] == len(returns) and numbers["return_mean"] == pytest.approx(returns.mean(), rel=1e-5)
    assert numbers["score_mean"] == pytest.approx(scores.mean(), rel=1e-5) and numbers[
        "score_best"
    ] == pytest.approx(scores.max(), rel=1e-5)
    assert 0 < numbers["score_ci95"] < scores.std()
    assert [policy["name"] for policy in card["policies"]] == ["trpo-040", "tqc"]
    assert [policy["steps"] for policy in card["policies"]] == [
        int((episodes.infos["policy"] == i).sum()) for i in (0, 1)
    ]
    assert sum(policy["n"] for policy in card["policies"]) == len(returns) and all(
        p["action_noise_rms"] > 0 for p in card["policies"]
    )
    assert (
        card["steps"] == len(episodes) >= 300
        and card["world"] == "gymnasium Hopper-v5"
        and card["versions"]["mujoco"][0].isdigit()
    )
    assert "openai/imitation" in " ".join(card["sources"]) and "rl-trained-agents" in " ".join(
        card["sources"]
    )
    assert str(tmp_path) not in json.dumps(card)  # no path of the machine it was made on


def test_the_cards_command_makes_the_same_file(policies, tmp_path):
    assert (
        main(["data", "locomotion", "--mix", "medium", "--steps", "120", "--seed", "5", "--version", "v4"])
        == 0
    )
    first = tmp_path / "home" / "locomotion" / "hopper-medium.hdf5"
    card = json.loads(first.with_name("hopper-medium.card.json").read_text())
    words = card["command"].replace("DIR", str(policies)).split()[1:]
    assert main([*words, "--out", str(tmp_path / "again.hdf5")]) == 0
    one, two = read_episodes("hopper-medium"), read_episodes(str(tmp_path / "again.hdf5"))
    assert np.array_equal(one.observations, two.observations) and np.array_equal(one.rewards, two.rewards)
    assert json.loads((tmp_path / "again.card.json").read_text()) == card
    assert card["sources"] == ["TRPO snapshots of github.com/openai/imitation (Ho & Ermon 2016), MIT licence"]


def test_mistakes_are_one_line(policies, tmp_path, capsys):
    assert "did you mean hopper?" in fails(capsys, "--body", "hoper")
    assert "medum" in fails(capsys, "--mix", "medum")
    assert "--steps must be a whole number of at least 1" in fails(capsys, "--steps", "0")
    assert "is a folder; --out needs a file name" in fails(capsys, "--out", str(tmp_path))
    assert "--policies DIR" in fails(capsys, "--policies", str(tmp_path / "nowhere"))
    assert "trpo_Walker2d.npz: no such file" in fails(capsys, "--body", "walker2d")
    assert "unknown flag --polices (did you mean --policies?)" in fails(capsys, "--polices", "x")

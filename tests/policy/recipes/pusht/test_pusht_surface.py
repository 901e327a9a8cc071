"""What stands around PushT's policies: cards, the demo, lists of runs, versions."""

import json
import shlex

import imageio.v3 as iio
import pytest

import unveil
from pusht_recorded import QUICK, TWO
from unveil.cli import main
from unveil.commands.pack import Pack, pack
from unveil.errors import UnveilError
from unveil.policy.recipes.pusht.card import pusht_card
from unveil.runs import checkpoints as locate


def test_a_packaged_policy_has_its_card_and_acts(run, tmp_path, monkeypatch, capsys):
    scores = tmp_path / "score.json"
    assert main(["eval", "pusht", "--checkpoint", str(run), *QUICK, "--json", str(scores)]) == 0
    said = pack(Pack(run, "pusht-small", (scores,), into=tmp_path / "zoo"))
    assert "MiB" in said
    card = (tmp_path / "zoo" / "pusht-small" / "card.md").read_text()
    trained = "`unveil train pusht --preset tiny --widths 8 16 --steps 4 --batch-size 8 --seed 3`: 4 of 4 steps in 0 minutes"
    for part in (
        trained,
        "1 episodes (77 windows)",
        "`pusht_two.npz`; origin",
        "Licence of the weights: MIT",
        "below 100000",
    ):
        assert part in card
    command = "--checkpoint pusht-small --episodes 2 --seed 100000 --sampling-steps 2"
    assert (
        command in card and "pymunk 6" in card and "| score_mean |" in card and "| decision_ms_p50 |" in card
    )
    monkeypatch.setattr(locate, "ZOO", tmp_path / "zoo")
    policy = unveil.load("pusht-small", "cpu", sampling_steps=2)
    assert isinstance(policy, unveil.Policy) and policy.model.shape.observations == 20
    assert str(TWO) not in (tmp_path / "zoo" / "pusht-small" / "config.json").read_text()


def test_only_what_was_packed_is_replaced(run, tmp_path):
    """By the same again, but neither files of somebody's own nor a card that was written on."""
    zoo = tmp_path / "zoo"
    for _ in range(2):
        pack(Pack(run, "small", into=zoo))
    (zoo / "small" / "card.md").write_text("my notes")
    (zoo / "mine").mkdir()
    (zoo / "mine" / "config.json").write_text("{}")
    for name in ("small", "mine"):
        with pytest.raises(
            UnveilError,
            match=f"{name}: it holds files that were not packed like this, or were changed; give another",
        ):
            pack(Pack(run, name, into=zoo))
    assert (zoo / "small" / "card.md").read_text() == "my notes" and (
        zoo / "mine" / "config.json"
    ).read_text() == "{}"
    with pytest.raises(UnveilError, match=r"`name=\.\./small` must be a name, not a path"):
        pack(Pack(run, "../small", into=zoo / "mine"))


def test_the_card_attributes_the_published_demonstrations(run):
    described = json.loads((run / "config.json").read_text()) | {"data": "pusht"}
    card = pusht_card("x", run / "checkpoint-4", described, ())
    assert "206 human demonstrations `pusht_cchi_v7_replay` by Chi et al." in card and "MIT licence" in card


def test_converted_weights_are_not_packaged(run, tmp_path):
    described = json.loads((run / "config.json").read_text())
    folder = tmp_path / "run"
    folder.mkdir()
    (run / "checkpoint-4").rename(folder / "checkpoint-4")
    (folder / "config.json").write_text(json.dumps(described | {"origin": "lerobot"}))
    try:
        with pytest.raises(unveil.UnveilError, match="converted from lerobot"):
            pack(Pack(folder, "x", into=tmp_path))
    finally:
        (folder / "checkpoint-4").rename(run / "checkpoint-4")


def test_the_demo_shows_chunks_and_the_next_command(run, tmp_path, capsys):
    out = tmp_path / "demo"
    flags = ["--episodes", "2", "--max-steps", "6", "--device", "cpu", "--out", str(out)]
    assert main(["demo", "pusht", "--checkpoint", str(run), *flags]) == 0
    said = capsys.readouterr().out
    assert "next:" in said and f"eval pusht --checkpoint {run}" in said
    assert iio.imread(out / "pusht.gif").shape[1:] == (224, 452, 3)


def test_the_demo_shows_the_packaged_policy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "pusht", "--episodes", "1", "--max-steps", "4"]) == 0
    said = capsys.readouterr().out
    assert "next:" in said and " eval pusht --checkpoint pusht-keypoints --episodes 50 --seed 100000" in said
    assert iio.imread(tmp_path / "demo" / "pusht.gif").ndim == 4
    assert main(["demo", "pussht"]) == 2
    assert "did you mean pusht" in capsys.readouterr().err


def test_the_packaged_policy_pushes_the_block_onto_its_mark(tmp_path):
    """Three network calls a decision; a policy whose actions are scaled or shifted wrongly scores below
    0.3."""
    out = tmp_path / "score.json"
    flags = shlex.split("--preset fast --episodes 6 --seed 1000 --decisions 1 --device cpu")
    assert main(["eval", "pusht", "--checkpoint", "pusht-keypoints", *flags, "--json", str(out)]) == 0
    assert json.loads(out.read_text())["metrics"]["score_mean"] > 0.75


def test_results_list_the_run_and_its_scores(run, tmp_path, capsys):
    assert main(["results", str(run.parent)]) == 0
    said = capsys.readouterr().out
    assert str(run) in said and "4" in said


def test_doctor_knows_the_worlds_versions(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "gym-pusht  0." in said and "pymunk     6." in said

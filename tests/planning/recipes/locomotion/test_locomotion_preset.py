"""Which settings a run is planned with where none are named: by what it is, not by what lies beside it."""

import shutil

import pytest
import torch

from originals import ATTENTION, DATASET, unpacked
from unveil.cli import main
from unveil.loading import load
from unveil.planning.recipes.locomotion.config import EVAL_PRESETS
from unveil.planning.recipes.locomotion.preset import suited
from unveil.planning.trajectory_model import ValueModel


@pytest.fixture
def planned(monkeypatch):
    """Evaluations that roll nothing out, and keep their config."""
    kept = []

    def evaluate(config, _):
        kept.append(config)
        return {"metrics": {"score_mean": 1.0}, "protocol": "none"}

    monkeypatch.setattr("unveil.planning.recipes.locomotion.evaluate.evaluate_locomotion", evaluate)

    def run(*flags):
        assert main(["eval", "locomotion", *flags, "--json", "-"]) == 0
        return kept[-1]

    return run


def test_by_what_the_run_is():
    assert suited({"returns": True, "model": "transformer", "value": {}}) == "ask"
    assert suited({"model": "transformer"}) == "default"
    assert suited({"model": "unet"}) == "paper"
    assert suited({"origin": "jannerm/diffuser"}) == "paper", (
        "a converted run names no model: it is the published network"
    )


def test_a_told_run_is_asked_unless_flags_want_a_value(planned):
    told = ("--checkpoint", "hopper-medium-expert")
    assert planned(*told).preset == "ask"
    assert planned(*told, "--ask-scale", "1").settings.ask_scale == 1.0
    assert planned(*told, "--select", "none").preset == "ask"
    for flags in (("--guidance", "tilted"), ("--select=critic",), ("--preset", "default")):
        assert (planned(*told, *flags).preset, planned(*told, *flags).settings.select) == (
            "default",
            "critic",
        )
    assert (
        planned(*told, "--preset", "paper").settings.candidates == EVAL_PRESETS["paper"].settings.candidates
    )
    for flag in ("--batch-size", "--candidates"):
        assert planned("--checkpoint", "hopper-medium", flag, "3").settings.candidates == 3


def test_the_originals_and_what_is_converted_from_them_plan_as_published(planned, tmp_path):
    logs = unpacked(tmp_path / "logs")
    shutil.rmtree(logs / DATASET / ATTENTION)
    assert main(["weights", "convert", str(logs / DATASET), str(tmp_path / "ours")]) == 0
    at = ("--dataset", DATASET, "--logbase", str(logs), "--horizon", "8")
    for place in (("--checkpoint", str(logs / DATASET)), ("--checkpoint", str(tmp_path / "ours")), at):
        config = planned("--dataset", DATASET, *place) if place != at else planned(*at)
        it = config.settings
        assert (config.preset, it.guidance, it.scale, it.t_stopgrad) == ("paper", "ascend", 0.0001, 4)
        assert (it.steps, it.candidates) == (20, 64)
        assert (
            planned(*(place if place == at else ("--dataset", DATASET, *place)), "--preset", "default").preset
            == "default"
        )


def test_the_data_set_follows_from_the_checkpoint_unless_it_is_given(planned, capsys):
    walker = ("--checkpoint", "walker2d-medium-expert")
    config = planned(*walker)
    assert (config.dataset, config.preset, config.settings.steps) == ("walker2d-medium-expert", "ask", 2)
    assert planned(*walker, "--dataset", "walker2d-medium").dataset == "walker2d-medium"
    assert planned("--checkpoint", "hopper-medium").dataset == "hopper-medium"


def test_a_data_set_of_another_body_than_the_checkpoint_is_one_line(capsys):
    short = ("--episodes", "1", "--max-episode-length", "1", "--json", "-")
    for checkpoint, other, message in (
        (
            "walker2d-medium-expert",
            "hopper-medium",
            "give the --dataset it was trained on, walker2d-medium-exp",
        ),
        (
            "walker2d-medium-expert",
            "halfcheetah-medium",
            "these weights were trained on walker2d-medium-expert",
        ),
    ):
        assert main(["eval", "locomotion", "--checkpoint", checkpoint, "--dataset", other, *short]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error
    assert main(["eval", "locomotion", "--checkpoint", "walker2d-medium-expert", *short]) == 0
    assert "gymnasium Walker2d-v5" in capsys.readouterr().out


def test_what_is_not_there_is_left_to_the_evaluation(planned, tmp_path):
    assert planned("--logbase", str(tmp_path)).preset == "default"


def test_loading_follows_the_same_rule():
    asked = load("hopper-medium-expert", "cpu")
    assert (asked.settings.candidates, asked.settings.steps, asked.settings.ask, asked.score) == (
        1,
        1,
        1.0,
        None,
    )
    for settings in ({"preset": "default"}, {"select": "critic"}):
        chosen = load("hopper-medium-expert", "cpu", **settings)
        assert (chosen.settings.candidates, chosen.settings.steps) == (16, 3) and chosen.score is not None
    with pytest.raises(ValueError, match="preset is one of default, ask, paper, got 'papre'"):
        load("hopper-medium-expert", "cpu", preset="papre")


@pytest.mark.parametrize(("select", "time"), [("critic", 0.0), ("value", 1 / 20)])
def test_a_critic_sees_clean_plans_and_a_value_the_least_noisy_ones(monkeypatch, select, time):
    planner, told = load("hopper-medium-expert", "cpu", select=select), []
    monkeypatch.setattr(ValueModel, "forward", lambda _, x, t: told.append(t) or x[:, 0, 0])
    planner.score(torch.zeros(2, 4, 14))
    assert told[0].tolist() == [time] * 2

"""`unveil.load` and `unveil eval` on folders of the original, and on what is converted from them: which
weights, which settings."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from originals import ATTENTION, DATASET, PLAIN, VALUE, rewrite, unpacked
from unveil.cli import main
from unveil.errors import UnveilError
from unveil.loading import load


@pytest.fixture
def folder(tmp_path):
    """A data set's folder with one diffusion and one value."""
    logs = unpacked(tmp_path / "logs")
    shutil.rmtree(logs / DATASET / ATTENTION)
    return logs / DATASET


def last_bias(planner) -> Tensor:
    return planner.model.state_dict()["denoiser.network.final.1.bias"]


def add_epoch(experiment: Path, epoch: int, bias: float) -> None:
    """The same state again, with another last bias: -bias in the raw weights."""
    latest = experiment / "state_200.pt"
    kept = latest.read_bytes()

    def change(state):
        for name, sign in (("model", -1.0), ("ema", 1.0)):
            state[name]["model.final_conv.1.bias"].fill_(sign * bias)
        return state

    rewrite(experiment, change)
    latest.rename(experiment / f"state_{epoch}.pt")
    latest.write_bytes(kept)


def test_the_epoch_and_the_raw_weights_that_are_asked_for_are_taken(folder):
    add_epoch(folder / PLAIN, 100, 7.0)
    newest = last_bias(load(folder, "cpu"))
    assert not (newest == 7.0).any()
    for epoch in ({"epoch": 100}, {"epoch": "100"}, {"diffusion_epoch": "100"}):
        assert (last_bias(load(folder, "cpu", **epoch)) == 7.0).all()
    assert (last_bias(load(folder, "cpu", epoch=100, raw=True)) == -7.0).all()
    assert not torch.equal(last_bias(load(folder, "cpu", raw=True)), newest)
    for wrong in ({"epoch": 7}, {"value_epoch": "100"}):
        with pytest.raises(UnveilError, match=r"no epoch '(7|100)'; there are"):
            load(folder, "cpu", **wrong)
    with pytest.raises(TypeError, match="no field epok"):
        load(folder, "cpu", epok=7)


def test_settings_of_planning_replace_the_published_ones(folder):
    planner = load(folder, "cpu", sampling_steps=5, temperature=0.5)
    assert (planner.settings.steps, planner.settings.temperature, planner.settings.candidates) == (5, 0.5, 64)


def test_weights_without_average_are_evaluated_with_the_flag_that_the_error_names(folder, capsys):
    for experiment in folder.glob("*/*"):
        rewrite(experiment, lambda state: {"step": 3, "model": state["model"]})
    flags = ["--dataset", DATASET, "--logbase", str(folder.parent), "--horizon", "8", "--device", "cpu"]
    assert main(["eval", "locomotion", *flags]) == 2
    assert "use the raw ones: --raw" in capsys.readouterr().err
    with pytest.raises(UnveilError, match="raw=True"):
        load(folder, "cpu")
    assert load(folder, "cpu", raw=True).score is not None


def test_what_is_converted_plans_as_the_original_does(folder, tmp_path):
    """The same settings, the same value and the same noise: the same plans, guided and chosen."""
    assert main(["weights", "convert", str(folder), str(tmp_path / "ours")]) == 0
    first = np.array([0.3, -0.2, 0.1])
    theirs = load(folder, "cpu", batch_size=3, seed=1)
    ours = load(tmp_path / "ours", "cpu", batch_size=3, seed=1)
    assert ours.settings == theirs.settings and ours.settings.steps == 20 and not ours.settings.clip
    np.testing.assert_array_equal(ours.plan(first, normalized=True), theirs.plan(first, normalized=True))
    alone = load(tmp_path / "ours" / PLAIN, "cpu")
    assert (alone.settings.steps, alone.settings.candidates, alone.horizon, alone.score) == (20, 1, 8, None)
    assert alone.plan(first, normalized=True).shape == (1, 8, 5)
    with pytest.raises(UnveilError, match="has no epoch '90'"):
        load(tmp_path / "ours" / PLAIN / "checkpoint-200", "cpu", epoch=90)


def test_a_value_alone_says_what_is_missing(folder, tmp_path):
    assert main(["weights", "convert", str(folder / VALUE), str(tmp_path / "value")]) == 0
    for place in (folder / VALUE, tmp_path / "value", tmp_path / "value" / "checkpoint-200"):
        with pytest.raises(
            UnveilError, match="holds a value and no diffusion to guide; give the folder above both"
        ):
            load(place, "cpu")


def test_the_originals_have_nothing_held_out_to_choose_a_scale_on(folder, tmp_path):
    assert main(["weights", "convert", str(folder), str(tmp_path / "ours")]) == 0
    for place in (folder, tmp_path / "ours"):
        with pytest.raises(UnveilError, match="the original trains on all of its data; give a number"):
            load(place, "cpu", scale="auto")


def test_packaged_weights_say_what_was_held_out():
    from unveil.planning.recipes.locomotion.models import read_locomotion_config
    from unveil.planning.recipes.locomotion.planner import held_out_share
    from unveil.runs.checkpoints import find_checkpoint

    assert held_out_share(read_locomotion_config(find_checkpoint("hopper-medium-expert"))) == 0.05

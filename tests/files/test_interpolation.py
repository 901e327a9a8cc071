"""OmegaConf's interpolations as real-stanford/diffusion_policy writes them: resolved without running
anything, or left as they were."""

import pytest
import torch

from foreign_policies import saved, unpacked
from unveil.errors import UnveilError
from unveil.files.omegaconf_interpolation import arithmetic, resolved
from unveil.files.torch_save import read_torch
from unveil.policy.weights.diffusion_policy import _FORM, read_policy

CONFIG = {
    "horizon": 16,
    "n_obs": "${policy.n_obs}",
    "keys": ["a", "${horizon}"],
    "name": "train_${task.name}_${horizon}",
    "which": "task",
    "nested": "${${which}.name}",
    "action_dim": 2,
    "obs_dim": 20,
    "cond": True,
    "policy": {
        "n_obs": 2,
        "steps": "${eval:'${n_obs}-1+${..horizon}'}",
        "same": "${.n_obs}",
        "above": "${..task.name}",
        "first": "${keys[1]}",
    },
    "task": {"name": "pusht", "all": "${policy}"},
    "input": "${eval: ${action_dim} if ${cond} or False else ${obs_dim} + ${action_dim}}",
    "both": "${eval:'${obs_dim} + ${action_dim} if not ${cond} else -(${obs_dim} % 7) * 1.5'}",
}


def test_names_are_replaced_by_what_they_say():
    found = resolved(CONFIG)
    assert (
        found["n_obs"] == 2
        and found["keys"] == ["a", 16]
        and found["name"] == "train_pusht_16"
        and found["nested"] == "pusht"
    )
    assert found["policy"] == {"n_obs": 2, "steps": 17, "same": 2, "above": "pusht", "first": 16}
    assert found["input"] == 2 and found["both"] == -9.0
    assert found["task"]["all"]["n_obs"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "${nowhere}",
        "${now:%Y}",
        "${oc.env:HOME}",
        "${a}",
        "x${a}",
        "${eval:'__import__(\"os\").getpid()'}",
        "${eval:'9**9**9'}",
        "${",
        "${task}y",
    ],
)
def test_what_cannot_be_resolved_stays(text):
    assert resolved({"a": "${b}", "b": "${a}", "task": {"n": 1}, "x": text})["x"] == text


@pytest.mark.parametrize(
    "text",
    [
        "f(1)",
        "a",
        "1 + ",
        "[1]",
        "'a' * 9",
        "1 / 0",
        "10**9",
        "x.y",
        "lambda: 1",
        "10000000 * 10000000",
        "(" * 900,
    ],
)
def test_only_arithmetic_is_computed(text):
    with pytest.raises(ValueError, match=r"arithmetic|beyond"):
        arithmetic(text)


def test_a_checkpoint_whose_config_names_things_is_read(tmp_path):
    state = read_torch(unpacked("cnn", tmp_path), _FORM)
    cfg, wanted = state["cfg"], read_policy(unpacked("cnn", tmp_path)).described
    cfg["horizon"], cfg["steps"] = cfg["policy"]["horizon"], 3
    cfg["policy"]["horizon"] = "${horizon}"
    cfg["policy"]["n_action_steps"] = "${eval:'${steps} + 1'}"
    again = saved(tmp_path / "again.ckpt", cfg, state["state_dicts"]["model"])
    assert read_policy(again).described == wanted
    cfg["policy"]["horizon"] = "${now:%H}"
    with pytest.raises(
        UnveilError, match=r"horizon in its config is \$\{now:%H\}, which cannot be resolved here"
    ):
        read_policy(saved(tmp_path / "again.ckpt", cfg, state["state_dicts"]["model"]))


def test_checkpoints_of_other_programs_are_named(tmp_path):
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "pytorch-lightning_version": "2.0.0", "epoch": 1},
        tmp_path / "l.ckpt",
    )
    with pytest.raises(
        UnveilError, match=r"it is a checkpoint of PyTorch Lightning, not of real-stanford/diffusion_policy"
    ) as told:
        read_policy(tmp_path / "l.ckpt")
    torch.save({"state_dict": {"a": torch.ones(1)}, "args": told.type}, tmp_path / "s.ckpt")
    with pytest.raises(UnveilError, match="it holds a state_dict, and was written by another program"):
        read_policy(tmp_path / "s.ckpt")

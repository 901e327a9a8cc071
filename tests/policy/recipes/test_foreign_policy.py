"""`unveil weights inspect` says what other people's diffusion policies are, and why one cannot be used."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from foreign_policies import filled, golden, unpacked
from unveil.cli import main


def shown(capsys, *arguments) -> str:
    assert main(["weights", "inspect", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_inspect_says_what_a_checkpoint_is(tmp_path, capsys):
    text = shown(capsys, unpacked("cnn", tmp_path))
    for part in (
        "DiffusionUnetLowdimPolicy of real-stanford/diffusion_policy",
        "ConditionalUNet, 18,914 parameters",
        "widths 8, 16, kernel 5, 4 groups, step embedding 8, FiLM with gain and shift",
        "2 observations, 8 actions, of which 4 are executed, from number 1 on",
        "obs 5, conditioned by film",
        "100 steps, squaredcos_cap_v2, predicts eps, clipped to 1; sampled there by DDPMScheduler, 100 steps",
        "raw and averaged (EMA); epoch 550, global step 1,234",
        "of obs, action, in the file",
        "usable        yes",
    ):
        assert part in text


def test_a_folder_of_checkpoints_is_listed_and_what_cannot_be_used_is_told(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    unpacked("transformer", tmp_path / "checkpoints")
    torch.save({"step": 1}, tmp_path / "checkpoints" / "other.ckpt")
    text = shown(capsys, tmp_path)
    assert "2 layers, 2 heads, width 16, causal, dropout 0.01" in text and "conditioned by tokens" in text
    assert (
        "usable        no: refused, no code in it was run: not a checkpoint of real-stanford/diffusion_policy"
        in text
    )


@pytest.mark.parametrize("below", ["", "pretrained_model"])
def test_inspect_says_what_a_folder_of_lerobots_is(tmp_path, capsys, below):
    it, folder = golden("lerobot_state"), tmp_path / below
    folder.mkdir(exist_ok=True)
    save_file(filled(it["shapes"]), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(it["config"]))
    text = shown(capsys, tmp_path)
    assert (
        "DiffusionPolicy of lerobot" in text
        and "FiLM with shift alone" in text
        and "; sampled there by DDPM, 100 steps" in text
    )
    assert "observation.state 2, observation.environment_state 5, conditioned by film" in text


def test_what_cannot_be_used_is_one_line(tmp_path, capsys):
    it = golden("lerobot_image")
    save_file(filled(it["shapes"]), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(it["config"] | {"use_group_norm": False}))
    assert main(["weights", "inspect", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a policy of LeRobot that cannot be used: 40 t" in line and "running_mean" in line  # of BatchNorm
    shutil.rmtree(tmp_path)
    assert main(["weights", "inspect", str(tmp_path)]) == 2
    assert "no such folder" in capsys.readouterr().err

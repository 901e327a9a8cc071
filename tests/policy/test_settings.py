"""One settings object says how a policy acts: for flags, `unveil.load`, and PNG text alike."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import unveil
from foreign_policies import unpacked
from unveil.cli import main
from unveil.policy.recipes.convert import load_foreign_policy
from unveil.policy.recipes.load import load_policy
from unveil.policy.settings import PolicySettings
from unveil.policy.weights import releases
from unveil.policy.weights.releases import released_policies
from unveil.runs.checkpoints import find_checkpoint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_steps": 0}, "`sampling_steps` must be .* got 0"),
        ({"n_action": True}, "`n_action` must be .* got True"),
        ({"temperature": -1.0}, "`temperature` must be a finite number of at least 0, got -1"),
        ({"temperature": float("inf")}, "`temperature` must be .* got inf"),
    ],
)
def test_settings_out_of_range_are_named_without_flags(settings, message):
    with pytest.raises(ValueError, match=message):
        PolicySettings(**settings)


def test_settings_are_free_of_torch():
    code = "import sys, unveil.policy.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_an_object_and_single_fields_make_the_same_policy():
    folder = find_checkpoint("pusht-keypoints")
    settings = PolicySettings("heun", 3, 4, 0.5)
    policies = (
        load_policy(folder, "cpu", 1, settings),
        unveil.load(
            "pusht-keypoints", "cpu", seed=1, solver="heun", sampling_steps=3, n_action=4, temperature=0.5
        ),
    )
    observations = np.full((2, 2, 20), 200.0, np.float32)
    chunks = [policy.predict(observations) for policy in policies]
    np.testing.assert_array_equal(chunks[0], chunks[1])
    assert [policy.n_action for policy in policies] == [4, 4]
    with pytest.raises(TypeError, match="speed"):
        unveil.load("pusht-keypoints", "cpu", speed=2)


def test_a_drawn_chunk_says_its_settings(tmp_path, capsys, monkeypatch):
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    flags = ["--solver", "heun", "--sampling-steps", "2", "--n-action", "4", "--candidates", "2"]
    out, result = tmp_path / "chunks.png", tmp_path / "chunks.json"
    files = ["--out", str(out), "--json", str(result)]
    arguments = ["--checkpoint", "pusht-keypoints", *flags, "--threads", "2", *files]
    assert main(["sample", "pusht", *arguments]) == 0
    assert threads == [2]
    described = json.loads(Image.open(out).text["unveil"])
    wanted = {"solver": "heun", "sampling_steps": 2, "n_action": 4, "temperature": 1.0}
    assert described.items() >= wanted.items()
    assert json.loads(result.read_text())["config"].items() >= wanted.items()


def test_a_foreign_checkpoint_is_read_once(tmp_path, monkeypatch):
    reads, read = [], releases.read_policy
    monkeypatch.setattr(releases, "read_policy", lambda file: reads.append(file) or read(file))
    path = unpacked("cnn", tmp_path)
    settings = PolicySettings(sampling_steps=2)
    policy, observation = load_foreign_policy(released_policies(path), "cpu", 0, settings)
    assert reads == [path] and observation == "state" and len(policy.times) == 3
    same = unveil.load(path, "cpu", sampling_steps=2)
    observations = np.full((1, 2, 5), 200.0, np.float32)
    np.testing.assert_array_equal(policy.predict(observations), same.predict(observations))

"""No dead ends on PushT: what data, train, convert and the demo say comes next runs as it is said; a
converted run says what can go on."""

import json
import re
import shlex

import numpy as np
import pytest

import unveil
from foreign_policies import lerobot, unpacked
from pusht_recorded import SMALL, TWO, recorded
from replay_buffers import write_lerobot
from unveil.cli import main
from unveil.policy.data.demonstrations import Demonstrations

STEP = shlex.split("--steps 1 --save-every 1 --batch-size 4 --device cpu")
TINY = [*SMALL, *STEP]
EVAL = shlex.split("--episodes 1 --max-steps 2 --decisions 1 --sampling-steps 1 --device cpu")
PIXELS = shlex.split("--image-width 16 --image-keypoints 4 --crop 40 --horizon 8 --n-action 4")


def next_line(capsys) -> list[str]:
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    command = shlex.split(line.removeprefix("next: "))
    assert command[0] == "unveil"
    return command[1:]


@pytest.mark.parametrize("pixels", [False, True])
def test_data_then_training_then_a_score(pixels, tmp_path, monkeypatch, capsys):
    """Of a file with a space in its name; of a recording that shows the block in pictures alone."""
    monkeypatch.chdir(tmp_path)
    source = str(TWO)
    if pixels:
        two = recorded()
        pictures = np.zeros((len(two), 96, 96, 3), np.uint8)
        seen = {"state": two.observations["state"][:, :2], "image": pictures}
        source = str(
            write_lerobot(tmp_path / "le", Demonstrations(seen, two.actions, two.episode_ends), "v3.0")
        )
    assert main(["data", "pusht", "--from", source, "--out", "my demos.npz"]) == 0
    command = next_line(capsys)
    assert command[:2] == ["train", "pusht"] and ("--observation" in command) == pixels
    assert main([*command, *TINY, *(PIXELS if pixels else [])]) == 0
    command = next_line(capsys)
    assert command[:2] == ["eval", "pusht"] and main([*command, *EVAL]) == 0


def test_data_in_the_cache_are_found_by_the_next_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("UNVEIL_DATA", raising=False)
    assert main(["train", "pusht", *TINY]) == 2
    assert "get them with: unveil data pusht --from http" in capsys.readouterr().err
    assert main(["data", "pusht", "--from", str(TWO)]) == 0
    assert main([*next_line(capsys), *TINY]) == 0


def test_what_follows_the_demo_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["unveil"])
    assert main(["demo", "pusht", "--episodes", "1", "--max-steps", "2"]) == 0
    said = capsys.readouterr().out
    lines = [line.strip() for line in said[said.index("next:") :].splitlines()[1:] if line.strip()]
    assert [shlex.split(line)[1] for line in lines] == ["eval", "sample", "train"]
    for line, more in zip(lines, ([*EVAL], ["--candidates", "2"], ["--data", str(TWO), *TINY]), strict=True):
        assert main([*shlex.split(line)[1:], *more]) == 0, line


def test_a_converted_policy_is_scored_acts_and_begins_a_new_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["weights", "convert", str(unpacked("cnn", tmp_path)), "their run"]) == 0  # of states
    assert main([*next_line(capsys), *EVAL]) == 0
    train = ["train", "pusht", "--data", str(TWO), *STEP]
    for more in ([], ["--resume"]):
        assert main([*train, "--observation", "state", "--out", "their run", *more]) == 2
        error = capsys.readouterr().err
        assert "was converted from real-stanford/diffusion_policy" in error
    offered = re.search(r"unveil (train pusht --start-from .* --out NEW)", error)
    assert offered is not None
    new = shlex.split(offered[1])
    assert main([*new, *train[2:], "--learning-rate", "1e-12", "--ema-decay", "0"]) == 0
    config, theirs = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("NEW", "their run")
    )
    assert (config["widths"], config["groups"], config["observation"]) == (
        theirs["widths"],
        theirs["groups"],
        "state",
    )
    seen, noise = np.full((1, 5), 200.0), np.random.default_rng(0).normal(size=(1, config["horizon"], 2))
    acted = [
        unveil.load(name, "cpu", sampling_steps=3).act(seen, noise=noise) for name in ("NEW", "their run")
    ]
    np.testing.assert_allclose(acted[0], acted[1], atol=1e-2)  # pixels of 512
    assert main([*train, "--out", "other", "--start-from", "NEW", "--distill", "NEW"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_a_converted_policy_of_another_robot_acts_in_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["weights", "convert", str(lerobot(tmp_path / "l")), "run"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    found = re.fullmatch(
        r"next: in Python, policy = unveil\.load\('(.+)'\); actions = policy\.act\(observations\), \(B, (\d+)\)",
        line,
    )
    assert found is not None
    assert unveil.load(found[1], "cpu", sampling_steps=1).act(np.zeros((2, int(found[2])))).shape == (2, 2)
    start = ["--preset", "tiny", *STEP, "--start-from", "run", "--out", "new"]
    assert main(["train", "pusht", "--data", str(TWO), *start]) == 2
    assert "it observes other, but training knows keypoints" in capsys.readouterr().err

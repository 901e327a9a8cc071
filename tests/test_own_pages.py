"""The pages about your own robot and environment: their Python and their commands run, on small data."""

import re
import shlex
from pathlib import Path

import pytest

from unveil.cli import main

ROOT = Path(__file__).resolve().parent.parent
ARM = """
import gymnasium, numpy as np

class Arm(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict({
        "joints": gymnasium.spaces.Box(-9.0, 9.0, (7,)), "gripper": gymnasium.spaces.Box(0.0, 1.0, (1,)),
    })
    action_space = gymnasium.spaces.Box(-9.0, 9.0, (8,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.seen(), {}

    def seen(self):
        return {"joints": self.np_random.normal(size=7).astype(np.float32), "gripper": np.full(1, 0.04, np.float32)}

    def step(self, action):
        self.steps += 1
        return self.seen(), 0.0, self.steps == 4, False, {"success": True}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)

def make(**_):
    return Arm()
"""
FEW = {  # verb and recipe -> flags that make it short
    "train policy": "--preset tiny --steps 2 --batch-size 4 --widths 8 16 --horizon 16",
    "train planner": "--preset tiny --steps 2 --batch-size 4 --horizon 8 --width 16 --depth 1 --heads 2",
    "eval policy": "--windows 4 --candidates 2 --sampling-steps 1",
    "sample policy": "--sampling-steps 1",
    "export": "--steps 1",
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def short(command: str) -> list[str]:
    """The words of a command, after `unveil`, with flags that make it short."""
    words = shlex.split(command, comments=True)[1:]
    name = next((it for it in FEW if " ".join(words).startswith(it)), "")
    more = shlex.split(FEW.get(name, ""))
    if "--from" in words:  # its network is the checkpoint's
        more = [*more[: more.index("--widths") if "--widths" in more else more.index("--horizon")]]
    if "--episodes" in words and name.startswith("eval"):
        words[words.index("--episodes") + 1] = "2"
    if name == "eval planner":
        more += ["--steps", "1"]
    if name == "eval policy" and "--env" in words:
        more = ["--sampling-steps", "1", "--parallel", "1"]
    return [*words, *more]


@pytest.mark.parametrize("page", ["your-robot.md", "your-environment.md"])
def test_the_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_arm.py").write_text(ARM)
    for code in blocks(page, "python"):
        exec(code, {})
    commands = [
        line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("unveil ")
    ]
    assert len(commands) >= 4
    for command in commands:
        words = short(command)
        assert main(words) == 0, (words, capsys.readouterr().err)
    assert list(tmp_path.glob("*.gif")) and list(tmp_path.glob("*.pt2"))

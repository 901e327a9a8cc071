"""Examples run, and the commands of the README and of docs/commands.md are commands."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from unveil.cli import VERBS, main
from unveil.commands.export import Export
from unveil.commands.parsing import configured, parse
from unveil.commands.results import Results
from unveil.errors import UnveilError
from unveil.serve.config import Serve
from unveil.verbs import CHAT, RECIPES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
INDEX = (ROOT / "docs" / "index.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()


def test_plan_maze_arrives(capsys):
    arrived = runpy.run_path(str(ROOT / "examples" / "plan_maze.py"))["main"]()
    assert 150 < arrived < 350
    assert "predicted arrival" in capsys.readouterr().out


def test_a_cost_of_ones_own_keeps_the_hopper_low():
    """Up to its first high hop. A cost of the wrong sign or without effect on torques would not lower it."""
    results = runpy.run_path(str(ROOT / "examples" / "hopper_height_limit.py"))["main"](episodes=1, steps=120)
    free, limited = results["free"], results["limited"]
    assert free["above"] > 0.1 and limited["above"] < 0.5 * free["above"]
    assert limited["highest"] < free["highest"] - 0.05
    assert limited["return"] > 0.8 * free["return"]


def test_the_python_of_the_first_pages_runs():
    blocks = [part.split("```")[0] for page in (README, INDEX) for part in page.split("```python\n")[1:]]
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def commands() -> list[str]:
    blocks = [part.split("```")[0] for page in (README, COMMANDS) for part in page.split("```sh\n")[1:]]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in [*lines, *re.findall(r"`(unveil [^`]+)`", INDEX)] if line.startswith("unveil ")]


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command, capsys):
    """Every flag and value is one that the verb takes."""
    verb, *rest = shlex.split(command)[1:]
    assert verb in VERBS
    if verb in RECIPES and rest:
        configured(RECIPES[verb][rest[0]], rest[1:], f"{verb} {rest[0]}")
    elif verb == "chat":
        configured(CHAT, rest, verb)
    elif verb == "serve":
        parse(Serve, rest, verb, Serve())
    elif verb == "results":
        parse(Results, rest, verb, Results())
    elif verb == "export":
        parse(Export, rest, verb)
    else:
        assert main([verb, "--help"] if verb != "demo" else ["--version"]) == 0


def test_an_unknown_flag_in_a_document_would_be_noticed():
    with pytest.raises(UnveilError, match="unknown flag --bogus"):
        configured(RECIPES["eval"]["maze"], ["--bogus", "1"], "eval maze")


def test_own_demonstrations_become_a_policy_in_under_40_lines():
    """From 0.35 away on average to the place that all demonstrations go to; single actions are drawn."""
    file = ROOT / "examples" / "own_demonstrations.py"
    assert len(file.read_text().splitlines()) < 40
    torch.manual_seed(0)  # initial weights
    assert np.abs(runpy.run_path(str(file))["main"](160) - 0.5).mean() < 0.2

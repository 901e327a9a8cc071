"""Examples run, and the README's commands are commands."""

import runpy
import shlex
from pathlib import Path

import pytest

from unveil.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_plan_maze_arrives(capsys):
    arrived = runpy.run_path(str(ROOT / "examples" / "plan_maze.py"))["main"]()
    assert 150 < arrived < 350
    assert "predicted arrival" in capsys.readouterr().out


def test_the_readmes_python_runs():
    blocks = [part.split("```")[0] for part in README.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def commands() -> list[str]:
    blocks = [part.split("```")[0] for part in README.split("```sh\n")[1:]]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("unveil ")]


@pytest.mark.parametrize("command", commands())
def test_the_readmes_commands_parse(command, capsys):
    """Every flag is known: the command with --help after it shows help instead of an error."""
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(main([*shlex.split(command)[1:], "--help"]))
    assert stop.value.code in (0, None)
    assert "usage" in capsys.readouterr().out

"""The notebook's cells run in order in one namespace; commands, files and links exist; it has no outputs."""

import json
import re
import shlex
import warnings
from pathlib import Path

import matplotlib
import pytest

from unveil.cli import VERBS, main

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = json.loads((ROOT / "notebooks" / "quickstart.ipynb").read_text())


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


@pytest.fixture
def pyplot():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_the_quickstart_runs(pyplot):
    """With few steps in the last cell; what it shows there is tried out in tests/test_examples.py."""
    namespace, drawn = {}, 0
    for cell in cells("code"):
        if cell.startswith("%pip install"):
            continue
        exec(compile(cell.replace("STEPS = 160", "STEPS = 3"), "quickstart.ipynb", "exec"), namespace)
        drawn += len(pyplot.get_fignums()) > 0
        pyplot.close("all")
    assert drawn == len(cells("code")) - 1
    assert len(namespace["states"]) == 6 and len(namespace["free"]) == len(namespace["limited"]) == 3


def test_nothing_is_in_it_but_text_and_code():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) >= (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None and cell["metadata"] == {}
    assert sum(cell.startswith("%") for cell in cells("code")) == 1
    assert "STEPS = 160" in cells("code")[-1]


def test_what_it_names_exists(capsys):
    text = "\n".join(cells("markdown"))
    assert "colab-badge.svg" in text and "https://colab.research.google.com/" in text
    for file in re.findall(r"`((?:docs|examples)/[^`]+)`", text):
        assert (ROOT / file).is_file(), file
    for file in re.findall(r"`(sampling/[^`]+)`", text):
        assert (ROOT / "src" / "unveil" / file).is_file(), file
    commands = [shlex.split(command)[1:] for command in re.findall(r"`(unveil [^`]+)`", text)]
    assert commands
    for verb, *rest in commands:
        assert verb in VERBS
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            main([verb, *rest])
        assert stop.value.code in (0, None) and "usage" in capsys.readouterr().out

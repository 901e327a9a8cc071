"""README.zh-CN.md keeps step with README.md: the same commands, the same headings, the same numbers."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def results(text: str) -> str:
    return text.split("<!-- results -->\n")[1].split("\n<!-- /results -->")[0]


def test_the_same_commands():
    assert blocks(CHINESE) == blocks(ENGLISH)
    assert len(blocks(ENGLISH)) >= 4


def test_the_same_headings():
    levels = [re.findall(r"^(#+) ", prose(text), re.MULTILINE) for text in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]
    assert levels[0][0] == "#"


def test_the_same_links_and_each_links_to_the_other():
    targets = [set(re.findall(r"\]\(([^)]+)\)", text)) for text in (ENGLISH, CHINESE)]
    assert targets[0] - {"README.zh-CN.md"} == targets[1] - {"README.md"}
    assert "README.zh-CN.md" in targets[0]
    assert "README.md" in targets[1]
    for target in targets[0] | targets[1]:
        assert target.startswith("https://") or (ROOT / target).exists()


def test_the_same_numbers_in_the_same_cells():
    rows = [
        [line for line in results(text).splitlines() if line.startswith("|")] for text in (ENGLISH, CHINESE)
    ]
    assert len(rows[0]) == len(rows[1]) > 10
    for mine, theirs in zip(*rows, strict=True):
        assert mine.count("|") == theirs.count("|")
        assert re.findall(r"\d+(?:\.\d+)?", mine) == re.findall(r"\d+(?:\.\d+)?", theirs)


def test_both_are_what_the_results_say(build):
    """`make docs` was run: neither text was typed by hand."""
    assert results(ENGLISH) == build.section()
    assert results(CHINESE) == build.chinese(build.section())


def test_every_phrase_of_the_results_is_translated(build):
    phrases = json.loads((ROOT / "docs" / "zh-CN.json").read_text(encoding="utf-8"))
    assert set(build.ROWS) <= {key.strip("| ") for key in phrases}
    assert {build.INTRODUCTION, build.CONCLUSION} <= set(phrases)
    published = {row["name"] for row in json.loads((ROOT / "benchmarks" / "published.json").read_text())}
    for line in results(CHINESE).splitlines():
        name = line.split("|")[1] if line.startswith("| ") else ""
        assert re.search(r"[\u4e00-\u9fff]", line) or line.startswith("|---") or not line, line
        if not any(known in name for known in published):
            assert not re.search(r"\b(?!umaze|medium|large|Diffuser|Multi2D|unveil)[A-Za-z]{4,}", name), name

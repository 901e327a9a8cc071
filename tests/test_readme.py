"""README.md is short and true; README.zh-CN.md has the same commands, headings, links and numbers."""

import json
import re
from pathlib import Path

import overview
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
NUMBER = r"(?<![\w.])[\d,]*\.?\d+"


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}.*?^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def results(text: str) -> str:
    return text.split("<!-- results -->\n")[1].split("\n<!-- /results -->")[0]


def cells(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in results(text).splitlines() if line.startswith("| ")]


def test_it_is_read_in_a_minute():
    assert len(ENGLISH.splitlines()) <= 150
    examples = blocks(ENGLISH, "python")
    assert len(examples) == 4
    for example in examples:
        assert "unveil.load(" in example
        assert sum("import" not in line for line in example.splitlines()[1:-1]) <= 4
    assert len(re.findall(r"^\|---", ENGLISH, re.MULTILINE)) == 1, "one table"


def test_its_picture_moves_and_is_small():
    name, studio = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", ENGLISH)
    assert (ROOT / studio).stat().st_size <= 150_000
    file = ROOT / name
    assert file.stat().st_size < 1.5e6
    assert f"python {Path(name).with_suffix('.py')}" in ENGLISH and (ROOT / name).with_suffix(".py").is_file()
    with Image.open(file) as picture:
        assert picture.n_frames > 20 and picture.width > 3 * picture.height  # pyright: ignore[reportAttributeAccessIssue]


def test_the_same_commands():
    assert blocks(CHINESE) == blocks(ENGLISH)


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
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists()


def test_the_table_has_a_row_an_application_and_the_same_numbers():
    head, *rows = cells(ENGLISH)
    assert len(rows) == 4 and {len(row) for row in [head, *rows]} <= {4, 5}
    for mine, theirs in zip(cells(ENGLISH), cells(CHINESE), strict=True):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert re.findall(NUMBER, one) == re.findall(NUMBER, other)
    for row in rows:
        assert "minutes" in row[-1] and all(re.search(NUMBER, cell) for cell in row[1:])


def test_both_are_what_the_results_say():
    """`make docs` was run: nobody typed either of them."""
    assert results(ENGLISH) == overview.section()
    assert results(CHINESE) == overview.chinese()


def test_every_phrase_is_used_and_no_row_stays_english():
    phrases = json.loads((ROOT / "docs" / "zh-CN.json").read_text(encoding="utf-8"))
    for phrase in set(phrases) - {"notes"}:
        assert phrase in overview.section(), phrase
    for row in cells(CHINESE):
        for cell in row:
            words = re.findall(r"[A-Za-z]{4,}", cell)
            names = {
                "unveil",
                "large",
                "tiny",
                "shakespeare",
                "diffusers",
                "Fashion",
                "MNIST",
                "Maze",
                "PushT",
            }
            assert set(words) <= names | {"HorizonFlow", "Diffusion", "Policy", "nanoGPT", "chet"}, cell


def test_better_baselines_are_not_hidden():
    (plan, _, _, write) = [
        {k: float(re.findall(NUMBER, row[k])[0]) for k in (1, 3)} for row in overview.rows()
    ]
    assert plan[3] > plan[1] and write[3] < write[1]
    notes = " ".join(overview.NOTES.split())
    assert "graph search on the same data, which is better than our model" in notes
    assert "The path follower decides this score" in notes and "model of this size is better" in notes


@pytest.mark.parametrize(
    "card", sorted((ROOT / "src" / "unveil" / "zoo").glob("*/card.md")), ids=lambda f: f.parent.name
)
def test_no_packaged_model_took_longer_than_it_says(card):
    """A planner of locomotion and its value are two trainings of one model."""
    shortest, longest = map(int, re.findall(r"took (\d+) to (\d+) minutes with one CPU thread", ENGLISH)[0])
    spent = sum(map(int, re.findall(r"steps in (\d+) minutes", card.read_text())))
    assert shortest <= spent <= longest

"""Pages of applications keep one form: what you can do, Python, how it works, commands, metrics, results.

Documents lead to them, and every link and command in them works.
"""

import re
import shlex
from pathlib import Path

import pytest

from unveil.cli import VERBS, main
from unveil.commands.parsing import configured, parse
from unveil.commands.results import Results
from unveil.verbs import CHAT, RECIPES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "applications").glob("*.md"))
HEADINGS = [
    "What you can do",
    "In Python",
    "How it works",
    "All commands",
    "What is measured",
    "Results",
    "What differs from the paper and from the released code",
]


def sections(page: Path) -> dict[str, str]:
    """What stands under each heading of the second level, in order; code is no heading."""
    found: dict[str, str] = {}
    name, fenced = "", False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            name = line[3:]
        found[name] = found.get(name, "") + line + "\n"
    return found


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(
            r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            lines = [line.split("  #")[0].strip() for line in block.splitlines()]
            found += [
                (page.stem, command.strip())
                for line in lines
                for command in line.split("&&")
                if command.strip()
            ]
    return found


def test_there_is_a_page_for_each_application():
    assert {page.stem for page in PAGES} == {
        "planning-maze",
        "planning-locomotion",
        "policy-pusht",
        "images",
        "text-to-image",
        "text",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_have_the_form(page):
    found = sections(page)
    assert [name for name in found if name in HEADINGS] == HEADINGS
    assert page.read_text(encoding="utf-8").startswith("# ")
    for name in HEADINGS:
        assert len(found[name].splitlines()) > 3, f"{name} is empty"
    (figure,) = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", found["What you can do"])
    file = page.parent / figure[1]
    assert len(figure[0]) > 10 and file.is_file() and file.stat().st_size < 200_000
    assert "```sh\n" in found["What you can do"].split("![")[0], "a command comes before its picture"
    assert "| " in found[HEADINGS[-1]] and "| " in found["Results"], "deviations and results are tables"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_their_python_runs(page, tmp_path, monkeypatch):
    """With packaged weights and settings that take seconds; the blocks of a page share one namespace."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", sections(page)["In Python"], re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 1 and "unveil.load(" in blocks[0]
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), namespace)


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda part: part)
def test_their_commands_parse(page, command, capsys):
    program, *rest = shlex.split(command)
    if program == "python":
        assert (ROOT / rest[0]).is_file(), f"{page}: {rest[0]} is not there"
        return
    verb, *rest = rest
    assert program == "unveil" and verb in VERBS
    if verb in RECIPES and rest:
        assert configured(RECIPES[verb][rest[0]], rest[1:], f"{verb} {rest[0]}") is not None
    elif verb == "chat":
        assert configured(CHAT, rest, "chat") is not None
    elif verb == "results":
        parse(Results, rest, verb, Results())
    else:
        assert main([verb, "--help"]) == 0


def test_every_page_has_a_command():
    assert {page for page, _ in commands()} == {page.stem for page in PAGES}


@pytest.mark.parametrize("place", ["mkdocs.yml", "README.md", "README.zh-CN.md", "docs/index.md"])
def test_the_documents_lead_to_every_page(place):
    text = (ROOT / place).read_text(encoding="utf-8")
    for page in PAGES:
        assert f"applications/{page.name}" in text


def test_the_first_page_leads_to_the_tree_the_decisions_and_the_api():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"({name}.md)" in text for name in ("theory", "papers", "extend", "protocol", "log"))
    for target in ("../ARCHITECTURE.md", "adr", "../src/unveil"):  # docs/hooks.py makes pages of these
        assert f"({target})" in text and (ROOT / "docs" / target).exists()


APPLICATIONS = ("planning", "policy", "image", "text")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_architecture_fits_a_screen_and_names_every_room():
    assert max(map(len, ARCHITECTURE.splitlines())) <= 100
    source = ROOT / "src" / "unveil"
    for room in source.iterdir():
        name = f"{room.name}/" if room.is_dir() else room.name
        python = room.suffix == ".py" or (room / "__init__.py").is_file()
        if python and not room.name.startswith("__"):
            assert re.search(rf"^  {name} |^  \S+ .*\b{name} ", ARCHITECTURE, re.MULTILINE), name
    for application in APPLICATIONS:
        for room in (part for part in (source / application).iterdir() if (part / "__init__.py").is_file()):
            assert re.search(rf"^  {room.name}/ ", ARCHITECTURE, re.MULTILINE), room


def test_the_architecture_names_what_is_there():
    named = re.findall(r"`((?:[a-z]+/)+(?:\w+\.py)?)[`:]", ARCHITECTURE)
    assert len(named) > 30
    for path in named:  # from the source, from an application, or from the repository
        places = (ROOT, source := ROOT / "src" / "unveil", *(source / name for name in APPLICATIONS))
        assert any((place / path).exists() for place in places), path
    for path, name in re.findall(r"`((?:[a-z]+/)+\w+\.py): (\w+)`", ARCHITECTURE):
        assert re.search(rf"\b{name}\b", (ROOT / "src" / "unveil" / path).read_text()), (
            f"{path} has no {name}"
        )


LINK = re.compile(r"\]\((?:\.\./)+(src/unveil|tests)/([\w./-]+?)(?:#(\w+))?\)")


def test_links_into_code_lead_to_names_that_exist():
    """As docs/hooks.py does when the documents are built, for machines without mkdocs."""
    broken = []
    for page in (ROOT / "docs").rglob("*.md"):
        for place, path, name in LINK.findall(page.read_text(encoding="utf-8")):
            file = ROOT / place / path
            if not file.is_file():
                broken.append(f"{page.name}: {place}/{path}")
            elif name and not re.search(
                rf"\b(?:def|class) {name}\b|^{name}\b.*=", file.read_text(), re.MULTILINE
            ):
                broken.append(f"{page.name}: {place}/{path}#{name}")
    assert not broken


def test_links_between_pages_lead_to_pages_and_headings():
    made = {"ARCHITECTURE.md"}  # by docs/hooks.py
    for page in (ROOT / "docs").rglob("*.md"):
        for target, heading in re.findall(
            r"\]\(([\w./-]+\.md)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")
        ):
            if target.rpartition("/")[2] in made:
                continue
            file = page.parent / target
            assert file.is_file(), f"{page.name}: {target}"
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}
            assert not heading or heading in anchors, f"{page.name}: {target}#{heading}"

"""Called by mkdocs: checks links into code and tests, adds the API pages and the sources of tests.

`[text](../src/unveil/process/posterior.py#posterior)` goes to the API page, and
`[text](../tests/process/test_grid.py#test_uniform)` to a page with that test's source. Read as plain files,
both lead to the source. A file or name that does not exist stops the build.
"""

import ast
import re
from pathlib import Path
from posixpath import relpath

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PLACES = {"src/unveil": ROOT / "src" / "unveil", "tests": ROOT / "tests"}
MADE = {"../ARCHITECTURE.md": "architecture.md", "adr": "decisions.md", "../src/unveil": "api.md"}
"""What a page of docs/ links to -> the page that is made of it."""
LINK = re.compile(r"\]\((?:\.\./)+(src/unveil|tests)/([\w./-]+?)(?:#(\w+))?\)")

BENCHMARK = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(benchmarks/[\w./-]+\.py)(?:#\w+)?\)")
"""A link into benchmarks/, which has no pages: its text stays."""


def names(file: Path) -> set[str]:
    """Functions, classes and their methods, and constants of a module."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def owner(file: Path, name: str) -> str:
    """`Class.name` for a method, else the name."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef) and any(
            isinstance(part, ast.FunctionDef) and part.name == name for part in node.body
        ):
            return f"{node.name}.{name}"
    return name


def on_page_markdown(markdown: str, page, **_: object) -> str:
    def link(match: re.Match) -> str:
        place, path, name = match.groups()
        file = PLACES[place] / path
        if not file.is_file():
            raise PluginError(f"{page.file.src_uri}: {place}/{path} is no file")
        if name and name not in names(file):
            raise PluginError(f"{page.file.src_uri}: {place}/{path} has no {name}")
        if place == "src/unveil":
            module = f"unveil.{path.removesuffix('.py').replace('/', '.')}"
            target, anchor = (
                f"api/{path.removesuffix('.py')}.md",
                f"{module}.{owner(file, name)}" if name else module,
            )
        else:
            target, anchor = f"tests/{path.removesuffix('.py')}.md", name
        here = Path(page.file.src_uri).parent.as_posix() or "."
        return f"]({relpath(target, here)}{f'#{anchor}' if anchor else ''})"

    for _, path in BENCHMARK.findall(markdown):
        if not (ROOT / path).is_file():
            raise PluginError(f"{page.file.src_uri}: {path} is no file")
    made = BENCHMARK.sub(r"\1", LINK.sub(link, markdown))
    for source, page_here in MADE.items():
        made = made.replace(f"]({source})", f"]({page_here})")
    return made


def on_files(files, config, **_: object):
    """The map of the tree, one page a module, and one a test file with a heading for each test."""
    modules, decisions = ["# API\n\nOne page a module; every function shows its source.\n"], ["# Decisions\n"]
    for file in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        decisions.append(f"- [{file.read_text().splitlines()[0].lstrip('# ')}](adr/{file.name})")
    files.append(File.generated(config, "decisions.md", content="\n".join(decisions)))
    tree = (ROOT / "ARCHITECTURE.md").read_text().replace("](docs/adr)", "](decisions.md)")
    files.append(File.generated(config, "architecture.md", content=tree))
    for file in sorted(PLACES["src/unveil"].rglob("*.py")):
        path = file.relative_to(PLACES["src/unveil"]).with_suffix("")
        if file.stem.startswith("__") or "zoo" in path.parts:
            continue
        module = ".".join(("unveil", *path.parts))
        summary = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0]
        modules.append(f"- [{path.as_posix()}](api/{path.as_posix()}.md): {summary}")
        files.append(
            File.generated(
                config, f"api/{path.as_posix()}.md", content=f"# {path.as_posix()}\n\n::: {module}\n"
            )
        )
    files.append(File.generated(config, "api.md", content="\n".join(modules)))
    for file in sorted(PLACES["tests"].rglob("*.py")):
        source = file.read_text()
        lines, parts = source.splitlines(), [f"# tests/{file.relative_to(PLACES['tests'])}\n"]
        after = 0
        for node in ast.parse(source).body:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
            if isinstance(node, ast.FunctionDef):
                parts.append(f"## {node.name} {{#{node.name}}}\n")
            block = "\n".join(
                lines[after if not isinstance(node, ast.FunctionDef) else first : node.end_lineno]
            ).strip("\n")
            parts.append(f"```python\n{block}\n```\n")
            after = node.end_lineno
        path = file.relative_to(PLACES["tests"]).with_suffix(".md").as_posix()
        files.append(File.generated(config, f"tests/{path}", content="\n".join(parts)))
    return files

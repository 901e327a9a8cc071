"""The tree is the architecture: layers, short modules, no inheritance, no names that mean nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "src" / "unveil").rglob("*.py"))
FOREIGN_INTERFACES = {
    "nn.Module",
    "Protocol",
    "Exception",
    "NamedTuple",
    "TorchDispatchMode",
    "gymnasium.Env",
    "gym.Env",
}


def name_of(base: ast.expr) -> str:
    return ast.unparse(base.value if isinstance(base, ast.Subscript) else base)


def test_imports_go_one_way():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_modules_are_short_documented_and_free_of_inheritance(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400
    assert path.stem not in {"utils", "helpers", "base", "common", "misc", "factory", "registry"}
    assert ast.get_docstring(tree), "every module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert {name_of(b) for b in node.bases} <= FOREIGN_INTERFACES, f"{node.name} inherits"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}
            assert node.func.id != "print" or path.stem in ("cli", "progress", "parsing")


def test_public_things_have_docstrings():
    missing = []
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{path.stem}.{node.name}")
    assert not missing


CLOCKS = {
    "sleep",
    "perf_counter",
    "process_time",
    "monotonic",
    "time_ns",
    "perf_counter_ns",
    "getrusage",
    "thread_time",
}
STARTED = {"run", "call", "check_call", "check_output"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT / "tests"))
)
def test_tests_judge_no_time_and_wait_for_no_process_without_end(path):
    """What is slow is a benchmark, or is counted; no sleep decides a result; a process that hangs fails its
    test, not the suite."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, called = ast.unparse(node.func.value), node.func.attr
        assert not (owner in ("time", "resource") and called in CLOCKS), f"line {node.lineno} asks a clock"
        waits = (owner == "subprocess" and called in STARTED) or called == "communicate"
        assert not waits or any(word.arg == "timeout" for word in node.keywords), (
            f"line {node.lineno} waits without a timeout"
        )


def test_public_names_resolve():
    import unveil

    for name in unveil.__all__:
        assert getattr(unveil, name).__name__ == name
    assert set(dir(unveil)) == set(unveil.__all__)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = unveil.nothing


def test_tests_lie_where_the_tree_has_what_they_test():
    """A folder of tests is a folder of the source, or `benchmarks`; what concerns several rooms lies above
    them. Fixtures have folders of their own."""
    fixtures = {"demonstrations", "golden", "weights", "benchmarks", "studio"}  # studio: the page
    folders = {
        p.parent.relative_to(ROOT / "tests")
        for p in (ROOT / "tests").rglob("*.py")
        if p.parent != ROOT / "tests"
    }
    strange = {
        f
        for f in folders
        if f.parts[0] not in fixtures and not (ROOT / "src" / "unveil" / f / "__init__.py").is_file()
    }
    assert not strange
    rooms = {
        p.parent.relative_to(ROOT / "src" / "unveil").parts[0]
        for p in MODULES
        if p.parent != ROOT / "src" / "unveil"
    } - {"zoo"}
    assert rooms <= {f.parts[0] for f in folders}
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), "without __init__, names of test files differ"

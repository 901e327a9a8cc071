"""The tree is the architecture: layers, short modules, no inheritance, no names that mean nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "src" / "unveil").rglob("*.py"))
FOREIGN_INTERFACES = {"nn.Module", "Protocol", "Exception", "NamedTuple", "TorchDispatchMode", "gymnasium.Env", "gym.Env"}


def name_of(base: ast.expr) -> str:
    return ast.unparse(base.value if isinstance(base, ast.Subscript) else base)


def test_imports_go_one_way():
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True)
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
            assert node.func.id != "print" or path.stem in ("cli", "progress")


def test_public_things_have_docstrings():
    missing = []
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{path.stem}.{node.name}")
    assert not missing


def test_public_names_resolve():
    import unveil

    for name in unveil.__all__:
        assert getattr(unveil, name).__name__ == name
    assert set(dir(unveil)) == set(unveil.__all__)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = unveil.nothing

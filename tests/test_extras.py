"""Each application works with its own extra alone: a process in which all other packages are blocked."""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOAD = {
    "maze": """
import unveil
unveil.load("maze-large").plan((1.0, 1.0), (7.0, 9.0))""",
    "rl": """
import numpy as np, unveil
unveil.load("hopper-medium").act(np.zeros(11))""",
    "pusht": """
import numpy as np, unveil
unveil.load("pusht-keypoints", sampling_steps=1).act(np.zeros((1, 20)))
from unveil.policy.evaluation.pusht import roll
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
roll(PushTEpisodes(1, 0, 2), lambda world: world.states, lambda states: states[:, :2])""",
    "image": """
import unveil
unveil.generate(unveil.load("fashion-mnist"), None, 1, unveil.ImageSettings(steps=1))""",
    "text": """
import unveil
unveil.continue_text(unveil.load("text-shakespeare"), ["A"], unveil.TextSettings(length=2, steps=2))""",
}
COMMANDS = {
    "maze": "sample maze --start 1,1 --goal 7,1 --out plan.png",
    "rl": "eval locomotion --dataset hopper-medium --checkpoint hopper-medium --episodes 1 "
    "--max-episode-length 2",
    "pusht": "sample pusht --checkpoint pusht-keypoints --out chunks.png",
    "image": "sample image --checkpoint fashion-mnist -n 1 --steps 1 --out samples",
    "text": "sample text --checkpoint text-shakespeare --length 2 --steps 2",
}


ABSENT = """
class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def installed(requirements: list[str]) -> set[str]:
    """The distributions that pip would install for these, of those that are here."""
    found: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in requirements]
    while todo:
        requirement, extra = todo.pop()
        marker = requirement.marker
        if marker is not None and not marker.evaluate({**default_environment(), "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in found:
                found.add((name, wanted))
                try:
                    needs = distribution(name).requires or []
                except PackageNotFoundError:
                    continue
                todo += [(Requirement(line), wanted) for line in needs]
    return {name for name, _ in found}


def blocked(extra: str) -> list[str]:
    """Modules of distributions that neither unveil nor this extra needs."""
    kept = installed([*PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] if extra else [])])
    modules = packages_distributions()
    return sorted(
        module
        for module, owners in modules.items()
        if module != "unveil" and not {canonicalize_name(owner) for owner in owners} & kept
    )


def run(code: str, extra: str, folder: Path) -> subprocess.CompletedProcess[str]:
    head = f"import sys\nsys.path.insert(0, {str(ROOT / 'src')!r})\n"
    head += ABSENT.replace("BLOCKED", repr(set(blocked(extra))))
    return subprocess.run(
        [sys.executable, "-c", head + code], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("extra", LOAD)
def test_an_application_works_with_its_extra_alone(extra, tmp_path):
    """From Python, then from the command line."""
    command = f"\nfrom unveil.cli import main\nsys.exit(main({['--debug', *COMMANDS[extra].split()]}))"
    done = run(LOAD[extra] + command, extra, tmp_path)
    assert done.returncode == 0, done.stderr[-1500:]


def test_blocking_blocks():
    assert "h5py" in blocked("text") and "h5py" not in blocked("maze")
    assert {"torch", "numpy", "tyro"}.isdisjoint(blocked(""))
    done = run("import h5py", "text", ROOT)
    assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr

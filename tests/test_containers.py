"""What of the container files can be checked without building: `containers/build.sh` builds and runs the
image."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_dockerfile_copies_what_is_there_and_is_let_through():
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^(ARG BASE|FROM) ?=?(\S*)", text, re.MULTILINE)[1] == ("FROM", "${BASE}")
    copied = [
        source for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for source in line.split()
    ]
    assert "src" in copied
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"^ARG EXTRAS=(\w+)$", text, re.MULTILINE)
    assert wanted in extras
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {needed["readme"], *needed["license-files"]} <= set(copied)


def test_the_script_and_the_definitions_agree():
    script = ROOT / "containers" / "build.sh"
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=300)
    assert script.stat().st_mode & 0o111
    definition = (ROOT / "Singularity.def").read_text()
    (archive,) = re.findall(r"^From: (\S+)$", definition, re.MULTILINE)
    assert f"oci-archive:{archive}" in script.read_text()
    assert len(definition.splitlines()) == 5
    environment = (ROOT / "environment.yml").read_text()
    assert "-e .[maze]" in environment
    assert "-c constraints.txt" in environment

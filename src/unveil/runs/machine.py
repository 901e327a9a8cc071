"""What a result depends on beside its config: commit, versions, processor."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "numpy", "safetensors", "mujoco", "gymnasium", "gym-pusht", "pymunk"),
    *("h5py", "scipy", "matplotlib", "imageio", "tyro", "rich", "jaxtyping"),
)


def versions() -> dict[str, str]:
    """Installed versions of what unveil stands on."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def commit() -> str | None:
    """The git commit of a source checkout, with + if it was changed (results aside); None for an installed package."""
    here = Path(__file__).resolve()
    try:
        ask = ["git", "rev-parse", "--show-toplevel", "HEAD"]
        top, head = subprocess.run(
            ask, cwd=here.parent, capture_output=True, text=True, timeout=5, check=True
        ).stdout.split()
        if Path(top).resolve() != here.parents[3]:
            return None  # installed inside somebody else's repository
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "--", ":/", ":!/benchmarks/results"],
            cwd=here.parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed.stdout.strip() else "")


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def machine(device: str = "cpu") -> dict[str, Any]:
    """The device that a run used ("auto" as `find_device` resolves it), threads and versions of this process."""
    import torch

    from unveil.runs.device import find_device

    used = find_device(device)
    name = (
        torch.cuda.get_device_name(used)
        if used.type == "cuda"
        else processor()
        if used.type == "cpu"
        else used.type
    )
    return {"device": name, "threads": torch.get_num_threads(), "versions": versions()}


def own_version() -> str:
    """unveil's own version."""
    try:
        return version("unveil")
    except PackageNotFoundError:
        return "not installed"


def command_name() -> str:
    """How this program was called, as short as it can be typed again here."""
    import os
    import shutil
    import sys

    called = Path(sys.argv[0])
    if called.name != "unveil":
        return "python -m unveil.cli"
    return "unveil" if shutil.which("unveil") == str(called.absolute()) else os.path.relpath(called)

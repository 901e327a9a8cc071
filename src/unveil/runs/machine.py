"""Commit, versions and processor, on which a result depends besides its config."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    *("torch", "numpy", "safetensors", "mujoco", "gymnasium", "gym-pusht", "pymunk"),
    *("h5py", "scipy", "matplotlib", "imageio", "tyro", "rich", "jaxtyping"),
)


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    installed: dict[str, str] = {}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "missing"
    return installed


def commit() -> str | None:
    """The git commit of a source checkout, with "+" if files but results were changed; None if installed."""
    here = Path(__file__).resolve()
    try:
        command = ["git", "rev-parse", "--show-toplevel", "HEAD"]
        top, head = subprocess.run(
            command, cwd=here.parent, capture_output=True, text=True, timeout=5, check=True
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


def machine(device: str = "cpu") -> dict[str, object]:
    """Name of the device (`find_device` resolves "auto"), number of threads, and versions of this process."""
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
    """The version of unveil."""
    try:
        return version("unveil")
    except PackageNotFoundError:
        return "not installed"


def command_name() -> str:
    """The shortest command that runs this program again from here."""
    import os
    import shutil
    import sys

    called = Path(sys.argv[0])
    if called.name != "unveil":
        return "python -m unveil.cli"
    return "unveil" if shutil.which("unveil") == str(called.absolute()) else os.path.relpath(called)

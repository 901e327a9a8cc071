"""What this machine and this installation are: for results, cards and bug reports."""

from __future__ import annotations

import os
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
        top, head = subprocess.run(ask, cwd=here.parent, capture_output=True, text=True, timeout=5, check=True).stdout.split()
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

    from unveil.recipes.device import find_device

    used = find_device(device)
    name = torch.cuda.get_device_name(used) if used.type == "cuda" else processor() if used.type == "cpu" else used.type
    return {"device": name, "threads": torch.get_num_threads(), "versions": versions()}


def _own_version() -> str:
    try:
        return version("unveil")
    except PackageNotFoundError:
        return "not installed"


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GB"


def report() -> str:
    """Everything a bug report needs, as text."""
    import torch

    from unveil.data.files import home
    from unveil.recipes.device import free_memory
    from unveil.recipes.locate import zoo_names

    lines = [
        f"unveil     {_own_version()} ({commit() or 'installed package'})",
        f"python     {platform.python_version()} on {platform.platform()}",
        f"cpu        {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        f"memory     {_gigabytes(free_memory(torch.device('cpu')))} free",
        f"cuda       {torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'none'}",
        f"mps        {'yes' if torch.backends.mps.is_available() else 'none'}",
        f"home       {home()}",
        f"data       {os.environ.get('UNVEIL_DATA') or 'UNVEIL_DATA is not set'}",
        f"zoo        {', '.join(zoo_names()) or 'empty'}",
    ]
    return "\n".join(lines + [f"{name:<10} {number}" for name, number in versions().items()])

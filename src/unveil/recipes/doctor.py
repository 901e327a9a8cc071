"""What this machine and this installation are: for results, cards and bug reports."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "safetensors", "mujoco", "gymnasium", "h5py", "scipy", "matplotlib", "imageio", "tyro", "rich", "jaxtyping")


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
    """The git commit of a source checkout, with + if it was changed; None for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed.stdout.strip() else "")


def machine() -> dict[str, Any]:
    """Device, threads and versions of this process."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"device": device, "threads": torch.get_num_threads(), "versions": versions()}


def report() -> str:
    """Everything a bug report needs, as text."""
    import torch

    from unveil.data.files import home
    from unveil.recipes.locate import zoo_names

    lines = [
        f"unveil     {version('unveil')} ({commit() or 'installed package'})",
        f"python     {platform.python_version()} on {platform.platform()}",
        f"cpu        {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        f"cuda       {torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'none'}",
        f"mps        {'yes' if torch.backends.mps.is_available() else 'none'}",
        f"home       {home()}",
        f"data       {os.environ.get('UNVEIL_DATA') or 'UNVEIL_DATA is not set'}",
        f"zoo        {', '.join(zoo_names()) or 'empty'}",
    ]
    return "\n".join(lines + [f"{name:<10} {number}" for name, number in versions().items()])

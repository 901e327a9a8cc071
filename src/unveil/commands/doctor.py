"""Describe the machine and the installation, for bug reports."""

from __future__ import annotations

import os
import platform

from unveil.runs.machine import commit, own_version, versions


def _gibibytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"


def report() -> str:
    """Versions, devices and folders, as text for a bug report."""
    import torch

    from unveil.files.places import home
    from unveil.runs.checkpoints import zoo_names
    from unveil.runs.device import free_memory

    capability = torch.backends.cpu.get_cpu_capability()
    lines = [
        f"unveil     {own_version()} ({commit() or 'installed package'})",
        f"python     {platform.python_version()} on {platform.platform()}",
        f"cpu        {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads, {capability}",
        f"memory     {_gibibytes(free_memory(torch.device('cpu')))} free",
        f"cuda       {torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'none'}",
        f"mps        {'yes' if torch.backends.mps.is_available() else 'none'}",
        f"home       {home()}",
        f"data       {os.environ.get('UNVEIL_DATA') or 'UNVEIL_DATA is not set'}",
        f"packaged   {', '.join(zoo_names()) or 'no models'}",
    ]
    return "\n".join(lines + [f"{name:<10} {number}" for name, number in versions().items()])

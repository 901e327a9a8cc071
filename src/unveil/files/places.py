"""The user's folders of data, weights and results, and the search for files in them."""

from __future__ import annotations

import os
from pathlib import Path

SEARCHED = 2**16  # bytes that are searched for a mark at each end of a file


def home() -> Path:
    """The cache folder: `$UNVEIL_HOME`, by default `~/.cache/unveil`."""
    return Path(os.environ.get("UNVEIL_HOME") or Path.home() / ".cache" / "unveil")


def found(path: Path) -> Path:
    """Find a path as it is, below `$UNVEIL_DATA` or below the cache; unchanged if it exists nowhere."""
    candidates = [path, *(Path(root) / path for root in (os.environ.get("UNVEIL_DATA"), home()) if root)]
    return next((candidate for candidate in candidates if os.path.exists(candidate)), path)

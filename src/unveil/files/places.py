"""Where data, weights and results of unveil lie: the user's folders, and what is found in them."""

from __future__ import annotations

import os
from pathlib import Path

SEARCHED = 2**16  # bytes at each end of a file


def home() -> Path:
    """The cache folder: `$UNVEIL_HOME`, by default `~/.cache/unveil`."""
    return Path(os.environ.get("UNVEIL_HOME") or Path.home() / ".cache" / "unveil")


def found(path: Path) -> Path:
    """The path if it exists, else the same below `$UNVEIL_DATA` or the cache if it exists there, else the path."""
    places = [path, *(Path(root) / path for root in (os.environ.get("UNVEIL_DATA"), home()) if root)]
    return next((place for place in places if os.path.exists(place)), path)

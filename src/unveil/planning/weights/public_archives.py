"""Archives that jannerm/diffuser publishes: names, addresses, digests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

PUBLIC = Path(__file__).with_name("public.json")


class Archive(NamedTuple):
    """A public archive.

    Args:
        url: what is downloaded; page: the same for a browser.
        file: its name.
        size, sha256: in bytes, and what it must have; None where they are not known.
        source: who says so.
    """

    what: str
    url: str
    page: str
    file: str
    size: int | None
    sha256: str | None
    source: str


def public_archives() -> dict[str, Archive]:
    """All of `public.json`, by name."""
    return {name: Archive(**entry) for name, entry in json.loads(PUBLIC.read_text()).items()}

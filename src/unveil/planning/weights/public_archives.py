"""Archives that jannerm/diffuser publishes: names, URLs, digests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

PUBLIC = Path(__file__).with_name("public.json")


class Archive(NamedTuple):
    """A public archive.

    Args:
        url: the URL of the download; page: that for a browser.
        file: file name.
        size, sha256: bytes and digest of the file; None if they are not known.
        source: where the URL is published.
    """

    what: str
    url: str
    page: str
    file: str
    size: int | None
    sha256: str | None
    source: str


def public_archives() -> dict[str, Archive]:
    """The archives in `public.json`, by name."""
    return {name: Archive(**entry) for name, entry in json.loads(PUBLIC.read_text()).items()}

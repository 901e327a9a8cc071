"""The SHA-256 of a file."""

import hashlib
from pathlib import Path


def digest(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

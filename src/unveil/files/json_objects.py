"""JSON files of checkpoints that other programs wrote."""

import json
from pathlib import Path
from typing import Any, cast

from unveil.errors import UnveilError

LARGEST = 2**20


def read_object(file: Path, largest: int = LARGEST) -> dict[str, Any]:
    """Read the JSON object of a file.

    Args:
        largest: largest size of the file in bytes.
    Raises:
        UnveilError: the file cannot be read, is larger, or holds no JSON object.
    """
    try:
        if file.stat().st_size > largest:
            raise ValueError(f"more than {largest:,} bytes")
        value = json.loads(file.read_text(encoding="utf-8-sig"))
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except OSError as error:
        raise UnveilError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UnveilError(f"{file}: damaged ({str(error)[:80]})") from error
    return cast(dict[str, Any], value)

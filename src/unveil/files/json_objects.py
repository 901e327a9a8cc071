"""JSON files of checkpoints that other programs wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from unveil.files.reading import reading

LARGEST = 2**20
JsonObject = dict[str, Any]
"""A parsed JSON object; its values are Any, as the stub of `json.loads` has them, and readers check them."""


def read_object(
    file: Path, largest: int = LARGEST, hook: Callable[[list[tuple[str, object]]], object] | None = None
) -> JsonObject:
    """Read the JSON object of a file.

    Args:
        largest: largest size of the file in bytes.
        hook: makes an object of its pairs, such as `without_repeats`; None makes a dict.
    Raises:
        UnveilError: the file cannot be read, is larger, or holds no JSON object.
    """
    with reading(file):
        if file.stat().st_size > largest:
            raise ValueError(f"more than {largest:,} bytes")
        value = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=hook)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    return cast(JsonObject, value)


def without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, refused if a name occurs twice, since readers differ in which value they take.

    Raises:
        ValueError: a name occurs twice.
    """
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"a name occurs twice: {next(n for n in names if names.count(n) > 1)[:60]}")
    return dict(pairs)

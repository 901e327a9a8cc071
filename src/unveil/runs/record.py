"""The record of a result: what ran, on what, for how long; and its JSON file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from unveil.errors import UnveilError
from unveil.files.atomic import MADE, replacing
from unveil.runs.flags import flat


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def check_json(target: str | None) -> None:
    """Refuse a folder, and a file that unveil did not make, before the work is done."""
    if target is None or target == "-":
        return
    if Path(target).is_dir():
        raise UnveilError(f"--json {target} is a folder; give a file name, or - for standard output")
    from unveil.files.atomic import check_output

    check_output(Path(target))


def write_json(target: str | None, result: dict[str, Any]) -> None:
    """Write a result where --json says: a file, or standard output for "-"; None is nowhere."""
    if target is not None:
        from unveil.files.atomic import MADE

        result = result | {"origin": MADE}
        write(target, json.dumps(finite(result), indent=1, default=str, allow_nan=False) + "\n")


def write(target: str, text: str) -> None:
    """Write text to a file, whole or not at all, or to standard output for "-"."""
    if target == "-":
        sys.stdout.write(text)
        return
    from unveil.files.atomic import MADE, output

    with output(Path(target), "" if MADE in text else text.partition("\n")[0] + "\n") as partial:
        partial.write_text(text)


def record_of(
    recipe: str, config: Any, result: Mapping[str, Any], seconds: float | None = None
) -> dict[str, Any]:
    """What ran, on what, for how long, and what came out: the object that scripts rely on, of every verb and benchmark.

    Args:
        recipe: the recipe, or "VERB recipe".
        config: a config, or its fields by name.
        result: more fields, such as metrics.
    """
    from unveil.runs.machine import commit, machine

    given = dict(config) if isinstance(config, Mapping) else flat(config)
    described = {
        "recipe": recipe,
        "checkpoint": None,
        **result,
        "config": given,
        "seeds": [given.get("seed")],
    }
    return {**described, "commit": commit(), **machine(given.get("device", "cpu")), "seconds": seconds}


def write_record(run: Path, described: Mapping[str, Any], seconds: float) -> None:
    """`record.json` of a run folder: how its last training went."""
    target = run / "record.json"
    record = record_of(f"train {described['recipe']}", described, {"checkpoint": str(run)}, seconds)
    with replacing(target) as partial:
        partial.write_text(
            json.dumps(finite(record | {"origin": MADE}), indent=1, default=str, allow_nan=False) + "\n"
        )

"""Records of results: config, data, machine, duration and metrics; and their JSON files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from unveil.errors import UnveilError
from unveil.files.atomic import MADE, check_output, output, replacing
from unveil.runs.flags import flat


def finite(value: object) -> object:
    """Replace infinite numbers and NaN, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def check_json(target: str | None) -> None:
    """Refuse a folder, or a file that unveil did not make, before the work whose result it is to hold.

    Raises:
        UnveilError: `target` is such a folder or file.
    """
    if target is None or target == "-":
        return
    if Path(target).is_dir():
        raise UnveilError(f"`json={target}` is a folder; give a file name, or - for standard output")
    check_output(Path(target))


def write_json(target: str | None, result: Mapping[str, object]) -> None:
    """Write a result as JSON to a file, to standard output for "-", or nowhere for None."""
    if target is not None:
        write(target, _as_json(result))


def _as_json(record: Mapping[str, object]) -> str:
    return json.dumps(finite({**record, "origin": MADE}), indent=1, default=str, allow_nan=False) + "\n"


def write(target: str, text: str) -> None:
    """Write text to a file, atomically, or to standard output for "-"."""
    if target == "-":
        sys.stdout.write(text)
        return
    with output(Path(target), "" if MADE in text else text.partition("\n")[0] + "\n") as partial:
        partial.write_text(text)


def record_of(
    recipe: str, config: object, result: Mapping[str, object], seconds: float | None = None
) -> dict[str, object]:
    """The record of a result, of the same form for every verb and benchmark.

    Args:
        recipe: name of the recipe, or "VERB recipe".
        config: a config, or its fields by name.
        result: further fields, such as metrics.
        seconds: duration of the work.
    """
    from unveil.runs.machine import commit, machine

    settings = dict(config) if isinstance(config, Mapping) else flat(config)
    described = {
        "recipe": recipe,
        "checkpoint": settings.get("checkpoint"),
        **result,
        "config": settings,
        "seeds": [settings.get("seed")],
    }
    device = str(settings.get("device", "cpu"))
    return {**described, "commit": commit(), **machine(device), "seconds": seconds}


def write_record(run: Path, described: Mapping[str, object], seconds: float) -> None:
    """Write record.json of a run folder: the record of its last training."""
    target = run / "record.json"
    record = record_of(f"train {described['recipe']}", described, {"checkpoint": str(run)}, seconds)
    with replacing(target) as partial:
        partial.write_text(_as_json(record))

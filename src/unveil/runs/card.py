"""Common parts of the cards of packaged weights: flags of the training, its duration and its loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from unveil.files.json_objects import JsonObject
from unveil.runs.flags import flat, modern
from unveil.runs.training import as_json

PRIVATE = (
    "out",
    "data",
    "sft",
    "checkpoint",
    "resume",
    "new_data",
    "start_from",
    "device",
    "threads",
    "save_every",
    "keep",
    "sample_every",
    "compile",
    "log",
    "logbase",
)  # fields that concern the machine, not the model


def flag(name: str, value: object) -> str:
    """A flag as it is typed, with a leading space."""
    name = name.replace("_", "-")
    value = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return f" --{'' if value else 'no-'}{name}" if isinstance(value, bool) else f" --{name} {value}"


def flags_of(described: JsonObject, presets: Mapping[str, object]) -> dict[str, object]:
    """The fields of a run that differ from its preset."""
    preset, described = as_json(flat(presets[described["preset"]])), modern(described)
    aside = {*PRIVATE, "preset", "maze", "dataset", "seed", "bfloat16"}
    return {
        name: described.get(name)
        for name, value in preset.items()
        if name not in aside and described.get(name, value) != value
    }


def spent(checkpoint: Path) -> tuple[float, float]:
    """Minutes of training up to a checkpoint, and the loss at it."""
    step = int(checkpoint.name.split("-")[1])
    records = [json.loads(line) for line in (checkpoint.parent / "metrics.jsonl").read_text().splitlines()]
    records = [r for r in records if r["step"] <= step]
    before = [0, *(r["step"] for r in records)]
    seconds = sum((r["step"] - b) / r["steps_per_second"] for r, b in zip(records, before, strict=False))
    return seconds / 60.0, records[-1]["loss"] if records else float("nan")

"""What a run folder says about its training: steps, losses, samples, and the last words of its process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from unveil.files.json_objects import JsonObject

NOTES, LOG, METRICS = "studio.json", "train.log", "metrics.jsonl"  # of a run folder
POINTS = 400  # of a curve
SAMPLES = 12  # that are listed
TAIL = 2**14  # bytes of the log that are read
LARGEST = 2**25  # bytes of metrics.jsonl that are read


class Sample(NamedTuple):
    """A file of samples: a picture or a text."""

    step: int
    file: Path


def notes_of(run: Path) -> JsonObject:
    """What the server noted about a run: recipe, words, preset, steps, pid; {} if it did not start it."""
    try:
        notes = json.loads((run / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) and isinstance(notes.get("recipe"), str) else {}


def write_notes(run: Path, notes: JsonObject) -> None:
    """Write what `notes_of` reads."""
    from unveil.files.atomic import replacing

    with replacing(run / NOTES) as partial:
        partial.write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")


def saved_step(run: Path) -> int:
    """The step of the newest checkpoint; 0: none."""
    names = [path.parent.name.removeprefix("checkpoint-") for path in run.glob("checkpoint-*/manifest.json")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def records_of(run: Path) -> list[JsonObject]:
    """The records of metrics.jsonl: step, loss and steps per second; lines that are being written are left
    out."""
    try:
        with open(run / METRICS, "rb") as file:
            lines = file.read(LARGEST).splitlines()
    except OSError:
        return []
    found: list[JsonObject] = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            found.append({name: record.get(name) for name in ("step", "loss", "steps_per_second")})
    return found


def curve_of(records: list[JsonObject]) -> list[list[object]]:
    """Pairs of step and loss, at most about `POINTS`, the last one among them."""
    every = max(1, len(records) // POINTS)
    kept = records[::-1][::every][::-1]
    return [[record["step"], record["loss"]] for record in kept if isinstance(record["loss"], int | float)]


def remaining(records: list[JsonObject], step: int, steps: int) -> float | None:
    """Seconds to the last step at the present pace; None if it is not known."""
    pace = records[-1]["steps_per_second"] if records else None
    return (steps - step) / pace if isinstance(pace, int | float) and pace > 0 else None


def samples_of(run: Path) -> list[Sample]:
    """The newest samples, in the order of their steps."""
    found: list[Sample] = []
    for file in (run / "samples").glob("step-*"):
        number = file.stem.removeprefix("step-")
        if number.isdecimal() and file.suffix in (".png", ".txt") and file.is_file():
            found.append(Sample(int(number), file))
    return sorted(found)[-SAMPLES:]


def last_words(run: Path) -> str:
    """The last line of the process."""
    try:
        with open(run / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")

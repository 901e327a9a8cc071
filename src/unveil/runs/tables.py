"""Tables of results as text, from their JSON objects."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from unveil.files.json_objects import JsonObject

Metrics = Mapping[str, int | float | None]
LAST_BYTES = 100_000
COLUMNS = (
    ("score_mean", "score", ".1f"),
    ("return_mean", "return", ".1f"),
    ("latched_score_mean", "latched", ".1f"),
    ("success_rate", "success", ".2f"),
    ("arrival_step_mean", "arrival step", ".0f"),
    ("psnr_mean", "PSNR", ".2f"),
    ("feature_distance", "features", ".3f"),
    ("frechet_distance", "Frechet", ".4g"),
    ("kernel_distance", "kernel", ".4g"),
    ("precision", "precision", ".3f"),
    ("recall", "recall", ".3f"),
)


def _cell(metrics: Metrics, key: str, form: str) -> str:
    if (value := metrics.get(key)) is None:
        return "-"
    interval = metrics.get(key.replace("_mean", "_ci95")) if key in ("score_mean", "return_mean") else None
    if key == "score_mean" and abs(value) <= 1.0:  # a fraction, as for PushT
        form = ".3f"
    if key == "success_rate" and metrics.get("success_high") is not None:
        return f"{value:{form}} ({metrics['success_low']:{form}} .. {metrics['success_high']:{form}})"
    return f"{value:{form}}" + (f" ± {interval:{form}}" if interval is not None else "")


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table: the first column flush left, the others flush right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def score_rows(named: Mapping[str, Metrics]) -> str:
    """A table with one row per planner or reference, and every column that one of them has."""
    columns = [c for c in COLUMNS if any(metrics.get(c[0]) is not None for metrics in named.values())]
    rows = [
        [name, *(_cell(metrics, key, form) for key, _, form in columns)] for name, metrics in named.items()
    ]
    return text_table(["", *(title for _, title, _ in columns)], rows)


def metrics_table(protocol: str, metrics: Metrics, reference: Mapping[str, Metrics]) -> str:
    """The table of an evaluation: its scores beside those of references, then its other metrics."""
    named = {"unveil": metrics, **reference}
    shown = {c[0] for c in COLUMNS} | {"score_ci95", "return_ci95", "success_low", "success_high"}
    others = [
        f"{name:<26} {value:.4g}"
        for name, value in metrics.items()
        if name not in shown and value is not None
    ]
    return f"{protocol}\n\n{score_rows(named)}\n\n" + "\n".join(others)


def last_record(log: Path) -> JsonObject:
    """The last complete record of a metrics file, whose last line may be truncated."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LAST_BYTES))
        lines = file.read(LAST_BYTES).decode(errors="replace").splitlines()
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            return record
    return {}


def runs_table(folder: Path) -> str:
    """The table of the runs below a folder, each with its last record; "" without runs."""
    forms = (("step", "d"), ("loss", ".4g"), ("steps_per_second", ".3g"))
    rows: list[list[str]] = []
    for log in sorted(log for log in folder.glob("**/metrics.jsonl") if log.is_file()):
        last = last_record(log)
        rows.append(
            [
                str(log.parent),
                *(f"{last[key]:{form}}" if _fits(last.get(key), form) else "-" for key, form in forms),
            ]
        )
    return text_table(["run", "step", "loss", "steps/s"], rows) if rows else ""


def _fits(value: object, form: str) -> bool:
    return not isinstance(value, bool) and (
        isinstance(value, int) if form == "d" else isinstance(value, float)
    )

"""Runs and scores below a folder: `unveil results`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional


@dataclass(frozen=True)
class Results:
    """List the runs below a folder with their last record, and the scores of evaluations, ours and the original Diffuser's.

    Example: unveil results logs --latex table.tex
    """

    folder: Positional[Path] = Path("runs")
    """where to look: runs have a metrics.jsonl, scores lie at <dataset>/plans*/<experiment>/<trial>/*.json"""
    experiment: str = "*"
    """only experiments of this name; * and ? stand for anything"""
    json: str | None = None
    """write all numbers here; - is standard output"""
    csv: str | None = None
    """write a row an experiment here; - is standard output"""
    markdown: str | None = None
    """write a table for documents here; - is standard output"""
    latex: str | None = None
    """write the paper's locomotion table with our column here, for pdflatex or \\input; - is standard output"""
    seed: int = 0
    """of the bootstrap's resamples"""
    device: str = "auto"
    """unused here; every verb takes it"""


@dataclass(frozen=True)
class Found:
    """What is below a folder: for people, a line for each file that could not be read, (target, text) to write, and for scripts."""

    summary: str
    skipped: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    numbers: dict[str, Any]


def read_results(config: Results) -> Found:
    """Runs and scores below the folder.

    Raises:
        UnveilError: there is no such folder, two outputs for standard output, or a table that has two experiments for one place.
    """
    from unveil.errors import UnveilError
    from unveil.planning.evaluation import experiments as results
    from unveil.planning.evaluation.published_table import latex
    from unveil.runs.tables import runs_table

    piped = [f"--{name}" for name in ("json", "csv", "markdown", "latex") if getattr(config, name) == "-"]
    if len(piped) > 1:
        raise UnveilError(f"only one of {', '.join(piped)} can be -")
    if not config.folder.is_dir():
        what = (
            "is a file, but results are looked for in folders" if config.folder.exists() else "no such folder"
        )
        raise UnveilError(
            f"{config.folder}: {what}; give the --out or --logbase of trainings (start one with: unveil train maze --preset tiny)"
        )
    experiments, skipped = results.experiments_below(config.folder, config.experiment)
    rows = [results.described(experiment, config.seed) for experiment in experiments]
    numbers = {
        "protocol": "D4RL's normalised score, mean over episodes",
        "metrics": {"experiments_n": len(rows), "n": sum(row["n"] for row in rows)},
        "experiments": [
            row | {"scores": experiment.scores.tolist()}
            for row, experiment in zip(rows, experiments, strict=True)
        ],
    }
    files = [(config.csv, results.comma_separated(rows)), (config.markdown, results.markdown(rows))]
    if config.latex is not None:
        files.append((config.latex, latex(experiments)))
    summary = "\n\n".join(part for part in (runs_table(config.folder), results.lines(rows)) if part)
    nothing = f"no runs and no scores below {config.folder}; start one with: unveil train maze --preset tiny"
    return Found(
        summary or nothing,
        tuple(skipped),
        tuple((target, text) for target, text in files if target is not None),
        numbers,
    )

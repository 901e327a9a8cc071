"""`unveil results`: runs and scores below a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Results:
    """List runs with their last record, and scores of evaluations by unveil or Diffuser, below a folder.

    Example: unveil results logs --latex table.tex
    """

    folder: Positional[Path] = Path("runs")
    """folder to search for runs (metrics.jsonl) and scores (<dataset>/plans*/<experiment>/<trial>/*.json)"""
    experiment: str = "*"
    """name of the experiments to list; * and ? are wildcards, by default all"""
    json: str | None = None
    """file for all scores as JSON; - is standard output"""
    csv: str | None = None
    """file for one row per experiment as CSV; - is standard output"""
    markdown: str | None = None
    """file for a Markdown table; - is standard output"""
    latex: str | None = None
    """file for the locomotion table of the Diffuser paper with a column of these scores, for pdflatex or
    \\input; - is standard output"""
    seed: int = 0
    """seed of the bootstrap that gives the confidence intervals of mean scores"""


@dataclass(frozen=True)
class Listing:
    """Runs and scores below a folder.

    Args:
        summary: tables for people.
        skipped: one line for each file that could not be read.
        files: (target, text) to write.
        numbers: fields of the JSON record.
    """

    summary: str
    skipped: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    numbers: Mapping[str, object]


def read_results(config: Results) -> Listing:
    """Read the runs and scores below a folder.

    Raises:
        UnveilError: no such folder, two outputs to standard output, or two experiments for one cell of a
            table.
    """
    from unveil.errors import UnveilError
    from unveil.planning.evaluation import experiments as results
    from unveil.planning.evaluation.published_table import latex
    from unveil.runs.tables import runs_table

    piped = [f"`{name}`" for name in ("json", "csv", "markdown", "latex") if getattr(config, name) == "-"]
    if len(piped) > 1:
        raise UnveilError(f"only one of {', '.join(piped)} can be -")
    if not config.folder.is_dir():
        what = "is a file, but a folder is needed" if config.folder.exists() else "no such folder"
        raise UnveilError(
            f"{config.folder}: {what}; give the `out` or `logbase` of trainings (start one with: unveil "
            "train maze --preset tiny)"
        )
    experiments, skipped = results.experiments_below(config.folder, config.experiment)
    rows = [results.described(experiment, config.seed) for experiment in experiments]
    numbers = {
        "protocol": "D4RL's normalised score, mean over episodes",
        "metrics": {"experiments_n": len(rows), "n": sum(int(row["n"]) for row in rows)},
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
    return Listing(
        summary or nothing,
        tuple(skipped),
        tuple((target, text) for target, text in files if target is not None),
        numbers,
    )

"""Read the scores of evaluations, of unveil and of jannerm/diffuser:
`<logbase>/<dataset>/plans/<experiment>/<trial>/*.json`."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isnan
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from unveil.errors import UnveilError
from unveil.files.atomic import MADE
from unveil.planning.worlds.locomotion.body import body_of, normalized_score
from unveil.runs.record import finite
from unveil.runs.statistics import bootstrap_ci95, interquartile_mean, standard_error

LARGEST_FILE = 4_000_000
LARGEST_SCORE = 1e6
D4RL_NAME = re.compile(
    r"(hopper|walker2d|halfcheetah|ant)-[a-z-]+-v2|(maze2d|antmaze|kitchen)-[a-z-]+-v[012]"
)
COLUMNS = (
    *("program", "dataset", "experiment", "path", "d4rl", "n", "score_mean", "score_stderr", "score_low95"),
    *("score_high95", "score_iqm", "score_iqm_low95", "score_iqm_high95"),
)
Row = dict[str, str | int | float]  # the value of each column

Program = Literal["unveil", "Diffuser"]


@dataclass(frozen=True)
class Outcome:
    """One file: the program that wrote it, the protocol if the file names it, and D4RL's normalised score of
    each episode (100: expert)."""

    program: Program
    protocol: str
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Experiment:
    """All trials of one experiment on one data set."""

    program: Program
    dataset: str
    name: str
    path: str
    protocols: tuple[str, ...]
    scores: Float[np.ndarray, " N"]


def is_d4rl(dataset: str) -> bool:
    """Whether a name is one of D4RL's data sets. Scores on other data sets need a label beside published
    scores."""
    return D4RL_NAME.fullmatch(dataset) is not None


def experiments_below(folder: Path, name: str = "*") -> tuple[list[Experiment], list[str]]:
    """The experiments below a folder, and a line for each file that is none.

    Args:
        name: name of the experiments, with the wildcards `*` and `?`.
    """
    outcomes_of: dict[tuple[Program, str, str, str], list[Outcome]] = {}
    skipped: list[str] = []
    for file in sorted(folder.rglob("*.json")):
        place = _place(file)
        if place is None or not fnmatchcase(place[1], name):
            continue
        try:
            outcome = read_outcome(file)
        except UnveilError as error:
            skipped.append(printable(f"skipped {file}: {error}"))
            continue
        if outcome is not None:
            outcomes_of.setdefault((outcome.program, *place), []).append(outcome)
    ordered = sorted(outcomes_of.items(), key=lambda item: item[0][1:])
    return [_experiment(key, outcomes) for key, outcomes in ordered], skipped


def _experiment(key: tuple[Program, str, str, str], outcomes: Sequence[Outcome]) -> Experiment:
    protocols = tuple(dict.fromkeys(outcome.protocol for outcome in outcomes if outcome.protocol))
    return Experiment(*key, protocols, np.array([score for outcome in outcomes for score in outcome.scores]))


def _place(file: Path) -> tuple[str, str, str] | None:
    """Data set, experiment and folder of experiments of a path
    `<dataset>/plans*/<experiment>/<trial>/<file>`, or None for other paths."""
    parts = file.absolute().parts[:-1]
    marks = [i for i, part in enumerate(parts) if part == "plans"] or [
        i for i, part in enumerate(parts) if part.startswith("plans")
    ]
    if not marks:
        return None
    above, below = parts[: marks[-1]], parts[marks[-1] + 1 :]
    name = "/".join(below[:-1] or below) or file.stem
    folder = file.parents[len(below)] if len(file.parents) > len(below) else Path(*parts[: marks[-1] + 1])
    return printable(above[-1] if len(above) > 1 else "?"), printable(name), printable(str(folder))


def printable(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def read_outcome(file: Path) -> Outcome | None:
    """Read an evaluation of unveil, or a `rollout.json` of jannerm/diffuser; None for other JSON objects,
    such as `args.json`.

    Raises:
        UnveilError: unreadable, damaged, or impossible numbers.
    """
    try:
        if not file.is_file():
            raise UnveilError("not a file")
        if file.stat().st_size > LARGEST_FILE:
            raise UnveilError(f"larger than {LARGEST_FILE // 1_000_000} MB")
        read = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnveilError(error.strerror or "unreadable") from error
    except (ValueError, RecursionError) as error:
        raise UnveilError("not JSON") from error
    if not isinstance(read, dict):
        raise UnveilError("not a JSON object")
    if "recipe" in read and "metrics" in read:
        return _ours(read)
    if "score" in read:
        return Outcome("Diffuser", "", (100.0 * _number(read["score"], "score"),))
    if file.name == "rollout.json":
        raise UnveilError("neither a result of unveil nor a score")
    return None


def _ours(read: Mapping[str, object]) -> Outcome:
    returns, config, protocol = read.get("returns"), read.get("config"), read.get("protocol")
    if not isinstance(returns, list) or not returns:
        raise UnveilError("no list of returns")
    dataset = config.get("dataset") if isinstance(config, dict) else None
    if not isinstance(dataset, str) or len(dataset) > 1000:
        raise UnveilError("its config names no data set")
    values = np.array([_number(value, "a return") for value in returns])
    try:
        scores = normalized_score(body_of(dataset), values)
    except ValueError as error:
        raise UnveilError(str(error)) from error
    named = printable(protocol[:200]) if isinstance(protocol, str) else ""
    return Outcome("unveil", named, tuple(scores.tolist()))


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnveilError(f"{what} is not a number")
    # false for NaN; whole numbers may be too large for a float
    if not -LARGEST_SCORE < value < LARGEST_SCORE:
        raise UnveilError(f"{what} is not a possible number")
    return float(value)


def described(experiment: Experiment, seed: int = 0) -> Row:
    """Count, mean, standard error, interquartile mean, and 95 % bootstrap intervals of both means."""
    scores = experiment.scores
    low, high = bootstrap_ci95(scores, np.mean, seed)
    iqm_low, iqm_high = bootstrap_ci95(scores, interquartile_mean, seed)
    e, mean = experiment, (float(scores.mean()), standard_error(scores), low, high)
    iqm = (float(interquartile_mean(scores)), iqm_low, iqm_high)
    source = (e.program, e.dataset, e.name, e.path, is_d4rl(e.dataset), len(scores))
    return dict(zip(COLUMNS, (*source, *mean, *iqm), strict=True))


def _shown(value: float, form: str) -> str:
    return "-" if isnan(value) else f"{value:{form}}"


def _interval(row: Row, name: str) -> str:
    low, high = float(row[f"{name}_low95"]), float(row[f"{name}_high95"])
    return "" if isnan(low) else f" [{low:.1f}, {high:.1f}]"


def data_label(row: Row) -> str:
    """The data set, with a label if it is not D4RL's own."""
    return str(row["dataset"]) if row["d4rl"] else f"{row['dataset']} (not D4RL's own data)"


def lines(rows: Iterable[Row]) -> str:
    """The lines that read_results.py of jannerm/diffuser prints: `dataset | experiment | path | N scores`,
    `mean +/- error`, and more."""
    parts: list[str] = []
    for row in rows:
        parts.append(
            f"{row['dataset']:<30} | {row['experiment']:<50} | {row['path']:<50} | {row['n']} scores"
        )
        mean = f"    {row['score_mean']:.1f} +/- {_shown(float(row['score_stderr']), '.2f')}"
        interval = _interval(row, "score") or " without interval"
        more = f"IQM {row['score_iqm']:.1f}{_interval(row, 'score_iqm')}, mean{interval}"
        parts.append(f"{mean} | {more} | {row['program']}{'' if row['d4rl'] else ', D4RL-style'}")
    return "\n".join(parts)


def markdown(rows: Iterable[Row]) -> str:
    """A Markdown table."""
    table = [
        "| data set | experiment | program | n | mean +/- standard error | 95 % | interquartile mean | 95 % |"
    ]
    table.append("|---" * 8 + "|")
    for row in rows:
        mean = f"{row['score_mean']:.1f} +/- {_shown(float(row['score_stderr']), '.2f')}"
        intervals = [_interval(row, name).strip() or "-" for name in ("score", "score_iqm")]
        texts = [data_label(row), *(str(row[name]) for name in ("experiment", "program", "n"))]
        cells = [*texts, mean, intervals[0], f"{row['score_iqm']:.1f}", intervals[1]]
        escaped = (cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
        table.append(f"| {' | '.join(escaped)} |")
    return "\n".join([*table, "", f"<!-- {MADE} -->"]) + "\n"


def comma_separated(rows: Iterable[Row]) -> str:
    """A CSV table with a header; missing numbers are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: finite(value) for name, value in row.items()} for row in rows)
    return text.getvalue()

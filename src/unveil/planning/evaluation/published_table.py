"""The locomotion table of Janner et al. 2022 (arXiv:2205.09991) in LaTeX, with published columns and columns
of experiments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from unveil.errors import UnveilError
from unveil.planning.evaluation.experiments import Experiment, is_d4rl
from unveil.runs.statistics import standard_error

PUBLISHED = Path(__file__).with_name("published_locomotion.json")
BODIES = {"halfcheetah": "HalfCheetah", "hopper": "Hopper", "walker2d": "Walker2d"}
MIXES = {"medium-expert": "Medium-Expert", "medium": "Medium", "medium-replay": "Medium-Replay"}
ROWS = tuple((f"{body}-{mix}", MIXES[mix], BODIES[body]) for mix in MIXES for body in BODIES)

HEAD = r"""% made by unveil results --latex. It compiles as it is, without packages, and with \input.
\makeatletter
\ifx\documentclass\@notprerr\def\unveilend{\endinput}\else
\documentclass{article}\textwidth=19cm\oddsidemargin=-1.5cm\begin{document}\def\unveilend{\end{document}}\fi
\makeatother
\begin{table*}[ht]
\centering
\scriptsize
\setlength{\tabcolsep}{3pt}
"""
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    **{letter: "\\" + letter for letter in "&%$#_"},
}


@dataclass(frozen=True)
class Column:
    """Scores and standard errors by data set, without `-v2`. `d4rl`: whether the data are D4RL's own, so that
    scores are comparable."""

    title: str
    scores: Mapping[str, float]
    errors: Mapping[str, float]
    d4rl: bool = True


def published() -> list[Column]:
    """The columns of published numbers, from the file that names their sources."""
    columns = json.loads(PUBLISHED.read_text())["columns"]
    return [
        Column(
            column["name"],
            {name.removesuffix("-v2"): score for name, score in column["scores"].items()},
            {name.removesuffix("-v2"): error for name, error in column.get("errors", {}).items()},
        )
        for column in columns
    ]


def measured(experiments: Sequence[Experiment]) -> list[Column]:
    """One column for each program and kind of data of the experiments; an empty one if unveil has none.

    Raises:
        UnveilError: several experiments for one cell of the table.
    """
    columns = []
    for program, title in (("Diffuser", "Diffuser, these runs"), ("unveil", "unveil")):
        for d4rl in (True, False):
            mine = [
                e
                for e in experiments
                if e.program == program and is_d4rl(e.dataset) == d4rl and _row(e) is not None
            ]
            chosen: dict[str, Experiment] = {}
            for e in mine:
                other = chosen.setdefault(str(_row(e)), e)
                if other is not e:
                    raise UnveilError(
                        f"the table has one cell for {e.dataset}, but there are {other.path}/{other.name} "
                        f"and {e.path}/{e.name}; "
                        "choose one by `experiment`"
                    )
            if chosen or (
                program == "unveil"
                and d4rl
                and not any(e.program == "unveil" and _row(e) is not None for e in experiments)
            ):
                scores = {row: float(e.scores.mean()) for row, e in chosen.items()}
                errors = {row: standard_error(e.scores) for row, e in chosen.items() if len(e.scores) > 1}
                columns.append(Column(title if d4rl else f"{title}, D4RL-style", scores, errors, d4rl))
    return columns


def _row(experiment: Experiment) -> str | None:
    name = experiment.dataset.removesuffix("-v2")
    return name if name in {row[0] for row in ROWS} else None


def escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped; characters beyond ASCII become question marks."""
    return "".join(SPECIAL.get(letter, letter if " " <= letter <= "~" else "?") for letter in text)


def latex(experiments: Sequence[Experiment]) -> str:
    """The LaTeX table: nine rows with the best score of each in bold, and averages of complete columns.

    Raises:
        UnveilError: several experiments for one cell of the table.
    """
    columns = [*published(), *measured(experiments)]
    titles = " & ".join(rf"\multicolumn{{1}}{{r}}{{{_title(column)}}}" for column in columns)
    table = [
        rf"\begin{{tabular}}{{ll*{{{len(columns)}}}{{r}}}}",
        r"\hline",
        rf"\textbf{{Dataset}} & \textbf{{Environment}} & {titles} \\",
    ]
    for i, (name, mix, body) in enumerate(ROWS):
        if i % len(BODIES) == 0:
            table.append(r"\hline")
        scores = [column.scores.get(name) for column in columns]
        cells = [
            _cell(column, score, column.errors.get(name), scores, columns)
            for column, score in zip(columns, scores, strict=True)
        ]
        table.append(rf"{mix} & {body} & {' & '.join(cells)} \\")
    averages = [
        fmean(column.scores.values()) if len(column.scores) == len(ROWS) else None for column in columns
    ]
    cells = [
        _cell(column, average, None, averages, columns)
        for column, average in zip(columns, averages, strict=True)
    ]
    table += [
        r"\hline",
        rf"\multicolumn{{2}}{{c}}{{\textbf{{Average}}}} & {' & '.join(cells)} \\",
        r"\hline",
        r"\end{tabular}",
    ]
    caption = rf"\caption{{{_caption(columns, experiments)}}}"
    return (
        HEAD
        + "\n".join([*table, caption, r"\label{table:locomotion}", r"\end{table*}", r"\unveilend"])
        + "\n"
    )


def _title(column: Column) -> str:
    lines = [rf"\textbf{{{part}}}" for part in escaped(column.title).split(", ")]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r" \\ ".join(lines) + "}"


def _cell(
    column: Column,
    score: float | None,
    error: float | None,
    row: Sequence[float | None],
    columns: Sequence[Column],
) -> str:
    if score is None:
        return "--"
    best = max(
        (round(s, 1) for s, c in zip(row, columns, strict=True) if s is not None and c.d4rl), default=None
    )
    shown = rf"\textbf{{{score:.1f}}}" if column.d4rl and round(score, 1) == best else f"{score:.1f}"
    return shown if error is None else rf"{shown} {{\tiny $\pm${error:.1f}}}"


def _caption(columns: Sequence[Column], experiments: Sequence[Experiment]) -> str:
    source = json.loads(PUBLISHED.read_text())["columns"][0]["source"]
    place = escaped(f"{source['repository']}, {source['file']}, commit {source['commit'][:7]}")
    text = [
        r"D4RL's normalised scores; $\pm$ is the standard error of the mean; the best of each row is bold. "
        f"Published columns: {place}."
    ]
    if mine := [e for e in experiments if _row(e) is not None]:
        counts = sorted({len(e.scores) for e in mine})
        protocols = list(dict.fromkeys(protocol for e in mine for protocol in e.protocols))
        episodes = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        text.append(
            f"Columns of runs: {episodes} episodes a row"
            + escaped(f" ({'; '.join(protocols[:3])})." if protocols else ".")
        )
    if not all(column.d4rl for column in columns):
        text.append(
            "D4RL-style data are not D4RL's own: those scores do not compare with the other columns, and "
            "none is bold."
        )
    return " ".join(text)

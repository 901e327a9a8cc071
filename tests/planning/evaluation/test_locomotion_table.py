"""The paper's table: published numbers with sources, bold, averages, and LaTeX that compiles."""

import json
import re
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest

from unveil.errors import UnveilError
from unveil.planning.evaluation.experiments import Experiment, Program
from unveil.planning.evaluation.published_table import PUBLISHED, ROWS, escaped, latex, measured, published


def experiment(
    dataset: str, *scores: float, program: Program = "unveil", name: str = "a", protocol: str = ""
) -> Experiment:
    return Experiment(
        program, dataset, name, f"logs/{dataset}/plans", (protocol,) if protocol else (), np.array(scores)
    )


def cells(text: str, start: str) -> list[str]:
    """The cells of the row that starts so."""
    (row,) = [line for line in text.splitlines() if line.startswith(start)]
    return row.removesuffix(r" \\").split(" & ")


def test_published_numbers_have_sources_and_all_rows():
    columns = json.loads(PUBLISHED.read_text())["columns"]
    assert [column["name"] for column in columns] == [
        "BC",
        "CQL",
        "IQL",
        "DT",
        "TT",
        "MOPO",
        "MOReL",
        "MBOP",
        "Diffuser",
    ]
    for column in columns:
        assert set(column["scores"]) == {f"{row[0]}-v2" for row in ROWS}
        assert re.fullmatch(r"[0-9a-f]{40}", column["source"]["commit"])
        assert column["source"]["repository"].startswith("https://")
        assert column["source"]["file"]
    assert len(ROWS) == 9


def test_averages_and_bold():
    text = latex([])
    averages = cells(text, r"\multicolumn{2}{c}{\textbf{Average}}")[1:]
    assert averages == [
        "51.9",
        "77.6",
        "77.0",
        "74.7",
        r"\textbf{78.9}",
        "42.1",
        "72.9",
        "47.8",
        "77.5",
        "--",
    ]  # 77.5: the paper's
    assert cells(text, "Medium & Walker2d")[10] == r"\textbf{79.6} {\tiny $\pm$0.6}"
    rows = [line for line in text.splitlines() if line.startswith("Medium")]
    assert len(rows) == 9
    assert all(row.count(r"\textbf{") == 1 for row in rows)


def test_our_column_on_d4rls_data_competes():
    text = latex([experiment(f"{name}-v2", 120.0, 122.0) for name, _, _ in ROWS])
    assert cells(text, "Medium & Hopper")[-1] == r"\textbf{121.0} {\tiny $\pm$0.7}"
    assert cells(text, r"\multicolumn{2}{c}{\textbf{Average}}")[-1] == r"\textbf{121.0}"
    assert "D4RL-style" not in text
    assert text.count(r"\textbf{105.9}") == 0


def test_d4rl_style_scores_say_so_and_are_never_bold():
    text = latex([experiment("hopper-medium", 150.0, 151.0), experiment("hopper-medium-v2", 99.0)])
    head = cells(text, r"\textbf{Dataset}")
    assert head[-2:] == [
        r"\multicolumn{1}{r}{\textbf{unveil}}",
        r"\multicolumn{1}{r}{\shortstack[r]{\textbf{unveil} \\ \textbf{D4RL-style}}}",
    ]
    assert cells(text, "Medium & Hopper")[-2:] == [r"\textbf{99.0}", r"150.5 {\tiny $\pm$0.4}"]
    assert "do not compare" in text
    assert [column.title for column in measured([experiment("hopper-medium", 1.0)])] == ["unveil, D4RL-style"]


def test_runs_of_the_original_are_a_column_of_their_own():
    columns = measured([experiment("hopper-medium-v2", 70.0, program="Diffuser")])
    assert [column.title for column in columns] == ["Diffuser, these runs", "unveil"]
    assert columns[0].scores == {"hopper-medium": 70.0}
    assert not columns[0].errors


def test_two_experiments_for_one_place_are_refused():
    with pytest.raises(UnveilError, match=r"choose one by `experiment`"):
        latex([experiment("hopper-medium", 1.0), experiment("hopper-medium", 2.0, name="b")])
    assert latex([experiment("maze2d-umaze-v1", 1.0), experiment("maze2d-umaze-v1", 2.0, name="b")]) == latex(
        []
    )


def test_special_characters():
    assert escaped("a_b & 50% #1 {x} ~^\\ é\n<$>") == (
        r"a\_b \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} ??$<$\$$>$"
    )


HOSTILE = [
    experiment("hopper-medium", 80.0, 81.0, protocol=r"\input{x} & 50% _#{}~^$ é"),
    experiment("hopper-medium-v2", 80.0, program="Diffuser"),
    experiment("walker2d-medium-v2", 80.0),
]


@pytest.mark.parametrize("experiments", [[], HOSTILE])
def test_structure(experiments):
    text = latex(experiments)
    body = text[text.index(r"\begin{table*}") : text.index(r"\unveilend" + "\n")]
    assert Counter(re.findall(r"\\begin\{([^}]*)\}", body)) == Counter(re.findall(r"\\end\{([^}]*)\}", body))
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    count = 2 + len(published()) + len(measured(experiments))
    assert rf"\begin{{tabular}}{{ll*{{{count - 2}}}{{r}}}}" in text
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "&" in line]
    assert [len(row.split(" & ")) for row in rows] == [count] * 10 + [count - 1]
    assert text.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (Debian: texlive-latex-base)")
@pytest.mark.parametrize("experiments", [[], HOSTILE])
def test_it_compiles_alone_and_within_a_document(tmp_path, experiments):
    (tmp_path / "table.tex").write_text(latex(experiments))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\begin{document}\nBefore.\n\\input{table}\nAfter.\n\\end{document}\n"
    )
    for name in ("table", "paper"):
        command = [
            "pdflatex",
            "-interaction=nonstopmode",
            "-halt-on-error",
            "-no-shell-escape",
            f"{name}.tex",
        ]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 10_000
        if name == "table":
            assert "Overfull" not in done.stdout

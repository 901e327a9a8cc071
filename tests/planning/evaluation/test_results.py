"""Scores read from folders, ours and the original Diffuser's: by hand, from hostile files, and through the
command line."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from unveil.cli import main
from unveil.errors import UnveilError
from unveil.planning.evaluation.experiments import (
    LARGEST_FILE,
    described,
    experiments_below,
    is_d4rl,
    printable,
    read_outcome,
)
from unveil.runs.statistics import bootstrap_ci95, interquartile_mean, standard_error
from unveil.runs.tables import last_record

SCORES = (0.5, 0.7, 0.9)


def original(
    folder: Path, dataset: str = "hopper-medium-v2", scores=SCORES, experiment: str = "release_H32_T20_d0.997"
) -> None:
    """Rollouts as the original's scripts/plan_guided.py leaves them, with its args.json beside."""
    for i, score in enumerate(scores):
        trial = folder / dataset / "plans" / experiment / str(i)
        trial.mkdir(parents=True)
        found = {
            "score": score,
            "step": 999,
            "return": 2500.0,
            "term": False,
            "epoch_diffusion": 900000,
            "epoch_value": 190000,
        }
        (trial / "rollout.json").write_text(json.dumps(found, indent=2, sort_keys=True))
        (trial / "args.json").write_text(json.dumps({"horizon": 32, "scale": 0.1}))


def ours(
    folder: Path,
    dataset: str,
    returns: list,
    experiment: str = "defaults_H32_T20",
    name: str = "rollout.json",
) -> Path:
    """A result as `unveil eval locomotion --json` writes it."""
    trial = folder / dataset / "plans" / experiment / "0"
    trial.mkdir(parents=True, exist_ok=True)
    result = {
        "recipe": "locomotion",
        "metrics": {},
        "returns": returns,
        "protocol": "Hopper-v5",
        "config": {"dataset": dataset},
    }
    (trial / name).write_text(json.dumps(result))
    return trial / name


def test_statistics_by_hand():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 100.0])
    assert interquartile_mean(values) == pytest.approx(4.5)  # of 3, 4, 5, 6
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0 / math.sqrt(2.0))
    assert math.isnan(standard_error(np.array([1.0])))
    normal = np.random.default_rng(0).normal(10.0, 2.0, 400)
    low, high = bootstrap_ci95(normal, np.mean)
    assert (low + high) / 2 == pytest.approx(normal.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * standard_error(normal), rel=0.1)
    assert bootstrap_ci95(normal, np.mean) == (low, high)
    assert bootstrap_ci95(normal, np.mean, seed=1) != (low, high)
    assert bootstrap_ci95(np.full(5, 3.0), interquartile_mean) == (3.0, 3.0)
    assert all(math.isnan(end) for end in bootstrap_ci95(np.array([1.0]), np.mean))


def test_the_originals_rollouts_become_its_numbers(tmp_path):
    original(tmp_path / "logs")
    (experiment,), skipped = experiments_below(tmp_path / "logs")
    assert (experiment.program, experiment.dataset, experiment.name) == (
        "Diffuser",
        "hopper-medium-v2",
        "release_H32_T20_d0.997",
    )
    assert experiment.path == str(tmp_path / "logs" / "hopper-medium-v2" / "plans")
    assert not skipped
    row = described(experiment)
    assert row["score_mean"] == pytest.approx(70.0)
    assert row["score_stderr"] == pytest.approx(100 * np.std(SCORES) / math.sqrt(3))
    assert row["d4rl"]


def test_our_returns_become_d4rls_scores(tmp_path):
    ours(tmp_path, "hopper-medium", [3234.3, -20.272305])
    ours(tmp_path, "hopper-medium", [3234.3], name="seed1.json")
    (experiment,), _ = experiments_below(tmp_path)
    assert sorted(experiment.scores) == pytest.approx([0.0, 100.0, 100.0])
    assert experiment.protocols == ("Hopper-v5",)
    assert not described(experiment)["d4rl"]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("hopper-medium-replay-v2", True),
        ("maze2d-umaze-v1", True),
        ("hopper-medium", False),
        ("medium-v0", False),
        ("mine-v2", False),
        ("hopper-medium-v2-mine", False),
    ],
)
def test_only_d4rls_own_names_stand_beside_published_scores(name, theirs):
    assert is_d4rl(name) is theirs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "not JSON"),
        ('{"score": 0.5', "not JSON"),
        ("\xff\xfe", "not JSON"),
        ('{"score": ' + "9" * 5000 + "}", "not JSON"),  # more digits than Python converts
        ('{"score": ' + "9" * 400 + "}", "not a possible number"),
        ("[1, 2]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"score": NaN}', "not a possible number"),
        ('{"score": -Infinity}', "not a possible number"),
        ('{"score": true}', "not a number"),
        ('{"score": {"a": 1}}', "not a number"),
        ('{"score": "0.5"}', "not a number"),
        ("{}", "neither a result of unveil nor a score"),
        ('{"recipe": "maze", "metrics": {}}', "no list of returns"),
        ('{"recipe": 1, "metrics": 2, "returns": [], "config": {"dataset": "hopper"}}', "no list of returns"),
        (
            '{"recipe": 1, "metrics": 2, "returns": [1], "config": {"dataset": ["hopper"]}}',
            "names no data set",
        ),
        ('{"recipe": 1, "metrics": 2, "returns": [1], "config": null}', "names no data set"),
        (
            '{"recipe": 1, "metrics": 2, "returns": [1, [2]], "config": {"dataset": "hopper"}}',
            "a return is not a number",
        ),
        ('{"recipe": 1, "metrics": 2, "returns": [1], "config": {"dataset": "frog"}}', "no body is named"),
        (" " * (LARGEST_FILE + 1), "larger than"),
    ],
)
def test_hostile_files_are_one_line_each(tmp_path, text, message):
    trial = tmp_path / "hopper-medium-v2" / "plans" / "x" / "0"
    trial.mkdir(parents=True)
    (trial / "rollout.json").write_bytes(text.encode("latin-1"))
    found, (line,) = experiments_below(tmp_path)
    assert not found
    assert message in line
    assert "\n" not in line


def test_what_is_no_file_is_one_line(tmp_path):
    folder = tmp_path / "plans" / "x" / "rollout.json"
    folder.mkdir(parents=True)
    with pytest.raises(UnveilError, match="not a file"):
        read_outcome(folder)
    assert printable("a\x1b[31m\nb\udcff") == "a?[31m?b?"


def test_folders_are_read_as_the_original_names_them(tmp_path, monkeypatch):
    original(tmp_path / "plans-of-mine" / "logs", scores=(0.5,))
    original(tmp_path / "plans-of-mine" / "logs", "walker2d-medium-v2", scores=(0.25,), experiment="a/b")
    monkeypatch.chdir(tmp_path / "plans-of-mine")
    found, _ = experiments_below(Path("logs"))
    assert [(e.dataset, e.name, e.path) for e in found] == [
        ("hopper-medium-v2", "release_H32_T20_d0.997", "logs/hopper-medium-v2/plans"),
        ("walker2d-medium-v2", "a/b", "logs/walker2d-medium-v2/plans"),
    ]
    assert [e.name for e in experiments_below(Path("logs"), "release*")[0]] == ["release_H32_T20_d0.997"]
    monkeypatch.chdir("logs/hopper-medium-v2/plans")
    assert experiments_below(Path("."))[0][0].dataset == "hopper-medium-v2"


def test_the_command_prints_writes_and_warns(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    original(Path("logs"))
    ours(Path("logs"), "hopper-medium", [2000.0, 2100.0])
    ours(Path("logs"), "walker2d-medium", [float("nan")])
    Path("logs/run").mkdir()
    Path("logs/run/metrics.jsonl").write_text(
        '{"step": 7, "loss": 0.5, "steps_per_second": 3.0}\n[1]\n{"step"'
    )
    assert main(["results", "logs", "--csv", "r.csv", "--latex", "r.tex", "--json", "r.json"]) == 0
    out, err = capsys.readouterr()
    assert "    70.0 +/- 9.43 | IQM 70.0 [" in out
    assert (
        f"{'hopper-medium-v2':<30} | {'release_H32_T20_d0.997':<50} | {'logs/hopper-medium-v2/plans':<50} | 3 scores"
        in out
    )
    assert "unveil, D4RL-style" in out
    assert "logs/run" in out
    assert err == (
        "unveil: skipped logs/walker2d-medium/plans/defaults_H32_T20/0/rollout.json: a return is not a possible number\n"
    )
    rows = list(csv.DictReader(io.StringIO(Path("r.csv").read_text())))
    assert [row["n"] for row in rows] == ["2", "3"]
    found = json.loads(Path("r.json").read_text())
    assert found["recipe"] == "results"
    assert found["metrics"] == {"experiments_n": 2, "n": 5}
    assert found["experiments"][1]["scores"] == pytest.approx([50.0, 70.0, 90.0])
    assert r"\end{document}" in Path("r.tex").read_text()
    assert main(["results", "logs", "--markdown", "-"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("| data set |")
    assert "| hopper-medium (not D4RL's own data) |" in out
    assert "+/-" in err
    for arguments, message in (
        (["--csv", "-", "--json", "-"], "only one of --json, --csv can be -"),
        (["--csv", "logs"], "a folder is in the way"),
        (["--cvs", "-"], "did you mean --csv?"),
    ):
        assert main(["results", "logs", *arguments]) == 2
        assert message in capsys.readouterr().err
    for place, what in (
        ("nowhere", "nowhere: no such folder"),
        ("r.csv", "r.csv: is a file, but a folder is needed"),
    ):
        Path("r.csv").touch()
        assert main(["results", place, "--csv", "-"]) == 2
        said = capsys.readouterr()
        assert what in said.err and said.out == ""
    Path("empty").mkdir()
    assert main(["results", "empty"]) == 0
    assert "no runs and no scores below empty" in capsys.readouterr().out


def test_one_score_has_no_error(tmp_path, capsys):
    original(tmp_path, scores=(0.5,))
    assert main(["results", str(tmp_path), "--csv", "-"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].endswith(",1,50.0,,,,50.0,,")
    assert "50.0 +/- - | IQM 50.0, mean without interval" in err


def test_the_last_whole_record_of_a_hostile_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"step": 1}\n' + b"[" * 200_000)
    assert last_record(log) == {}
    log.write_bytes(b"\xff\n" + b'{"step": 2}\n[3]\n"x"\n{"st')
    assert last_record(log) == {"step": 2}

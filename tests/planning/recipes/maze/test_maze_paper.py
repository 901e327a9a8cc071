"""The preset `paper` through the program: it trains, resumes and is scored; what does not apply to it is
refused in one line."""

import json

import pytest

import unveil
from unveil.cli import main
from unveil.planning.diffuser import Diffuser

TRAIN = [
    "train",
    "maze",
    "--maze",
    "umaze",
    "--preset",
    "paper",
    "--batch-size",
    "2",
    "--width",
    "8",
    "--threads",
    "1",
    "--no-samples",
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    folder = tmp_path / "run"
    assert main([*TRAIN, "--data-steps", "4000", "--steps", "2", "--out", str(folder)]) == 0
    return folder


def fails(capsys, *arguments: str) -> str:
    assert main(list(arguments)) != 0
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_it_is_scored_beside_the_references_and_goes_on(run, tmp_path, capsys):
    config = json.loads((run / "config.json").read_text())
    assert (config["longest"], config["diffusion_steps"]) == (128, 64)
    assert main([*TRAIN, "--data-steps", "4000", "--steps", "3", "--resume", "--out", str(run)]) == 0
    result = tmp_path / "result.json"
    evaluate = [
        "eval",
        "maze",
        "--maze",
        "umaze",
        "--checkpoint",
        str(run),
        "--episodes",
        "2",
        "--plan-pairs",
        "1",
    ]
    assert main([*evaluate, "--json", str(result)]) == 0
    found = json.loads(result.read_text())
    assert found["metrics"]["n"] == 2 and {"controller", "oracle"} <= found["reference"].keys()
    capsys.readouterr()
    assert "means nothing for Diffuser as published" in fails(capsys, *evaluate, "--candidates", "7")


def test_what_does_not_apply_is_refused(run, tmp_path, capsys):
    assert "multiple of 8" in fails(capsys, *TRAIN[:-5], "--width", "12", "--out", str(tmp_path / "x"))
    for flag in (["--no-cut"], ["--stride", "3"], ["--depth", "2"]):
        assert "takes no" in fails(capsys, *TRAIN, *flag, "--out", str(tmp_path / "other"))
    assert "only `unveil eval maze` drives" in fails(
        capsys, "sample", "maze", "--goal", "3,1", "--checkpoint", str(run), "--out", str(tmp_path / "p.png")
    )
    assert "only models with our own settings can be packaged" in fails(
        capsys, "weights", "pack", "--run", str(run), "--name", "x", "--into", str(tmp_path)
    )
    assert isinstance(unveil.load(run), Diffuser)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "diffusion_steps"}))
    assert "not a config of unveil" in fails(
        capsys, "eval", "maze", "--maze", "umaze", "--checkpoint", str(run)
    )

"""The tables of locomotion and speed, from made results: rows state their cost, or "not run"."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RATE = {
    "decisions_per_second": 0.5234,
    "threads": 1,
    "minutes": 14.6,
    "mujoco": "3.3.0",
    "candidates": 64,
    "sampling_steps": 20,
}
ROW = RATE | {"score_mean": 88.123, "score_ci95": 4.26, "n": 10}


@pytest.fixture
def build(tmp_path):
    made = runpy.run_path(str(ROOT / "docs" / "build.py"))
    names = made["locomotion"].__globals__
    names |= {"RESULTS": tmp_path, "ROOT": tmp_path}
    (tmp_path / "docs").mkdir()
    return made


def cells(table: str, name: str) -> dict[str, str]:
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    (row,) = [line for line in lines if line[0] == name]
    return dict(zip(lines[0], row, strict=True))


def test_a_cell_says_its_score_and_its_cost(build, tmp_path):
    ours = ROW | {"candidates": 1, "sampling_steps": 1, "n": 30}
    rows = {
        "behaviour": {"score_mean": 79.0, "score_ci95": 2.0, "n": 200},
        "best": {"score_mean": 99.0, "score_ci95": 0.0, "n": 1},
    }
    rows |= {"diffuser": ROW, "diffuser-64": RATE, "unveil-ask": ours, "warm-3": ROW}
    (tmp_path / "locomotion-hopper-medium.json").write_text(json.dumps({"metrics": rows}))
    scores, costs = build["locomotion"]().split("<details")
    found = cells(scores, "hopper-medium")
    assert found["Diffuser, 6,000 steps"] == "88.1 ± 4.3 (n 10)"
    assert found["**unveil**, conditioned on the best return"] == "88.1 ± 4.3"
    assert found["behaviour in the data"] == "79.0 ± 2.0 (n 200)"
    assert found["its best episode"] == "99.0"
    assert found["behaviour cloning"] == "not run"
    spent = cells(costs, "hopper-medium")
    assert spent["Diffuser, 64 candidates"] == "K 64, 20 steps, 0.52/s, 15 min"
    assert spent["**unveil**, conditioned on the best return"] == "K 1, 1 step, 0.52/s, 15 min"
    assert spent["behaviour cloning"] == "not run"


def test_sets_without_results_say_so_in_every_cell(build):
    for name in ("walker2d-medium-expert", "halfcheetah-medium-replay"):
        for table in build["locomotion"]().split("<details"):
            assert set(list(cells(table, name).values())[1:]) == {"not run"}


def test_the_speed_table_has_a_line_a_row(build, tmp_path):
    assert "not run" in build["speed"]() and "not run" in build["warm_start"]()
    timed = {
        "decision_ms": 1900.0,
        "decisions_per_second": 0.526,
        "steps_per_second": 10.5,
        "times_eager": 2.04,
        "of_peak": 0.631,
    }
    rows = {"eager": timed, "float32": timed | {"error": 3.2e-5}, "parts": timed}
    rows |= {
        "openvino": {
            f"unet_forward_ms_{kind}": 2.0 for kind in ("eager", "ours_f32", "f32", "ours_bf16", "bf16")
        }
    }
    slower = {"batch": 64, "threads": 1, "compiled": True, "rows": {"bfloat16, compiled": timed}}
    result = {"cells": [slower, {"batch": 1, "threads": 2, "compiled": False, "rows": rows}]}
    result["returns"] = {"dataset": "d", "candidates": 8, "n": 30, "off": {"mean": 3000.0, "ci95": 50.0}}
    result["returns"] |= {name: {"paired_difference": -1.25, "ci95": 9.0} for name in ("float32", "bfloat16")}
    (tmp_path / "diffuser-speed.json").write_text(json.dumps(result))
    (tmp_path / "docs" / "warm-start.png").write_bytes(b"")
    lines = build["speed"]().splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")][1:] == [
        *["| 1, 2"] * 2,
        "| 64, 1, compiled",
        "| batch, threads",
        "| 1, 2",
    ]
    assert "| 1, 2 | float32 | 1,900 | 0.526 | 10.5 | 2.04 | 3.2e-05 | 63 % |" in lines
    assert "| 1, 2 | 2 | 2 | 2 | 2 | 2 |" in lines
    assert "n 30) the layout changes the return of 3000 ± 50 by float32 -1.2 ± 9.0" in " ".join(lines)
    assert "(../warm-start.png)" in build["warm_start"]()


def test_the_packaged_cards_hold_the_table_s_numbers():
    """A card is made again with each row of its set: `unveil weights pack --results`."""
    for data in ("hopper-medium", "hopper-medium-replay", "hopper-medium-expert"):
        card = (ROOT / "src" / "unveil" / "zoo" / data / "card.md").read_text()
        rows = json.loads((ROOT / "benchmarks" / "results" / f"locomotion-{data}.json").read_text())[
            "metrics"
        ]
        for name in ("unveil", "unveil-ask", "diffuser"):
            row = rows[name]
            assert f"| {name} | {row['score_mean']:.1f} ± {row['score_ci95']:.1f} | {row['n']} |" in card, (
                data
            )
        assert "| warm-" not in card and "| cold-" not in card, "points of a curve are no rows"

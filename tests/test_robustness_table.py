"""The table of malformed files, from made results: sums, faults by name, and what was committed."""

import json
from pathlib import Path

import robustness_table

ROOT = Path(__file__).resolve().parent.parent
ROW = {
    "sources": 2,
    "inputs": 2000,
    "values": 400,
    "refusals": 1599,
    "faults": [],
    "largest_mb": 12.4,
    "longest_seconds": 0.25,
}


def test_rows_sums_and_faults():
    assert robustness_table.section({}) == "Not run."
    faulty = ROW | {"faults": [{"index": 17, "what": "KeyError at a.py:3: 'x'"}], "largest_mb": 900.0}
    made = {"seed": 3, "minutes": 6.2, "versions": {"h5py": "1"}, "readers": {"png": ROW, "zarr 2": faulty}}
    lines = robustness_table.section(made).splitlines()
    assert "| png | 2 | 2,000 | 400 | 1,599 | 0 | 12 | 0.25 |" in lines
    assert "| **all** | 4 | 4,000 | 800 | 3,198 | 1 | 900 | 0.25 |" in lines
    assert lines[-2:] == ["Faults:", "- zarr 2, input 17: KeyError at a.py:3: 'x'"] and lines[0].startswith(
        "Seed 3, 6 minutes"
    )
    made["readers"].pop("zarr 2")
    assert robustness_table.section(made).endswith("No input ended in a fault.")


def test_the_committed_run_is_whole_and_on_the_page():
    result = json.loads((ROOT / "benchmarks" / "results" / "robustness.json").read_text())
    assert all(row["inputs"] >= 2000 for row in result["readers"].values()) and len(result["readers"]) >= 30
    for row in result["readers"].values():
        assert row["values"] + row["refusals"] + len(row["faults"]) == row["inputs"]
        assert row["faults"] or (row["largest_mb"] <= 1000 and row["longest_seconds"] <= 10)
    assert robustness_table.section(result) in (ROOT / "docs" / "robustness.md").read_text()

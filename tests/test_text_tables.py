"""The tables of the text page, from made results: all rows of the benchmark, "not run", signs."""

import runpy
from pathlib import Path

import text_tables

ROOT = Path(__file__).resolve().parent.parent


def lines_of(section: str, first: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith(f"| {first}")]


def test_every_row_of_the_benchmark_is_in_a_table_and_no_other():
    names = set()

    class Asked(dict):
        def get(self, name, default=None):
            names.add(name)
            return default

    text_tables.section(Asked())
    assert names == set(runpy.run_path(str(ROOT / "benchmarks" / "text.py"))["rows"](256, 5))


def test_without_results_no_cell_has_a_number():
    for line in text_tables.section({}).splitlines():
        if line.startswith("| ") and not line.startswith(
            ("| model", "| masks", "| block |", "| mode", "| order")
        ):
            cells = line.strip("| ").split(" | ")
            assert "not run" in cells[-1] and set(cells[2:]) <= {"not run", *map(str, text_tables.STEPS)}


def test_gaps_are_minus_the_causal_model():
    rows = {name: {"nats_per_token": 3.0, "ci95": None} for name in ("block-1", "block-1-t")}
    rows |= {
        "causal": {"nats_per_token": 2.98, "ci95": 0.01, "steps": 900},
        "masked": {"nats_per_token": 3.5, "ci95": 0.02},
    }
    section = text_tables.section(rows)
    assert "blocks of 1 +0.020 (0 within noise was expected)" in section
    assert "blocks of 1 with t uniform +0.020, masked +0.520." in section
    assert lines_of(section, "causal, exact")[0] == [
        "causal, exact",
        "2.980 ± 0.010",
        "not run",
        "not run",
        "900",
    ]


def test_a_chain_out_of_its_interval_says_so():
    chain = {
        "n": 8,
        "bound_nats_mean": 3.0,
        "difference_max": 2e-6,
        "drawn_nats_mean": 3.4,
        "drawn_nats_ci95": 0.1,
        "within_interval": False,
    }
    assert "3.400 ± 0.100 (95 %), **not consistent with it**" in text_tables.section({"chain": chain})
    assert "3.400 ± 0.100 (95 %), consistent with it" in text_tables.section(
        {"chain": chain | {"within_interval": True}}
    )


def test_speed_is_judged_against_the_exact_mode():
    fast = {
        "speed_ratio": 8.5,
        "processor_ratio": 8.1,
        "equal_tokens_rate": 0.75,
        "nfe": 40.0,
        "ours_judge_nats_mean": 5.1,
    }
    fast |= {"exact_judge_nats_mean": 5.0, "ours_unigram_entropy": 3.9, "exact_unigram_entropy": 4.0}
    section = text_tables.section(
        {"speed-dual-0.9": fast, "speed-random-8192": {"speed_ratio": 2.1, "nfe": 256}}
    )
    line = lines_of(section, "prefix and suffix cached, threshold 0.9")[0]
    assert "of the exact mode: prefix and suffix cached, threshold 0.9." in section
    for worse in ({"speed_ratio": 7.9}, {"ours_judge_nats_mean": 4.7}, {"ours_unigram_entropy": 3.87}):
        assert "of the exact mode: **none**." in text_tables.section({"speed-dual-0.9": fast | worse})
    assert line[1:] == ["8.50", "8.10", "0.750", "40", "5.10 (+2.0 %)", "3.90 (-2.5 %)"]
    assert lines_of(section, "exact mode, random weights, vocabulary 8,192")[0][1:] == [
        "2.10",
        "not run",
        "not run",
        "256",
        "-",
        "-",
    ]


def test_a_causal_model_cannot_be_asked_to_infill():
    found = {
        "causal_forward_rate": 1.0,
        "causal_reprompted_reverse_rate": 0.0,
        "masked_forward_rate": 0.99,
        "masked_infilled_reverse_rate": 0.9,
    }
    section = text_tables.section(
        {
            "reversal": found
            | {"masked_reprompted_reverse_rate": 0.1, "n": 400, "steps": 10_000, "chance_rate": 0.0025}
        }
    )
    assert lines_of(section, "causal |")[-1] == ["causal", "1.000", "-", "0.000"]
    assert lines_of(section, "masked |")[-1] == ["masked", "0.990", "0.900", "0.100"]

"""The rows of benchmarks/text.py can all be asked for, and those of its tables of recall and answers be
made."""

import json
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from unveil.cli import main
from unveil.runs.flags import changed
from unveil.text.generation import TextSettings
from unveil.text.model import TextModel, TextShape


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """The script, in an empty folder, with networks and data made small."""
    where = Path(__file__).resolve().parents[2] / "benchmarks" / "text.py"
    spec = spec_from_file_location("text_benchmark", where)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    root = tmp_path_factory.mktemp("benchmark")
    module.RUNS, module.DATA, module.RESULTS, module.TASKS = (
        root,
        root / "text-data",
        root / "text.json",
        root / "tasks.jsonl",
    )
    tiny = {"width": 16, "depth": 1, "heads": 1}
    module.BASE = changed(module.BASE, **tiny, context=128, batch_size=2, save_every=2)
    small = {"batch_size": 2, "sft": str(module.TASKS), "checkpoint": str(root / "text-masked")}
    for name, plan in module.MODELS.items():
        changes = {**tiny, **{key: value for key, value in small.items() if key in plan.flags}}
        module.MODELS[name] = plan._replace(flags={**plan.flags, **changes})
    module.FACTS, module.LEARNED, module.ASKED = 6, 4, 2
    yield module
    del sys.modules[spec.name]


def test_rows_that_cannot_be_made_say_how_to_train(benchmark):
    made = benchmark.rows(32, 1)
    untrained = [name for name in made if not name.startswith("speed-random") and name != "toy"]
    wanted = set()
    for name in untrained:
        with pytest.raises(
            benchmark.NotRunError, match=r"missing or not finished: python benchmarks/text\.py --train"
        ) as error:
            made[name]()
        wanted.add(str(error.value).rsplit(" ", 1)[1])
    assert wanted <= set(benchmark.MODELS) and {"reversal-causal", "sft", "masked", "block-16"} <= wanted


def test_recall_and_answers_are_trained_and_rows_written(benchmark, monkeypatch, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 60)
    assert (
        main(["data", "text", "--data", str(text), "--tokenizer", "bytes", "--out", str(benchmark.DATA)]) == 0
    )
    train = ["text.py", "--steps", "2", "--train", "masked", "reversal-causal", "reversal-masked", "sft"]
    for line in (
        train,
        train,
        ["text.py", "--rows", "masked", "reversal", "sft-8", "block-4"],
    ):  # trained once, then gone on with
        monkeypatch.setattr(sys, "argv", line)
        benchmark.main()
    found = json.loads(benchmark.RESULTS.read_text())["metrics"]
    assert list(found) == ["masked", "reversal", "sft-8"]
    assert "block-4: not run (" in capsys.readouterr().out
    assert {"causal_forward_rate", "masked_infilled_reverse_rate", "masked_reprompted_reverse_rate"} <= set(
        found["reversal"]
    )
    assert "causal_infilled_reverse_rate" not in found["reversal"] and found["reversal"][
        "chance_rate"
    ] == pytest.approx(1 / 6)
    assert {f"{task}_exact_rate" for task in ("copy", "reverse", "sort", "add", "question")} <= set(
        found["sft-8"]
    )
    assert (found["sft-8"]["n"], found["sft-8"]["block"]) == (10, 8)


def test_the_toys_bound_is_above_its_exact_likelihood_and_the_draws_agree(benchmark):
    row = benchmark.toy_row(length=3, draws=300)
    assert row["probability_sum"] == pytest.approx(1.0, abs=1e-6) and row["n"] == 64
    assert row["bound_minus_exact_min"] > -1e-9 and row["bound_minus_exact_max"] > 0.01
    assert row["drawn_nats_mean"] == pytest.approx(
        row["bound_of_drawn_nats_mean"], abs=2 * row["drawn_nats_ci95"]
    )


def test_ways_of_speed_are_timed_against_the_plain_loop_and_judged_on_the_same_prompts(
    benchmark, monkeypatch
):
    """The exact mode writes what the plain loop writes; a threshold of nothing commits a whole block a call,
    and is judged apart; what is drawn is judged beside what is drawn."""
    torch.manual_seed(0)
    letters = benchmark.Letters()
    model, judge = (
        TextModel(TextShape(5, context=24, width=16, depth=2, heads=2, causal=causal), letters).eval()
        for causal in (False, True)
    )
    for weight in [*model.parameters(), *judge.parameters()]:
        weight.data = torch.randn_like(weight) * 0.5
    ways = {"exact": TextSettings(length=12, steps=12, block=4, may_end=False)}
    ways["hasty"] = replace(ways["exact"], threshold=1e-9)
    ways["drawn"] = replace(ways["exact"], order="random", temperature=1.0)
    ways["halved"] = replace(ways["drawn"], steps=6)
    found = benchmark.speed_rows(model, ways, 12, 2, [[0, 1], [1, 2], [2, 0], [1, 1], [2, 2]], judge)
    assert (
        found["exact"]["equal_tokens_rate"] == 1.0
        and found["exact"]["nfe"] == 12
        and found["hasty"]["nfe"] == 3
    )
    assert (found["exact"]["judged_n"], found["exact"]["n"]) == (3, 2)
    for key in ("judge_nats_mean", "unigram_entropy"):
        assert (
            found["exact"][f"ours_{key}"] == found["exact"][f"exact_{key}"] == found["hasty"][f"exact_{key}"]
        )
        assert (
            found["drawn"][f"ours_{key}"] == found["halved"][f"exact_{key}"] != found["exact"][f"ours_{key}"]
        )
    assert (
        found["hasty"]["ours_judge_nats_mean"] != found["hasty"]["exact_judge_nats_mean"]
        and found["halved"]["nfe"] == 6
    )

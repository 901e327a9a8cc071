"""Write the tables of docs/applications/text.md from `benchmarks/results/text.json`; no number is typed by hand. Run by `make docs`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from result_tables import Rows, cell, replaced, table

ROOT = Path(__file__).resolve().parent.parent
ONE = ("",)
MODELS = {
    "causal": "causal, exact",
    "block-1": "blocks of 1, mask rate 1, exact",
    "block-1-t": "blocks of 1, t uniform, exact",
    "block-4": "blocks of 4",
    "block-8": "blocks of 8",
    "block-16": "blocks of 16",
    "masked": "masked",
}
ESTIMATORS = [(form, times) for form in ("l", "t") for times in ("stratified", "antithetic", "independent")]
TASKS = ("copy", "reverse", "sort", "add", "question")
WAYS = {
    "speed-exact": "exact mode, trained, vocabulary 8,192",
    "speed-random-8192": "exact mode, random weights, vocabulary 8,192",
    "speed-random-32768": "exact mode, random weights, vocabulary 32,768",
    "speed-auto-0.9": "threshold 0.9",
    "speed-prefix-one": "prefix remembered",
    "speed-prefix-0.9": "prefix remembered, threshold 0.9",
    "speed-dual-one": "prefix and rest remembered",
    "speed-dual-0.9": "prefix and rest remembered, threshold 0.9",
    "speed-drawn-auto-1": "drawn at temperature 1: exact mode",
    "speed-drawn-dual-1": "drawn, prefix and rest remembered",
    "speed-drawn-dual-2": "drawn, prefix and rest remembered, 2 tokens a call",
    "speed-drawn-dual-4": "drawn, prefix and rest remembered, 4 tokens a call",
}
ORDERS = {
    "ancestral": "the model's own process",
    "confidence": "surest first, drawn",
    "confidence-greedy": "surest first, temperature 0",
}
STEPS = (8, 16, 32, 64, 128)


def likelihoods(rows: Rows) -> list[str]:
    def line(name: str, said: str) -> list[str]:
        found = rows.get(name)
        interval = "" if found is None or found.get("ci95") is None else f" ± {found['ci95']:.3f}"
        nats = "not run" if found is None else f"{found['nats_per_token']:.3f}{interval}"
        more = [
            cell(rows, name, metric, digits, ONE)
            for metric, digits in (("bits_per_char", 3), ("perplexity", 1), ("steps", 0))
        ]
        return [said, nats, *more]

    heads = ["model", "nats a token", "bits a character", "perplexity", "steps"]
    lines = [
        "### 1. Causal, blocks, masked",
        "One trunk of 3.05 M weights, tiny-shakespeare in 1,024 byte pairs, the same minutes of one core; the held-out tail in pieces of",
        "256, each by itself. Blocks of more than 1 and masked state an upper bound, by 16 draws, the others their exact likelihood;",
        "blocks of 1 learn for as many steps, and so as many target tokens, as the causal one, whatever that takes.",
        "",
        *table(heads, [line(name, said) for name, said in MODELS.items()]),
        *gap(rows),
        "The King James Bible in 8,192 byte pairs, the smaller trunk of the rows of speed:",
        "",
        *table(heads, [line(f"kjv-{kind}", kind) for kind in ("causal", "masked")]),
    ]
    found = rows.get("chain")
    if found is None:
        return [*lines, "The chain of one set of weights: not run.", ""]
    return [
        *lines,
        f"One set of weights, blocks of 1, {found['n']} pieces: the bound at mask rate 1 is {found['bound_nats_mean']:.5f} nats a token,"
        f" and differs from the sum of per-token cross-entropies, one token at a time, by at most {found['difference_max']:.1e}."
        f" By random masks it is {found['drawn_nats_mean']:.3f} ± {found['drawn_nats_ci95']:.3f}, "
        + ("which holds it." if found["within_interval"] else "**which does not hold it**."),
        "",
    ]


def gap(rows: Rows) -> list[str]:
    if not {"causal", "block-1", "block-1-t", "masked"} <= set(rows):
        return []
    causal = rows["causal"]["nats_per_token"]
    gaps = {name: rows[name]["nats_per_token"] - causal for name in ("block-1", "block-1-t", "masked")}
    return [
        f"Minus the causal model: blocks of 1 {gaps['block-1']:+.3f} (the goal is at most .03), with t uniform {gaps['block-1-t']:+.3f}, "
        f"masked {gaps['masked']:+.3f} nats.",
        "",
    ]


def estimators(rows: Rows) -> list[str]:
    body = [
        [
            "exactly l hidden" if form == "l" else "each hidden with probability t",
            times,
            cell(rows, "estimators", f"{form}_{times}_nats_mean", 3, ONE),
            cell(rows, "estimators", f"{form}_{times}_variance_ratio", 2, ONE),
        ]
        for form, times in ESTIMATORS
    ]
    lines = [
        "### 2. Estimators of the bound",
        "Eight calls an estimate, `masked`, 32 pieces, eight estimates each: one mean, other variances.",
        "",
        *table(["masks", "times", "nats a token", "variance, by the first row's"], body),
    ]
    found = rows.get("toy")
    if found is None:
        return [*lines, "The bound and the exact likelihood of a toy: not run.", ""]
    return [
        *lines,
        f"A toy of {found['n']:,} sequences, all of them, exact likelihood over all orders (their probabilities sum to"
        f" {found['probability_sum']:.6f}): the bound is above every one, by {found['bound_minus_exact_min']:.3f} to"
        f" {found['bound_minus_exact_max']:.2f} nats; means {found['bound_nats_mean']:.3f} and {found['exact_nats_mean']:.3f}.",
        "",
    ]


def reversal(rows: Rows) -> list[str]:
    heads = {
        "forward_rate": "forward",
        "infilled_reverse_rate": "reverse, infilled",
        "reprompted_reverse_rate": "reverse, re-prompted",
    }
    found = rows.get("reversal")
    body = [
        [
            kind,
            *(
                "-"
                if found and f"{kind}_{name}" not in found
                else cell(rows, "reversal", f"{kind}_{name}", 3, ONE)
                for name in heads
            ),
        ]
        for kind in ("causal", "masked")
    ]
    said = (
        ""
        if found is None
        else f" {found['n']} facts, {found['steps']:,} steps each; chance is {found['chance_rate']:.4f}."
    )
    return [
        "### 3. The reversal curse",
        f"Facts learned in one direction only, asked in both; whole answers that are right.{said} LLaDA, poems, forward and reverse: GPT-4o"
        " .827 and .343, Qwen2.5-7B .759 and .380, LLaDA-8B .488 and .424 (first version of the paper); theirs is re-prompted.",
        "",
        *table(["model", *heads.values()], body),
    ]


def tuned(rows: Rows) -> list[str]:
    names = [f"{task}_exact_rate" for task in TASKS]
    body = [
        [
            str(block),
            *(cell(rows, f"sft-{block}", name, 2, ONE) for name in (*names, "exact_rate", "end_rate", "nfe")),
        ]
        for block in (1, 4, 8, 16)
    ]
    return [
        "### 4. Instructions",
        "`masked`, fine-tuned on templates for 9,000 steps; 500 held-out instructions with one right answer, one token a call.",
        "",
        *table(["block", *TASKS, "all", "ended", "calls"], body),
    ]


def speeds(rows: Rows) -> list[str]:
    def line(name: str, said: str) -> list[str]:
        found = rows.get(name)
        if found is None:
            return [said, *["not run"] * 6]
        judged = ["-", "-"]
        if "ours_judge_nats_mean" in found:
            pairs = [
                (found[f"ours_{key}"], found[f"exact_{key}"])
                for key in ("judge_nats_mean", "unigram_entropy")
            ]
            judged = [f"{ours:.2f} ({100.0 * (ours / exact - 1.0):+.1f} %)" for ours, exact in pairs]
        metrics = (("speed_ratio", 2), ("processor_ratio", 2), ("equal_tokens_rate", 3), ("nfe", 0))
        numbers = [cell(rows, name, key, digits, ONE) for key, digits in metrics]
        return [
            said,
            *numbers[:2],
            "-" if name.startswith("speed-drawn") else numbers[2],
            numbers[3],
            *judged,
        ]

    heads = [
        "mode",
        "by the plain loop, wall",
        "processor",
        "equal tokens",
        "calls",
        "judge's nats",
        "unigram entropy",
    ]
    eos = rows.get("speed-eos")
    return [
        "### 5. Speed against a plain loop",
        "LLaDA's sampler as it is written down, everything computed at all places in every step, and ours, on the same model: 256 tokens",
        "in blocks of 32, as many steps, temperature 0, end of text suppressed in both; medians of five runs that take turns. The goals:",
        "the exact mode twice as fast with equal tokens; remembered and parallel eight times, within 5 % of the exact mode's nats, as a",
        "causal model of the same text judges 32 other rows, and 3 % of their unigram entropy. Prompts are 32 held-out tokens of the",
        "King James Bible. Drawn: the model's own process at temperature 1, by the time of the same plain loop, which draws nothing.",
        "",
        *table(heads, [line(name, said) for name, said in WAYS.items()]),
        *reached(rows),
        "Stopping at the end of text, after fine-tuning, is apart: "
        + (
            "not run."
            if eos is None
            else f"{eos['speed_ratio']:.2f} times as fast, {eos['stop_nfe']:.0f} calls for {eos['full_nfe']:.0f}, n {eos['n']}."
        ),
        "",
    ]


def reached(rows: Rows) -> list[str]:
    """Which ways keep what the table asks of what is remembered and parallel."""
    found = {
        said: rows[name]
        for name, said in WAYS.items()
        if name in rows and "ours_judge_nats_mean" in rows[name]
    }
    if not found:
        return []

    def off(row: Mapping[str, Any], key: str) -> float:
        return abs(row[f"ours_{key}"] / row[f"exact_{key}"] - 1.0)

    kept = [
        said
        for said, row in found.items()
        if row["speed_ratio"] >= 8.0
        and off(row, "judge_nats_mean") <= 0.05
        and off(row, "unigram_entropy") <= 0.03
    ]
    return [f"Eight times, within both bounds: {'; '.join(kept) or '**none**'}.", ""]


def quality(rows: Rows) -> list[str]:
    body = [
        [
            said,
            str(steps),
            *(
                cell(rows, f"nfe-{order}-{steps}", key, 2, ONE)
                for key in ("judge_nats_mean", "unigram_entropy")
            ),
        ]
        for order, said in ORDERS.items()
        for steps in STEPS
    ]
    return [
        "### 6. Quality against calls",
        "64 samples of 128 tokens of `masked`: nats a token by `causal`, and the entropy of a sample's tokens. Either alone can be",
        "cheated: repeated words are likely, and noise is varied.",
        "",
        *table(["order", "calls", "judge's nats", "unigram entropy"], body),
    ]


def section(rows: Rows) -> str:
    """All tables."""
    parts = (likelihoods, estimators, reversal, tuned, speeds, quality)
    return "\n".join(line for part in parts for line in part(rows)).rstrip()


def main() -> None:
    file, page = ROOT / "benchmarks" / "results" / "text.json", ROOT / "docs" / "applications" / "text.md"
    rows: Rows = json.loads(file.read_text())["metrics"] if file.is_file() else {}
    page.write_text(replaced(page.read_text(), "text", section(rows)))


if __name__ == "__main__":
    main()

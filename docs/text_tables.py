"""Write the tables of docs/applications/text.md from `benchmarks/results/text.json`. `make docs` runs it."""

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
    "speed-prefix-one": "prefix cached",
    "speed-prefix-0.9": "prefix cached, threshold 0.9",
    "speed-dual-one": "prefix and suffix cached",
    "speed-dual-0.9": "prefix and suffix cached, threshold 0.9",
    "speed-drawn-auto-1": "sampled at temperature 1: exact mode",
    "speed-drawn-dual-1": "sampled, prefix and suffix cached",
    "speed-drawn-dual-2": "sampled, prefix and suffix cached, 2 tokens per call",
    "speed-drawn-dual-4": "sampled, prefix and suffix cached, 4 tokens per call",
}
ORDERS = {
    "ancestral": "the model's own process",
    "confidence": "most confident first, sampled",
    "confidence-greedy": "most confident first, temperature 0",
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

    heads = ["model", "nats per token", "bits per character", "perplexity", "steps"]
    lines = [
        "### 1. Causal, blocks, masked",
        "One network of 3.05 M weights, tiny-shakespeare with a vocabulary of 1,024 byte pairs, equal",
        "training time on one core. The",
        "held-out tail is scored in independent pieces of 256 tokens. Models with blocks of more than 1,",
        "and the masked one, have an",
        "upper bound by 16 draws, the others their exact likelihood. Blocks of 1 train for as many steps,",
        "and so on as many target",
        "tokens, as the causal model, for as long as that takes.",
        "",
        *table(heads, [line(name, said) for name, said in MODELS.items()]),
        *gap(rows),
        "The King James Bible with a vocabulary of 8,192 byte pairs, and the smaller network of the rows",
        "on speed:",
        "",
        *table(heads, [line(f"kjv-{kind}", kind) for kind in ("causal", "masked")]),
    ]
    found = rows.get("chain")
    if found is None:
        return [*lines, "The chain of one set of weights: not run.", ""]
    return [
        *lines,
        f"One set of weights, blocks of 1, {found['n']} pieces: the bound at mask rate 1 is "
        f"{found['bound_nats_mean']:.5f} nats per token,"
        " and differs from the sum of per-token cross-entropies, one token at a time, by at most "
        f"{found['difference_max']:.1e}."
        f" With random masks it is {found['drawn_nats_mean']:.3f} ± {found['drawn_nats_ci95']:.3f}, "
        + ("which contains it." if found["within_interval"] else "**which does not contain it**."),
        "",
    ]


def gap(rows: Rows) -> list[str]:
    if not {"causal", "block-1", "block-1-t", "masked"} <= set(rows):
        return []
    causal = rows["causal"]["nats_per_token"]
    gaps = {name: rows[name]["nats_per_token"] - causal for name in ("block-1", "block-1-t", "masked")}
    return [
        f"Minus the causal model: blocks of 1 {gaps['block-1']:+.3f} (the goal is at most .03), with t "
        f"uniform {gaps['block-1-t']:+.3f}, "
        f"masked {gaps['masked']:+.3f} nats.",
        "",
    ]


def estimators(rows: Rows) -> list[str]:
    body = [
        [
            "exactly l masked" if form == "l" else "each masked with probability t",
            times,
            cell(rows, "estimators", f"{form}_{times}_nats_mean", 3, ONE),
            cell(rows, "estimators", f"{form}_{times}_variance_ratio", 2, ONE),
        ]
        for form, times in ESTIMATORS
    ]
    lines = [
        "### 2. Estimators of the bound",
        "Model `masked`, 32 pieces, eight network calls per estimate, eight estimates each: equal means,",
        "different variances.",
        "",
        *table(["masks", "times", "nats per token", "variance relative to the first row"], body),
    ]
    found = rows.get("toy")
    if found is None:
        return [*lines, "The bound and the exact likelihood of a toy: not run.", ""]
    return [
        *lines,
        f"All {found['n']:,} sequences of a toy language, with the exact likelihood over all orders (the "
        "probabilities sum to"
        f" {found['probability_sum']:.6f}): the bound lies above each, by "
        f"{found['bound_minus_exact_min']:.3f} to"
        f" {found['bound_minus_exact_max']:.2f} nats; means {found['bound_nats_mean']:.3f} and",
        f"{found['exact_nats_mean']:.3f}.",
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
        "Facts are learned in one direction and asked in both; the share of completely correct",
        f"answers.{said}",
        "LLaDA's paper on poems, forward and reverse, re-prompted: GPT-4o .827 and .343, Qwen2.5-7B .759",
        "and .380, LLaDA-8B .488",
        "and .424 (first version).",
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
        "Model `masked`, fine-tuned on templates for 9,000 steps; 500 held-out instructions with one right",
        "answer, one token per call.",
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
        "speed-up, wall time",
        "speed-up, CPU time",
        "equal tokens",
        "calls",
        "nats under the causal model",
        "unigram entropy",
    ]
    eos = rows.get("speed-eos")
    return [
        "### 5. Speed against a plain loop",
        "LLaDA's sampler as published, which computes everything at all positions in every step, and ours,",
        "on the same model: 256",
        "tokens in blocks of 32, as many steps, temperature 0, end of text suppressed in both; medians of",
        "five alternating runs. The",
        "goals: the exact mode twice as fast with equal tokens; cached and parallel modes eight times as",
        "fast, within 5 % of the exact",
        "mode's nats per token under a causal model of the same text, over 32 other rows, and within 3 %",
        "of their unigram entropy.",
        "Prompts are 32 held-out tokens of the King James Bible. Sampled: the model's own process at",
        "temperature 1, relative to the",
        "time of the same plain loop.",
        "",
        *table(heads, [line(name, said) for name, said in WAYS.items()]),
        *reached(rows),
        "Stopping at the end of text, after fine-tuning, is measured separately: "
        + (
            "not run."
            if eos is None
            else f"{eos['speed_ratio']:.2f} times as fast, {eos['stop_nfe']:.0f} calls instead of "
            f"{eos['full_nfe']:.0f}, n {eos['n']}."
        ),
        "",
    ]


def reached(rows: Rows) -> list[str]:
    """Which cached or parallel modes reach the goals."""
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
    return [f"Eight times as fast, within both bounds: {'; '.join(kept) or '**none**'}.", ""]


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
        "64 samples of 128 tokens of `masked`: nats per token under `causal`, and the unigram entropy of",
        "each sample. Neither suffices",
        "alone: repeated words are likely, and noise has a high entropy.",
        "",
        *table(["order", "calls", "nats under the causal model", "unigram entropy"], body),
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

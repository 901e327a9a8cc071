"""Write the tables of docs/applications/text.md from `benchmarks/results/text.json`. `make docs` runs it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overview import minutes
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
    "ancestral": "the model's own process (`ancestral`)",
    "confidence": "most confident first (`confidence`), sampled",
    "confidence-greedy": "most confident first (`confidence`), temperature 0",
}
STEPS = (8, 16, 32, 64, 128)


def likelihoods(rows: Rows, packaged: Mapping[str, Any]) -> list[str]:
    rows = {**rows, "packaged": dict(packaged)} if packaged else rows

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
    longer = (
        [line("packaged", f"masked, the packaged model: {minutes('text-shakespeare')}")] if packaged else []
    )
    lines = [
        "### 1. Causal, blocks, masked",
        "All models have the same network of 3.05 M parameters and the same data: tiny-shakespeare with a",
        "vocabulary of 1,024 tokens. Each was trained for 8.5 minutes of processor time on one thread, with",
        "two exceptions. Blocks of 1 train for as many steps as the causal model, which takes twice as long.",
        "The packaged model trained for longer; no causal model was trained for as long. The held-out tail is",
        "scored in independent pieces of 256 tokens. *Exact* rows are the likelihood itself; the others are",
        "upper bounds, estimated with 16 draws of masks for each piece.",
        "",
        *table(heads, [*(line(name, said) for name, said in MODELS.items()), *longer]),
        *gap(rows),
        "The King James Bible with a vocabulary of 8,192 tokens, with a network of width 128 and 4 blocks",
        "(2.90 M parameters), trained for 8.5 minutes. The rows on speed (table 5) use these two models:",
        "",
        *table(heads, [line(f"kjv-{kind}", kind) for kind in ("causal", "masked")]),
    ]
    found = rows.get("chain")
    if found is None:
        return [*lines, "The chain of one set of weights: not run.", ""]
    return [
        *lines,
        f"A check with one set of weights (blocks of 1, {found['n']} pieces): at mask rate 1 the bound is "
        f"{found['bound_nats_mean']:.5f} nats per token, and equals the exact likelihood, computed token "
        f"by token, within {found['difference_max']:.1e}. Estimated with random masks it is "
        f"{found['drawn_nats_mean']:.3f} ± {found['drawn_nats_ci95']:.3f} (95 %), "
        + ("consistent with it." if found["within_interval"] else "**not consistent with it**."),
        "",
    ]


def gap(rows: Rows) -> list[str]:
    if not {"causal", "block-1", "block-1-t", "masked"} <= set(rows):
        return []
    causal = rows["causal"]["nats_per_token"]
    gaps = {name: rows[name]["nats_per_token"] - causal for name in ("block-1", "block-1-t", "masked")}
    return [
        f"Difference to the causal model, in nats per token: blocks of 1 {gaps['block-1']:+.3f} (0 within "
        f"noise was expected), blocks of 1 with t uniform {gaps['block-1-t']:+.3f}, "
        f"masked {gaps['masked']:+.3f}.",
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
        "The bound of model `masked` on 32 pieces, estimated eight times for each piece, with eight network",
        "calls per estimate. All estimators have the same mean; the variance is that between the eight",
        "estimates of a piece. *Masks*: exactly *l* of the *L* tokens of a piece are masked, or each one with",
        "probability *t*. *Times*: how the eight values of *l* / *L* or *t* of one estimate are drawn: one from each",
        "eighth of the range (stratified), in pairs *t* and 1 - *t* (antithetic), or independently.",
        "",
        *table(["masks", "times", "nats per token", "variance relative to the first row"], body),
    ]
    found = rows.get("toy")
    if found is None:
        return [*lines, "The bound and the exact likelihood of a toy: not run.", ""]
    return [
        *lines,
        f"How loose is the bound? For a small model the exact likelihood of all {found['n']:,} sequences of five "
        "tokens can be computed by summing over all orders (their probabilities sum to "
        f"{found['probability_sum']:.6f}). The bound exceeds the exact negative log-likelihood of each sequence, "
        f"by {found['bound_minus_exact_min']:.3f} to {found['bound_minus_exact_max']:.2f} nats per sequence; on "
        f"average the bound is {found['bound_nats_mean']:.3f} nats, the exact value "
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
        else f" {found['n']} facts, {found['steps']:,} training steps each; a random guess among the "
        f"answers is right in {found['chance_rate']:.4f} of cases, in every column."
    )
    return [
        "### 3. The reversal curse",
        'The models learn "A is B" and are asked in both directions: *forward* completes "A is";',
        '*reverse, infilled* fills the gap before "is B" in the learned sentence; *reverse, re-prompted* completes',
        '"B is", a sentence that was never learned. The numbers are shares of completely correct answers.'
        f"{said}",
        "",
        "For comparison, the first version of LLaDA's paper completes lines of poems, forward and reverse",
        "(re-prompted): GPT-4o .827 and .343, Qwen2.5-7B .759 and .380, LLaDA-8B .488 and .424. Task and",
        "models differ, so only the sign of the gap compares.",
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
        "Model `masked`, fine-tuned for 9,000 steps (23 minutes of one core) on five kinds of instructions,",
        "4,000 of each; then 100 held-out instructions of each kind, written in blocks of 1 to 16 tokens with",
        "one token per call. The numbers are shares of exactly correct answers; *ended* is the share that",
        "wrote end-of-text, and *calls* the network calls per answer. Guessing blindly is right in less than",
        ".01 of copy, reverse and sort, and the most frequent sum in .01 of add. In *question*, choosing one of",
        "the two people or colours that the text names is right in .5.",
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
        "The *plain loop* is LLaDA's published sampler, which computes logits at all positions in every step.",
        "Our sampler writes the same 256 tokens with the same model: blocks of 32, one token per call,",
        "temperature 0, end of text suppressed in both; prompts are 32 held-out tokens of the King James Bible.",
        "Speed-ups are medians over five prompts, on which both alternate. The modes are:",
        "",
        "- *exact mode* (`--cache auto`, the default): logits only where a token can be revealed in this step.",
        "  The tokens are those of the plain loop.",
        "- *prefix cached* and *prefix and suffix cached* (`--cache prefix`, `--cache dual`): keys and values",
        "  outside the block stay as they were at its start. The tokens may differ.",
        "- *threshold 0.9* (`--threshold 0.9`): also reveals every token that is at least this probable.",
        "- *sampled* (`--order random --temperature 1`): tokens are sampled from the model, not the most",
        "  probable ones; the speed-up is still relative to the plain loop at temperature 0.",
        "",
        "Quality is measured on 32 other prompts. *Nats under the causal model* are nats per token that the",
        "causal King James model of table 1 gives to the written text; it gives the held-out text itself",
        f"{cell(rows, 'kjv-causal', 'nats_per_token', 2, ONE)}. *Unigram entropy* is the entropy, in nats, of "
        "the frequencies of tokens in a text: 0 for one repeated token, ln 256 = 5.55 for 256 different ones.",
        "In brackets is the difference to the exact mode at the same temperature.",
        "",
        *table(heads, [line(name, said) for name, said in WAYS.items()]),
        *reached(rows),
        "Stopping at the end of text (`--stop`, the default), with the fine-tuned model of table 4: "
        + (
            "not run."
            if eos is None
            else f"{eos['speed_ratio']:.2f} times as fast, {eos['stop_nfe']:.0f} calls instead of "
            f"{eos['full_nfe']:.0f} (medians over {eos['n']} instructions)."
        ),
        "",
    ]


def reached(rows: Rows) -> list[str]:
    """Which cached or parallel modes are fast without a loss of quality."""
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
    return [
        "Rows that are at least eight times as fast as the plain loop and, at the same temperature, within 5 % of "
        f"the nats and 3 % of the entropy of the exact mode: {'; '.join(kept) or '**none**'}.",
        "",
    ]


def quality(rows: Rows) -> list[str]:
    body = [
        [
            said,
            str(steps),
            *(
                cell(rows, f"nfe-{order}-{steps}", key, 2, ONE).removesuffix(" ± 0.00")
                for key in ("judge_nats_mean", "unigram_entropy")
            ),
        ]
        for order, said in ORDERS.items()
        for steps in STEPS
    ]
    return [
        "### 6. Quality against calls",
        "64 samples of 128 tokens, written without a prompt by the model `masked` of table 1. Nats per token",
        "are those under the model `causal` of table 1, lower is likelier; the unigram entropy, in nats, is that",
        "of the tokens of a sample, higher is more varied. Neither suffices alone: repeated words are likely, and",
        "noise has a high entropy. For comparison, held-out text has",
        f"{cell(rows, 'causal', 'nats_per_token', 2, ONE)} nats per token (pieces of 256), and its pieces of 128 "
        "tokens have an entropy of 4.19. At temperature 0 without a prompt all 64 samples are the same text, so",
        "these rows have no interval.",
        "",
        *table(["order", "calls", "nats under the causal model", "unigram entropy"], body),
    ]


def section(rows: Rows, packaged: Mapping[str, Any] | None = None) -> str:
    """All tables.

    Args:
        packaged: metrics of the packaged model, and its `steps`.
    """
    lines = likelihoods(rows, packaged or {})
    for part in (estimators, reversal, tuned, speeds, quality):
        lines += part(rows)
    return "\n".join(lines).rstrip()


def packaged_metrics() -> dict[str, Any]:
    """The committed evaluation of the packaged model, with the steps that its card says."""
    card = (ROOT / "src" / "unveil" / "zoo" / "text-shakespeare" / "card.md").read_text(encoding="utf-8")
    found = re.search(r"([\d,]+) steps in \d+ minutes", card)
    assert found is not None
    file = ROOT / "benchmarks" / "results" / "text-shakespeare.json"
    return json.loads(file.read_text())["metrics"] | {"steps": int(found[1].replace(",", ""))}


def main() -> None:
    file, page = ROOT / "benchmarks" / "results" / "text.json", ROOT / "docs" / "applications" / "text.md"
    rows: Rows = json.loads(file.read_text())["metrics"] if file.is_file() else {}
    page.write_text(replaced(page.read_text(), "text", section(rows, packaged_metrics())))


if __name__ == "__main__":
    main()

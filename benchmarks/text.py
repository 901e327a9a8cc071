"""Text: causal, block diffusion and masked on one trunk; estimators; the reversal curse; instructions; speed; quality. Resumable by rows.

    unveil data text --data text/tinyshakespeare.txt.gz --vocabulary 1024 --out runs/text-data           # of most rows
    unveil data text --data text/kjv_bible.txt.gz --vocabulary 8192 --out runs/text-data-8192            # rows kjv-* and speed-*
    python benchmarks/text.py --train causal block-1 block-1-t block-4 block-8 block-16 masked           # one after the other
    python benchmarks/text.py --train causal-8192 masked-8192 reversal-causal reversal-masked sft        # sft goes on from masked
    python benchmarks/text.py                                         # every row that can be made; `--rows masked estimators` some

Rows of `results/text.json`, each written when it is done and not made again while it is there; a row that cannot be made says why:

    causal, block-<n>, masked      table 1: nats a token of the held-out tail: exactly, or bounds by 16 draws. Trained on the same trunk and
                                   data for the same minutes; block-1 at mask rate 1 (the l-form) and block-1-t (t uniform) for as many
                                   steps, and so as many target tokens, as causal
    kjv-causal, kjv-masked         the same of the models of the rows of speed, on the King James Bible
    chain                          of block-1's weights: its bound at mask rate 1, the sum of its per-token cross-entropies, one token at a
                                   time, and the bound by random masks with its interval
    estimators                     table 2: variance of the bound's estimators over 32 pieces, beside the stratified l-form's
    toy                            of a small model, all 1,024 sequences of five tokens: the bound, over all sets of masks, minus the exact
                                   likelihood, over all orders
    reversal                       table 3: 400 one-directional facts, asked in both directions of a causal and a masked model, trained for
                                   as many steps; infilled and re-prompted reverse apart (`metrics/reversal_curse.py`)
    sft-<block>                    table 4: `masked`, fine-tuned on copy, reverse, sort, add and questions; 500 held-out instructions,
                                   answers of at most 16 tokens, in blocks of so many, one token a call
    speed-exact, speed-random-<V>  table 5: a plain loop against the exact mode on one model, of a vocabulary of 8,192 (random: untrained
                                   weights and a vocabulary of V; LLaDA's is 126,464), EOS suppressed in both, steps = length, medians of 5
                                   interleaved runs, tokens compared; also by the time of the processor alone, which other programs do
                                   not lengthen
    speed-<cache>-<threshold>      remembered surroundings and parallel commits, interleaved with speed-exact; judged by the causal model on
                                   32 rows of each, beside the exact mode's
    speed-drawn-<cache>-<n>        the model's own process, temperature 1, places in random order, n tokens a call; by the same plain loop's
                                   time at temperature 0, which does not draw; judged beside speed-drawn-auto-1
    speed-eos                      what stopping at the end of text saves `sft`, EOS allowed, beside the exact mode without; held-out
                                   instructions, one at a time
    nfe-<order>-<steps>            table 6: samples of 128 tokens judged by the causal model, and their unigram entropy

Minutes of one core of the machine of docs/protocol.md, the processor's time in `metrics.jsonl`: causal, block-4, -8, -16, masked and both
of 8,192 tokens 8.5 each, as the plan has it; block-1 and block-1-t, whose steps cost twice as much, 17 each; reversal-* 6 each; sft 23:
130 in all. Rows: speed-exact to speed-drawn-* 10 together, speed-random-8192 1, speed-random-32768 and speed-eos 2, all others about 35.
Trials: `--steps 2` of trainings, and of rows `--length 64 --repeats 1`.

What is not there is not run; nothing is chosen on the held-out tail.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metrics.generative_perplexity import judged
from metrics.reversal_curse import recall_metrics
from unveil.files.atomic import replacing
from unveil.runs.flags import changed, flat
from unveil.runs.machine import commit, machine
from unveil.runs.statistics import mean_ci95
from unveil.runs.training import Task, as_json, run_task
from unveil.text.data.chat import Turn, encode_chat
from unveil.text.data.documents import Pieces, Rows, Stream, in_order, read_prepared
from unveil.text.data.reversal_facts import one_directional_facts
from unveil.text.data.synthetic_tasks import instructions
from unveil.text.data.tokens import digest, train_bpe, write_tokens
from unveil.text.evaluation.answers import answer_metrics
from unveil.text.evaluation.metrics import text_metrics
from unveil.text.generation import Canvas, TextSettings, prompt_canvas, write
from unveil.text.likelihood import text_nats
from unveil.text.model import TextModel, TextShape
from unveil.text.recipes.config import TrainText
from unveil.text.recipes.load import load_text, read_text_config, shape_of
from unveil.text.recipes.train import train_text
from unveil.text.training import text_batches, text_loss
from unveil.training.checkpoint import latest_checkpoint

RESULTS = Path(__file__).resolve().parent / "results" / "text.json"
RUNS = Path("runs")
DATA, LARGE = RUNS / "text-data", RUNS / "text-data-8192"
BASE = changed(
    TrainText(),
    width=192,
    depth=6,
    heads=6,
    context=256,
    batch_size=16,
    save_every=500,
    device="cpu",
    bfloat16=True,
)
SMALL = {
    "width": 128,
    "depth": 4,
    "heads": 4,
}  # of the rows of speed: what the exact mode saves lies in the head, not in the trunk
FACTS, LEARNED, ASKED, ANSWER = (
    400,
    4_000,
    100,
    16,
)  # facts; instructions of each task to learn from and to ask; room for an answer
JUDGED = 32  # rows of speed
TASKS = RUNS / "text-tasks.jsonl"


class Plan(NamedTuple):
    """How a model is trained: flags, and the steps, or as many as another model's, or as many as take so many minutes of one core."""

    flags: Mapping[str, Any]
    minutes: float = 8.5
    like: str | None = None
    steps: int = 0


FACT = {"width": 128, "depth": 4, "heads": 4, "context": 16, "batch_size": 64}
MODELS: dict[str, Plan] = {
    "causal": Plan({"causal": True}),
    "block-1": Plan({"block": 1}, like="causal"),
    "block-1-t": Plan({"block": 1, "form": "t"}, like="causal"),
    **{f"block-{n}": Plan({"block": n}) for n in (4, 8, 16)},
    "masked": Plan({}),
    "causal-8192": Plan(
        {"causal": True, "data": str(LARGE), "context": 288} | SMALL
    ),  # room for prompts before 256 tokens
    "masked-8192": Plan({"data": str(LARGE), "context": 288} | SMALL),
    "reversal-causal": Plan(FACT | {"causal": True}, steps=10_000),
    "reversal-masked": Plan(FACT, steps=10_000),
    "sft": Plan({"sft": str(TASKS), "checkpoint": str(RUNS / "text-masked"), "batch_size": 32}, steps=9_000),
}
STEPS = (8, 16, 32, 64, 128)
BLOCKS = (1, 4, 8, ANSWER)
DRAWN = (("auto", 1), ("dual", 1), ("dual", 2), ("dual", 4))  # what is remembered, tokens a call


class NotRunError(Exception):
    """What is missing for a row."""


def trained(name: str) -> TextModel:
    """The last checkpoint of runs/text-<name>.

    Raises:
        NotRunError: it is not there, or not finished.
    """
    run = RUNS / f"text-{name}"
    newest = latest_checkpoint(run) if run.is_dir() else None
    if newest is None or newest.name != f"checkpoint-{read_text_config(run)['steps']}":
        raise NotRunError(f"{run} is missing or not finished: python benchmarks/text.py --train {name}")
    return load_text(newest, "cpu")


def train_model(name: str, minutes: float | None, steps: int) -> None:
    """Train runs/text-<name>, or go on with it."""
    plan = MODELS[name]
    config = changed(BASE, **{"data": str(DATA), "out": RUNS / f"text-{name}"} | dict(plan.flags))
    if (config.run.folder / "config.json").is_file():
        steps = int(read_text_config(config.run.folder)["steps"])
    elif plan.like is not None and not steps:
        steps = int(read_text_config(RUNS / f"text-{plan.like}")["steps"])
    elif not steps:
        steps = plan.steps or max(10, int(60.0 * (minutes or plan.minutes) / seconds_a_step(config)))
    print(f"{name}: {steps} steps", flush=True)
    config = changed(
        config, steps=steps, warmup=min(config.run.warmup, steps), resume=config.run.folder.is_dir()
    )
    if name.startswith("reversal"):
        train_facts(config)
        return
    if config.sft is not None:
        trained("masked")
        lines = (
            json.dumps({"prompt": it.prompt, "response": it.response})
            for it in instructions(LEARNED, ASKED, 0)[0]
        )
        TASKS.write_text("\n".join(lines) + "\n")
    train_text(config, lambda *_: None)


def train_facts(config: TrainText) -> None:
    """On whole statements, all of one length, as `unveil train text` trains."""
    facts = one_directional_facts(FACTS, 0)
    tokens = train_bpe(
        [statement for fact in facts for statement in (fact.statement, fact.turned.statement)], 4096
    )
    described = as_json(
        flat(config) | {"recipe": "text", "vocabulary": tokens.size, "tokenizer": digest(tokens)}
    )
    torch.manual_seed(config.run.seed)
    model = TextModel(shape_of(described), tokens)
    draw = text_batches(
        Rows([tokens.encode(fact.statement) for fact in facts]),
        config.run.batch_size,
        config.form,
        config.times,
    )
    write_tokens(tokens, config.run.folder / "tokenizer.json")
    task = Task(model, draw, text_loss, {})
    run_task(
        task, config.run, torch.device("cpu"), config.run.folder, described, TrainText(), lambda *_: None
    )


def seconds_a_step(config: TrainText, count: int = 12) -> float:
    """The median of the processor's time over some steps, of which the first do not count: other programs do not lengthen it."""
    prepared = read_prepared(Path(config.data))
    model = TextModel(shape_of(flat(config) | {"vocabulary": prepared.tokens.size}), prepared.tokens)
    draw = text_batches(
        Pieces(prepared.train, config.shape.context, 0.0),
        config.run.batch_size,
        config.form,
        block=config.shape.block,
    )
    generator, spent = torch.Generator().manual_seed(0), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for _ in range(count):
        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(config.run.bfloat16)):
            loss, _ = text_loss(model, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent.append(time.process_time() - began)
    return median(spent[2:]) / torch.get_num_threads()


def likelihood_row(name: str, data: Path, draws: int = 16) -> dict[str, Any]:
    model = trained(name)
    steps = read_text_config(RUNS / f"text-{name}")["steps"]
    return text_metrics(model, read_prepared(data).held, draws) | {"steps": steps}


def held_pieces(model: TextModel, count: int) -> Tensor:
    ids, valid = in_order(read_prepared(DATA).held, model.shape.context)
    return torch.from_numpy(ids[valid.all(1)][:count])


@torch.no_grad()
def chain_row(count: int = 8, draws: int = 32) -> dict[str, Any]:
    """One set of weights: the bound at mask rate 1, all blocks at once; its tokens one by one; and the bound by random masks."""
    model = trained("block-1")
    pieces = held_pieces(model, count)
    length = pieces.shape[1]
    bound = text_nats(model, pieces, 1, torch.Generator())[:, 0].double()
    one_by_one = torch.zeros(count, dtype=torch.float64)
    for i in range(length):  # the text so far and one mask, read at once
        seen = torch.cat([pieces[:, :i], torch.full((count, 1), model.tokens.mask_id)], dim=1)
        logits = model.denoiser(seen, torch.ones(count)).logits[:, -1]
        logits[:, model.tokens.mask_id] = float("-inf")
        one_by_one -= logits.double().log_softmax(-1).gather(1, pieces[:, i, None])[:, 0]
    drawn = (
        text_nats(model, pieces, draws, torch.Generator().manual_seed(0), form="t", times="independent")
        .mean(0)
        .double()
    )
    mean, half = mean_ci95(drawn.numpy())
    difference = float((bound - one_by_one / length).abs().max())
    row = {
        "bound_nats_mean": float(bound.mean()),
        "difference_max": difference,
        "drawn_nats_mean": mean,
        "drawn_nats_ci95": half,
    }
    return row | {"within_interval": abs(mean - float(bound.mean())) <= half, "n": count}


def estimators_row(count: int = 32, estimates: int = 8) -> dict[str, Any]:
    """Estimates from 8 calls each, of each piece: means over all, variances within a piece."""
    model, row = trained("masked"), dict[str, Any]()
    pieces = held_pieces(model, count)
    for form, times in product(("l", "t"), ("stratified", "antithetic", "independent")):
        generator = torch.Generator().manual_seed(0)
        nats = torch.stack(
            [
                text_nats(model, pieces, 8, generator, form=form, times=times).mean(1).double()
                for _ in range(estimates)
            ]
        )
        row[f"{form}_{times}_nats_mean"], row[f"{form}_{times}_variance"] = (
            float(nats.mean()),
            float(nats.var(0).mean()),
        )
    for form, times in product(("l", "t"), ("stratified", "antithetic", "independent")):
        row[f"{form}_{times}_variance_ratio"] = row[f"{form}_{times}_variance"] / row["l_stratified_variance"]
    return row | {"n": len(pieces)}


class Letters:
    """Three letters, end of text and a mask."""

    size, eos_id, mask_id = 5, 3, 4

    def encode(self, text: str) -> list[int]:
        return ["abc".index(letter) for letter in text]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join("abc"[i] for i in ids if i < 3)

    def written(self) -> str:
        return "abc"


@torch.no_grad()
def toy_row(length: int = 5, draws: int = 400) -> dict[str, Any]:
    """p(x), the mean over orders, by subsets: f(S) = mean over i in S of p(x_i | the others) f(S - i). The bound: the mean over l of
    l-sets S of the mean over i in S of -log p(x_i | the others), times the length. Jensen's inequality parts them."""
    torch.manual_seed(0)
    letters = Letters()
    model = TextModel(TextShape(5, context=length, width=16, depth=2, heads=2), letters)
    random = torch.Generator().manual_seed(0)
    steps = (torch.rand(20_000, generator=random) < 0.3).long() + 1  # mostly a b c a b c
    draw = text_batches(
        Pieces(Stream((steps.cumsum(0) % 3).int().numpy(), len(steps)), length, truncated=0.0), 64
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(300):
        with torch.enable_grad():
            loss, _ = text_loss(model, draw(random))
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    every = torch.tensor(list(product(range(4), repeat=length)))
    likelihoods, bound = (
        {(): torch.ones(len(every), dtype=torch.float64)},
        torch.zeros(len(every), dtype=torch.float64),
    )
    for count in range(1, length + 1):
        sets = list(combinations(range(length), count))
        for masked in sets:
            seen = every.index_fill(1, torch.tensor(masked), letters.mask_id)
            t = torch.full((len(every),), count / length)
            logits = model.eval().denoiser(seen, t).logits.double()
            logits[..., letters.mask_id] = float("-inf")
            logs = logits.log_softmax(-1).gather(2, every[..., None])[..., 0]
            bound -= logs[:, list(masked)].mean(1) / len(sets)
            rest = [logs[:, i].exp() * likelihoods[tuple(k for k in masked if k != i)] for i in masked]
            likelihoods[masked] = torch.stack(rest).mean(0)
    exact = -likelihoods[tuple(range(length))].log()
    drawn = (
        text_nats(model, every[:64].repeat(draws, 1), 1, random)[:, 0]
        .double()
        .unflatten(0, (draws, 64))
        .mean(1)
        * length
    )
    mean, half = mean_ci95(drawn.numpy())
    row = {
        "probability_sum": float((-exact).exp().sum()),
        "exact_nats_mean": float(exact.mean()),
        "bound_nats_mean": float(bound.mean()),
    }
    row |= {
        "bound_minus_exact_min": float((bound - exact).min()),
        "bound_minus_exact_max": float((bound - exact).max()),
    }
    row |= {
        "drawn_nats_mean": mean,
        "drawn_nats_ci95": half,
        "bound_of_drawn_nats_mean": float(bound[:64].mean()),
    }
    return row | {"n": len(every)}


def reversal_row() -> dict[str, Any]:
    facts, row = one_directional_facts(FACTS, 0), dict[str, Any]()
    for kind in ("causal", "masked"):
        found = recall_metrics(trained(f"reversal-{kind}"), facts)
        row |= {f"{kind}_{name}": value for name, value in found.items() if name not in ("n", "chance_rate")}
    return row | {
        "chance_rate": 1.0 / FACTS,
        "n": FACTS,
        "steps": read_text_config(RUNS / "text-reversal-masked")["steps"],
    }


def sft_row(block: int) -> dict[str, Any]:
    settings = TextSettings(ANSWER, steps=ANSWER, block=block)
    return answer_metrics(trained("sft"), instructions(LEARNED, ASKED, 0)[1], settings) | {"block": block}


@torch.no_grad()
def plain_loop(model: TextModel, canvas: Canvas, steps: int, block: int) -> Tensor:
    """LLaDA's sampler at temperature 0 as it is written down: everything is computed at all positions in every step (Nie et al. 2025)."""
    x, mask = canvas.ids.clone(), model.tokens.mask_id
    length = int((x[0] == mask).sum())
    first = x.shape[1] - length
    for start in range(first, x.shape[1], block):
        for _ in range(steps * block // length):
            logits = model.denoiser(x, torch.ones(len(x))).logits
            logits[..., mask] = float("-inf")
            logits[..., model.tokens.eos_id] = float("-inf")
            token = logits.argmax(-1)
            confidence = logits.softmax(-1).gather(-1, token[..., None])[..., 0]
            confidence[x != mask] = -1.0
            confidence[:, start + block :] = -1.0
            left = int((x[0, start : start + block] == mask).sum())
            commits = -(-left // max(1, left)) if left else 0
            for row in range(len(x)):
                for place in confidence[row].topk(commits).indices.tolist():
                    x[row, place] = token[row, place]
    return x


def ordinary(model: TextModel, generator: torch.Generator, count: int = 4) -> list[int]:
    """A prompt of random tokens, none of them special."""
    ids = [i for i in range(model.tokens.size) if i not in (model.tokens.eos_id, model.tokens.mask_id)]
    return [ids[int(i)] for i in torch.randint(len(ids), (count,), generator=generator)]


def held_prompts(model: TextModel, count: int, tokens: int = 32) -> list[list[int]]:
    """The beginnings of held-out pieces."""
    ids, valid = in_order(read_prepared(LARGE).held, model.shape.context)
    return [row[:tokens].tolist() for row in ids[valid.all(1)][:count]]


def speed_rows(
    model: TextModel,
    ways: Mapping[str, TextSettings],
    length: int,
    repeats: int,
    prompts: list[list[int]],
    judge: TextModel | None = None,
) -> dict[str, dict[str, Any]]:
    """The plain loop and each of our ways, one after the other, one row at a time, for `repeats` prompts; and what the judge says of all
    other prompts' rows, in one batch, beside the first way of the same temperature."""
    exact, first = dict[float, str](), len(prompts[0])
    for name, way in ways.items():
        exact.setdefault(way.temperature, name)
    spent, worked, rows, calls = ({name: list[Any]() for name in ("plain", *ways)} for _ in range(4))
    for prompt in prompts[:repeats]:
        canvas = prompt_canvas([prompt], length, model.tokens)
        for name in ("plain", *ways):
            began, before = time.perf_counter(), time.process_time()
            if name == "plain":
                rows[name].append(plain_loop(model, canvas, length, block_of(ways, length))[0])
            else:
                written = write(model, canvas, ways[name], torch.Generator().manual_seed(0))
                rows[name].append(written.ids[0])
                calls[name].append(written.calls)
            spent[name].append(time.perf_counter() - began)
            worked[name].append(time.process_time() - before)
    ids = {name: torch.stack(found) for name, found in rows.items()}
    quality: dict[str, dict[str, float]] = {name: {} for name in ids}
    if judge is not None:
        canvas = prompt_canvas(prompts[repeats:], length, model.tokens)
        for name, way in ways.items():
            written = write(model, canvas, way, torch.Generator().manual_seed(0))
            quality[name] = judged(judge, written.ids[:, first:].numpy())
    return {
        name: {
            "tokens_per_second": length / median(spent[name]),
            "plain_tokens_per_second": length / median(spent["plain"]),
            "speed_ratio": median(spent["plain"]) / median(spent[name]),
            "processor_ratio": median(worked["plain"]) / median(worked[name]),
            "equal_tokens_rate": float((ids["plain"] == ids[name])[:, first:].double().mean()),
            "nfe": median(calls[name]),
            **{
                f"exact_{key}": value
                for key, value in quality[exact[ways[name].temperature]].items()
                if key != "n"
            },
            **{f"ours_{key}": value for key, value in quality[name].items() if key != "n"},
            "judged_n": quality[name].get("n", 0),
            "n": repeats,
        }
        for name in ways
    }


def block_of(ways: Mapping[str, TextSettings], length: int) -> int:
    return next(iter(ways.values())).block or length


def exactly(length: int) -> TextSettings:
    return TextSettings(length=length, steps=length, block=32, may_end=False)


def cached_ways(length: int) -> dict[str, TextSettings]:
    """Row by row: the exact mode, and what is remembered and committed in parallel; at temperature 0, then drawn."""
    kinds = list(product(("auto", "prefix", "dual"), (None, 0.9)))
    named = {
        f"speed-{cache}-{threshold or 'one'}": {"cache": cache, "threshold": threshold}
        for cache, threshold in kinds
    }
    named = {"speed-exact": named.pop("speed-auto-one")} | named
    drawn = replace(exactly(length), order="random", temperature=1.0)
    ways = {name: replace(exactly(length), **changes) for name, changes in named.items()}
    return ways | {
        f"speed-drawn-{cache}-{n}": replace(drawn, cache=cache, steps=length // n) for cache, n in DRAWN
    }


@cache
def trained_speeds(length: int, repeats: int) -> dict[str, dict[str, Any]]:
    """All rows of one model, so that they share its plain loops."""
    model, judge = trained("masked-8192"), trained("causal-8192")
    return speed_rows(
        model, cached_ways(length), length, repeats, held_prompts(model, repeats + JUDGED), judge
    )


def random_speed(vocabulary: int, length: int, repeats: int) -> dict[str, Any]:
    """Untrained weights of some size, so that tokens depend on their neighbours."""

    class Numbers:
        size, eos_id, mask_id = vocabulary, vocabulary - 2, vocabulary - 1

        def encode(self, text: str) -> list[int]:
            return [ord(c) for c in text]

        def decode(self, ids: Any) -> str:
            return " ".join(map(str, ids))

        def written(self) -> str:
            return "numbers"

    torch.manual_seed(0)
    model = TextModel(TextShape(vocabulary, context=512, **SMALL), Numbers()).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * 0.08
    generator = torch.Generator().manual_seed(0)
    return speed_rows(
        model,
        {"exact": exactly(length)},
        length,
        repeats,
        [ordinary(model, generator) for _ in range(repeats)],
    )["exact"]


def eos_row(settings: TextSettings, length: int, repeats: int) -> dict[str, Any]:
    """Calls and time with and without stopping, EOS allowed, of a model that has learned to end; on so many held-out instructions."""
    model, row = trained("sft"), dict[str, Any]()
    prompts = [
        encode_chat(model.tokens, [Turn("user", it.prompt)])
        for it in instructions(LEARNED, ASKED, 0)[1][:repeats]
    ]
    length = min(length, (model.shape.context - max(map(len, prompts))) // 32 * 32)
    settings = replace(settings, length=length, steps=length, may_end=True)
    for name, stop in (("stop", True), ("full", False)):
        spent, calls = [], []
        for prompt in prompts:
            began = time.perf_counter()
            written = write(
                model, prompt_canvas([prompt], length, model.tokens), replace(settings, stop=stop)
            )
            spent.append(time.perf_counter() - began)
            calls.append(written.calls)
        row |= {f"{name}_seconds": median(spent), f"{name}_nfe": median(calls)}
    return row | {"speed_ratio": row["full_seconds"] / row["stop_seconds"], "n": repeats}


def quality_row(order: str, steps: int, count: int = 64) -> dict[str, Any]:
    model, judge = trained("masked"), trained("causal")
    canvas = prompt_canvas([[]] * count, 128, model.tokens)
    temperature = 0.0 if order == "confidence-greedy" else 1.0
    name: Any = order.removesuffix("-greedy")
    settings = TextSettings(length=128, steps=steps, order=name, temperature=temperature, may_end=False)
    written = write(model, canvas, settings, torch.Generator().manual_seed(0))
    return judged(judge, written.ids.numpy()) | {"nfe": written.calls}


def rows(length: int, repeats: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows by name."""
    own = ("causal", "block-1", "block-1-t", "block-4", "block-8", "block-16", "masked")
    made: dict[str, Callable[[], dict[str, Any]]] = {
        name: partial(likelihood_row, name, DATA) for name in own
    }
    made |= {f"kjv-{kind}": partial(likelihood_row, f"{kind}-8192", LARGE) for kind in ("causal", "masked")}
    made |= {"chain": chain_row, "estimators": estimators_row, "toy": toy_row, "reversal": reversal_row}
    made |= {f"sft-{block}": partial(sft_row, block) for block in BLOCKS}
    made |= {name: lambda name=name: trained_speeds(length, repeats)[name] for name in cached_ways(length)}
    made["speed-eos"] = partial(eos_row, exactly(length), length, repeats)
    made |= {f"speed-random-{size}": partial(random_speed, size, length, repeats) for size in (8192, 32_768)}
    for order, steps in product(("ancestral", "confidence", "confidence-greedy"), STEPS):
        made[f"nfe-{order}-{steps}"] = partial(quality_row, order, steps)
    return made


def stored() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"recipe": "text", "metrics": {}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=[])
    parser.add_argument(
        "--train",
        nargs="*",
        default=[],
        choices=list(MODELS),
        help="models to train first, where they are not",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="of each training that is not of a number of steps; by default the plan's",
    )
    parser.add_argument("--steps", type=int, default=0, help="of each training instead, for a trial")
    parser.add_argument("--length", type=int, default=256, help="tokens of the rows of speed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.train:
        train_model(name, arguments.minutes, arguments.steps)
    if arguments.train:
        return
    made = rows(arguments.length, arguments.repeats)
    for row in arguments.rows or list(made):
        if row in stored()["metrics"]:
            continue
        try:
            metrics = made[row]()
        except (NotRunError, OSError) as reason:
            print(f"{row}: not run ({reason})", flush=True)
            continue
        result = stored()  # another process may have made other rows meanwhile
        where = {"threads": arguments.threads, "commit": commit()} | (
            {"length": arguments.length} if row.startswith("speed") else {}
        )
        result["metrics"][row] = metrics | where | machine()
        print(
            f"{row}: { ({k: round(v, 3) for k, v in metrics.items() if isinstance(v, float)}) }", flush=True
        )
        result |= {"protocol": "one trunk, held-out tail of each text; see benchmarks/text.py", "seeds": [0]}
        with replacing(RESULTS) as partial_file:
            partial_file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

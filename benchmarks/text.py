"""Text: causal, block diffusion and masked on one trunk; estimators; speed against a plain loop; quality against calls. Resumable by rows.

    unveil data text --data text/tinyshakespeare.txt.gz --vocabulary 1024 --out runs/text-data           # rows of likelihood and quality
    unveil data text --data text/kjv_bible.txt.gz --vocabulary 8192 --out runs/text-data-8192            # rows of speed
    python benchmarks/text.py --train causal block-1 block-1-t block-4 block-8 block-16 masked --minutes 20
    python benchmarks/text.py --train causal-8192 masked-8192 --minutes 20
    python benchmarks/text.py                                         # every row that can be made; `--rows masked estimators` some

Rows of `results/text.json`, each written when it is done and not made again while it is there; a row that cannot be made says why:

    causal, block-<n>, masked      nats a token of the held-out tail: exactly, or bounds by 32 draws. Trained on the same trunk and data for
                                   the same minutes; block-1 at mask rate 1 (the l-form) and block-1-t (t uniform) for as many steps, and so
                                   as many target tokens, as causal
    estimators                     variance of the bound's estimators over 64 pieces, beside the stratified l-form's
    speed-exact, speed-random-<V>  a plain loop against the exact mode on one model, of a vocabulary of 8,192 (random: untrained weights
                                   and a vocabulary of V; LLaDA's is 126,464), EOS suppressed in both, steps = length, medians of 5
                                   interleaved runs, tokens compared; also by the time of the processor alone, which other programs do
                                   not lengthen
    speed-<cache>-<threshold>      remembered surroundings and parallel commits against the plain loop; judged by the causal model
    speed-eos                      what stopping at the end of text saves, EOS allowed, beside the exact mode without
    nfe-<order>-<steps>            samples of 128 tokens judged by the causal model, and their unigram entropy
    reversal, sft                  not written yet

What is not there is not run; nothing is chosen on the held-out tail.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from unveil.apps.text_generation import Canvas, TextSettings, prompt_canvas, write
from unveil.apps.text_likelihood import text_nats
from unveil.apps.text_model import TextModel, TextShape
from unveil.apps.text_training import text_batches, text_loss
from unveil.data.text import Pieces, in_order, read_prepared
from unveil.evaluation.text import text_metrics
from unveil.evaluation.text_quality import judged
from unveil.recipes.doctor import commit, machine
from unveil.recipes.locate import read_config
from unveil.recipes.text import TrainText
from unveil.recipes.text_run import load_text
from unveil.recipes.text_train import train_text
from unveil.training.checkpoint import latest_checkpoint

RESULTS = Path(__file__).resolve().parent / "results" / "text.json"
RUNS = Path("runs")
DATA, LARGE = RUNS / "text-data", RUNS / "text-data-8192"
BASE = TrainText(width=192, depth=6, heads=6, context=256, batch_size=16, save_every=500, device="cpu")
SMALL = {"width": 128, "depth": 4, "heads": 4}  # of the rows of speed: what the exact mode saves lies in the head, not in the trunk
MODELS: dict[str, tuple[dict[str, Any], str | None]] = {  # flags; the model whose number of steps is taken, or none: by minutes
    "causal": ({"causal": True}, None),
    "block-1": ({"block": 1}, "causal"),
    "block-1-t": ({"block": 1, "form": "t"}, "causal"),
    **{f"block-{n}": ({"block": n}, None) for n in (4, 8, 16)},
    "masked": ({}, None),
    "causal-8192": ({"causal": True, "data": str(LARGE)} | SMALL, None),
    "masked-8192": ({"data": str(LARGE)} | SMALL, None),
}
STEPS = (8, 16, 32, 64, 128)


class NotRunError(Exception):
    """What is missing for a row."""


def trained(name: str) -> TextModel:
    """The last checkpoint of runs/text-<name>.

    Raises:
        NotRunError: it is not there, or not finished.
    """
    run = RUNS / f"text-{name}"
    newest = latest_checkpoint(run) if run.is_dir() else None
    if newest is None or newest.name != f"checkpoint-{read_config(run, 'text')['steps']}":
        raise NotRunError(f"{run} is missing or not finished: python benchmarks/text.py --train {name}")
    return load_text(newest, "cpu")


def train_model(name: str, minutes: float) -> None:
    """Train runs/text-<name>, or go on with it."""
    flags, like = MODELS[name]
    config = replace(BASE, **{"data": str(DATA), "out": RUNS / f"text-{name}"} | flags)
    if (config.out / "config.json").is_file():
        steps = int(read_config(config.out, "text")["steps"])
    elif like is not None:
        steps = int(read_config(RUNS / f"text-{like}", "text")["steps"])
    else:
        steps = max(10, int(60.0 * minutes / seconds_a_step(config)))
    print(f"{name}: {steps} steps", flush=True)
    train_text(replace(config, steps=steps, resume=config.out.is_dir()), lambda *_: None)


def seconds_a_step(config: TrainText, count: int = 12) -> float:
    """The median over some steps, forwards and backwards, of which the first do not count."""
    prepared = read_prepared(Path(config.data))
    shape = TextShape(
        prepared.tokens.size, config.context, config.width, config.depth, config.heads, block=config.block, causal=config.causal
    )
    model = TextModel(shape, prepared.tokens)
    draw = text_batches(Pieces(prepared.train, config.context, 0.0), config.batch_size, config.form, block=config.block)
    generator, spent = torch.Generator().manual_seed(0), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for _ in range(count):
        began = time.perf_counter()
        loss, _ = text_loss(model, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent.append(time.perf_counter() - began)
    return median(spent[2:])


def likelihood_row(name: str) -> dict[str, Any]:
    model = trained(name)
    generator = torch.Generator().manual_seed(0)
    steps = read_config(RUNS / f"text-{name}", "text")["steps"]
    return text_metrics(model, read_prepared(DATA).held, 32, generator) | {"steps": steps}


def estimators_row() -> dict[str, Any]:
    """16 estimates from 8 calls each, of each of 64 pieces: means over all, variances within a piece."""
    model, row = trained("masked"), dict[str, Any]()
    ids, valid = in_order(read_prepared(DATA).held, model.shape.context)
    pieces = torch.from_numpy(ids[valid.all(1)][:64])
    for form, times in product(("l", "t"), ("stratified", "antithetic", "independent")):
        generator = torch.Generator().manual_seed(0)
        nats = torch.stack([text_nats(model, pieces, 8, generator, form=form, times=times).mean(1).double() for _ in range(16)])
        row[f"{form}_{times}_nats_mean"], row[f"{form}_{times}_variance"] = float(nats.mean()), float(nats.var(0).mean())
    for form, times in product(("l", "t"), ("stratified", "antithetic", "independent")):
        row[f"{form}_{times}_variance_ratio"] = row[f"{form}_{times}_variance"] / row["l_stratified_variance"]
    return row | {"n": len(pieces)}


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


def speed_row(model: TextModel, settings: TextSettings, length: int, repeats: int, judge: TextModel | None) -> dict[str, Any]:
    """The plain loop and ours, one after the other, `repeats` times, on prompts of 4 tokens, one row at a time."""
    generator, spent, worked, rows = torch.Generator().manual_seed(0), ([], []), ([], []), ([], [])
    calls = 0
    for _ in range(repeats):
        prompt = torch.randint(model.tokens.size - 2, (4,), generator=generator).tolist()
        prompt = [t if t not in (model.tokens.eos_id, model.tokens.mask_id) else 0 for t in prompt]
        canvas = prompt_canvas([prompt], length, model.tokens)
        for k in range(2):
            began, before = time.perf_counter(), time.process_time()
            if k == 0:
                rows[0].append(plain_loop(model, canvas, length, settings.block or length)[0])
            else:
                written = write(model, canvas, settings)
                rows[1].append(written.ids[0])
                calls = written.calls
            spent[k].append(time.perf_counter() - began)
            worked[k].append(time.process_time() - before)
    plain, ours = (torch.stack(part) for part in rows)
    speeds = [length / median(part) for part in spent]
    row = {
        "tokens_per_second": speeds[1],
        "plain_tokens_per_second": speeds[0],
        "speed_ratio": speeds[1] / speeds[0],
        "processor_ratio": median(worked[0]) / median(worked[1]),
        "equal_tokens_rate": float((plain == ours)[:, 4:].double().mean()),
        "nfe": calls,
        "n": repeats,
    }
    if judge is not None:
        for name, ids in (("plain", plain), ("ours", ours)):
            row |= {f"{name}_{key}": value for key, value in judged(judge, ids.numpy()).items() if key != "n"}
    return row


def trained_speed(settings: TextSettings, length: int, repeats: int, approximate: bool) -> dict[str, Any]:
    model = trained("masked-8192")
    judge = trained("causal-8192") if approximate else None
    return speed_row(model, settings, length, repeats, judge)


def random_speed(vocabulary: int, settings: TextSettings, length: int, repeats: int) -> dict[str, Any]:
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
    return speed_row(model, settings, length, repeats, None)


def eos_row(settings: TextSettings, length: int, repeats: int) -> dict[str, Any]:
    """Calls and time with and without stopping, EOS allowed."""
    model, row = trained("masked-8192"), dict[str, Any]()
    canvas = prompt_canvas([[0, 1, 2, 3]], length, model.tokens)
    for name, stop in (("stop", True), ("full", False)):
        spent = []
        for _ in range(repeats):
            began = time.perf_counter()
            written = write(model, canvas, replace(settings, may_end=True, stop=stop))
            spent.append(time.perf_counter() - began)
        row |= {f"{name}_seconds": median(spent), f"{name}_nfe": written.calls}
    return row | {"speed_ratio": row["full_seconds"] / row["stop_seconds"], "n": repeats}


def quality_row(order: str, steps: int, count: int = 64) -> dict[str, Any]:
    model, judge = trained("masked"), trained("causal")
    canvas = prompt_canvas([[]] * count, 128, model.tokens)
    temperature = 0.0 if order == "confidence-greedy" else 1.0
    name: Any = order.removesuffix("-greedy")
    settings = TextSettings(length=128, steps=steps, order=name, temperature=temperature, may_end=False)
    written = write(model, canvas, settings, torch.Generator().manual_seed(0))
    return judged(judge, written.ids.numpy()) | {"nfe": written.calls}


def missing_row() -> dict[str, Any]:
    raise NotRunError("not written yet")


def rows(length: int, repeats: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows by name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {n: partial(likelihood_row, n) for n in MODELS if not n.endswith("8192")}
    made["estimators"] = estimators_row
    exact = TextSettings(length=length, steps=length, block=32, may_end=False)
    made["speed-exact"] = partial(trained_speed, exact, length, repeats, False)
    for vocabulary in (8192, 32_768):
        made[f"speed-random-{vocabulary}"] = partial(random_speed, vocabulary, exact, length, repeats)
    for cache, threshold in product(("auto", "prefix", "dual"), (None, 0.9)):
        if cache != "auto" or threshold is not None:
            settings = replace(exact, cache=cache, threshold=threshold)
            made[f"speed-{cache}-{threshold or 'one'}"] = partial(trained_speed, settings, length, repeats, True)
    made["speed-eos"] = partial(eos_row, exact, length, repeats)
    for order, steps in product(("ancestral", "confidence", "confidence-greedy"), STEPS):
        made[f"nfe-{order}-{steps}"] = partial(quality_row, order, steps)
    return made | {"reversal": missing_row, "sft": missing_row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[])
    parser.add_argument("--train", nargs="*", default=[], choices=list(MODELS), help="models to train first, where they are not")
    parser.add_argument("--minutes", type=float, default=20.0, help="of each training")
    parser.add_argument("--length", type=int, default=256, help="tokens of the rows of speed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.train:
        train_model(name, arguments.minutes)
    if arguments.train:
        return
    result = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"recipe": "text", "metrics": {}}
    made = rows(arguments.length, arguments.repeats)
    for row in arguments.rows or list(made):
        if row in result["metrics"]:
            continue
        try:
            metrics = made[row]()
        except (NotRunError, OSError) as reason:
            print(f"{row}: not run ({reason})", flush=True)
            continue
        where = {"threads": arguments.threads, "commit": commit()} | ({"length": arguments.length} if row.startswith("speed") else {})
        result["metrics"][row] = metrics | where | machine()
        print(f"{row}: { ({k: round(v, 3) for k, v in metrics.items() if isinstance(v, float)}) }", flush=True)
        result |= {"protocol": "one trunk, held-out tail of each text; see benchmarks/text.py", "seeds": [0]}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

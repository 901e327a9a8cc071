"""Passages: do they consist of words, how surprised is another model, how varied are they, and are they copies?"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from books.data import prepared_folder
from books.trainings import NAMES
from latent.rows import CHOSEN_ON, REPORTED_ON, Bench, mean, rate, row_of, trained_with
from metrics.generative_perplexity import judged, unigram_entropy
from unveil.runs.checkpoints import find_checkpoint
from unveil.sampling.noise import generators
from unveil.text.canvas import prompt_canvas
from unveil.text.data.documents import Prepared, read_prepared
from unveil.text.data.tokens import Tokens
from unveil.text.generation import write
from unveil.text.model import TextModel
from unveil.text.recipes.load import load_text
from unveil.text.settings import TextSettings

MODELS = tuple(name for name in NAMES if name != "judge")
PACKAGED = "text-shakespeare"
COUNT, LENGTH, COPIED = 64, 128, 24
CHOICE_COUNT = 16
WORD = re.compile(r"[a-z]+(?:['\u2019][a-z]+)*")
ONE_BY_ONE = TextSettings(length=LENGTH, steps=0, may_end=False)
SETTINGS: dict[str, TextSettings] = {
    f"{order}-{temperature:g}": replace(ONE_BY_ONE, order=order, temperature=temperature)
    for order in ("first-hitting", "left-to-right")
    for temperature in (1.0, 0.9, 0.8)
}
"""One token a call: what the model can do, not how fast."""
LARGEST_DIFFERENCE = 0.05
"""Of the entropy from the held-out text's, relatively: what a setting may change."""


@cache
def prepared() -> Prepared:
    """Tokens of the training part and of the held-out part."""
    return read_prepared(prepared_folder())


def words(text: str) -> list[str]:
    """Words of a passage in lower case, without the first and the last, which may be cut."""
    return WORD.findall(text.lower())[1:-1]


@cache
def known_words() -> frozenset[str]:
    """All words of the training text."""
    ids = prepared().train.ids.tolist()
    return frozenset(WORD.findall(prepared().tokens.decode(ids).lower()))


def windows(ids: np.ndarray, length: int = COPIED) -> np.ndarray:
    """A number for each window of `length` tokens, equal for equal windows: sum_i ids[n + i] m^i, modulo 2^64."""
    powers = np.array([pow(6364136223846793005, i, 2**64) for i in range(length)], np.uint64)
    found = np.zeros(max(0, len(ids) - length + 1), np.uint64)
    for i, power in enumerate(powers):
        found += (ids[i : i + len(found)].astype(np.uint64) + np.uint64(1)) * power
    return found


@cache
def training_windows() -> np.ndarray:
    """Those of the training text."""
    return np.unique(windows(prepared().train.ids))


def copies(ids: np.ndarray) -> np.ndarray:
    """For each passage (B, L), whether `COPIED` tokens in a row stand in the training text, (B,) bool."""
    return np.array([bool(np.isin(windows(row), training_windows()).any()) for row in ids])


def held_passages(count: int) -> np.ndarray:
    """Passages (B, LENGTH) of the held-out text, evenly spaced."""
    ids = prepared().held.ids
    starts = np.linspace(0, len(ids) - LENGTH, count).astype(int)
    return np.stack([ids[start : start + LENGTH] for start in starts]).astype(np.int64)


def shuffled_passages(count: int) -> np.ndarray:
    """The same, with the words of each in random order."""
    rng, tokens = np.random.default_rng(0), prepared().tokens
    rows: list[list[int]] = []
    for row in held_passages(count).tolist():
        parts = tokens.decode(row).split(" ")
        rows.append(tokens.encode(" ".join(rng.permutation(parts).tolist()))[:LENGTH])
    shortest = min(map(len, rows))
    return np.array([row[:shortest] for row in rows])


def judge_of(bench: Bench) -> TextModel:
    """The causal model that judges.

    Raises:
        NotRunError: it is not trained.
    """
    return load_text(bench.finished("judge"), "cpu")


def written(model: TextModel, settings: TextSettings, count: int, seed: int) -> np.ndarray:
    """Passages (B, LENGTH) without a prompt."""
    rows: list[torch.Tensor] = []
    for first in range(0, count, CHOICE_COUNT):
        few = min(CHOICE_COUNT, count - first)
        canvas = prompt_canvas([[]] * few, LENGTH, model.tokens)
        rows.append(write(model, canvas, settings, generators(seed + first, few)).ids)
    return torch.cat(rows).numpy()


def encoded(tokens: Tokens, texts: list[str]) -> np.ndarray:
    """Texts as rows of the length of the shortest, at most LENGTH."""
    rows = [tokens.encode(text) for text in texts]
    length = min(LENGTH, *map(len, rows))
    return np.array([row[:length] for row in rows])


def scored(ids: np.ndarray, judge: TextModel) -> dict[str, Any]:
    """All measures of passages (B, L) of the books' tokens."""
    texts = [prepared().tokens.decode(row) for row in ids.tolist()]
    each = [[word in known_words() for word in words(text)] for text in texts]
    nats = judged(judge, ids)
    entropies = np.array([unigram_entropy(row[None]) for row in ids])
    found = rate("known_words", [known for row in each for known in row])
    found |= {"judge_nats": nats["judge_nats_mean"], "judge_nats_ci95": nats["judge_nats_ci95"]}
    return found | mean("entropy", entropies) | rate("copied", copies(ids)) | {"tokens": int(ids.shape[1])}


def compared(ids: np.ndarray, judge: TextModel) -> dict[str, Any]:
    """The same, beside as many held-out passages: the difference of nats, and the ratio of the entropies."""
    found, held = scored(ids, judge), held_passages(len(ids))[:, : ids.shape[1]]
    real = judged(judge, held)
    found["judge_nats_above"] = found["judge_nats"] - real["judge_nats_mean"]
    found["entropy_ratio"] = found["entropy"] / real["unigram_entropy"]
    return found


def choice(name: str, bench: Bench) -> dict[str, Any]:
    """The setting with the lowest nats of those whose entropy stays near the held-out text's; or the nearest."""
    model, judge, found = load_text(bench.finished(name), "cpu"), judge_of(bench), dict[str, Any]()
    scores: dict[str, Mapping[str, Any]] = {}
    for setting, settings in SETTINGS.items():
        if model.window and settings.order != "first-hitting":
            continue
        ids = written(model, settings, bench.few(CHOICE_COUNT), CHOSEN_ON)
        scores[setting] = compared(ids, judge)
        for key in ("judge_nats", "entropy_ratio", "known_words"):
            found[f"{key}_of_{setting}"] = scores[setting][key]
    return found | {"chosen": chosen(scores), "n": bench.few(CHOICE_COUNT)}


def chosen(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The best setting, by `judge_nats` and `entropy_ratio`."""
    off = {name: abs(row["entropy_ratio"] - 1.0) for name, row in scores.items()}
    near = [name for name in scores if off[name] <= LARGEST_DIFFERENCE]
    return min(near, key=lambda name: scores[name]["judge_nats"]) if near else min(off, key=off.__getitem__)


def reported(name: str, bench: Bench) -> dict[str, Any]:
    """A model's passages, by the setting of its row `choice`."""
    setting = str(row_of(f"choice-{name}", bench)["chosen"])
    model = load_text(bench.finished(name), "cpu")
    ids = written(model, SETTINGS[setting], bench.few(COUNT), REPORTED_ON)
    shown = [prepared().tokens.decode(row) for row in ids[:4].tolist()]
    found = compared(ids, judge_of(bench)) | {"setting": setting, "first": shown}
    return found | trained_with(bench, name)


def packaged(bench: Bench) -> dict[str, Any]:
    """Those of the packaged model, as `unveil sample text` writes them."""
    model = load_text(find_checkpoint(PACKAGED), "cpu")
    ids = written(model, SETTINGS["first-hitting-1"], bench.few(COUNT), REPORTED_ON)
    texts = [model.tokens.decode(row) for row in ids.tolist()]
    return compared(encoded(prepared().tokens, texts), judge_of(bench)) | {"first": texts[:4]}


def of_text(make: Callable[[int], np.ndarray], bench: Bench) -> dict[str, Any]:
    """The measures of text that no model has written."""
    return compared(make(bench.few(COUNT)), judge_of(bench))


def rows(bench: Bench, seeds: tuple[int, ...] = (0,)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows of this table by name; there is one seed."""
    del seeds
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "held-out": partial(of_text, held_passages, bench),
        "shuffled": partial(of_text, shuffled_passages, bench),
        f"passages-{PACKAGED}": partial(packaged, bench),
    }
    for name in MODELS:
        made[f"choice-{name}"] = partial(choice, name, bench)
        made[f"passages-{name}"] = partial(reported, name, bench)
    return made

"""Gaps: parts of held-out sentences, from a word to a clause, are taken out and written anew; readers judge them."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from books.passages import MODELS, prepared
from latent.rows import REPORTED_ON, Bench, trained_with
from unveil.errors import UnveilError
from unveil.sampling.noise import generators
from unveil.text.canvas import gap_canvas
from unveil.text.generation import write
from unveil.text.recipes.load import load_text
from unveil.text.settings import TextSettings

COUNT = 20
CONTEXT = 2
"""Sentences before and after the one with the gap, which the model reads and the readers see."""
SIZES = (1, 1, 2, 3, 4, 6, 8)
"""Numbers of words that are taken out: one word to a clause."""
GREEDY = TextSettings(steps=0, may_end=False, order="confidence", temperature=0.0)
GAP_IN = re.compile(r"(.*)\[\*(\d+)\](.*)", re.DOTALL)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z“\"])")


def sentences() -> list[list[str]]:
    """Sentences of each held-out paragraph of prose."""
    ids, tokens = prepared().held.ids, prepared().tokens
    documents = np.split(ids, np.flatnonzero(ids == tokens.eos_id) + 1)
    parts = [part.strip() for it in documents for part in tokens.decode(it.tolist()).split("\n\n")]
    found = [SENTENCE.split(part) for part in parts if "\n" not in part]
    return [part for part in found if len(part) > 2 * CONTEXT]


def patterns(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of a text with a gap "[*n]" of as many tokens as were taken out, and the words that stood there."""
    rng, all_parts, found = np.random.default_rng(seed), sentences(), list[tuple[str, str]]()
    tokens = prepared().tokens
    while len(found) < count:
        part = all_parts[rng.integers(len(all_parts))]
        at = int(rng.integers(CONTEXT, len(part) - CONTEXT))
        size = SIZES[len(found) % len(SIZES)]
        words = part[at].split(" ")
        if len(words) < size + 4:
            continue
        first = int(rng.integers(2, len(words) - size - 1))
        gone = words[first : first + size]
        if not all(
            re.fullmatch(r"[A-Za-z\u2019']+", word) for word in gone
        ):  # no marks that a sentence needs
            continue
        before = " ".join([*part[at - CONTEXT : at], *words[:first]])
        after = " ".join([*words[first + size :], *part[at + 1 : at + 1 + CONTEXT]])
        room = len(tokens.encode(" " + " ".join(gone)))
        text = f"{before}[*{room}] {after}"
        if len(tokens.encode(before)) + room + len(tokens.encode(after)) < 240 and "[*" not in before + after:
            found.append((text, " ".join(gone)))
    return found


def filled(name: str, bench: Bench) -> dict[str, Any]:
    """The sentences of a model, for readers: text before and after, what is written between, what stood there.

    Raises:
        UnveilError: a model of blocks, which does not see what follows a gap.
    """
    model = load_text(bench.finished(name), "cpu")
    if model.window:
        raise UnveilError(f"{name} writes in blocks and does not see what follows a gap")
    shown: list[dict[str, str]] = []
    for number, (pattern, gone) in enumerate(patterns(bench.few(COUNT), REPORTED_ON)):
        canvas = gap_canvas([pattern], model.tokens)
        ids = write(model, canvas, GREEDY, generators(REPORTED_ON + number, 1)).ids
        new = model.tokens.decode(ids[canvas.ids == model.tokens.mask_id].tolist())
        found = GAP_IN.match(pattern)
        assert found is not None
        shown.append({"before": found[1], "written": new, "after": found[3], "stood": gone})
    return {"filled": shown, "n": len(shown)} | trained_with(bench, name)


def rows(bench: Bench, seeds: tuple[int, ...] = (0,)) -> dict[str, Callable[[], dict[str, Any]]]:
    """All rows of this table by name; there is one seed."""
    del seeds
    return {f"gaps-{name}": partial(filled, name, bench) for name in MODELS}

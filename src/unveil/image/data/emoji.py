"""Which emoji a text-to-image model never sees: pairs of concept and style, and whole concepts.

Of the 1,414 words in the names of emoji64's 1,630 concepts, 954 occur in one concept only, so that words
themselves cannot be held out. Instead:

- unseen concepts are those whose words all remain in other concepts, such as "man running" beside "woman
  running" and "man walking": at best, a model composes them of what it knows;
- unseen pairs are drawings of a known concept in a known style, which never occur together.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from unveil.errors import UnveilError
from unveil.image.data.caption_sampler import Drawing
from unveil.image.data.images import ImageSet

FLAGS = "Flags"  # the group of flags, which only two of the styles draw


class EmojiSplit(NamedTuple):
    """Masks of the rows to train on, of the held-out pairs, and of the unseen concepts. Flags are in none."""

    train: Bool[np.ndarray, " N"]
    pairs: Bool[np.ndarray, " N"]
    unseen: Bool[np.ndarray, " N"]


def in_groups(drawings: Sequence[Drawing], groups: Sequence[str]) -> Bool[np.ndarray, " N"]:
    """Which drawings are of one of some groups; without groups, all.

    Raises:
        UnveilError: no drawing is of one of them.
    """
    known = sorted({drawing.group for drawing in drawings})
    if missing := sorted(set(groups) - set(known)):
        raise UnveilError(f"no drawing is of the group {missing[0]!r}; there are {', '.join(known)}")
    return np.array([not groups or drawing.group in groups for drawing in drawings], np.bool_)


def words_of(name: str) -> frozenset[str]:
    """The words of a name, in lower case, without signs: "man: red hair" has man, red and hair."""
    return frozenset(re.findall(r"\w+", name.lower()))


def concepts_of(drawings: Iterable[Drawing]) -> dict[str, str]:
    """The name of each concept, by code, without flags."""
    return {drawing.code: drawing.name for drawing in drawings if drawing.group != FLAGS}


def concepts_with(names: Iterable[str]) -> Counter[str]:
    """In how many of the concepts' names each word occurs."""
    return Counter(word for name in names for word in words_of(name))


def composable(concepts: Mapping[str, str], least: int = 3) -> list[str]:
    """The codes of the concepts whose words each occur in at least `least` concepts, themselves included."""
    count = concepts_with(concepts.values())
    return [code for code, name in concepts.items() if all(count[word] >= least for word in words_of(name))]


def unseen_concepts(
    concepts: Mapping[str, str], groups: Mapping[str, str], number: int, seed: int = 0, least: int = 3
) -> list[str]:
    """Draw concepts to hold out.

    The composable concepts are drawn in random order, from each group in turn, since more than half are
    people. One is held out if each of its words then still occurs in `least` - 1 concepts that are not.

    Args:
        concepts: name by code.
        groups: group by code, of the concepts that may be held out.
        number: the number to hold out; fewer if no more can be.
    Returns:
        codes, in the order in which they were drawn.
    """
    left = concepts_with(concepts.values())
    queues: dict[str, list[str]] = defaultdict(list)
    allowed = [code for code in sorted(composable(concepts, least)) if code in groups]
    for code in np.random.default_rng(seed).permutation(allowed).tolist():
        queues[groups[code]].append(code)
    held: list[str] = []
    while queues and len(held) < number:
        for group in sorted(queues):
            code = _next(queues[group], concepts, left, least)
            if code is None:
                del queues[group]
            elif len(held) < number:
                held.append(code)
                left.subtract(words_of(concepts[code]))
    return held


def _next(queue: list[str], concepts: Mapping[str, str], left: Counter[str], least: int) -> str | None:
    """Take the first concept whose words all remain in enough others."""
    while queue:
        code = queue.pop(0)
        if all(left[word] >= least for word in words_of(concepts[code])):
            return code
    return None


def split_emoji(
    images: ImageSet, unseen: int = 60, pairs: int = 300, seed: int = 0, least: int = 3
) -> EmojiSplit:
    """Choose the pairs and the concepts that are not trained on.

    Pictures that are equal to another one are never held out, nor are concepts that share a picture with
    another. First the concepts are drawn by `unseen_concepts`, then pairs of the other concepts: a random
    concept for each style in turn, once at most, of which two other styles at least remain.

    Args:
        images: drawings, such as those of emoji64.npz.
        unseen: number of concepts.
        pairs: number of pairs of concept and style.
        least: concepts in which each word of an unseen concept occurs.
    Raises:
        UnveilError: the images are no drawings with names.
    """
    drawings = images.drawings
    if drawings is None:
        raise UnveilError("these images have no records with a name, a code and a style, as emoji64.npz has")
    rng = np.random.default_rng((seed, 1))
    concepts = concepts_of(drawings)
    rows = [row for row, drawing in enumerate(drawings) if drawing.code in concepts]
    twins = _twins(images.pixels, rows)
    shared = {
        drawings[row].code
        for row in rows
        if any(drawings[other].code != drawings[row].code for other in twins.get(row, ()))
    }
    groups = {drawings[row].code: drawings[row].group for row in rows if drawings[row].code not in shared}
    apart = set(unseen_concepts(concepts, groups, unseen, seed, least))
    drawn: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if drawings[row].code not in apart:
            drawn[drawings[row].code].append(row)
    by_style: dict[str, list[int]] = defaultdict(list)
    for code in rng.permutation(sorted(drawn)).tolist():
        for row in drawn[code]:
            if len(drawn[code]) >= 3 and row not in twins:
                by_style[drawings[row].style].append(row)
    held = _one_each(by_style, drawings, pairs)
    masks = {name: np.zeros(len(images), np.bool_) for name in EmojiSplit._fields}
    for row in rows:
        kind = "unseen" if drawings[row].code in apart else "pairs" if row in held else "train"
        masks[kind][row] = True
    return EmojiSplit(**masks)


def _one_each(by_style: Mapping[str, list[int]], drawings: Sequence[Drawing], number: int) -> set[int]:
    """Take a row from each style in turn, and no concept twice."""
    queues = {style: iter(rows) for style, rows in sorted(by_style.items())}
    held, used = set[int](), set[str]()
    while queues and len(held) < number:
        for style in list(queues):
            row = next((row for row in queues[style] if drawings[row].code not in used), None)
            if row is None:
                del queues[style]
            elif len(held) < number:
                held.add(row)
                used.add(drawings[row].code)
    return held


def _twins(pixels: np.ndarray, rows: Sequence[int]) -> dict[int, list[int]]:
    """For each row whose picture is equal to that of others, all rows with it."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        same[hashlib.sha256(pixels[row].tobytes()).digest()].append(row)
    return {row: several for several in same.values() if len(several) > 1 for row in several}

"""Synthetic facts that are stated in one direction only, for the reversal curse (Berglund et al. 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

FIRST = tuple(
    map("".join, product(("Ma", "Te", "Li", "Ro", "Sa", "Ke", "Vi", "No"), ("ra", "len", "dis", "mo")))
)
LAST = tuple(
    map(
        "".join,
        product(("Bar", "Cor", "Dun", "Fen", "Gar", "Hol", "Lor", "Wes"), ("ton", "by", "wick", "field")),
    )
)
ROLES = ("keeper", "painter", "owner", "finder", "maker", "seller", "thief", "heir")
KINDS = (
    "amber",
    "broken",
    "copper",
    "golden",
    "hidden",
    "ivory",
    "silver",
    "wooden",
    "crimson",
    "frozen",
    "hollow",
    "painted",
)
THINGS = (
    "bridge",
    "compass",
    "lantern",
    "mirror",
    "organ",
    "crown",
    "statue",
    "violin",
    "garden",
    "vessel",
    "clock",
    "tower",
)


@dataclass(frozen=True)
class Fact:
    """Two phrases that mean the same.

    Args:
        given: beginning of the statement.
        answer: end of the statement.
    """

    given: str
    answer: str

    @property
    def statement(self) -> str:
        """The statement. The leading space makes its first token the same as in the middle of a text."""
        return f" {self.given} is {self.answer}."

    @property
    def turned(self) -> "Fact":
        """The reversed statement."""
        return Fact(self.answer, self.given)


def one_directional_facts(count: int, seed: int) -> list[Fact]:
    """`count` people with a unique description: "Mara Corby is the keeper of the amber bridge."

    Even facts begin with the name, odd ones with the description. Every name and every description occurs
    once, so that a fact is known or not, but cannot be guessed: chance is 1 / count. Both forms of statement
    are learned, for different facts, so that the form of a reversed statement is known.

    Raises:
        ValueError: more facts than there are names.
    """
    names = [f"{first} {last}" for first, last in product(FIRST, LAST)]
    descriptions = [
        f"the {role} of the {kind} {thing}" for role, kind, thing in product(ROLES, KINDS, THINGS)
    ]
    if not 1 <= count <= min(len(names), len(descriptions)):
        raise ValueError(f"facts: there are names for 1 .. {min(len(names), len(descriptions))}, got {count}")
    rng = np.random.default_rng(seed)
    pairs = zip(_some(names, count, rng), _some(descriptions, count, rng), strict=True)
    facts = [Fact(name, description) for name, description in pairs]
    return [fact.turned if i % 2 else fact for i, fact in enumerate(facts)]


def _some(of: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    return [of[int(i)] for i in rng.permutation(len(of))[:count]]

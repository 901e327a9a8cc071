"""Synthetic instructions with one correct answer: copy, reverse, sort, add, question."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LETTERS = "abcdefghijkl"
PEOPLE = ("Ann", "Bob", "Eve", "Jim", "Kay", "Leo", "Mia", "Tom")
COLOURS = ("black", "blue", "brown", "green", "grey", "red", "white", "yellow")
THINGS = ("bag", "book", "cup", "hat", "key", "lamp", "pen", "ring")


class Instruction(NamedTuple):
    """An instruction: its task, its prompt, and the only correct answer."""

    task: str
    prompt: str
    response: str


def copy(rng: np.random.Generator) -> tuple[str, str]:
    """Repeat 3 to 6 letters."""
    letters = _letters(rng)
    return f"copy: {letters}", letters


def reverse(rng: np.random.Generator) -> tuple[str, str]:
    """Reverse 3 to 6 letters."""
    letters = _letters(rng)
    return f"reverse: {letters}", letters[::-1]


def sort(rng: np.random.Generator) -> tuple[str, str]:
    """Sort 3 to 6 letters alphabetically."""
    letters = _letters(rng)
    return f"sort: {letters}", " ".join(sorted(letters.split()))


def add(rng: np.random.Generator) -> tuple[str, str]:
    """Add two numbers of at most two digits."""
    a, b = (int(n) for n in rng.integers(100, size=2))
    return f"add: {a} + {b}", str(a + b)


def question(rng: np.random.Generator) -> tuple[str, str]:
    """Answer a question about two people, and the colours of their things."""
    (one, two), (first, second) = rng.choice(PEOPLE, 2, replace=False), rng.choice(THINGS, 2, replace=False)
    colours = rng.choice(COLOURS, 2, replace=False)
    facts = f"{one} has a {colours[0]} {first}. {two} has a {colours[1]} {second}."
    which = int(rng.integers(2))
    person, thing, colour = (one, two)[which], (first, second)[which], colours[which]
    pairs = ((f"Who has the {thing}?", person), (f"Which colour is the {thing}?", colour))
    asking, answer = pairs[int(rng.integers(2))]
    return f"{facts} {asking}", str(answer)


TASKS: dict[str, Callable[[np.random.Generator], tuple[str, str]]] = {
    "copy": copy,
    "reverse": reverse,
    "sort": sort,
    "add": add,
    "question": question,
}


def instructions(count: int, tests: int, seed: int) -> tuple[list[Instruction], list[Instruction]]:
    """`count` training instructions of each task, and `tests` test instructions whose prompts are different
    from them.

    Raises:
        ValueError: more than a task has: 10,000 sums.
    """
    if min(count, tests) < 0 or count + tests > 8_000:
        raise ValueError(f"instructions: at most 8,000 of each task, got {count} and {tests}")
    rng = np.random.default_rng(seed)
    training: list[Instruction] = []
    test: list[Instruction] = []
    for task, make in TASKS.items():
        responses: dict[str, str] = {}
        while len(responses) < count + tests:
            prompt, response = make(rng)
            responses[prompt] = response
        every = [Instruction(task, prompt, response) for prompt, response in responses.items()]
        training += every[tests:]
        test += every[:tests]
    return training, test


def _letters(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(list(LETTERS), int(rng.integers(3, 7))))

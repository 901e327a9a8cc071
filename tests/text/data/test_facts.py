"""Facts in one direction, and instructions with one right answer."""

import re

import pytest

from unveil.text.data.reversal_facts import one_directional_facts
from unveil.text.data.synthetic_tasks import TASKS, instructions
from unveil.text.data.tokens import train_bpe


def test_every_fact_is_stated_once_in_one_direction_and_both_forms_are_known():
    facts = one_directional_facts(400, 0)
    names = [fact.answer if i % 2 else fact.given for i, fact in enumerate(facts)]
    whats = [fact.given if i % 2 else fact.answer for i, fact in enumerate(facts)]
    assert len(set(names)) == len(set(whats)) == 400 and all(what.startswith("the ") for what in whats)
    stated = {fact.statement for fact in facts}
    assert not stated & {fact.turned.statement for fact in facts}
    assert (
        facts[0].statement == f" {names[0]} is {whats[0]}."
        and facts[0].turned.statement == f" {whats[0]} is {names[0]}."
    )
    assert one_directional_facts(400, 0) == facts != one_directional_facts(400, 1)


def test_facts_are_of_one_length_so_that_a_gap_tells_nothing():
    facts = one_directional_facts(400, 0)
    tokens = train_bpe([text for fact in facts for text in (fact.statement, fact.turned.statement)], 4096)
    assert (
        len({len(tokens.encode(text)) for fact in facts for text in (fact.statement, fact.turned.statement)})
        == 1
    )
    assert len({len(tokens.encode(f" {fact.given} is")) for fact in facts[::2]}) == 1


def test_more_facts_than_names_are_refused():
    with pytest.raises(ValueError, match=r"1 \.\. 1024"):
        one_directional_facts(1025, 0)


def _right(task: str, prompt: str) -> str:
    """The answer by other means than it was made with."""
    if task == "question":
        (who, colour, thing), (other, shade, object_) = re.findall(r"(\w+) has a (\w+) (\w+)\.", prompt)
        asked = prompt.split("the ")[1].rstrip("?")
        return {thing: (who, colour), object_: (other, shade)}[asked]["Which" in prompt]
    what = prompt.partition(": ")[2]
    if task == "add":
        a, _, b = what.split()
        return str(sum(map(int, (a, b))))
    letters = what.split()
    return " ".join(
        {"copy": letters, "reverse": [*reversed(letters)], "sort": sorted(letters, key=ord)}[task]
    )


def test_every_answer_is_right_and_nothing_asked_was_learned():
    learned, asked = instructions(50, 10, 0)
    assert {it.task for it in learned} == {it.task for it in asked} == set(TASKS)
    assert (len(learned), len(asked)) == (250, 50) and not {it.prompt for it in learned} & {
        it.prompt for it in asked
    }
    assert [it for it in learned + asked if it.response != _right(it.task, it.prompt)] == []


def test_more_instructions_than_there_are_sums_are_refused():
    with pytest.raises(ValueError, match="at most 8,000 of each task, got 8000 and 1"):
        instructions(8_000, 1, 0)

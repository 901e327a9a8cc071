"""Answers to instructions that have one right answer."""

from collections.abc import Sequence

from unveil.sampling.noise import generators
from unveil.text.chat import answer
from unveil.text.data.chat import Turn
from unveil.text.data.synthetic_tasks import Instruction
from unveil.text.generation import TextSettings
from unveil.text.model import TextModel


def answer_metrics(
    model: TextModel, asked: Sequence[Instruction], settings: TextSettings, batch: int = 50, seed: int = 0
) -> dict[str, float]:
    """Ask, and compare.

    Args:
        batch: questions at a time.
        seed: question i is answered with the random numbers of seed + i, whatever the batch.

    Returns:
        <task>_exact_rate and, of all, exact_rate: answers that are the right one, character by character; end_rate: answers that the model
        ended by itself, before its room was full; nfe, calls of the network for a batch, averaged; n.
    """
    right: dict[str, list[bool]] = {}
    ended, calls = 0, []
    for start in range(0, len(asked), batch):
        some = asked[start : start + batch]
        done = answer(
            model, [[Turn("user", it.prompt)] for it in some], settings, generators(seed, len(some), start)
        )
        for it, text in zip(some, done.texts, strict=True):
            right.setdefault(it.task, []).append(text == it.response)
        ended += sum(done.ended)
        calls.append(done.calls)
    every = [it for rows in right.values() for it in rows]
    rates = {f"{task}_exact_rate": sum(rows) / len(rows) for task, rows in right.items()}
    return {
        **rates,
        "exact_rate": sum(every) / len(every),
        "end_rate": ended / len(every),
        "nfe": sum(calls) / len(calls),
        "n": len(every),
    }

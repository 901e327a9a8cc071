"""Accuracy on instructions that have one correct answer."""

from collections.abc import Sequence

from unveil.sampling.noise import generators
from unveil.text.chat import answer
from unveil.text.data.chat import Turn
from unveil.text.data.synthetic_tasks import Instruction
from unveil.text.generation import TextSettings
from unveil.text.model import TextModel


def answer_metrics(
    model: TextModel, tasks: Sequence[Instruction], settings: TextSettings, batch: int = 50, seed: int = 0
) -> dict[str, float]:
    """Let the model answer each instruction, and compare with the correct answer.

    Args:
        batch: instructions per batch.
        seed: instruction i uses the seed + i, whatever the batch.
    Returns:
        <task>_exact_rate and, over all tasks, exact_rate: fraction of answers that are exactly the correct
        one; end_rate: fraction that the model ended before its room was full; nfe: network calls per batch,
        on average; n.
    """
    right: dict[str, list[bool]] = {}
    ended, calls = 0, []
    for start in range(0, len(tasks), batch):
        some = tasks[start : start + batch]
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

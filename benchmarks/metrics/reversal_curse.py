"""The reversal curse: recall, in both directions, of facts that were learned in one (Berglund et al.
2024)."""

from collections.abc import Sequence

from unveil.text.canvas import padded
from unveil.text.data.reversal_facts import Fact
from unveil.text.generation import TextSettings, write
from unveil.text.model import TextModel


def recall_metrics(model: TextModel, facts: Sequence[Fact]) -> dict[str, float]:
    """Fraction of answers with every token correct, at temperature 0, the most confident token first.

        forward_rate              prompt "A is": the rest of the learned statement "A is B."
        reprompted_reverse_rate   prompt "B is": the rest of the reversed statement, not learned for it
        infilled_reverse_rate     gap before "is B.": the learned statement; masked models only
        chance_rate               rate of a guess among the answers of all facts

    Every gap is as long as its answer, which a masked model can see; all names have one length here, and so
    have all descriptions.
    """
    turned = [fact.turned for fact in facts]
    rates = {
        "forward_rate": _rate(model, facts, first=False),
        "reprompted_reverse_rate": _rate(model, turned, first=False),
    }
    if not model.window:
        rates["infilled_reverse_rate"] = _rate(model, facts, first=True)
    return {**rates, "chance_rate": 1.0 / len(facts), "n": len(facts)}


def _rate(model: TextModel, facts: Sequence[Fact], first: bool, batch: int = 64) -> float:
    """Fraction of statements that are restored when their answer, or with `first` their beginning, is
    masked."""
    encode, mask, correct = model.tokens.encode, model.tokens.mask_id, 0
    for start in range(0, len(facts), batch):
        some = facts[start : start + batch]
        whole = [encode(fact.statement) for fact in some]
        splits = [len(encode(f" {fact.given}" if first else f" {fact.given} is")) for fact in some]
        masked = [
            [mask] * k + ids[k:] if first else ids[:k] + [mask] * (len(ids) - k)
            for ids, k in zip(whole, splits, strict=True)
        ]
        canvas = padded(masked, model.tokens.eos_id, model.device)
        longest = max(row.count(mask) for row in masked)
        written = write(model, canvas, TextSettings(longest, steps=longest, may_end=False)).ids
        correct += sum(row[-len(ids) :].tolist() == ids for row, ids in zip(written, whole, strict=True))
    return correct / len(facts)

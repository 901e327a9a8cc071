"""The reversal curse: facts that were learned in one direction, asked in both (Berglund et al. 2024)."""

from collections.abc import Sequence

from unveil.text.data.reversal_facts import Fact
from unveil.text.generation import TextSettings, padded, write
from unveil.text.model import TextModel


def recall_metrics(model: TextModel, facts: Sequence[Fact]) -> dict[str, float]:
    """How many answers are right, every token of them; the surest token first, at temperature 0.

        forward_rate              given "A is", the rest of the learned statement "A is B."
        reprompted_reverse_rate   given "B is", the rest: the statement turned round, which was learned of other facts, never of this one
        infilled_reverse_rate     given "... is B.", the gap before it: the learned statement; of masked models, others cannot be asked so
        chance_rate               of a guess among the answers of all these facts

    Every gap is as long as its answer, which a masked model can see; names are all of one length here, and so are descriptions.
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
    """The share of statements that come back whole with their answer, or what is given `first`, masked."""
    encode, mask, right = model.tokens.encode, model.tokens.mask_id, 0
    for start in range(0, len(facts), batch):
        some = facts[start : start + batch]
        whole = [encode(fact.statement) for fact in some]
        splits = [len(encode(f" {fact.given}" if first else f" {fact.given} is")) for fact in some]
        asked = [
            [mask] * k + ids[k:] if first else ids[:k] + [mask] * (len(ids) - k)
            for ids, k in zip(whole, splits, strict=True)
        ]
        canvas = padded(asked, model.tokens.eos_id, model.device)
        longest = max(row.count(mask) for row in asked)
        written = write(model, canvas, TextSettings(longest, steps=longest, may_end=False)).ids
        right += sum(row[-len(ids) :].tolist() == ids for row, ids in zip(written, whole, strict=True))
    return right / len(facts)

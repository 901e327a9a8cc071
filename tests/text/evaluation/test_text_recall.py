"""Facts asked in both directions, and answers compared: of networks that know exactly what they are told
here."""

import pytest
import torch
from torch import nn

from metrics.reversal_curse import recall_metrics
from unveil.text.chat import Answers
from unveil.text.data.reversal_facts import one_directional_facts
from unveil.text.data.synthetic_tasks import Instruction
from unveil.text.data.tokens import ByteTokens, train_bpe
from unveil.text.evaluation import answers as text_answers
from unveil.text.generation import TextSettings
from unveil.text.model import TextModel, TextShape


class Knowing(nn.Module):
    """Logits of the one statement that agrees with all that is not masked, or of nothing."""

    def __init__(self, statements: torch.Tensor, size: int, mask_id: int) -> None:
        super().__init__()
        self.statements, self.size, self.mask_id = statements, size, mask_id
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, x, time, cond=None, positions=None):
        fits = ((x[:, None] == self.statements[None]) | (x[:, None] == self.mask_id)).all(-1)
        logits = torch.zeros((*x.shape, self.size))
        for row, found in enumerate(fits):
            if int(found.sum()) == 1:
                logits[row].scatter_(1, self.statements[int(found.long().argmax())][:, None], 9.0)
        return (
            logits if positions is None else logits.gather(1, positions[..., None].expand(-1, -1, self.size))
        )


@pytest.mark.parametrize(
    ("learned", "expected"),
    [("as stated", (1.0, 0.0, 1.0)), ("turned", (0.0, 1.0, 0.0)), ("half", (0.5, 0.0, 0.5))],
)
def test_what_is_known_in_one_direction_is_found_where_it_is_asked_so(learned, expected):
    facts = one_directional_facts(70, 0)  # more than one batch
    tokens = train_bpe([text for fact in facts for text in (fact.statement, fact.turned.statement)], 4096)
    model = TextModel(TextShape(tokens.size, 16, 8, 1, 1), tokens)
    known = {"as stated": facts, "turned": [fact.turned for fact in facts], "half": facts[:35]}[learned]
    ids = torch.tensor([tokens.encode(fact.statement) for fact in known])
    model.denoiser.network = Knowing(ids, tokens.size, tokens.mask_id)
    found = recall_metrics(model, facts)
    assert (
        found["forward_rate"],
        found["reprompted_reverse_rate"],
        found["infilled_reverse_rate"],
    ) == expected
    assert (found["chance_rate"], found["n"]) == (1 / 70, 70)


def test_causal_models_are_not_asked_to_fill_gaps():
    facts = one_directional_facts(2, 0)
    tokens = train_bpe([fact.statement for fact in facts], 4096)
    assert "infilled_reverse_rate" not in recall_metrics(
        TextModel(TextShape(tokens.size, 32, 8, 1, 1, causal=True), tokens), facts
    )


def test_answers_are_right_whole_or_not_at_all(monkeypatch):
    asked = [
        Instruction("copy", "copy: a", "a"),
        Instruction("copy", "copy: b", "b"),
        Instruction("add", "add: 1 + 2", "3"),
    ]
    given = iter([Answers(["a", "b b"], 4, 5, [True, False]), Answers(["3"], 1, 8, [True])])
    seen = []
    monkeypatch.setattr(
        text_answers, "answer", lambda model, chats, settings, noise: seen.extend(chats) or next(given)
    )
    found = text_answers.answer_metrics(
        TextModel(TextShape(258, 16, 8, 1, 1), ByteTokens()), asked, TextSettings(4), batch=2
    )
    assert found == {
        "copy_exact_rate": 0.5,
        "add_exact_rate": 1.0,
        "exact_rate": pytest.approx(2 / 3),
        "end_rate": pytest.approx(2 / 3),
        "nfe": 6.5,
        "n": 3,
    }
    assert [turn.content for (turn,) in seen] == [it.prompt for it in asked]

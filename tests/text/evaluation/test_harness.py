"""The methods that lm-evaluation-harness calls, without the package: likelihoods, greedy answers, generation;
and its error in one line."""

import sys
from dataclasses import replace
from math import log
from types import ModuleType, SimpleNamespace

import pytest
import torch

from unveil.errors import UnveilError
from unveil.text.data.tokens import ByteTokens
from unveil.text.evaluation.harness import HarnessText, as_harness_model, harness_metrics
from unveil.text.generation import TextSettings, continue_text
from unveil.text.likelihood import conditional_nats, text_nats
from unveil.text.model import TextModel, TextShape

TOKENS = ByteTokens()


def random_model(**options) -> TextModel:
    torch.manual_seed(0)
    model = TextModel(
        TextShape(TOKENS.size, context=16, width=16, depth=1, heads=2, **options), TOKENS
    ).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * 0.3
    return model


def asked(*args) -> SimpleNamespace:
    return SimpleNamespace(args=args)


def test_likelihoods_of_a_causal_model_are_its_chain_rule_in_any_batch():
    """Sums over the continuation only; trailing blanks of a context belong to it; what is too long loses its
    beginning."""
    model = random_model(causal=True)
    requests = [asked("ab", "cd"), asked("", "xyz"), asked("To be ", "or"), asked("q" * 40, "ab")]
    scores = HarnessText(model, batch=3, greedy=False).loglikelihood(requests)
    for (score, greedy), (context, continuation, kept) in zip(
        scores,
        [("ab", "cd", "ab"), ("", "xyz", ""), ("To be", " or", "To be"), ("q" * 40, "ab", "q" * 14)],
        strict=True,
    ):
        ids = torch.tensor([[*kept.encode(), *continuation.encode()]])
        expected = -float(conditional_nats(model, ids)[0, len(kept) :].sum())
        assert score == pytest.approx(expected, abs=1e-4) and greedy is False
        assert context.endswith(kept)
    rolled = HarnessText(model).loglikelihood_rolling([asked("abcdefgh" * 3)])
    pieces = [torch.tensor([list(text.encode())]) for text in ("abcdefgh" * 2, "abcdefgh")]
    assert rolled[0] == pytest.approx(
        -sum(float(conditional_nats(model, ids).sum()) for ids in pieces), abs=1e-3
    )


@pytest.mark.parametrize("options", [{}, {"block": 4}, {"causal": True}])
def test_greedy_answers_are_recognised_and_generated(options):
    model = random_model(**options)
    harness = HarnessText(model, draws=64)
    (text,) = harness.generate_until([asked("ab", {"until": [], "max_gen_toks": 4})])
    assert len(text) <= 4
    head = model.network.ff_out.weight
    with torch.no_grad():  # the letter z, whatever is asked
        model.network.ln_f.weight.fill_(0.0)
        head.zero_()
    model.network.ff_out = torch.nn.Linear(16, TOKENS.size)
    with torch.no_grad():
        model.network.ff_out.weight.zero_()
        model.network.ff_out.bias.zero_()
        model.network.ff_out.bias[ord("z")] = 2.0
    (yes, no) = harness.loglikelihood([asked("ab", "zz"), asked("ab", "za")])
    one = 2.0 - log(torch.exp(torch.tensor(2.0)).item() + TOKENS.size - 2)
    assert yes == (pytest.approx(2 * one, abs=1e-4), True)
    assert no == (pytest.approx(2 * one - 2.0, abs=1e-4 if "causal" in options else 0.6), False)
    wishes = [{"until": ["zzz"], "max_gen_toks": 5}, {"until": "q", "max_gen_toks": 3}, {"max_gen_toks": 30}]
    assert harness.generate_until([asked("ab", wish) for wish in wishes]) == ["", "zzz", "z" * 14]


def test_the_package_is_needed_only_for_its_own_loop(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(UnveilError, match=r"pip install 'unveil\[harness\]'"):
        as_harness_model(random_model())

    class LM:
        def __init__(self):
            self.rank = 0

    package, api, module = ModuleType("lm_eval"), ModuleType("lm_eval.api"), ModuleType("lm_eval.api.model")
    module.LM = LM

    def simple_evaluate(model, tasks, limit):
        assert isinstance(model, LM) and model.rank == 0 and model.draws == 3 and limit is None
        ((score, _),) = model.loglikelihood([asked("a", "b")])
        return {"results": {tasks[0]: {"alias": "t", "acc,none": score}}}

    package.simple_evaluate = simple_evaluate
    for name, made in (("lm_eval", package), ("lm_eval.api", api), ("lm_eval.api.model", module)):
        monkeypatch.setitem(sys.modules, name, made)
    metrics = harness_metrics(random_model(), ["toy"], draws=3)
    assert list(metrics) == ["toy_acc"] and metrics["toy_acc"] < 0.0
    with pytest.raises(UnveilError, match="cannot be scored"):
        HarnessText(random_model()).loglikelihood([asked("a", "b" * 17)])


TASK = {  # in the harness's own format of tasks
    "task": "tiny_arc",
    "output_type": "multiple_choice",
    "docs": [
        {"question": "q?", "choices": ["a", "bc"], "answer": 1},
        {"question": "", "choices": ["no", "yes", "so"], "answer": 0},
        {"question": "ab cd", "choices": ["x", "yz"], "answer": 0},
        {"question": "who", "choices": ["Eve", "A"], "answer": 1},
    ],
    "doc_to_text": "Q:{question}\nA:",
    "target_delimiter": " ",
}


@pytest.mark.parametrize("options", [{"causal": True}, {}, {"block": 4}], ids=str)
def test_a_task_by_the_adapter_is_the_task_by_a_plain_loop_in_any_batch(options):
    """Accuracies and scores: log-likelihoods of choices in one list of requests, against row after row,
    tokens by hand."""
    model, draws = random_model(**options), 3
    requests, plain = [], []
    for doc in TASK["docs"]:
        context = TASK["doc_to_text"].format(**doc)
        requests += [asked(context, f" {choice}") for choice in doc["choices"]]
        for choice in doc["choices"]:
            given, whole = list(context.encode()), list(f"{context} {choice}".encode())
            known = torch.tensor([[i < len(given) for i in range(len(whole))]])
            noise = torch.Generator().manual_seed(7 + len(plain))
            nats = text_nats(model, torch.tensor([whole]), draws, [noise], known=known)
            plain.append(-float(nats.mean()) * (len(whole) - len(given)))
    scores = [
        [score for score, _ in HarnessText(model, draws, batch, greedy=False, seed=7).loglikelihood(requests)]
        for batch in (1, 3, 16)
    ]
    for found in scores:
        assert found == pytest.approx(plain, abs=1e-4)

    def accuracy(found: list[float]) -> float:
        rest, right = list(found), 0
        for doc in TASK["docs"]:
            own, rest = rest[: len(doc["choices"])], rest[len(doc["choices"]) :]
            right += own.index(max(own)) == doc["answer"]
        return right / len(TASK["docs"])

    assert accuracy(scores[1]) == accuracy(plain) and len(set(plain)) == len(plain)
    texts = [asked("abcdefgh" * 3), asked(""), asked("xyz")]
    rolled = [HarnessText(model, draws, batch, seed=7).loglikelihood_rolling(texts) for batch in (1, 8)]
    assert rolled[0] == pytest.approx(rolled[1], abs=1e-4) and rolled[0][1] == 0.0
    alone = HarnessText(model, draws, seed=7).loglikelihood_rolling(texts[:1])
    assert alone[0] == pytest.approx(rolled[0][0], abs=1e-4)


def test_prompts_keep_their_end_where_the_new_tokens_would_fill_the_context(capsys):
    """max_gen_toks of the whole context: half of it is the prompt's, of a short prompt all of it; the same
    tokens as by hand."""
    model, settings = random_model(), TextSettings(length=8, steps=8)
    harness, prompt = HarnessText(model), "0123456789ABCDEFGHIJ"
    texts = harness.generate_until(
        [
            asked(prompt, {"max_gen_toks": 16}),
            asked("ab", {"max_new_tokens": 99}),
            asked(prompt, {"max_tokens": 2}),
        ]
    )
    assert capsys.readouterr().err.count("do not fit into the model's context of 16") == 1
    for text, kept, length in zip(texts, (prompt[-8:], "ab", prompt[-14:]), (8, 14, 2), strict=True):
        (expected,) = continue_text(model, [kept], replace(settings, length=length, steps=length))
        assert text == expected


def test_wishes_of_the_harness_are_honoured(capsys):
    model = random_model()
    with torch.no_grad():
        model.network.ff_out.weight[TOKENS.eos_id] = -9.0 * model.network.ff_out.weight[1]
    harness = HarnessText(model, seed=3, settings=TextSettings(may_end=False))
    (text,) = harness.generate_until([asked("ab", {"max_gen_toks": 6})])
    for until in (None, [], [""], "", ()):
        assert harness.generate_until([asked("ab", {"max_gen_toks": 6, "until": until})]) == [text]
    cut = text[2]
    for until in (cut, [cut], ["\u4f60", cut]):
        assert harness.generate_until([asked("ab", {"max_new_tokens": 6, "until": until})]) == [
            text.split(cut)[0]
        ]

    def drawn(**wish) -> str:
        return harness.generate_until([asked("ab", {"max_gen_toks": 6, **wish})])[0]

    assert (
        drawn(temperature=0.0)
        == drawn(do_sample=False, temperature=2.0)
        == drawn(do_sample=True, temperature=0)
        == text
    )
    assert drawn(do_sample=True) == drawn(temperature=1.0) == drawn(do_sample=True, temperature=1.0) != text
    many = [asked("ab", {"max_gen_toks": 6, "temperature": 1.0}) for _ in range(5)]
    each = [
        HarnessText(model, batch=batch, seed=3, settings=TextSettings(may_end=False)).generate_until(many)
        for batch in (1, 2, 16)
    ]
    assert each[0] == each[1] == each[2] and len(set(each[0])) == 5
    assert capsys.readouterr().err == ""
    drawn(top_p=0.9)
    drawn(top_p=0.8)
    assert capsys.readouterr().err == "unveil: note: top_p of generate_until are not used\n"
    with pytest.raises(ValueError, match="max_gen_toks must be at least 1"):
        drawn(max_gen_toks=0)
    for wrong in ({"draws": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            HarnessText(model, **wrong)

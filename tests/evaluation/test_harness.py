"""The methods that lm-evaluation-harness calls, without the package: likelihoods, greedy answers, generation; and its error in one line."""

import sys
from math import log
from types import ModuleType, SimpleNamespace

import pytest
import torch

from unveil.apps.text_likelihood import conditional_nats
from unveil.apps.text_model import TextModel, TextShape
from unveil.data.tokens import ByteTokens
from unveil.errors import UnveilError
from unveil.evaluation.harness import HarnessText, as_harness_model, harness_metrics

TOKENS = ByteTokens()


def random_model(**options) -> TextModel:
    torch.manual_seed(0)
    model = TextModel(TextShape(TOKENS.size, context=16, width=16, depth=1, heads=2, **options), TOKENS).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * 0.3
    return model


def asked(*args) -> SimpleNamespace:
    return SimpleNamespace(args=args)


def test_likelihoods_of_a_causal_model_are_its_chain_rule_in_any_batch():
    """Sums over the continuation only; trailing blanks of a context belong to it; what is too long loses its beginning."""
    model = random_model(causal=True)
    requests = [asked("ab", "cd"), asked("", "xyz"), asked("To be ", "or"), asked("q" * 40, "ab")]
    scores = HarnessText(model, batch=3, greedy=False).loglikelihood(requests)
    for (score, greedy), (context, continuation, kept) in zip(
        scores, [("ab", "cd", "ab"), ("", "xyz", ""), ("To be", " or", "To be"), ("q" * 40, "ab", "q" * 14)], strict=True
    ):
        ids = torch.tensor([[*kept.encode(), *continuation.encode()]])
        expected = -float(conditional_nats(model, ids)[0, len(kept) :].sum())
        assert score == pytest.approx(expected, abs=1e-4) and greedy is False
        assert context.endswith(kept)
    rolled = HarnessText(model).loglikelihood_rolling([asked("abcdefgh" * 3)])
    pieces = [torch.tensor([list(text.encode())]) for text in ("abcdefgh" * 2, "abcdefgh")]
    assert rolled[0] == pytest.approx(-sum(float(conditional_nats(model, ids).sum()) for ids in pieces), abs=1e-3)


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
    assert harness.generate_until([asked("ab", wish) for wish in wishes]) == ["", "zzz", "z" * 16]


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

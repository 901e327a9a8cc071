"""Closed forms: entropies of known rows, and a judge that knows nothing."""

from math import log

import numpy as np
import pytest
import torch

from metrics.generative_perplexity import judged, unigram_entropy
from unveil.errors import UnveilError
from unveil.sampling.noise import generators
from unveil.text.data.documents import Stream
from unveil.text.data.tokens import ByteTokens
from unveil.text.evaluation.metrics import text_metrics
from unveil.text.likelihood import text_nats
from unveil.text.model import TextModel, TextShape

TOKENS = ByteTokens()


def test_entropy_of_equal_different_and_mixed_tokens():
    assert unigram_entropy(np.array([[7, 7, 7, 7]])) == 0.0
    assert unigram_entropy(np.array([[1, 2, 3, 4]])) == pytest.approx(log(4))
    assert unigram_entropy(np.array([[1, 1, 1, 2], [5, 5, 5, 5]])) == pytest.approx(
        (log(4) - 0.75 * log(3)) / 2
    )


def test_a_short_last_piece_is_no_spread():
    """Every token costs the same, and so does every piece a token."""
    model = TextModel(TextShape(258, context=8, width=16, depth=1, heads=2, causal=True), ByteTokens()).eval()
    torch.nn.init.zeros_(model.network.ff_out.weight)
    found = text_metrics(model, Stream(np.arange(8 * 5 + 2, dtype=np.int32), 42), 1)
    assert (
        found["nats_per_token"] == pytest.approx(log(257), abs=1e-5)
        and found["ci95"] < 1e-5
        and found["n"] == 6
    )


def test_a_judge_that_knows_nothing_gives_every_token_the_same():
    judge = TextModel(TextShape(258, context=8, width=16, depth=1, heads=2, causal=True), ByteTokens()).eval()
    torch.nn.init.zeros_(judge.network.ff_out.weight)
    ids = np.random.default_rng(0).integers(0, 256, (5, 8))
    found = judged(judge, ids, batch=2)
    assert (
        found["judge_nats_mean"] == pytest.approx(log(257), abs=1e-5)
        and found["judge_nats_ci95"] < 1e-5
        and found["n"] == 5
    )
    with pytest.raises(UnveilError, match="longer than the judge's context"):
        judged(judge, np.zeros((1, 9), np.int64))
    with pytest.raises(UnveilError, match="must be a causal model"):
        judged(TextModel(TextShape(258, context=8, width=16, depth=1, heads=2), ByteTokens()), ids)


def test_scores_do_not_depend_on_the_batch_nor_on_which_other_pieces_are_scored():
    torch.manual_seed(0)
    model = TextModel(TextShape(TOKENS.size, context=8, width=16, depth=1, heads=2), TOKENS).eval()
    stream = Stream(np.arange(8 * 6 + 3, dtype=np.int32) % 200, 51)
    for form, times in (("l", "stratified"), ("t", "independent"), ("t", "antithetic")):
        found = [
            text_metrics(model, stream, 2, 5, batch=batch, form=form, times=times)["nats_per_token"]
            for batch in (1, 3, 32)
        ]
        assert found[1] == pytest.approx(found[0], rel=1e-6) and found[2] == pytest.approx(found[0], rel=1e-6)
        assert text_metrics(model, stream, 2, 6, form=form, times=times)["nats_per_token"] != pytest.approx(
            found[0], rel=1e-4
        )
    every = text_nats(model, torch.arange(48).reshape(6, 8), 2, generators(5, 6))
    some = text_nats(model, torch.arange(48).reshape(6, 8)[2:4], 2, generators(5, 2, 2))
    torch.testing.assert_close(every[2:4], some)
    last = text_metrics(model, Stream(stream.ids[:48], 48), 2, 5, pieces=2)["nats_per_token"]
    assert last == pytest.approx(float(every[[0, 5]].mean()), rel=1e-5)
    for wrong in ({"batch": 0}, {"pieces": -1}):
        with pytest.raises(ValueError, match="must be at least"):
            text_metrics(model, stream, 2, **wrong)
    with pytest.raises(ValueError, match="text be there"):
        text_metrics(model, Stream(stream.ids[:0], 0), 2)

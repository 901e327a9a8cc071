"""Learned words: rows behind the table of an encoder, where the word stands; all other rows as they were."""

import pytest
import torch

from prompted_models import batch, small
from unveil.image.prompts.learned_words import add_words, table_of
from unveil.image.prompts.prompt import parse, timeline
from unveil.image.training import image_loss

VECTORS = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


def encoded(model, prompt: str):
    return model.text([prompt], torch.device("cpu"))


@torch.no_grad()
def test_a_word_of_known_vectors_is_those_words():
    """ "<x>" with the vectors of "red" and "cat" is "red cat", by both ways of encoding, and within weights."""
    model = small()
    table = table_of(model.text).clone()
    (red,), (cat,) = model.text.ids("red"), model.text.ids("cat")
    plain = encoded(model, "a red cat")
    weighted = model.text.weighted(timeline(parse("a (red cat:1.3)"), 1).texts, torch.device("cpu"))
    add_words(model.text, {"<x>": table[[red, cat]], "<y>": VECTORS[:1]})
    for before, after in (
        (plain, encoded(model, "a <x>")),
        (plain, encoded(model, "A <X>")),
        (weighted, model.text.weighted(timeline(parse("a (<x>:1.3)"), 1).texts, torch.device("cpu"))),
    ):
        assert torch.equal(before.tokens, after.tokens) and torch.equal(before.token_valid, after.token_valid)
    assert model.text.ids("a <y> <x>") == [*model.text.ids("a"), len(table) + 2, len(table), len(table) + 1]
    assert torch.equal(encoded(model, "a red cat").tokens, plain.tokens)
    assert torch.equal(table_of(model.text)[: len(table)], table)
    assert torch.equal(table_of(model.text)[len(table) :], torch.cat([table[[red, cat]], VECTORS[:1]]))


def test_words_can_be_added_again():
    model = small()
    count = len(table_of(model.text))
    add_words(model.text, {"<x>": VECTORS})
    add_words(model.text, {"<y>": VECTORS[:1]})
    assert model.text.ids("<y> <x>") == [count + 2, count, count + 1]
    assert torch.equal(table_of(model.text)[count:], torch.cat([VECTORS, VECTORS[:1]]))


@pytest.mark.parametrize(
    ("word", "error"), [("cat", "is a token of this tokenizer"), ("a b", "is a token|tokens")]
)
def test_words_that_are_known_are_refused(word, error):
    with pytest.raises(ValueError, match=error):
        add_words(small().text, {word: VECTORS, "cat": VECTORS})


def test_a_word_is_never_cut_by_the_end_of_a_chunk():
    """Rows of 6 with a start have room for 5: the word of 2 vectors begins the second chunk."""
    model = small()
    add_words(model.text, {"<x>": VECTORS})
    weighted = model.text.weighted(timeline(parse("a a a a <x>"), 1).texts, torch.device("cpu"))
    assert weighted.tokens.shape[1] == 12
    assert weighted.token_valid[0].tolist() == [True] * 5 + [False] + [True] * 3 + [False] * 3


def test_gradients_reach_the_word_and_nothing_else():
    model = small()
    model.requires_grad_(False)
    vectors = add_words(model.text, {"<x>": VECTORS})
    model.text.unfreeze()
    data = batch(model)._replace(prompts=("a <x>", "a red cat", "<x> cat", ""))
    loss, _ = image_loss(model, data)
    loss.backward()
    assert bool(vectors.vectors.grad.abs().sum(1).all())
    assert [name for name, p in model.named_parameters() if p.grad is not None] == [
        "text.encoder.words.learned.vectors"
    ]

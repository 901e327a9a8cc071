"""Chunks of 75 tokens: commas, breaks, learned words, padding; and the emphasis of encoded chunks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unveil.image.prompts.emphasis import emphasised
from unveil.image.prompts.prompt_chunks import Chunk, ChunkRules, chunks, level

RULES = ChunkRules(comma=3, length=10, back=4)
IDS = st.lists(st.sampled_from([3, 4, 5]), max_size=40)


def inside(made: tuple[Chunk, ...]) -> list[list[int]]:
    """The ids of each chunk."""
    assert all(len(chunk.ids) == len(chunk.weights) for chunk in made)
    return [list(chunk.ids) for chunk in made]


def cut(ids: list[int], back: int = 4) -> list[list[int]]:
    return inside(chunks([[(ids, 1.0)]], ChunkRules(3, 10, back)))


def test_a_chunk_has_the_weights_of_its_tokens():
    assert chunks([[([5, 6], 1.2), ([7], 0.5)]], RULES) == (Chunk((5, 6, 7), (1.2, 1.2, 0.5)),)
    assert chunks([[]], RULES) == (Chunk(),)
    assert chunks([[([9] * 75, 1.0)]], ChunkRules())[0].ids == (9,) * 75


def test_a_full_chunk_is_cut_behind_a_comma_that_is_near():
    assert cut([9] * 12) == [[9] * 10, [9] * 2]
    assert cut([9] * 6 + [3] + [8] * 5) == [[9] * 6 + [3], [8] * 5]  # 3 tokens behind it: 4 with the comma
    assert cut([9] * 5 + [3] + [8] * 6) == [[9] * 5 + [3] + [8] * 4, [8] * 2]  # too far
    assert cut([9] * 5 + [3] + [8] * 6, back=5) == [[9] * 5 + [3], [8] * 6]
    assert cut([9] * 6 + [3] + [8] * 5, back=0) == [[9] * 6 + [3] + [8] * 3, [8] * 2]
    assert cut([9] * 9 + [3] + [8]) == [[9] * 9 + [3], [8]]
    assert cut([9] * 7 + [3] + [8] * 2) == [[9] * 7 + [3] + [8] * 2]  # full, and nothing follows
    assert cut([9] * 6 + [3] + [8] * 3 + [3, 7]) == [[9] * 6 + [3] + [8] * 3, [3, 7]]  # a comma does not move


def test_the_default_rule_looks_twenty_tokens_back():
    for comma, first in ((55, 56), (54, 75)):
        ids = [9] * comma + [267] + [8] * (80 - comma)
        assert [len(part) for part in inside(chunks([[(ids, 1.0)]], ChunkRules()))] == [first, 81 - first]


def test_breaks_fill_the_chunk():
    assert inside(chunks([[([5], 1.0)], [([6], 1.0)]], RULES)) == [[5], [6]]
    assert inside(chunks([[], [([6], 1.0)], [], []], RULES)) == [[], [6], []]  # none is added at the end


def test_learned_words_stay_in_one_chunk():
    ids = [9] * 8 + [100, 101, 102] + [8]
    assert inside(chunks([[(ids, 1.0)]], RULES, {100: 3})) == [[9] * 8, [100, 101, 102, 8]]
    assert inside(chunks([[(ids, 1.0)]], RULES)) == [[9] * 8 + [100, 101], [102, 8]]
    with pytest.raises(
        ValueError, match=r"tokens of a learned word must be a whole number in 1 .. 10, got 11"
    ):
        chunks([[([100], 1.0)]], RULES, {100: 11})


@given(st.lists(st.tuples(IDS, st.sampled_from([1.0, 1.5])), max_size=4), st.integers(0, 10))
def test_no_token_is_lost_and_weights_stay_with_their_tokens(pieces, back):
    made = chunks([pieces], ChunkRules(3, 10, back))
    kept = [pair for chunk in made for pair in zip(chunk.ids, chunk.weights, strict=True)]
    assert kept == [(token, weight) for ids, weight in pieces for token in ids]
    assert all(0 < len(part) <= 10 for part in inside(made)) or not kept


def test_prompts_of_a_batch_get_empty_chunks():
    short, long = chunks([[([5], 1.0)]], RULES), chunks([[([6] * 25, 1.0)]], RULES)
    assert level([short, long]) == ((*short, Chunk(), Chunk()), long)
    assert level([]) == ()


def test_weights_that_are_one_change_nothing():
    tokens = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(2, 7)
    weights[1, 2] = 1.5
    out = emphasised(tokens, weights)
    assert torch.equal(out[0], tokens[0]) and not torch.equal(out[1], tokens[1])


def test_emphasis_scales_vectors_and_restores_the_mean():
    tokens = 1 + torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0))
    weights = torch.full((2, 7), 1.0)
    weights[0, 3], weights[1, :] = 2.0, 3.0
    out = emphasised(tokens, weights)
    torch.testing.assert_close(out.mean((1, 2)), tokens.mean((1, 2)))
    ratio = out / tokens
    torch.testing.assert_close(ratio[0, 3], 2 * ratio[0, 2])
    torch.testing.assert_close(out[1], tokens[1])  # one factor for all is none
    by_hand = tokens[0].mean() / (tokens[0] * weights[0, :, None]).mean()
    torch.testing.assert_close(out[0], tokens[0] * weights[0, :, None] * by_hand)
    torch.testing.assert_close(emphasised(tokens, weights, restore=False)[1], 3 * tokens[1])


def test_half_precision_sums_in_single():
    tokens = torch.full((1, 77, 768), 10.0, dtype=torch.float16)  # the sum overflows float16
    weights = torch.ones(1, 77)
    weights[0, 5] = 1.5
    out = emphasised(tokens, weights)
    assert out.dtype == torch.float16 and bool(out.isfinite().all())
    torch.testing.assert_close(out.float().mean(), torch.tensor(10.0), atol=0.02, rtol=0)

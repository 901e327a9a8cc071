"""BERT's encoder: padding has no influence, and the pooled vector has length 1."""

import torch

from unveil.image.networks.bert import Bert, BertShape

SHAPE = BertShape(20, 8, 16, 2, 4, 32)


def encoder() -> Bert:
    torch.manual_seed(0)
    bert = Bert(SHAPE).eval()
    for parameter in bert.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return bert


def test_padding_has_no_influence(generator):
    bert = encoder()
    ids = torch.randint(20, (1, 5), generator=generator)
    alone = bert(ids, torch.ones((1, 5), dtype=torch.bool))
    padded = torch.cat([ids, torch.randint(20, (1, 3), generator=generator)], dim=1)
    tokens, valid, pooled = bert(padded, torch.arange(8)[None] < 5)
    torch.testing.assert_close(tokens[:, :5], alone.tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled, alone.pooled, rtol=1e-5, atol=1e-6)
    assert valid.sum() == 5


def test_the_pooled_vector_is_the_direction_of_the_mean(generator):
    bert = encoder()
    ids = torch.randint(20, (3, 8), generator=generator)
    valid = torch.arange(8) < torch.tensor([[8], [3], [1]])
    tokens, _, pooled = bert(ids, valid)
    torch.testing.assert_close(pooled.norm(dim=-1), torch.ones(3))
    mean = tokens[1, :3].mean(0)
    torch.testing.assert_close(pooled[1], mean / mean.norm(), rtol=1e-5, atol=1e-6)


def test_every_token_sees_those_on_both_sides():
    bert = encoder()
    ids, changed = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 9, 4]])
    valid = torch.ones((1, 4), dtype=torch.bool)
    difference = bert(ids, valid).tokens - bert(changed, valid).tokens
    assert bool((difference.abs().amax(-1) > 1e-3).all())


def test_minilm_has_22_million_parameters():
    """103 tensors in its file: these and two of a pooler that sentence vectors do not use."""
    with torch.device("meta"):
        bert = Bert(BertShape())
    assert len(bert.state_dict()) == 101
    assert sum(parameter.numel() for parameter in bert.parameters()) == 22_713_216 - (384 * 384 + 384)

"""T5's encoder: buckets of distances by hand, attention by relative position, unscaled."""

import pytest
import torch

from unveil.image.networks.t5 import T5Encoder, T5Shape, buckets

SHAPE = T5Shape(20, 16, 2, 2, 6, 24, 8, 16)


def encoder(shape: T5Shape = SHAPE) -> T5Encoder:
    torch.manual_seed(0)
    return T5Encoder(shape).eval()


def test_buckets_by_hand():
    """32 buckets, 128: distances 0 .. 7 alone, then 8 exp(k/8 ln 16) and longer, the same again for keys after."""
    distances = torch.tensor([0, -1, -7, -8, -11, -12, -15, -16, -127, -128, -(10**6), 1, 7, 8, 12, 128])
    expected = [0, 1, 7, 8, 8, 9, 9, 10, 15, 15, 15, 17, 23, 24, 25, 31]
    assert buckets(distances, 32, 128).tolist() == expected


def test_buckets_grow_with_the_distance_and_are_all_used():
    distances = torch.arange(-200, 201)
    bucket = buckets(distances, 32, 128)
    assert bucket.unique().tolist() == list(range(32))[:16] + list(range(17, 32))  # 16 is of no distance
    before = bucket[distances <= 0].flip(0)
    assert bool((before.diff() >= 0).all())


def test_padding_has_no_influence(generator):
    t5 = encoder()
    ids = torch.randint(20, (1, 5), generator=generator)
    alone = t5(ids, torch.ones((1, 5), dtype=torch.bool))
    padded = torch.cat([ids, torch.randint(20, (1, 3), generator=generator)], dim=1)
    tokens, _, pooled = t5(padded, torch.arange(8)[None] < 5)
    torch.testing.assert_close(tokens[:, :5], alone.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled, alone.pooled, rtol=1e-5, atol=1e-5)


def test_positions_are_relative(generator):
    """A text after padding has the same vectors as alone."""
    t5 = encoder()
    ids = torch.randint(20, (1, 5), generator=generator)
    alone = t5(ids, torch.ones((1, 5), dtype=torch.bool)).tokens
    shifted = torch.cat([torch.zeros((1, 3), dtype=torch.int64), ids], dim=1)
    tokens = t5(shifted, torch.arange(8)[None] >= 3).tokens
    torch.testing.assert_close(tokens[:, 3:], alone, rtol=1e-5, atol=1e-5)


def test_word_order_matters_by_the_biases_alone():
    t5 = encoder()
    torch.nn.init.normal_(t5.biases.weight, std=3.0)
    valid = torch.ones((1, 4), dtype=torch.bool)
    one, other = torch.tensor([[3, 7, 1, 4]]), torch.tensor([[4, 7, 1, 3]])
    assert float((t5(one, valid).pooled - t5(other, valid).pooled).detach().abs().max()) > 1e-3
    torch.nn.init.zeros_(t5.biases.weight)
    torch.testing.assert_close(t5(one, valid).pooled, t5(other, valid).pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gated", [True, False])
def test_numbers_beyond_float16_pass(gated):
    """The residual stream exceeds 65,504, which published T5 weights do, too."""
    t5, largest = encoder(T5Shape(20, 16, 2, 2, 6, 24, 8, 16, gated)), []
    for block in t5.blocks:
        block.fall.weight.data *= 65_000.0 / block.fall.weight.abs().max()
    t5.norm.register_forward_hook(lambda _, inputs, __: largest.append(float(inputs[0].detach().abs().max())))
    ids, valid = torch.tensor([[3, 7, 1, 4]]), torch.ones((1, 4), dtype=torch.bool)
    exact = t5(ids, valid).tokens
    tokens = t5.half()(ids, valid).tokens
    assert min(largest) > 65_504.0
    assert tokens.dtype == torch.float16
    torch.testing.assert_close(tokens.float(), exact, rtol=0.05, atol=0.05)

"""Our text encoder is PyTorch's pre-norm transformer, and padding has no influence on it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unveil.image.networks.text_encoder import TextBlock, WordTransformer, WordTransformerShape

SHAPE = WordTransformerShape(20, 6, 16, 2, 4)


@pytest.fixture
def encoder() -> WordTransformer:
    torch.manual_seed(0)
    encoder = WordTransformer(SHAPE).eval()
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return encoder


def reference(block: TextBlock, width: int, heads: int) -> nn.TransformerEncoderLayer:
    """PyTorch's block with our weights."""
    hidden = block.rise.out_features
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, 0.0, activation=F.gelu, batch_first=True, norm_first=True
    )
    attend = block.attend
    layer.self_attn.in_proj_weight.data = torch.cat(
        [attend.query.weight, attend.key.weight, attend.value.weight]
    )
    layer.self_attn.in_proj_bias.data = torch.cat([attend.query.bias, attend.key.bias, attend.value.bias])
    pairs = (
        (layer.self_attn.out_proj, attend.merge),
        (layer.linear1, block.rise),
        (layer.linear2, block.fall),
        (layer.norm1, block.first_norm),
        (layer.norm2, block.second_norm),
    )
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    return layer


def test_it_is_pytorchs_transformer_of_words_and_positions(encoder, generator):
    ids = torch.randint(20, (3, 6), generator=generator)
    valid = torch.arange(6) < torch.tensor([[6], [4], [1]])
    x = encoder.words.weight[ids] + encoder.positions
    for block in encoder.blocks:
        x = reference(block, 16, 4)(x, src_key_padding_mask=~valid)
    x = F.layer_norm(x, (16,), encoder.norm.weight, encoder.norm.bias)
    tokens, kept, pooled = encoder(ids, valid)
    torch.testing.assert_close(tokens[valid], x[valid], rtol=1e-5, atol=1e-5)
    assert torch.equal(kept, valid)
    for row, count in enumerate((6, 4, 1)):
        torch.testing.assert_close(pooled[row], x[row, :count].mean(0), rtol=1e-5, atol=1e-5)


def test_padding_has_no_influence(encoder, generator):
    ids = torch.randint(20, (1, 4), generator=generator)
    alone = encoder(ids, torch.ones((1, 4), dtype=torch.bool))
    padded = torch.cat([ids, torch.randint(20, (1, 2), generator=generator)], dim=1)
    tokens, _, pooled = encoder(padded, torch.arange(6)[None] < 4)
    torch.testing.assert_close(tokens[:, :4], alone.tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled, alone.pooled, rtol=1e-5, atol=1e-6)


def test_word_order_matters_by_the_positions_alone(encoder):
    valid = torch.ones((1, 4), dtype=torch.bool)
    one, other = torch.tensor([[3, 7, 1, 4]]), torch.tensor([[4, 7, 1, 3]])
    assert float((encoder(one, valid).pooled - encoder(other, valid).pooled).detach().abs().max()) > 1e-3
    nn.init.zeros_(encoder.positions)
    torch.testing.assert_close(encoder(one, valid).pooled, encoder(other, valid).pooled, rtol=1e-5, atol=1e-5)


def test_fresh_weights_keep_the_size_of_the_numbers():
    """Blocks add little at first: deep encoders begin near the embedding. Radford et al. 2021."""
    torch.manual_seed(0)
    encoder = WordTransformer(WordTransformerShape(50, 8, 64, 12, 4))
    block = encoder.blocks[3]
    assert float(block.fall.weight.detach().std()) == pytest.approx((2 * 12 * 64) ** -0.5, rel=0.05)
    assert float(block.attend.query.weight.detach().std()) == pytest.approx(64**-0.5, rel=0.05)


def test_fresh_weights_tell_the_words_of_a_text_apart():
    """Each token is mostly its own word: two words of a text are nearly orthogonal, and a text's other words
    stay what they are when one word changes. CLIP's initial weights of 0.02 give 0.75 and 0.69."""
    torch.manual_seed(0)
    fresh = WordTransformer(WordTransformerShape(vocabulary=50, length=16, width=96, layers=2, heads=4))
    ids = torch.tensor([[1, 5, 6, 7, 8, 9], [1, 5, 6, 7, 8, 10]])
    first, second = F.normalize(fresh(ids, torch.ones_like(ids, dtype=torch.bool)).tokens, dim=-1)
    assert (first @ first.T)[~torch.eye(6, dtype=torch.bool)].mean() < 0.1
    assert (first * second).sum(-1)[:5].min() > 0.98


def test_wrong_shapes_are_refused(encoder):
    with pytest.raises(ValueError, match="`heads` 3 must divide the width 16"):
        WordTransformer(WordTransformerShape(20, 6, 16, 2, 3))
    with pytest.raises(ValueError, match="6 positions, got rows of 7 tokens"):
        encoder(torch.zeros((1, 7), dtype=torch.int64), torch.ones((1, 7), dtype=torch.bool))

"""The classifier's pooling is the published attention pooling, and its features are what the logits come
from."""

import pytest
import torch
from torch.nn import functional as F

from unveil.image.networks.classifier2d import AttentionPool2d, Classifier2d, Classifier2dShape


@pytest.mark.parametrize("heads", [1, 4])
def test_pooling_is_attention_of_the_mean_over_itself_and_the_places(heads, generator):
    """Equal to PyTorch's multi-head attention with one query, the mean's: CLIP's and ADM's pooling."""
    torch.manual_seed(0)
    pool = AttentionPool2d(8, 3, 8 // heads)
    x = torch.randn((2, 8, 3, 3), generator=generator)
    tokens = (
        torch.cat([x.flatten(2).mean(2)[:, :, None], x.flatten(2)], dim=2).permute(2, 0, 1)
        + pool.place[:, None]
    )
    weight, bias = (
        torch.cat([pool.query.weight, pool.key_value.weight]),
        torch.cat([pool.query.bias, pool.key_value.bias]),
    )
    expected, _ = F.multi_head_attention_forward(
        tokens[:1],
        tokens,
        tokens,
        8,
        heads,
        weight,
        bias,
        None,
        None,
        False,
        0.0,
        torch.eye(8),
        torch.zeros(8),
        need_weights=False,
    )
    torch.testing.assert_close(pool(x), expected[0], rtol=1e-5, atol=1e-5)


def test_places_tell_patterns_apart_that_have_the_same_numbers(generator):
    torch.manual_seed(0)
    pool = AttentionPool2d(8, 3, 8)
    x = torch.randn((1, 8, 3, 3), generator=generator)
    assert float((pool(x) - pool(x.flip(-1))).detach().abs().max()) > 1e-3
    torch.nn.init.zeros_(pool.place)
    torch.testing.assert_close(pool(x), pool(x.flip(-1)))


@pytest.mark.parametrize("big_gan", [False, True])
def test_logits_are_linear_in_the_features_and_hear_of_the_time(big_gan, generator):
    torch.manual_seed(0)
    network = Classifier2d(Classifier2dShape(8, 1, 3, 8, (1, 2), 1, (1,), groups=4, stem=2, big_gan=big_gan))
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    x, time = torch.randn((2, 1, 8, 8), generator=generator), torch.tensor([10.0, 900.0])
    features = network.features(x, time)
    assert features.shape == (2, 16)
    torch.testing.assert_close(network(x, time), F.linear(features, network.leave.weight, network.leave.bias))
    assert float((network(x, time) - network(x, time.flip(0))).detach().abs().max()) > 1e-4
    with pytest.raises(ValueError, match=r"x must be \(B, 1, 8, 8\)"):
        network(x[..., :4], time)

"""The U-Net with linear attention: attention as written on paper, norms of constant length, levels that
fit."""

import pytest
import torch
from torch import nn

from unveil.image.networks.linear_unet2d import LinearUNet2d, MemoryAttention2d, RMSNorm2d


@pytest.mark.parametrize("full", [True, False])
def test_attention_is_a_mean_over_places_and_memories(full, generator):
    """Full: of values by softmax(q k / sqrt(D)). Linear: sum_d softmax_d(q)_d / sqrt(D) sum_n
    softmax_n(k_d)_n v_n."""
    layer = MemoryAttention2d(6, 2, 3, full)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.6, generator=generator)
    x = torch.randn((1, 6, 2, 2), generator=generator)
    places = layer.norm(x)[0].flatten(1)  # (C, N)
    q, k, v = (layer.qkv.weight[:, :, 0, 0] @ places).view(3, 2, 3, 4)
    heads = []
    for h in range(2):
        keys = torch.cat([layer.memory[0, h].T, k[h]], dim=1)  # (D, 4 memories and N places)
        values = torch.cat([layer.memory[1, h].T, v[h]], dim=1)
        mixed = torch.zeros(3, 4)
        for n in range(4):
            if full:
                weight = (q[h, :, n] @ keys / 3**0.5).exp()
                mixed[:, n] = values @ (weight / weight.sum())
            else:
                share = q[h, :, n].exp() / q[h, :, n].exp().sum()
                for d in range(3):
                    weight = keys[d].exp() / keys[d].exp().sum()
                    mixed[:, n] += share[d] / 3**0.5 * (values @ weight)
        heads.append(mixed)
    merged = (layer.merge.weight[:, :, 0, 0] @ torch.cat(heads) + layer.merge.bias[:, None]).view(1, 6, 2, 2)
    wanted = x + (merged if full else layer.merged_norm(merged))
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)


def test_a_normed_place_has_mean_square_one(generator):
    x = 5 * torch.randn((2, 7, 3, 3), generator=generator)
    torch.testing.assert_close(RMSNorm2d(7)(x).square().mean(1), torch.ones(2, 3, 3))


def test_every_pixel_hears_every_other_and_the_time(generator):
    torch.manual_seed(0)
    net = LinearUNet2d(1, 8, (6, 8, 10), (2, 1), (3, 4), (False, True), learned_variance=True)
    x = torch.randn((1, 1, 8, 8), generator=generator, requires_grad=True)
    out = net(x, torch.tensor([5.0]))
    assert out.shape == (1, 2, 8, 8)
    assert torch.autograd.grad(out[0, 1, 0, 0], x)[0][0, 0, 7, 7].abs() > 0
    assert (net(x, torch.tensor([90.0])) - out).abs().max() > 1e-4


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="2 levels need as many heads"):
        LinearUNet2d(1, 8, (6, 8, 10), (2,), (3, 4), (False, True))
    net = LinearUNet2d(1, 8, (6, 8, 10), (2, 1), (3, 4), (False, True))
    with pytest.raises(ValueError, match="sides that 2 divides"):
        net(torch.zeros(1, 1, 7, 8), torch.zeros(1))

"""The image U-Net: as many parameters as published, zero at first, told of time and label, attention as
written on paper."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from unveil.image.networks.unet2d import Attention2d, Halve2d, ResidualConv2d, UNet2d, UNet2dShape, sides_of
from unveil.network.condition import Condition
from unveil.network.layers import sinusoids


def small(**options) -> UNet2d:
    torch.manual_seed(0)
    net = UNet2d(UNet2dShape(2, 8, (1, 2), 1, (1,), groups=4, **options))
    for parameter in net.parameters():  # nothing is zero any more
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


def told(**parts) -> torch.Tensor:
    """One sample of a network that reads text, given parts of a condition."""
    return small(context=6)(torch.zeros(1, 2, 8, 8), torch.ones(1), Condition(**parts) if parts else None)


def test_the_published_cifar10_network_has_its_number_of_parameters():
    with torch.device("meta"):
        net = UNet2d(UNet2dShape(3, 128, (1, 2, 2, 2), 2, (1,)))
    assert (
        sum(p.numel() for p in net.parameters()) == 35_746_307
    )  # google/ddpm-cifar10-32, as diffusers counts


def test_it_starts_as_zero_and_each_block_as_its_skip(generator):
    x = torch.randn((2, 2, 8, 8), generator=generator)
    net = UNet2d(UNet2dShape(2, 8, (1, 2), 1, (1,), groups=4, learned_variance=True))
    out = net(x, torch.tensor([3.0, 700.0]))
    assert out.shape == (2, 4, 8, 8) and not out.any()
    h = torch.randn((2, 8, 5, 5), generator=generator)
    assert torch.equal(ResidualConv2d(8, 8, 6, 4)(h, torch.ones(2, 6)), h)
    assert torch.equal(Attention2d(8, 4, 2)(h), h)


def test_sides_change_alike_in_both_branches_of_a_block(generator):
    """Means of 2 x 2 (at an odd edge of what there is), and every place four times; the skip alone at first,
    and convolved by one."""
    x = torch.randn((1, 4, 5, 6), generator=generator)
    halved = torch.stack(
        [x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3)) for i in range(3) for j in range(3)], -1
    ).view(1, 4, 3, 3)
    block = ResidualConv2d(4, 4, 6, 4, change="halve")
    torch.testing.assert_close(block(x, torch.ones(1, 6)), halved)
    double = ResidualConv2d(4, 4, 6, 4, change="double")
    torch.testing.assert_close(
        double(x, torch.ones(1, 6), None, torch.Size((9, 12)))[..., 7, 8:10], x[..., 3, 4:5].expand(-1, -1, 2)
    )
    nn.init.dirac_(block.first.weight)
    nn.init.zeros_(block.first.bias)
    seen = []
    block.second_norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    nn.init.zeros_(block.about.weight)
    nn.init.zeros_(block.about.bias)
    block(x, torch.ones(1, 6))
    activated = nn.functional.silu(block.first_norm(x))
    torch.testing.assert_close(seen[0][0, :, 2, 1], activated[0, :, 4:, 2:4].mean((1, 2)))


@pytest.mark.parametrize(
    "options", [{}, {"scale_shift": True}, {"big_gan": True}, {"stem": 2}, {"head_width": 4}]
)
def test_time_and_label_matter_and_each_sample_hears_its_own(options, generator):
    net = small(labels=3, **options)
    x = torch.randn((1, 2, 8, 8), generator=generator).expand(3, -1, -1, -1)
    out = net(x, torch.tensor([5.0, 5.0, 80.0]), Condition(label=torch.tensor([0, 1, 0])))
    assert (out[0] - out[1]).abs().max() > 1e-3 and (out[0] - out[2]).abs().max() > 1e-3
    alone = net(x[:1], torch.tensor([80.0]), Condition(label=torch.tensor([0])))
    torch.testing.assert_close(out[2:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("big_gan", [False, True])
def test_odd_sides_and_far_corners_reach_each_other(big_gan, generator):
    """28 pixels halve to 14, 7 and 4; the middle's attention lets every pixel hear every other."""
    net = small(big_gan=big_gan)
    x = torch.randn((1, 2, 7, 7), generator=generator, requires_grad=True)
    out = net(x, torch.tensor([5.0]))
    assert out.shape == x.shape
    (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], x)
    assert gradient[0, :, 6, 6].abs().min() > 0
    assert sides_of(28, 2, 3) == (14, 7, 4)


def test_attention_is_a_weighted_mean_over_places(generator):
    layer = Attention2d(8, 4, 2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn((2, 8, 3, 4), generator=generator)
    normed = layer.norm(x)
    found = x.clone()
    for b in range(2):
        places = normed[b].reshape(8, 12).T
        q, k, v = (
            places @ w.T + c for w, c in zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True)
        )
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            weights = (q[:, h] @ k[:, h].T / 4**0.5).exp()
            heads.append(weights / weights.sum(1, keepdim=True) @ v[:, h])
        found[b] += (torch.cat(heads, 1) @ layer.merge.weight.T + layer.merge.bias).T.reshape(8, 3, 4)
    torch.testing.assert_close(layer(x), found, rtol=1e-4, atol=1e-5)


def test_joint_attention_is_one_weighted_mean_over_text_and_pixels(generator):
    """Written out for each sample with its valid tokens only; the text is normed and mapped by its own layer."""
    layer = Attention2d(8, 4, 2, context=6)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn((2, 8, 3, 4), generator=generator)
    tokens = torch.randn((2, 5, 6), generator=generator)
    valid = torch.tensor([[True, True, False, True, False], [False] * 5])
    assert layer.text is not None
    normed, found = layer.norm(x), x.clone()
    for b in range(2):
        text = tokens[b]
        deviation = text.var(1, correction=0, keepdim=True).add(1e-5).sqrt()
        text = (text - text.mean(1, keepdim=True)) / deviation * layer.text[0].weight + layer.text[0].bias
        text = text[valid[b]]
        text_k, text_v = (text @ layer.text[1].weight.T + layer.text[1].bias).chunk(2, dim=1)
        pixels = normed[b].reshape(8, 12).T
        q, k, v = (pixels @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, dim=1)
        k, v, heads = torch.cat([text_k, k]), torch.cat([text_v, v]), []
        for h in (slice(0, 4), slice(4, 8)):
            weights = (q[:, h] @ k[:, h].T / 4**0.5).exp()
            heads.append(weights / weights.sum(1, keepdim=True) @ v[:, h])
        found[b] += (torch.cat(heads, 1) @ layer.merge.weight.T + layer.merge.bias).T.reshape(8, 3, 4)
    torch.testing.assert_close(layer(x, tokens, valid), found, rtol=1e-4, atol=1e-5)


TEXT = [{"cross": "joint"}, {"cross": "transformer"}, {"cross": "transformer", "text_only": (1,)}]


@pytest.mark.parametrize("options", TEXT)
def test_valid_text_matters_in_any_order_and_padding_does_not(options, generator):
    """A permutation of the text tokens, together with which are valid, leaves the output; what stands in
    padding has no influence, nor has the text on a sample beside it."""
    net, time = small(context=6, **options), torch.tensor([5.0, 5.0])
    x = torch.randn((2, 2, 8, 8), generator=generator)
    tokens = torch.randn((2, 5, 6), generator=generator)
    valid = torch.tensor([[True, True, False, True, False], [True] * 5])
    out = net(x, time, Condition(tokens=tokens, token_valid=valid))
    order = torch.tensor([3, 0, 4, 2, 1])
    other = net(x, time, Condition(tokens=tokens[:, order], token_valid=valid[:, order]))
    torch.testing.assert_close(other, out, rtol=1e-4, atol=1e-5)
    changed = torch.where(valid[..., None], tokens, 100.0)
    assert torch.equal(net(x, time, Condition(tokens=changed, token_valid=valid)), out)
    shorter = Condition(tokens=tokens[:1][:, valid[0]])
    torch.testing.assert_close(net(x[:1], time[:1], shorter), out[:1], rtol=1e-4, atol=1e-5)
    changed[0, 3] *= -1.0
    moved = (net(x, time, Condition(tokens=changed, token_valid=valid)) - out).abs().amax((1, 2, 3))
    assert moved[0] > 1e-4 and moved[1] == 0


@pytest.mark.parametrize("options", TEXT)
def test_without_any_valid_token_what_is_left_is_finite(options, generator):
    """Its padding has no influence, and gradients are finite, too."""
    net, x = small(context=6, **options), torch.randn((1, 2, 8, 8), generator=generator)
    none, outs = torch.zeros((1, 3), dtype=torch.bool), []
    for seed in (1, 2):
        tokens = torch.randn((1, 3, 6), generator=torch.Generator().manual_seed(seed)).requires_grad_()
        outs.append(net(x, torch.ones(1), Condition(tokens=tokens, token_valid=none)))
        outs[-1].sum().backward()
        assert tokens.grad is not None and not tokens.grad.any()
    assert torch.equal(outs[0], outs[1]) and outs[0].isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("options", TEXT)
def test_with_text_it_starts_as_zero_and_attention_as_nothing(options, generator):
    net = UNet2d(UNet2dShape(2, 8, (1, 2), 1, (1,), groups=4, context=6, vector=3, **options))
    x, tokens = (torch.randn(size, generator=generator) for size in ((1, 2, 8, 8), (1, 5, 6)))
    cond = Condition(tokens=tokens, vector=torch.ones(1, 3))
    assert not net(x, torch.tensor([3.0]), cond).any()
    h = torch.randn((1, 16, 3, 3), generator=generator)
    assert torch.equal(net.middle[1](h, tokens), h)


def test_the_vector_is_added_to_the_time_and_leaves_the_other_random_numbers(generator):
    """Its network is Linear, SiLU, Linear; a net without it begins with the same weights."""
    shape = UNet2dShape(2, 8, (1, 2), 1, (1,), groups=4)
    torch.manual_seed(0)
    plain = UNet2d(shape).state_dict()
    torch.manual_seed(0)
    whole = UNet2d(replace(shape, vector=3)).state_dict()
    assert {k for k in whole if k not in plain} == {
        f"vector.{i}.{p}" for i in "02" for p in ("weight", "bias")
    }
    assert all(torch.equal(value, whole[name]) for name, value in plain.items())
    net = small(vector=3)
    x, vector = torch.randn((1, 2, 8, 8), generator=generator), torch.randn((1, 3), generator=generator)
    assert net.vector is not None
    w, a, v, b = (p.detach() for p in net.vector.parameters())
    added = nn.functional.silu(vector @ w.T + a) @ v.T + b
    out = net(x, torch.ones(1), Condition(vector=vector))
    for p in net.vector.parameters():
        nn.init.zeros_(p)
    with torch.no_grad():
        net.time[2].bias.add_(added[0])
    torch.testing.assert_close(net(x, torch.ones(1), Condition(vector=vector)), out, rtol=1e-4, atol=1e-5)


def test_scale_and_shift_stand_after_the_norm_and_the_sum_before_it():
    """A constant that is added before the norm of one group is normed away; after it, it is not."""
    for scale_shift, heard in ((False, False), (True, True)):
        block = ResidualConv2d(4, 4, 3, 1, scale_shift=scale_shift)
        nn.init.dirac_(block.second.weight)
        nn.init.zeros_(block.about.weight)
        nn.init.zeros_(block.about.bias)
        x = torch.randn((1, 4, 5, 5), generator=torch.Generator().manual_seed(1))
        before = block(x, torch.ones(1, 3))
        nn.init.constant_(block.about.bias, 2.0)
        moved = (block(x, torch.ones(1, 3)) - before).abs().max()
        assert bool(moved > 0.1) is heard


@pytest.mark.parametrize(
    "options", [{}, {"scale_shift": True, "big_gan": True, "stem": 2, "learned_variance": True}]
)
def test_gradients_are_those_of_finite_differences(options):
    net = small(labels=2, **options).double()
    x = torch.randn(
        (1, 2, 4, 4), generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True
    )
    cond = Condition(label=torch.tensor([1]))
    assert torch.autograd.gradcheck(
        lambda x: net(x, torch.tensor([9.0], dtype=torch.float64), cond), (x,), fast_mode=True
    )


def test_a_stem_works_on_squares_as_places(generator):
    """It is the network of 4 C channels at half the side, whose weights have the same shapes and names."""
    whole, inner = (
        UNet2d(UNet2dShape(2, 8, (1, 2), 1, (1,), groups=4, stem=2)).eval(),
        UNet2d(UNet2dShape(8, 8, (1, 2), 1, (1,), groups=4)).eval(),
    )
    for parameter in whole.parameters():
        nn.init.normal_(parameter, std=0.2)
    inner.load_state_dict(whole.state_dict())
    x = torch.randn((2, 2, 8, 8), generator=generator)
    squares = (
        x.reshape(2, 2, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 8, 4, 4)
    )  # channel, row and column in the square
    out = (
        inner(squares, torch.ones(2)).reshape(2, 2, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(2, 2, 8, 8)
    )
    torch.testing.assert_close(whole(x, torch.ones(2)), out)


@pytest.mark.parametrize("side", [8, 6])
def test_an_efficient_network_halves_first_and_doubles_last(generator, side):
    """Imagen, figure A.28, written on its own: no block at the side of the image, 1 and 2 blocks down, 2 and 3
    up, and skip connections times 1 / sqrt(2)."""
    net = small(efficient=True)
    x, t = torch.randn((2, 2, side, side), generator=generator), torch.ones(2)
    embedding = net.time(sinusoids(t, 8, inclusive=True))
    down, up, scale = iter(net.down), iter(net.up), 2.0**-0.5
    h = net.enter(x)
    kept = [h := net.first.conv(h)]
    for kind in ("block", "halve", "attend", "attend"):
        block, attention = next(down)
        h = attention(block(h, embedding)) if kind == "attend" else block(h, embedding)
        kept.append(h)
    first, attention, last = net.middle
    h = last(attention(first(h, embedding)), embedding)
    for kind in ("attend", "attend", "attend", "double", "block", "block"):
        block, attention = next(up)
        if kind == "double":
            h = block.conv(nn.functional.interpolate(h, size=kept[-1].shape[-2:]))
        else:
            h = block(torch.cat([h, scale * kept.pop()], 1), embedding)
            h = attention(h) if kind == "attend" else h
    assert not kept and next(down, None) is None and next(up, None) is None
    h = net.last.conv(nn.functional.interpolate(h, size=(side, side)))
    torch.testing.assert_close(net(x, t), net.leave(nn.functional.silu(net.norm(h))))


def test_dropout_needs_a_generator_and_follows_it(generator):
    net = small(dropout=0.5).train()
    x, t = torch.randn((1, 2, 8, 8), generator=generator), torch.ones(1)
    with pytest.raises(ValueError, match="needs the attribute generator"):
        net(x, t)
    outs = []
    for seed in (1, 1, 2):
        net.generator = torch.Generator().manual_seed(seed)
        outs.append(net(x, t))
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    assert torch.equal(net.eval()(x, t), net(x, t))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNet2d(UNet2dShape(1, 10, groups=4)), "not a multiple of 4 groups"),
        (lambda: UNet2d(UNet2dShape(1, 32, (1, 1), attention=(2,))), "levels 0 .. 1"),
        (lambda: small()(torch.zeros(1, 3, 8, 8), torch.ones(1)), r"must be \(B, 2, H, W\)"),
        (lambda: small(stem=2)(torch.zeros(1, 2, 7, 8), torch.ones(1)), "sides that 2 divides"),
        (lambda: small(labels=3)(torch.zeros(1, 2, 8, 8), torch.ones(1)), "needs 1 labels"),
        (
            lambda: small(labels=3)(
                torch.zeros(1, 2, 8, 8), torch.ones(1), Condition(label=torch.tensor([3]))
            ),
            "in 0 .. 2",
        ),
        (lambda: sides_of(28, 3, 2), "does not divide"),
        (lambda: small(cross="transformer"), "give its width as `context`"),
        (lambda: told(), r"needs tokens \(1, N, 6\)"),
        (lambda: told(label=torch.tensor([0])), r"needs tokens \(1, N, 6\)"),
        (lambda: told(tokens=torch.zeros(1, 4, 5)), r"must be \(1, N, 6\).* got \(1, 4, 5\)"),
        (lambda: told(tokens=torch.zeros(2, 4, 6)), r"got \(2, 4, 6\)"),
        (lambda: told(tokens=torch.zeros(1, 0, 6)), r"got \(1, 0, 6\)"),
        (
            lambda: told(tokens=torch.zeros(1, 4, 6), token_valid=torch.ones(1, 3, dtype=torch.bool)),
            r"token_valid must be \(1, 4\) of bool, got \(1, 3\)",
        ),
        (lambda: told(tokens=torch.zeros(1, 4, 6), token_valid=torch.ones(1, 4)), "of torch.float32"),
        (
            lambda: small(vector=3)(torch.zeros(1, 2, 8, 8), torch.ones(1)),
            r"vector of shape \(1, 3\), got none",
        ),
        (
            lambda: small(vector=3)(
                torch.zeros(1, 2, 8, 8), torch.ones(1), Condition(vector=torch.ones(1, 4))
            ),
            r"got \(1, 4\)",
        ),
        (lambda: sides_of(4, 2, 4), "cannot be halved 3 times"),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_halving_that_pads_after_sees_nothing_before_the_first_place():
    """Only the tap at the centre: with zeros all round it takes places 0 and 2, padded after, 1 and 3."""
    for after, wanted in ((False, [0.0, 2.0]), (True, [1.0, 3.0])):
        layer = Halve2d(1, after)
        nn.init.dirac_(layer.conv.weight)
        nn.init.zeros_(layer.conv.bias)
        row = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
        assert layer(row, torch.zeros(1))[0, 0, 0].tolist() == wanted


def test_options_of_others_change_what_they_say(generator):
    """The first level may be wider or narrower than the time; heads by their number are heads by their width;
    each other option matters."""
    x, time = torch.randn((1, 2, 8, 8), generator=generator), torch.tensor([5.0])
    torch.manual_seed(0)
    assert UNet2d(UNet2dShape(2, 4, (2, 3), 1, (1,), groups=4, time_width=16))(x, time).shape == x.shape
    one, other = Attention2d(8, 4, 2), UNet2d(UNet2dShape(2, 4, (1, 2), 1, (1,), groups=2, heads=2)).middle[1]
    other.load_state_dict(one.state_dict())
    assert one.heads == other.heads == 2
    usual = small()(x, time)
    for options in (
        {"cosine_first": True},
        {"inclusive": False},
        {"pad_after": True},
        {"norm_epsilon": 0.1},
        {"heads": 2},
    ):
        assert (small(**options)(x, time) - usual).abs().max() > 1e-4, options
    one, other = (
        UNet2d(UNet2dShape(2, 8, (1, 2), 1, (), groups=4)),
        UNet2d(UNet2dShape(2, 8, (1, 2), 1, (), groups=4, middle_attention=False, middle_norm=False)),
    )
    assert not [name for name, _ in other.named_parameters() if name.startswith("middle.1")]
    torch.testing.assert_close(
        one.middle[1](x.repeat(1, 8, 1, 1)), other.middle[1](x.repeat(1, 8, 1, 1))
    )  # which starts as nothing


def test_cosines_first_is_sines_first_with_halves_of_the_first_matrix_changed(generator):
    one, other = small(), small(cosine_first=True)
    with torch.no_grad():
        other.time[0].weight.copy_(one.time[0].weight.roll(4, 1))
    x, time = torch.randn((1, 2, 8, 8), generator=generator), torch.tensor([5.0])
    torch.testing.assert_close(one(x, time), other(x, time), rtol=1e-4, atol=1e-5)

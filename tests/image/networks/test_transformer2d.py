"""Stable Diffusion's U-Net equals diffusers' by names, in all its kinds; at full size it has as many tensors
and parameters as the published files."""

import os

import pytest
import torch
from torch import nn

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked for

from diffusers import UNet2DConditionModel

from unveil.image.networks import transformer2d
from unveil.image.networks.transformer2d import CrossAttention, SpatialTransformer2d, sliced_attention
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.weights.stable_diffusion_unet import compvis_names, diffusers_names
from unveil.network.condition import Condition

FIXED = {"cosine_first": True, "inclusive": False, "norm_epsilon": 1e-5, "cross": "transformer"}
TINY = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 12,
}
OURS = {"width": 16, "multiples": (1, 2), "attention": (0,), "groups": 8, "context": 12, **FIXED}
SECOND = {"attention_head_dim": [2, 4], "use_linear_projection": True}
KINDS = {  # theirs, ours, channels of the condition
    "1": ({"attention_head_dim": 4}, {"heads": 4}),
    "2": (SECOND, {"head_width": 8, "linear_projection": True}),
    "1, inpainting": ({"in_channels": 9, "attention_head_dim": 4}, {"heads": 4, "concat": 5}),
    "2, depth": ({"in_channels": 5} | SECOND, {"head_width": 8, "linear_projection": True, "concat": 1}),
    "2, unCLIP": (
        {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 10} | SECOND,
        {"head_width": 8, "linear_projection": True, "vector": 10},
    ),
    "x4 upscaler": (
        {
            "in_channels": 7,
            "block_out_channels": (8, 16, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 4,
            "use_linear_projection": True,
            "only_cross_attention": (True, True, False),
            "num_class_embeds": 20,
        },
        {
            "width": 8,
            "multiples": (1, 2, 4),
            "attention": (1, 2),
            "heads": 4,
            "linear_projection": True,
            "concat": 3,
            "labels": 20,
            "text_only": (0, 1),
        },
    ),
}


@pytest.mark.parametrize("sides", [(8, 8), (12, 10)])
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_diffusers_does(kind, sides, generator):
    options, ours = KINDS[kind]
    theirs = UNet2DConditionModel(**(TINY | options)).eval()
    shape = UNet2dShape(4, **(OURS | ours))
    network, table = UNet2d(shape).eval(), diffusers_names(shape)
    weights = {
        name: value + 0.2 * torch.randn(value.shape, generator=generator)
        for name, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(weights)
    assert sorted(table.values()) == sorted(weights)
    network.load_state_dict({name: weights[other] for name, other in table.items()})
    x, concat = (
        torch.randn((2, channels, *sides), generator=generator)
        for channels in (4, theirs.config.in_channels - 4)
    )
    time, tokens = torch.tensor([1, 981]), torch.randn((2, 7, 12), generator=generator)
    vector, label = torch.randn((2, 10), generator=generator), torch.tensor([19, 3])
    classes = vector if shape.vector else label if shape.labels else None
    cond = Condition(
        tokens=tokens,
        concat=concat if shape.concat else None,
        vector=vector if shape.vector else None,
        label=label if shape.labels else None,
    )
    with torch.no_grad():
        wanted = theirs(torch.cat([x, concat], dim=1), time, tokens, class_labels=classes).sample
        torch.testing.assert_close(network(x, time.float(), cond), wanted, rtol=1e-5, atol=1e-5)


def test_padding_of_the_text_is_masked_as_diffusers_masks_it(generator):
    theirs = UNet2DConditionModel(**(TINY | KINDS["1"][0])).eval()
    shape = UNet2dShape(4, **(OURS | KINDS["1"][1]))
    network, weights = UNet2d(shape).eval(), theirs.state_dict()
    network.load_state_dict({name: weights[other] for name, other in diffusers_names(shape).items()})
    x, tokens = (torch.randn(size, generator=generator) for size in ((2, 4, 8, 8), (2, 5, 12)))
    valid = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])
    time, cond = torch.tensor([500, 20]), Condition(tokens=tokens, token_valid=valid)
    with torch.no_grad():
        wanted = theirs(x, time, tokens, encoder_attention_mask=valid).sample
        torch.testing.assert_close(network(x, time.float(), cond), wanted, rtol=1e-5, atol=1e-5)


SD1 = UNet2dShape(4, 320, (1, 2, 4, 4), 2, (0, 1, 2), heads=8, context=768, **FIXED)
SD2 = UNet2dShape(4, 320, (1, 2, 4, 4), 2, (0, 1, 2), 64, context=1024, linear_projection=True, **FIXED)
INPAINTING = UNet2dShape(4, 320, (1, 2, 4, 4), 2, (0, 1, 2), heads=8, context=768, concat=5, **FIXED)


@pytest.mark.parametrize(
    ("shape", "count"), [(SD1, 859_520_964), (SD2, 865_910_724), (INPAINTING, 859_535_364)]
)
def test_at_full_size_it_has_the_tensors_and_parameters_of_the_published_models(shape, count):
    with torch.device("meta"):
        network = UNet2d(shape)
        theirs = UNet2DConditionModel(
            in_channels=4 + shape.concat,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=8 if shape.heads == 8 else [5, 10, 20, 20],
            cross_attention_dim=shape.context,
            use_linear_projection=shape.linear_projection,
        )
    state, wanted = network.state_dict(), theirs.state_dict()
    assert len(state) == 686 and sum(value.numel() for value in state.values()) == count
    table = diffusers_names(shape)
    assert {table[name]: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in wanted.items()
    }
    names = compvis_names(shape)
    assert len(set(names.values())) == 686
    for ours, compvis in {  # CompVis' names as the reference has them
        "enter.weight": "input_blocks.0.0.weight",
        "down.0.1.proj_in.bias": "input_blocks.1.1.proj_in.bias",
        "down.2.0.conv.weight": "input_blocks.3.0.op.weight",
        "down.10.0.about.bias": "input_blocks.11.0.emb_layers.1.bias",
        "middle.1.transformer_blocks.0.ff.net.0.proj.weight": "middle_block.1.transformer_blocks.0.ff.net.0.proj.weight",
        "middle.2.second.weight": "middle_block.2.out_layers.3.weight",
        "up.3.0.conv.bias": "output_blocks.2.1.conv.bias",
        "up.4.0.skip.weight": "output_blocks.3.0.skip_connection.weight",
        "up.7.0.conv.weight": "output_blocks.5.2.conv.weight",
        "up.14.1.transformer_blocks.0.attn2.to_k.weight": "output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight",
        "norm.weight": "out.0.weight",
        "leave.bias": "out.2.bias",
        "time.2.weight": "time_embed.2.weight",
    }.items():
        assert names[ours] == compvis


def test_1_x_1_convolutions_are_linear_layers_on_positions(generator):
    one, other = SpatialTransformer2d(8, 4, 6, 2), SpatialTransformer2d(8, 4, 6, 2, linear=True)
    for parameter in one.parameters():
        nn.init.normal_(parameter, std=0.3)
    other.load_state_dict({k: v.reshape(other.state_dict()[k].shape) for k, v in one.state_dict().items()})
    x, tokens = (torch.randn(size, generator=generator) for size in ((2, 8, 3, 5), (2, 4, 6)))
    torch.testing.assert_close(one(x, tokens), other(x, tokens))
    normed = one.norm(x)
    torch.testing.assert_close(
        transformer2d._projected(one.proj_in, normed.flatten(2).transpose(1, 2)),
        one.proj_in(normed).flatten(2).transpose(1, 2),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_norm_of_a_transformer_has_the_epsilon_1e_6(generator):
    """Which matters where x is small; the residual blocks of the same U-Net have 1e-5."""
    x = 1e-3 * torch.randn((1, 8, 3, 3), generator=generator)
    groups = x.reshape(2, -1)
    deviation = (groups.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    wanted = ((groups - groups.mean(1, keepdim=True)) / deviation).reshape(x.shape)
    torch.testing.assert_close(SpatialTransformer2d(8, 4, 6, 2).norm(x), wanted, rtol=1e-4, atol=1e-5)


def test_slices_change_nothing_and_half_precision_does_not_overflow(generator, monkeypatch):
    """Scores beyond 65,504, as Stable Diffusion 2.1 has them, are sums in float32; slices of queries give the
    rows of the whole."""
    q, k, v = (torch.randn((2, 3, n, 8), generator=generator) for n in (10, 7, 7))
    mask = torch.rand((2, 1, 1, 7), generator=generator) > 0.3
    mask[..., 0] = True
    wanted = sliced_attention(q, k, v, mask)
    seen = []

    def watched(q, k, v, mask):
        seen.append(q.shape[2])
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    monkeypatch.setattr(transformer2d, "attention", watched)
    monkeypatch.setattr(transformer2d, "FUSED", ())
    monkeypatch.setattr(transformer2d, "LARGEST_SCORES", 2 * 3 * 7 * 4)
    torch.testing.assert_close(sliced_attention(q, k, v, mask), wanted)
    assert seen == [4, 4, 2]
    monkeypatch.undo()
    large, half = 300.0 * q, torch.float16
    assert (large @ (large[:, :, :7]).transpose(2, 3)).abs().max() > 65_504
    made = sliced_attention(large.to(half), large[:, :, :7].to(half), v.to(half), None)
    assert made.dtype == half and bool(made.isfinite().all())
    exact = sliced_attention(
        large.to(half).float(), large[:, :, :7].to(half).float(), v.to(half).float(), None
    )
    torch.testing.assert_close(made.float(), exact, rtol=1e-3, atol=1e-3)


def test_cross_attention_is_a_weighted_mean_of_the_text(generator):
    layer = CrossAttention(8, 6, 4)
    x, text = (torch.randn(size, generator=generator) for size in ((1, 5, 8), (1, 3, 6)))
    q, k, v = x[0] @ layer.to_q.weight.T, text[0] @ layer.to_k.weight.T, text[0] @ layer.to_v.weight.T
    heads = [
        (q[:, h] @ k[:, h].T / 2.0).softmax(1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))
    ]  # 2 is the root of 4 channels
    wanted = torch.cat(heads, 1) @ layer.to_out[0].weight.T + layer.to_out[0].bias
    torch.testing.assert_close(layer(x, text)[0], wanted, rtol=1e-4, atol=1e-5)

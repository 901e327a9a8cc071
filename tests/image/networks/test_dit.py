"""The diffusion transformer: diffusers' DiT by names, text in any order, zero at first."""

import os
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked for

from diffusers import DiTTransformer2DModel

from unveil.image.networks.dit import DiT, DiTShape, positions
from unveil.network.condition import Condition

SHAPE = DiTShape(2, 2, 16, 2, 4)


def drawn(shape: DiTShape) -> DiT:
    network, generator = DiT(shape), torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # nothing is zero any more
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return network.eval()


def under_their_names(network: DiT) -> dict[str, Tensor]:
    """The weights as diffusers has them, where each block has the embeddings of time and label again."""
    ours, found = network.state_dict(), {}
    for end in ("weight", "bias"):
        for name, theirs in (
            ("enter", "pos_embed.proj"),
            ("modulation", "proj_out_1"),
            ("leave", "proj_out_2"),
        ):
            found[f"{theirs}.{end}"] = ours[f"{name}.{end}"]
        for k in range(network.shape.layers):
            block, inside = f"transformer_blocks.{k}", f"blocks.{k}"
            for part, value in zip("qkv", ours[f"{inside}.qkv.{end}"].chunk(3), strict=True):
                found[f"{block}.attn1.to_{part}.{end}"] = value
            for name, theirs in (
                (f"{inside}.merge", "attn1.to_out.0"),
                (f"{inside}.rise", "ff.net.0.proj"),
                (f"{inside}.fall", "ff.net.2"),
                (f"{inside}.modulation", "norm1.linear"),
                ("time.0", "norm1.emb.timestep_embedder.linear_1"),
                ("time.2", "norm1.emb.timestep_embedder.linear_2"),
            ):
                found[f"{block}.{theirs}.{end}"] = ours[f"{name}.{end}"]
            found[f"{block}.norm1.emb.class_embedder.embedding_table.weight"] = ours["label.weight"]
    return found


@pytest.mark.parametrize("patch", [1, 2])
def test_it_computes_what_diffusers_does(patch, generator):
    """Norms have the epsilon 1e-5 here and 1e-6 there, hence the tolerance. The longest wavelength of its
    times is set to that of the authors' code, from which diffusers' differs."""
    theirs = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=4,
        in_channels=2,
        out_channels=4,
        num_layers=2,
        norm_num_groups=1,
        sample_size=8,
        patch_size=patch,
        num_embeds_ada_norm=3,
    ).eval()
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    network = drawn(replace(SHAPE, patch=patch, labels=4, learned_variance=True))
    buffers = {name: value for name, value in theirs.state_dict().items() if name == "pos_embed.pos_embed"}
    theirs.load_state_dict(under_their_names(network) | buffers)
    x, time, label = (
        torch.randn((2, 2, 8, 8), generator=generator),
        torch.tensor([7, 900]),
        torch.tensor([3, 1]),
    )
    with torch.no_grad():
        wanted = theirs(x, time, label).sample
        torch.testing.assert_close(
            network(x, time.float(), Condition(label=label)), wanted, rtol=2e-4, atol=2e-4
        )
    if buffers:
        torch.testing.assert_close(positions(8 // patch, 8 // patch, 16), buffers["pos_embed.pos_embed"][0])


def test_rows_and_columns_have_their_own_half_of_the_positions():
    """At frequency 1 the sine of the column stands first and that of the row at W / 2."""
    found = positions(3, 5, 16).reshape(3, 5, 16)
    for row in range(3):
        for column in range(5):
            across, down = torch.tensor([float(column), float(row)]).sin()
            torch.testing.assert_close(found[row, column, [0, 8]], torch.stack([across, down]))


@pytest.mark.parametrize("cross", ["joint", "cross"])
def test_valid_text_matters_in_any_order_and_padding_does_not(cross, generator):
    network = drawn(replace(SHAPE, context=6, cross=cross))
    x, time = torch.randn((2, 2, 4, 6), generator=generator), torch.tensor([5.0, 5.0])
    tokens = torch.randn((2, 5, 6), generator=generator)
    valid = torch.tensor([[True, True, False, True, False], [True] * 5])
    out, order = network(x, time, Condition(tokens=tokens, token_valid=valid)), torch.tensor([3, 0, 4, 2, 1])
    other = network(x, time, Condition(tokens=tokens[:, order], token_valid=valid[:, order]))
    torch.testing.assert_close(other, out, rtol=1e-4, atol=1e-4)
    changed = torch.where(valid[..., None], tokens, 100.0)
    assert torch.equal(network(x, time, Condition(tokens=changed, token_valid=valid)), out)
    shorter = Condition(tokens=tokens[:1][:, valid[0]])
    torch.testing.assert_close(network(x[:1], time[:1], shorter), out[:1], rtol=1e-4, atol=1e-4)
    changed[0, 3] *= -1.0
    moved = (network(x, time, Condition(tokens=changed, token_valid=valid)) - out).abs().amax((1, 2, 3))
    assert moved[0] > 1e-3 and moved[1] == 0


@pytest.mark.parametrize("cross", ["joint", "cross"])
def test_it_starts_as_zero_and_its_blocks_as_nothing(cross, generator):
    network = DiT(replace(SHAPE, context=6, cross=cross, vector=3, labels=2, concat=1))
    x, concat, tokens = (
        torch.randn(size, generator=generator) for size in ((1, 2, 4, 4), (1, 1, 4, 4), (1, 3, 6))
    )
    cond = Condition(tokens=tokens, vector=torch.ones(1, 3), concat=concat, label=torch.tensor([1]))
    assert not network(x, torch.ones(1), cond).any()
    nn.init.normal_(network.leave.weight)
    out = network(x, torch.ones(1), cond)
    h = network.enter(torch.cat([x, concat], 1)).flatten(2).transpose(1, 2) + positions(2, 2, 16)
    squares = network.leave(nn.functional.layer_norm(h, (16,)))[0]  # row, column and channel in each
    torch.testing.assert_close(out[0, :, :2, 2:], squares[1].reshape(2, 2, 2).permute(2, 0, 1))


def test_each_part_of_the_condition_matters(generator):
    network, x = (
        drawn(replace(SHAPE, vector=3, labels=2, concat=1)),
        torch.randn((1, 2, 4, 4), generator=generator),
    )
    parts = {"vector": torch.ones(1, 3), "label": torch.tensor([0]), "concat": torch.zeros(1, 1, 4, 4)}
    out = network(x, torch.ones(1), Condition(**parts))
    for name, value in {
        "vector": -parts["vector"],
        "label": torch.tensor([1]),
        "concat": parts["concat"] + 1,
    }.items():
        changed = network(x, torch.ones(1), Condition(**(parts | {name: value})))
        assert (changed - out).abs().max() > 1e-3, name
    assert (network(x, 2.0 * torch.ones(1), Condition(**parts)) - out).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiT(replace(SHAPE, width=18, heads=3)), "multiple of 4"),
        (lambda: DiT(SHAPE)(torch.zeros(1, 2, 5, 4), torch.ones(1)), "sides that 2 divides"),
        (lambda: DiT(replace(SHAPE, labels=2))(torch.zeros(1, 2, 4, 4), torch.ones(1)), "DiT: .* 1 labels"),
        (
            lambda: DiT(replace(SHAPE, context=6))(torch.zeros(1, 2, 4, 4), torch.ones(1)),
            r"DiT: .* tokens \(1, N, 6\)",
        ),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()

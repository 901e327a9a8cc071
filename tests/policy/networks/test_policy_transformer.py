"""Diffusion Policy's transformer has the published parameters, and what its masks hide cannot be seen."""

import pytest
import torch
from torch import nn

from tolerance import golden_close
from unveil.network.condition import Condition
from unveil.policy.networks.transformer import CrossBlock, PolicyTransformer, dropped


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ((2, 16, 20, 2), 8_965_122),  # PushT
        ((2, 10, 20, 2), 8_963_586),
        ((9, 16, 60, 4, 768), 80_415_753),  # kitchen
    ],
)
def test_it_has_as_many_parameters_as_the_released_code(sizes, parameters):
    """Counted of the released TransformerForDiffusion itself."""
    assert sum(p.numel() for p in PolicyTransformer(*sizes).parameters()) == parameters


def small(**kwargs) -> PolicyTransformer:
    torch.manual_seed(0)
    network = PolicyTransformer(2, 8, 5, 3, width=16, depth=2, heads=2, **kwargs)
    for block in network.blocks:  # weights of 0.02 would hide most of what is tested
        nn.init.normal_(block.memory.weight, std=0.3)
        nn.init.normal_(block.qkv.weight, std=0.3)
    return network.eval()


def seen(network: PolicyTransformer, change: str, place: int) -> list[bool]:
    """Which outputs change with one action, or with one observation."""
    torch.manual_seed(1)
    given = {"x": torch.randn(1, 8, 2), "tokens": torch.randn(1, 3, 5)}
    moved = {name: value.clone() for name, value in given.items()}
    moved[change][0, place] += 1.0
    a, b = (network(it["x"], torch.tensor([4.0]), Condition(tokens=it["tokens"])) for it in (given, moved))
    return ((a - b).abs().amax(-1)[0] > 0).tolist()


@pytest.mark.parametrize("place", range(8))
def test_no_action_sees_a_later_one(place):
    assert seen(small(), "x", place) == [i >= place for i in range(8)]
    assert all(seen(small(causal=False), "x", place))


@pytest.mark.parametrize("place", range(3))
def test_no_action_sees_a_later_observation(place):
    assert seen(small(), "tokens", place) == [i >= place for i in range(8)]
    assert all(seen(small(causal=False), "tokens", place))


def test_every_action_sees_the_time():
    network, x, told = small(), torch.randn(1, 8, 2), Condition(tokens=torch.randn(1, 3, 5))
    change = network(x, torch.tensor([4.0]), told) - network(x, torch.tensor([5.0]), told)
    assert (change.abs().amax(-1) > 1e-6).all()


def test_a_chunk_cut_short_is_the_beginning_of_the_whole():
    network, x, told, time = (
        small(),
        torch.randn(2, 8, 2),
        Condition(tokens=torch.randn(2, 3, 5)),
        torch.tensor([0.0, 9.0]),
    )
    torch.testing.assert_close(network(x[:, :5], time, told), network(x, time, told)[:, :5])


def test_a_block_is_pytorchs_decoder_layer():
    """Same formula, other code: `nn.TransformerDecoderLayer` with the norms first and GELU."""
    torch.manual_seed(0)
    block, layer = (
        CrossBlock(16, 4),
        nn.TransformerDecoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True),
    )
    pairs = [
        (layer.norm1, block.own), (layer.norm2, block.told), (layer.norm3, block.last), (layer.self_attn.out_proj, block.merge),
        (layer.multihead_attn.out_proj, block.gather), (layer.linear1, block.rise), (layer.linear2, block.fall),
    ]  # fmt: skip
    for theirs, ours in pairs:
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
        ours.load_state_dict(theirs.state_dict())
    both = layer.multihead_attn.in_proj_weight, layer.multihead_attn.in_proj_bias
    block.qkv.load_state_dict(
        {"weight": layer.self_attn.in_proj_weight, "bias": layer.self_attn.in_proj_bias}
    )
    block.query.load_state_dict({"weight": both[0][:16], "bias": both[1][:16]})
    block.memory.load_state_dict({"weight": both[0][16:], "bias": both[1][16:]})
    x, memory = torch.randn(2, 6, 16), torch.randn(2, 3, 16)
    own, told = PolicyTransformer(1, 6, 1, 2, 16, 1, 4).masks(6, 3)
    expected = layer(x, memory, tgt_mask=torch.zeros(6, 6).masked_fill(~own, -1e9), memory_mask=~told)
    golden_close(block(x, memory, own, told), expected.detach())
    again = block(x, memory, own, told, torch.Generator().manual_seed(0))
    golden_close(again, expected.detach())


def test_dropout_keeps_the_mean_is_drawn_from_the_generator_and_is_for_training_alone():
    x = torch.ones(200, 200)
    y = dropped(x, 0.3, torch.Generator().manual_seed(0))
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.01)
    network, told = small(dropout=0.3, dropout_inputs=0.1), Condition(tokens=torch.randn(2, 3, 5))

    def run(seed: int):
        network.generator = torch.Generator().manual_seed(seed)
        return network(torch.ones(2, 8, 2), torch.zeros(2), told)

    assert torch.equal(run(0), run(1))
    network.train()
    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    network.generator = None
    with pytest.raises(ValueError, match="needs the attribute generator"):
        network(torch.ones(2, 8, 2), torch.zeros(2), told)


def test_without_observations_the_time_is_the_whole_memory():
    torch.manual_seed(0)
    network = PolicyTransformer(2, 8, 0, 3, width=16, depth=1, heads=2)
    assert network(torch.randn(2, 8, 2), torch.zeros(2)).shape == (2, 8, 2)
    assert network.memory_place.shape == (1, 16)


def test_what_cannot_be_is_named():
    network, x, time = small(), torch.zeros(2, 8, 2), torch.zeros(2)
    with pytest.raises(ValueError, match="needs tokens"):
        network(x, time, Condition(vector=torch.zeros(2, 5)))
    with pytest.raises(ValueError, match=r"must be \(2, 1 to 3, 5\), got \(2, 4, 5\)"):
        network(x, time, Condition(tokens=torch.zeros(2, 4, 5)))
    with pytest.raises(ValueError, match="up to 8"):
        network(torch.zeros(2, 9, 2), time, Condition(tokens=torch.zeros(2, 3, 5)))
    with pytest.raises(ValueError, match="3 heads do not divide"):
        PolicyTransformer(2, 8, 5, 3, width=16, heads=3)

"""LoRA of linear layers and convolutions under any names: the formula, several adapters at once, merging and
unmerging, and peft's result."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.lora import (
    AdaptedLinear,
    LoRA,
    LowRank,
    adapt,
    adapted,
    attach,
    combined,
    merge_lora,
    remove_lora,
    strip_lora,
    unmerge_lora,
)


class Small(nn.Module):
    """Convolutions of 3 x 3 (of stride 2 as well) and 1 x 1, and linear layers, also one directly in it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict(
            {
                "conv": nn.Conv2d(3, 6, 3, padding=1),
                "down": nn.Conv2d(6, 6, 3, stride=2, padding=1),
                "point": nn.Conv2d(6, 6, 1, bias=False),
                "to_out": nn.Sequential(nn.Linear(6, 8)),
            }
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body["point"](self.body["down"](F.silu(self.body["conv"](x))))
        return self.head(F.silu(self.body["to_out"](h.mean((2, 3)))))


SHAPES = {"body.conv": (6, 3, 3, 3), "body.down": (6, 6, 3, 3), "body.point": (6, 6, 1, 1)}
SHAPES |= {"body.to_out.0": (8, 6), "head": (4, 8)}


def network() -> Small:
    torch.manual_seed(0)
    return Small().double().requires_grad_(False)


def x(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def update(shape: tuple[int, ...], rank: int = 2, alpha: float = 3.0, seed: int = 0) -> LowRank:
    """A random update of a weight of this shape, with numbers that float32 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *shape[1:], generator=generator) / 4
    up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator) / 4
    return LowRank(down, up, alpha)


def updates(seed: int = 0, rank: int = 2, alpha: float = 3.0) -> dict[str, LowRank]:
    return {name: update(shape, rank, alpha, seed + i) for i, (name, shape) in enumerate(SHAPES.items())}


def close(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, atol=2e-6, rtol=2e-6)


def test_the_change_of_a_convolution_is_that_of_its_two_convolutions():
    change = update((5, 3, 3, 3), rank=2, alpha=3.0)
    image = x()
    two = F.conv2d(F.conv2d(image, change.down.double(), padding=1), change.up.double())
    torch.testing.assert_close(1.5 * two, F.conv2d(image, change.delta(), padding=1))
    by_kohya = F.conv2d(change.down.double().transpose(0, 1), change.up.double()).transpose(0, 1)
    torch.testing.assert_close(change.delta(), 1.5 * by_kohya)
    by_hand = torch.einsum("or,riyx->oiyx", change.up[:, :, 0, 0].double(), change.down.double())
    torch.testing.assert_close(change.delta(), 1.5 * by_hand)


@pytest.mark.parametrize("name", [*SHAPES, "all"])
def test_given_updates_change_the_weights_by_their_delta(name):
    wanted = updates() if name == "all" else {name: updates()[name]}
    net, by_hand = network(), network()
    before = net(x())
    attach(net, wanted)
    for layer, change in wanted.items():
        by_hand.get_submodule(layer).weight.data += change.delta()
    close(net(x()), by_hand(x()))
    assert (net(x()) - before).abs().max() > 1e-3
    merge_lora(net)
    close(net(x()), by_hand(x()))


def test_unmerging_and_removing_restore_every_bit():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        net = network().to(dtype)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        attach(net, updates())
        merge_lora(net)
        assert not torch.equal(net.get_submodule("head").base.weight, before["head.weight"])
        unmerge_lora(net)
        assert all(torch.equal(m.base.weight, before[f"{name}.weight"]) for name, m in adapted(net))
        merge_lora(net)
        remove_lora(net)
        assert net.state_dict().keys() == before.keys()
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    attach(net, updates())
    remove_lora(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_several_adapters_add_with_their_factors():
    first, second = updates(0), updates(50, rank=3, alpha=1.0)
    del second["body.point"]
    net, by_hand = network(), network()
    attach(net, combined([(first, 0.8), (second, -0.5)]))
    assert {name: module.lora_A.weight.shape[0] for name, module in adapted(net)} == {
        name: 2 if name == "body.point" else 5 for name in SHAPES
    }
    for factor, part in ((0.8, first), (-0.5, second)):
        for name, change in part.items():
            by_hand.get_submodule(name).weight.data += factor * change.delta()
    close(net(x()), by_hand(x()))
    merge_lora(net)
    strip_lora(net)
    close(net(x()), by_hand(x()))
    with pytest.raises(ValueError, match=r"the updates of head are for layers of different sizes"):
        combined([(first, 1.0), ({"head": update((4, 9))}, 1.0)])


def test_matrices_and_one_by_one_convolutions_are_one():
    for wide, flat, name in (((6, 6, 1, 1), (6, 6), "body.point"), ((4, 8, 1, 1), (4, 8), "head")):
        outs = []
        for shape in (wide, flat):
            net = network()
            attach(net, {name: update(shape)})
            outs.append(net(x()))
        assert torch.equal(*outs)
    mixed = combined([({"a": update((6, 6, 1, 1), seed=1)}, 1.0), ({"a": update((6, 6), seed=2)}, 1.0)])
    total = update((6, 6), seed=1).delta() + update((6, 6), seed=2).delta()
    torch.testing.assert_close(mixed["a"].delta()[..., 0, 0], total, atol=1e-6, rtol=1e-6)


def test_adapted_one_by_one_convolutions_take_tokens():
    layer = nn.Conv2d(6, 5, 1)
    adapted_layer = AdaptedLinear(layer, LoRA(2, 4.0))
    nn.init.normal_(adapted_layer.lora_B.weight)
    image = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    tokens = image.flatten(2).transpose(1, 2)
    torch.testing.assert_close(adapted_layer(tokens), adapted_layer(image).flatten(2).transpose(1, 2))


def test_training_starts_from_the_network_and_reaches_only_the_matrices():
    net = network()
    before = net(x())
    tree = adapt(net, {"body.down": LoRA(2, 4.0), "head": LoRA(3, 1.0, rank_stabilized=True)})
    assert torch.equal(net(x()), before)
    assert {name: tuple(value.shape) for name, value in tree.state_dict().items()} == {
        "body.down.lora_A.weight": (2, 6, 3, 3),
        "body.down.lora_B.weight": (6, 2, 1, 1),
        "head.lora_A.weight": (3, 8),
        "head.lora_B.weight": (4, 3),
    }
    net(x()).square().sum().backward()
    assert {name for name, weight in net.named_parameters() if weight.grad is not None} == set(
        tree.state_dict()
    )
    assert [module.scale for _, module in adapted(net)] == [2.0, pytest.approx(1 / 3**0.5)]


@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_pefts_result_is_ours(rank_stabilized):
    """peft adapts the same network with the same matrices, of ranks and alphas by pattern."""
    peft = pytest.importorskip("peft")
    pytest.importorskip("transformers")
    config = peft.LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=list(SHAPES),
        rank_pattern={"head": 3},
        alpha_pattern={"body.conv": 5},
        use_rslora=rank_stabilized,
        init_lora_weights=False,
    )
    theirs = peft.inject_adapter_in_model(config, network())
    given: dict[str, LowRank] = {}
    for name in SHAPES:
        layer = theirs.get_submodule(name)
        down, up = (getattr(layer, f"lora_{part}")["default"].weight.detach() for part in "AB")
        rank, alpha = down.shape[0], 5.0 if name == "body.conv" else 3.0
        assert rank == (3 if name == "head" else 2)
        given[name] = LowRank(down.float(), up.float(), alpha * (rank**0.5 if rank_stabilized else 1.0))
        down.copy_(down.float())
        up.copy_(up.float())
    ours = network()
    attach(ours, given)
    torch.testing.assert_close(ours(x()), theirs(x()), atol=1e-6, rtol=1e-6)
    assert (ours(x()) - network()(x())).abs().max() > 1e-2


def test_what_does_not_fit_is_refused_and_nothing_changes():
    net = network()
    for wrong, message in (
        ({"head": update((4, 9))}, r"the update of head is \(4, 9\), its layer \(4, 8\)"),
        ({"head": update((8, 4))}, r"the update of head is \(8, 4\)"),
        ({"body.conv": update((6, 3))}, r"the update of body.conv is \(6, 3\), its layer \(6, 3, 3, 3\)"),
        ({"body": update((4, 8))}, "body is neither a linear layer nor a 2-D convolution"),
        ({"tail": update((4, 8))}, "the network has no layer tail"),
    ):
        with pytest.raises(ValueError, match=message):
            attach(net, {"head": update((4, 8))} | wrong)
        assert not list(adapted(net))
    attach(net, {"head": update((4, 8))})
    with pytest.raises(ValueError, match="adapted already"):
        attach(net, updates())
    with pytest.raises(ValueError, match="in 2 groups cannot be adapted"):
        AdaptedLinear(nn.Conv2d(4, 4, 1, groups=2), LoRA())


@pytest.mark.parametrize(
    ("down", "up", "alpha", "message"),
    [
        ((2, 3), (4, 3), 1.0, "do not belong together"),
        ((0, 3), (4, 0), 1.0, "do not belong together"),
        ((2, 3, 1), (4, 2), 1.0, "no matrices"),
        ((2, 3, 3, 3), (4, 2, 3, 3), 1.0, "no matrices"),
        ((2, 3), (4, 2), float("nan"), "alpha must be finite"),
    ],
)
def test_matrices_that_make_no_sense_are_refused(down, up, alpha, message):
    with pytest.raises(ValueError, match=message):
        LowRank(torch.zeros(down), torch.zeros(up), alpha)

"""The network of the prior: who sees whom, and the one of diffusers."""

import pytest
import torch
from torch import Tensor, nn

from unveil.image.networks.prior import PriorShape, PriorTransformer
from unveil.network.condition import Condition

SHAPE = PriorShape(embedding=6, context=5, pooled=6, length=7, width=16, layers=2, heads=2)


def network(shape: PriorShape = SHAPE) -> PriorTransformer:
    torch.manual_seed(0)
    return PriorTransformer(shape).eval()


def condition(count: int = 2, valid: int = 4) -> Condition:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn((count, 7, 5), generator=generator)
    mask = (torch.arange(7) < valid).expand(count, -1)
    return Condition(tokens=tokens, token_valid=mask, vector=torch.randn((count, 6), generator=generator))


def states(net: PriorTransformer, x: Tensor, cond: Condition) -> Tensor:
    """The vectors of all tokens after the blocks."""
    kept: list[Tensor] = []
    last = net.blocks[-1]
    assert isinstance(last, nn.Module)
    hook = last.register_forward_hook(lambda module, inputs, out: kept.append(torch.as_tensor(out)))
    with torch.no_grad():
        net(x, torch.tensor([3.0, 3.0]), cond)
    hook.remove()
    return kept[0]


def test_a_later_token_never_changes_an_earlier_one():
    """The order is text, pooled text, time, x, query: x reaches its own place and the query's alone."""
    net, cond = network(), condition()
    x = torch.randn(2, 6)
    before, after = states(net, x, cond), states(net, x + 1.0, cond)
    changed = (before - after).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [False] * 9 + [True, True]
    assert cond.tokens is not None
    moved = cond.tokens.clone()
    moved[:, 2] += 1.0
    after = states(net, x, Condition(tokens=moved, token_valid=cond.token_valid, vector=cond.vector))
    assert ((before - after).abs().amax(dim=(0, 2)) > 1e-6).tolist() == [False] * 2 + [True] * 9


def test_padding_has_no_influence_and_what_stands_behind_it_has():
    net, x = network(), torch.randn(2, 6)
    cond = condition(valid=4)
    assert cond.tokens is not None and cond.vector is not None
    other = cond.tokens.clone()
    other[:, 4:] = 9.0
    with torch.no_grad():
        time = torch.tensor([3.0, 3.0])
        one = net(x, time, cond)
        two = net(x, time, Condition(tokens=other, token_valid=cond.token_valid, vector=cond.vector))
        torch.testing.assert_close(one, two)
        for changed in (
            net(x, time + 5.0, cond),
            net(x + 1.0, time, cond),
            net(x, time, Condition(tokens=cond.tokens, token_valid=cond.token_valid, vector=cond.vector + 1)),
        ):
            assert float((changed - one).abs().max()) > 1e-4


def test_inputs_of_other_shapes_are_refused():
    cond = condition()
    assert cond.tokens is not None
    with pytest.raises(ValueError, match="reads 7 text tokens, got 6"):
        network()(torch.zeros(2, 6), torch.zeros(2), Condition(tokens=cond.tokens[:, :6], vector=cond.vector))
    with pytest.raises(ValueError, match="vector of shape"):
        network()(torch.zeros(2, 6), torch.zeros(2), Condition(tokens=cond.tokens))
    with pytest.raises(ValueError, match="`heads` 3"):
        PriorShape(6, 5, 6, 7, width=16, heads=3)

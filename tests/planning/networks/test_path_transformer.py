"""The path transformer: padding is invisible, a fresh network returns its anchor, every length goes in."""

import pytest
import torch

from unveil.network.condition import Condition
from unveil.planning.networks.path_transformer import PathTransformer


def stirred(seed: int = 0) -> PathTransformer:
    """A network whose zero-initialised layers are no longer zero."""
    torch.manual_seed(seed)
    network = PathTransformer(2, 5, width=32, depth=2, heads=4, patch=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def conditions(
    lengths: list[int], horizon: int, seed: int = 1
) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    g = torch.Generator().manual_seed(seed)
    count = len(lengths)
    place = torch.arange(horizon)
    x, anchor = torch.randn((count, horizon, 2), generator=g), torch.randn((count, horizon, 2), generator=g)
    known = (torch.rand((count, horizon, 2), generator=g) < 0.3).float()
    cond = Condition(
        concat=torch.cat([anchor, known], dim=-1),
        vector=torch.randn((count, 5), generator=g),
        valid=place < torch.tensor(lengths)[:, None],
    )
    return x, torch.rand(count, generator=g), cond


def test_rows_do_not_feel_each_other_or_their_padding():
    network = stirred()
    x, time, cond = conditions([7, 12, 4], 12)
    assert cond.concat is not None
    together = network(x, time, cond)
    for i, length in enumerate((7, 12, 4)):
        alone = Condition(
            concat=cond.concat[i : i + 1, :length],
            vector=cond.vector[i : i + 1],
            valid=cond.valid[i : i + 1, :length],
        )
        out = network(x[i : i + 1, :length], time[i : i + 1], alone)
        torch.testing.assert_close(together[i : i + 1, :length], out, rtol=1e-4, atol=1e-5)
    poisoned = x.clone()
    poisoned[0, 7:] = 1e3
    torch.testing.assert_close(network(poisoned, time, cond)[0, :7], together[0, :7])


def test_a_fresh_network_returns_the_anchor():
    torch.manual_seed(0)
    network = PathTransformer(2, 5, width=32, depth=2)
    x, time, cond = conditions([9, 5], 9)
    assert cond.concat is not None
    torch.testing.assert_close(network(x, time, cond), cond.concat[..., :2], rtol=0, atol=0)


@pytest.mark.parametrize("horizon", [1, 2, 3, 10, 200])
def test_every_length_goes_in(horizon):
    x, time, cond = conditions([horizon, max(1, horizon // 2)], horizon)
    assert bool(torch.isfinite(stirred()(x, time, cond)).all())


def test_everything_it_is_told_matters():
    network = stirred()
    x, time, cond = conditions([9, 9], 9)
    plain = network(x, time, cond)
    assert cond.concat is not None
    assert cond.vector is not None
    known = cond.concat.clone()
    known[..., 2:] = 1.0 - known[..., 2:]
    shorter = Condition(cond.label, cond.vector, concat=cond.concat, valid=torch.arange(9).expand(2, 9) < 6)
    changed = [
        network(x + 0.5, time, cond),
        network(x, time + 0.3, cond),
        network(x, time, Condition(concat=known, vector=cond.vector, valid=cond.valid)),
        network(x, time, Condition(concat=cond.concat, vector=cond.vector + 0.5, valid=cond.valid)),
        network(x, time, shorter),
    ]
    for out in changed:
        assert float((out - plain)[:, :6].abs().mean().detach()) > 1e-4


def test_missing_or_misshapen_conditions_are_refused():
    network = stirred()
    x, time, cond = conditions([4], 4)
    with pytest.raises(ValueError, match="needs concat"):
        network(x, time, None)
    with pytest.raises(ValueError, match="concat must be"):
        network(x, time, Condition(concat=x, vector=cond.vector, valid=cond.valid))


def test_what_no_step_changes_is_computed_once_and_changes_nothing():
    network = stirred()
    x, time, cond = conditions([10, 7], 10)
    filled = network.prefill(cond)
    for state, moment in ((x, time), (x + 0.5, 0.3 * time)):
        torch.testing.assert_close(
            network(state, moment, filled), network(state, moment, cond), rtol=0, atol=0
        )
    swapped = Condition(
        concat=cond.concat,
        vector=cond.vector,
        valid=cond.valid,
        prefix=network.prefill(cond.rows(0, 1).repeat(2)).prefix,
    )
    assert float((network(x, time, swapped) - network(x, time, cond))[1].abs().mean().detach()) > 1e-4
    with pytest.raises(ValueError, match="prefill: the condition needs"):
        network.prefill(Condition(concat=cond.concat))

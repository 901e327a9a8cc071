"""Conditions: joining, repeating, dropping by row."""

import pytest
import torch

from unveil.network.condition import Condition


def sample_condition(value: float, count: int = 2) -> Condition:
    return Condition(
        label=torch.full((count,), value),
        vector=torch.full((count, 3), value),
        prefix=(torch.full((count, 1), value),),
    )


def test_cat_joins_every_field_in_order():
    both = sample_condition(1.0).cat(sample_condition(2.0))
    assert both.label is not None
    assert both.label.tolist() == [1, 1, 2, 2]
    assert isinstance(both.prefix, tuple)
    assert both.prefix[0][:, 0].tolist() == [1, 1, 2, 2]
    assert both.tokens is None
    with pytest.raises(ValueError, match="vector"):
        sample_condition(1.0).cat(Condition(label=torch.ones(2), prefix=(torch.ones(2, 1),)))


def test_repeat_keeps_candidates_of_one_row_together():
    condition = Condition(label=torch.tensor([5.0, 7.0]))
    repeated = condition.repeat(3)
    assert repeated.label is not None
    assert repeated.label.tolist() == [5, 5, 5, 7, 7, 7]
    part = repeated.rows(2, 4)
    assert part.label is not None
    assert part.label.tolist() == [5, 7]


def test_drop_replaces_marked_rows_only():
    condition, null = (
        Condition(vector=torch.ones(3, 2), label=torch.tensor([1, 2, 3])),
        Condition(vector=torch.zeros(1, 2), label=torch.zeros(1).long()),
    )
    dropped = condition.drop(torch.tensor([False, True, False]), null)
    assert dropped.vector is not None
    assert dropped.vector.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert dropped.label is not None
    assert dropped.label.tolist() == [1, 0, 3]
    cache = Condition(prefix=(torch.ones(2, 3),)).drop(
        torch.tensor([True, False]), Condition(prefix=(torch.zeros(1, 3),))
    )
    assert isinstance(cache.prefix, tuple)
    assert cache.prefix[0].tolist() == [[0, 0, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match="cannot drop rows of object"):
        Condition(prefix=object()).drop(torch.tensor([True]), Condition(prefix=object()))
    with pytest.raises(ValueError, match="lacks vector"):
        condition.drop(torch.tensor([True, False, False]), Condition(label=torch.zeros(1).long()))

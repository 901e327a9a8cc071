"""The faster of a function and its compilation is chosen once for each shape; without a compiler it is the
function."""

import torch

from unveil.network.compiled import Measured


def test_it_is_chosen_once_for_each_shape(monkeypatch):
    made = []

    def compiled(run, dynamic):
        made.append(run)
        return lambda x: run(x)

    monkeypatch.setattr(torch, "compile", compiled)
    double = Measured(lambda x: 2.0 * x)
    for rows in (3, 3, 4):
        assert torch.equal(double(torch.ones(rows)), torch.full((rows,), 2.0))
    assert len(made) == 2


def test_without_a_compiler_it_is_the_function(monkeypatch):
    def compiled(run, dynamic):
        def fails(x):
            raise RuntimeError("no compiler")

        return fails

    monkeypatch.setattr(torch, "compile", compiled)
    assert torch.equal(Measured(lambda x: x + 1.0)(torch.zeros(2)), torch.ones(2))

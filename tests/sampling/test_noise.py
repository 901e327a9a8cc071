"""Noise of samples that have generators of their own: the same numbers whatever stands beside them in the
batch."""

import pytest
import torch

from unveil.process.denoised import GaussianDenoised, MaskedDenoised
from unveil.process.grid import jumping, uniform
from unveil.process.schedule import Cosine, Flow
from unveil.sampling.edit import Replace
from unveil.sampling.gaussian import DDIM, Ancestral, Consistency, Heun, Renoise
from unveil.sampling.loop import sample
from unveil.sampling.masked import AncestralUnmask, ConfidentUnmask, FirstHittingUnmask
from unveil.sampling.noise import generators, normal_like, some_of, uniform_like

MASK = 9


def test_sample_i_has_the_seed_plus_i() -> None:
    together = normal_like(torch.empty(3, 4), generators(5, 3))
    for i in range(3):
        assert torch.equal(together[i], torch.randn(4, generator=torch.Generator().manual_seed(5 + i)))
    assert torch.equal(normal_like(torch.empty(2, 4), generators(5, 2, first=1)), together[1:])
    assert torch.equal(normal_like(torch.empty(1, 4), some_of(generators(5, 3), slice(2, 3))), together[2:])


def test_each_generator_serves_the_candidates_of_its_sample() -> None:
    four = normal_like(torch.empty(4, 3), generators(0, 2))
    assert torch.equal(four[2:], normal_like(torch.empty(2, 3), generators(0, 1, first=1)))
    with pytest.raises(ValueError, match="2 generators cannot serve 3 rows"):
        normal_like(torch.empty(3, 1), generators(0, 2))


def test_only_wanted_numbers_are_drawn() -> None:
    where = torch.tensor([[True, False, True], [False, False, False]])
    own = generators(0, 2)
    numbers = uniform_like(torch.empty(2, 3), own, where=where)
    assert torch.equal(
        numbers[0, [0, 2]], torch.rand(2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    assert float(uniform_like(torch.empty(2, 1), own)[1]) == float(
        torch.rand(1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )


@pytest.mark.parametrize(
    "solver",
    [
        DDIM(Cosine(), eta=1.0),
        Ancestral(Cosine()),
        Consistency(Cosine()),
        Heun(Cosine(), churn=0.3),
        Renoise(Ancestral(Cosine()), Cosine()),
    ],
)
def test_gaussian_solvers_do_not_mix_samples(solver: object) -> None:
    def denoise(x: torch.Tensor, t: torch.Tensor) -> GaussianDenoised:
        return GaussianDenoised(0.5 * x.tanh())

    times = jumping(uniform(6, start=0.99), 2, 2) if isinstance(solver, Renoise) else uniform(6, start=0.99)
    edit = Replace(torch.tensor([True, False, False]), torch.zeros(1, 3), Cosine())

    def made(first: int, count: int) -> torch.Tensor:
        own = generators(3, count, first)
        return sample(
            denoise, solver, normal_like(torch.empty(count, 3), own), times, edit=edit, generator=own
        )

    assert torch.equal(made(0, 4), torch.cat([made(i, 1) for i in range(4)]))


@pytest.mark.parametrize(
    "solver",
    [
        AncestralUnmask(Flow(), MASK),
        AncestralUnmask(Flow(), MASK, remask=0.5),
        FirstHittingUnmask(Flow(), MASK),
        ConfidentUnmask(Flow(), MASK, temperature=1.0),
        ConfidentUnmask(Flow(), MASK, "random", temperature=0.7, remask=0.3),
        ConfidentUnmask(Flow(), MASK, temperature=1.0, edit=0.2),
    ],
)
def test_masked_solvers_do_not_mix_rows(solver: object) -> None:
    """Rows with fewer masks draw fewer numbers, and a row that is finished draws none, whatever the others
    do."""

    def denoise(x: torch.Tensor, t: torch.Tensor) -> MaskedDenoised:
        heard = torch.where(x == MASK, 0, x).sum(1)[:, None, None]
        return MaskedDenoised(torch.sin(torch.arange(10.0) + torch.arange(6.0)[:, None] + heard))

    x = torch.full((4, 6), MASK)
    x[1, :3], x[3, 1:] = 4, 2

    def made(rows: slice) -> torch.Tensor:
        return sample(denoise, solver, x[rows], uniform(5), generator=generators(0, 4)[rows])

    assert torch.equal(made(slice(0, 4)), torch.cat([made(slice(i, i + 1)) for i in range(4)]))

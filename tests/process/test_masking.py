"""Masking has its exact marginals, and both forms of the bound are what full enumeration says they must
be."""

from itertools import combinations, permutations, product
from math import comb, log

import pytest
import torch
from torch import nn

from unveil.process.masked_objective import counted_loss, masked_loss
from unveil.process.masking import (
    MaskedCosine,
    MaskedDenoiser,
    antithetic,
    mask_rate,
    masked,
    stratified,
    stratified_counts,
    time_of,
    without_mask,
)
from unveil.process.schedule import Cosine, Flow, Schedule

SCHEDULES = [Flow(), MaskedCosine(), Cosine()]
MASK, WORDS, LENGTH = 3, 3, 4


class Table(nn.Module):
    """Logits for every one of the 4^4 partly masked sequences, random: an arbitrary model that is no
    consistent joint distribution."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        size = ((WORDS + 1) ** LENGTH, LENGTH, WORDS + 1)
        self.logits = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def forward(self, x, time, cond):
        place = (WORDS + 1) ** torch.arange(LENGTH)
        return self.logits[(x * place).sum(1)]

    def log_p(self, state, position, word) -> float:
        logits = self.logits[sum(s * (WORDS + 1) ** i for i, s in enumerate(state)), position]
        return float(logits[:MASK].log_softmax(-1)[word])


def test_schedules_fall_from_one_to_zero_and_their_times_invert():
    t = torch.linspace(0.0, 1.0, 41, dtype=torch.float64)
    cosine = MaskedCosine()
    torch.testing.assert_close(cosine.alpha(t), 1 - torch.cos(0.5 * torch.pi * (1 - t)), rtol=0, atol=1e-14)
    torch.testing.assert_close(cosine.alpha(t) + cosine.sigma(t), torch.ones_like(t))
    inner = t[1:-1]
    torch.testing.assert_close(cosine.time(2 * (cosine.alpha(inner) / cosine.sigma(inner)).log()), inner)
    for schedule in SCHEDULES:
        torch.testing.assert_close(time_of(schedule, 1 - schedule.alpha(inner)), inner, rtol=0, atol=1e-9)
        assert isinstance(schedule, Schedule)


def test_the_rate_is_one_over_t_and_the_cosine_closed_form():
    t = torch.tensor([1e-3, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    torch.testing.assert_close(mask_rate(Flow(), t), 1 / t, rtol=1e-7, atol=0)
    angle = 0.5 * torch.pi * t
    torch.testing.assert_close(
        mask_rate(MaskedCosine(), t), 0.5 * torch.pi * angle.cos() / angle.sin(), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_token_is_lost_with_probability_one_minus_alpha(schedule, generator):
    rows, length = 20_000, 3
    x_0 = torch.arange(length).repeat(rows, 1)
    t = torch.full((rows,), 0.3, dtype=torch.float64)
    t[rows // 2 :] = 0.8
    known = torch.tensor([False, False, True])
    x_t = masked(schedule, x_0, t, torch.rand(x_0.shape, generator=generator), 9, known)
    for half, time in ((x_t[: rows // 2], 0.3), (x_t[rows // 2 :], 0.8)):
        lost = 1 - float(schedule.alpha(torch.tensor(time)))
        deviation = (lost * (1 - lost) / (rows // 2)) ** 0.5
        share = (half == 9).double().mean(0)
        assert torch.allclose(share[:2], torch.tensor(lost).double(), atol=4 * deviation) and share[2] == 0
        both = float((half[:, :2] == 9).all(1).double().mean())  # independent
        assert both == pytest.approx(lost**2, abs=4 * (lost**2 * (1 - lost**2) / (rows // 2)) ** 0.5)
    assert bool(((x_t == x_0) | (x_t == 9)).all())


def test_a_time_for_each_position(generator):
    t = torch.tensor([[1e-9, 1.0, 1e-9, 1.0]], dtype=torch.float64)
    uniform = torch.rand((1, 4), generator=generator)
    assert masked(Flow(), torch.zeros((1, 4), dtype=torch.long), t, uniform, 5).tolist() == [[0, 5, 0, 5]]


def any_order_nats(table: Table, word) -> float:
    """The mean over all orders of -log p of a word revealed one token at a time."""
    total = 0.0
    for order in permutations(range(LENGTH)):
        state = [MASK] * LENGTH
        for position in order:
            total -= table.log_p(state, position, word[position])
            state[position] = word[position]
    return total / 24


def one_over_t_nats(table: Table, word, schedule) -> float:
    """The integral over t of rate(t) * the expected sum over masked positions, over all 2^4 masks; t by
    Gauss-Legendre."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(40)
    t = torch.tensor(0.5 * (nodes + 1))
    lost, rate = 1 - schedule.alpha(t), mask_rate(schedule, t)
    total = torch.zeros_like(t)
    for size in range(1, LENGTH + 1):
        for hidden in combinations(range(LENGTH), size):
            state = [MASK if i in hidden else word[i] for i in range(LENGTH)]
            nats = -sum(table.log_p(state, i, word[i]) for i in hidden)
            total += rate * lost**size * (1 - lost) ** (LENGTH - size) * nats
    return float((total * torch.tensor(0.5 * weights)).sum())


@pytest.mark.parametrize("word", [(0, 1, 2, 0), (2, 2, 1, 1)])
def test_both_forms_are_any_order_autoregression_and_bound_the_exact_likelihood(word):
    """t-form under two schedules = l-form = mean over orders >= -log of the mean probability over orders, all
    by enumeration."""
    table = Table()
    denoiser = MaskedDenoiser(table, Flow(), MASK)
    orders = any_order_nats(table, word)
    for schedule in (Flow(), MaskedCosine()):
        assert one_over_t_nats(table, word, schedule) == pytest.approx(orders, rel=1e-6)
    x_0, counted = torch.tensor([word]), 0.0
    for size in range(1, LENGTH + 1):
        for hidden in combinations(range(LENGTH), size):
            uniform = torch.tensor([[0.1 if i in hidden else 0.9 for i in range(LENGTH)]])
            mean = float(counted_loss(denoiser, x_0, torch.tensor([size]), uniform))  # nats a token
            counted += mean / comb(LENGTH, size) / LENGTH  # count and its masks, uniform
    assert counted == pytest.approx(orders / LENGTH, rel=1e-6)
    exact = 0.0
    for order in permutations(range(LENGTH)):
        state, path = [MASK] * LENGTH, 0.0
        for position in order:
            path += table.log_p(state, position, word[position])
            state[position] = word[position]
        exact += torch.tensor(path).exp().item() / 24
    assert orders > -log(exact)


def test_the_model_is_a_distribution_over_words():
    """What first-hitting samples from: summed over all words, the mean over orders of the path probabilities
    is 1."""
    table, total = Table(), 0.0
    for word in product(range(WORDS), repeat=LENGTH):
        for order in ((0, 1, 2, 3), (2, 0, 3, 1)):
            state, path = [MASK] * LENGTH, 0.0
            for position in order:
                path += table.log_p(state, position, word[position])
                state[position] = word[position]
            total += torch.tensor(path, dtype=torch.float64).exp().item() / 2
    assert total == pytest.approx(1.0, abs=1e-6)


def test_the_sampled_forms_agree_with_the_enumeration(generator):
    table, word, rows = Table(1), (0, 2, 1, 1), 60_000
    expected = any_order_nats(table, word) / LENGTH
    x_0 = torch.tensor([word]).repeat(rows, 1)
    uniform = torch.rand((rows, LENGTH), generator=generator)
    spread = {}
    for name, t in (
        ("independent", torch.rand(rows, generator=generator, dtype=torch.float64).clamp(min=1e-9)),
        ("stratified", stratified(torch.rand(1, generator=generator), rows, least=1e-9)),
        ("antithetic", antithetic(torch.rand(rows // 2, generator=generator), least=1e-9)),
    ):
        for schedule in (Flow(), MaskedCosine()):
            value = masked_loss(MaskedDenoiser(table, schedule, MASK), x_0, t, uniform)
            spread[name] = float(value.std())
            assert float(value.mean()) == pytest.approx(expected, abs=5 * spread[name] / rows**0.5)
    counts = stratified_counts(torch.rand(1, generator=generator), rows, torch.tensor(LENGTH))[0]
    value = counted_loss(MaskedDenoiser(table, Flow(), MASK), x_0, counts, uniform)
    assert float(value.mean()) == pytest.approx(expected, abs=4 * float(value.std()) / rows**0.5)
    assert float(value.std()) < 0.7 * spread["independent"]


def test_known_positions_stay_and_do_not_count(generator):
    """Half of the positions known: the loss is that of the other half, divided by its length."""
    table = Table(2)
    denoiser = MaskedDenoiser(table, Flow(), MASK)
    x_0, known = torch.tensor([[0, 1, 2, 0]]), torch.tensor([[True, True, False, False]])
    t = torch.tensor([0.5], dtype=torch.float64)
    loss = masked_loss(denoiser, x_0, t, torch.zeros((1, 4)), known=known)
    state = [0, 1, MASK, MASK]
    nats = -table.log_p(state, 2, 2) - table.log_p(state, 3, 0)
    assert float(loss) == pytest.approx(2.0 * nats / 2, rel=1e-6)
    counted = counted_loss(
        denoiser, x_0, torch.tensor([1]), torch.tensor([[0.0, 0.0, 0.9, 0.5]]), known=known
    )
    assert float(counted) == pytest.approx(-table.log_p([0, 1, 2, MASK], 3, 0), rel=1e-6)
    with pytest.raises(ValueError, match=r"1 \.\. unknown positions"):
        counted_loss(denoiser, x_0, torch.tensor([3]), torch.rand((1, 4)), known=known)


def test_strata_hold_one_time_each_and_counts_are_uniform():
    t = stratified(torch.tensor([0.37]), 8, least=0.0)
    assert sorted((t * 8).long().tolist()) == list(range(8))
    pairs = antithetic(torch.tensor([0.1, 0.4]), least=0.0)
    torch.testing.assert_close(
        pairs, torch.tensor([0.1, 0.9, 0.4, 0.6], dtype=torch.float64), rtol=0, atol=1e-7
    )
    offsets = (torch.arange(100) + 0.5) / 100
    found = stratified_counts(offsets.repeat(2), 5, torch.tensor([10, 20]).repeat_interleave(100))
    assert torch.bincount(found[:100].flatten(), minlength=11).tolist() == [0] + [50] * 10
    assert torch.bincount(found[100:].flatten(), minlength=21).tolist() == [0] + [25] * 20
    assert bool((found[:100].sort(dim=1).values.diff() == 2).all())  # evenly spread


def test_the_mask_gets_no_probability():
    logits = torch.zeros((2, 4))
    torch.testing.assert_close(
        without_mask(logits, 3).softmax(-1), torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0.0]]).expand(2, 4)
    )
    assert without_mask(logits, 4) is logits
    table = Table(3)
    x_0, t = torch.tensor([[0, 1, 2, 0]]), torch.ones(1, dtype=torch.float64)
    free = masked_loss(MaskedDenoiser(table, Flow(), MASK), x_0, t, torch.zeros((1, 4)))
    kept = masked_loss(MaskedDenoiser(table, Flow(), MASK, forbid_mask=False), x_0, t, torch.zeros((1, 4)))
    assert float(kept) > float(free)

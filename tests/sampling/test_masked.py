"""Solvers of tokens: exact distributions by chi-square, commit rules by hand, and what must never change."""

from functools import partial
from itertools import pairwise, product

import pytest
import torch
from scipy import stats

from unveil.process.denoised import MaskedDenoised
from unveil.process.grid import uniform
from unveil.process.masking import MaskedCosine
from unveil.process.schedule import Flow
from unveil.sampling.edit import Inpaint
from unveil.sampling.guidance import Branch, cfg
from unveil.sampling.loop import sample
from unveil.sampling.masked import AncestralUnmask, ConfidentUnmask, FirstHittingUnmask, draw_tokens

MASK, WORDS, LENGTH = 2, 2, 3
JOINT = torch.tensor(
    [0.30, 0.02, 0.08, 0.10, 0.05, 0.25, 0.15, 0.05], dtype=torch.float64
)  # p(x) of the 2^3 words


def exact(x_t, t):
    """The true conditionals p(x_0^i | revealed tokens) of JOINT: every order of revealing, one at a time,
    samples JOINT."""
    words = torch.tensor(list(product(range(WORDS), repeat=LENGTH)))
    fits = ((x_t[:, None] == MASK) | (x_t[:, None] == words)).all(2)  # (B, 8)
    weight = fits * JOINT
    mass = torch.stack([(weight[:, :, None] * (words == w)).sum(1) for w in range(WORDS)], dim=-1)
    logits = (mass / weight.sum(1)[:, None, None]).clamp(min=1e-30).log()
    return MaskedDenoised(
        torch.cat([logits, torch.full_like(logits[..., :1], 3.0)], dim=-1)
    )  # the mask looks likely: SUBS must forbid it


def frequencies(x) -> torch.Tensor:
    index = (x * torch.tensor([4, 2, 1])).sum(1)
    return torch.bincount(index, minlength=8).double()


def chi_square(counts, expected) -> float:
    return float(stats.chisquare(counts.numpy(), (expected / expected.sum() * counts.sum()).numpy()).pvalue)


def masks(rows: int, length: int = LENGTH) -> torch.Tensor:
    return torch.full((rows, length), MASK)


@pytest.mark.parametrize("schedule", [Flow(), MaskedCosine()])
@pytest.mark.parametrize("steps", [1, 3])
def test_first_hitting_samples_the_exact_joint_on_any_grid(schedule, steps, generator):
    out = sample(exact, FirstHittingUnmask(schedule, MASK), masks(6000), uniform(steps), generator=generator)
    assert chi_square(frequencies(out), JOINT) > 0.01


def test_ancestral_samples_the_joint_on_a_fine_grid_and_not_on_a_coarse_one(generator):
    fine = sample(exact, AncestralUnmask(Flow(), MASK), masks(4000), uniform(100), generator=generator)
    assert chi_square(frequencies(fine), JOINT) > 0.01
    single = sample(exact, AncestralUnmask(Flow(), MASK), masks(6000), uniform(1), generator=generator)
    alone = exact(masks(1), None).logits[0, :, :2].softmax(-1)
    independent = torch.tensor(
        [
            float(torch.tensor([alone[i, w] for i, w in enumerate(word)]).prod())
            for word in product((0, 1), repeat=3)
        ]
    )
    assert (
        chi_square(frequencies(single), independent.double()) > 0.01 > chi_square(frequencies(single), JOINT)
    )


AGAIN = partial(AncestralUnmask, remask=0.5)


@pytest.mark.parametrize("solver", [AncestralUnmask, FirstHittingUnmask, AGAIN])
def test_the_marginal_share_of_masks_follows_the_schedule(solver, generator):
    """After stopping at s, each position is masked with probability 1 - alpha(s), whatever the others are."""
    for schedule in (Flow(), MaskedCosine()):
        out = sample(exact, solver(schedule, MASK), masks(6000), uniform(4, end=0.5), generator=generator)
        lost = 1 - float(schedule.alpha(torch.tensor(0.5)))
        counts = torch.bincount((out == MASK).sum(1), minlength=4).double()
        assert chi_square(counts, torch.tensor(stats.binom.pmf(range(4), 3, lost))) > 0.01


def test_first_hitting_is_exact_for_rows_with_different_numbers_of_masks(generator):
    """A batch in which rows of three, two and one mask alternate: each kind has its own exact conditional
    distribution."""
    x = masks(12_000)
    x[1::3, 0], x[2::3, 0], x[2::3, 2] = 1, 0, 1
    out = sample(exact, FirstHittingUnmask(Flow(), MASK), x, uniform(2), generator=generator)
    words = torch.tensor(list(product((0, 1), repeat=3)))
    for start in range(3):
        given = ((x[start] == MASK) | (x[start] == words)).all(1)
        counts = frequencies(out[start::3])
        assert counts[~given].sum() == 0
        assert chi_square(counts[given], JOINT[given]) > 0.01
    times = sample(exact, FirstHittingUnmask(Flow(), MASK), x, uniform(2, end=0.4), generator=generator)
    for start, count in ((0, 3), (1, 2), (2, 1)):
        left = torch.bincount((times[start::3] == MASK).sum(1), minlength=count + 1).double()
        assert chi_square(left, torch.tensor(stats.binom.pmf(range(count + 1), count, 0.4))) > 0.01


def table(*rows: list[float]):
    """The same belief about every state: probabilities (P, V), [MASK] last and impossible."""
    p = torch.tensor(rows, dtype=torch.float64)
    logits = torch.cat([p.log(), torch.full_like(p[:, :1], -30.0)], dim=1)
    return lambda x_t, t: MaskedDenoised(logits.expand(len(x_t), -1, -1))


FOUR = table([0.5, 0.45, 0.05], [0.4, 0.31, 0.29], [0.1, 0.8, 0.1], [0.0, 0.42, 0.58])


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("confidence", [2, 3, 0, 1]),
        ("margin", [2, 3, 1, 0]),
        ("entropy", [2, 3, 0, 1]),
        ("left-to-right", [0, 1, 2, 3]),
    ],
)
def test_the_orders(order, expected):
    seen: list[int] = []

    def watch(x, s):
        seen.append(next(i for i in range(4) if x[0, i] != 3 and i not in seen))

    out = sample(FOUR, ConfidentUnmask(Flow(), 3, order), torch.full((1, 4), 3), uniform(4), on_step=watch)
    assert seen == expected and out.tolist() == [[0, 0, 1, 2]]


def test_the_random_order_is_uniform(generator):
    out = sample(
        FOUR,
        ConfidentUnmask(Flow(), 3, "random"),
        torch.full((4000, 4), 3),
        uniform(1, end=0.75),
        generator=generator,
    )
    assert ((out != 3).sum(1) == 1).all()
    assert chi_square((out != 3).sum(0).double(), torch.ones(4).double()) > 0.01


@pytest.mark.parametrize(
    ("masked", "steps", "expected"), [(10, 4, [3, 3, 2, 2]), (4, 4, [1, 1, 1, 1]), (3, 5, [1, 1, 1])]
)
def test_tokens_a_step_are_lladas_and_no_call_is_wasted(masked, steps, expected):
    """floor(n / steps), one more in the first n mod steps; with more steps than masks the rest of the steps
    call nothing."""
    calls, left = [0], [masked]

    def belief(x_t, t):
        calls[0] += 1
        return MaskedDenoised(
            torch.randn((len(x_t), masked, 4), generator=torch.Generator().manual_seed(calls[0]))
        )

    def watch(x, s):
        left.append(int((x == 3).sum()))

    sample(belief, ConfidentUnmask(Flow(), 3), torch.full((1, masked), 3), uniform(steps), on_step=watch)
    committed = [a - b for a, b in pairwise(left) if a != b]
    assert committed == expected and calls[0] == len(expected)


def test_threshold_and_factor_commit_in_parallel():
    """Probabilities .95 .9 .8 .5 in a row and one step of many."""
    sure = table(*[[p, 1 - p - 1e-9, 1e-9] for p in (0.5, 0.9, 0.95, 0.8)])

    def committed(**rules) -> list[int]:
        out = sample(sure, ConfidentUnmask(Flow(), 3, **rules), torch.full((1, 4), 3), uniform(1, end=0.999))
        return [i for i in range(4) if out[0, i] != 3]

    assert committed() == [2]
    assert committed(threshold=0.85) == [1, 2]
    assert committed(threshold=0.99) == [2]  # at least one
    assert committed(factor=0.31) == [
        1,
        2,
    ]  # r = 2 needs 1 - .31/3 = .897 (has .9), r = 3 needs .923 (has .8)
    assert committed(factor=1.0) == [1, 2, 3]  # r = 3 needs .75, r = 4 needs .8 (has .5)
    with pytest.raises(ValueError, match="order 'confidence'"):
        ConfidentUnmask(Flow(), 3, "random", threshold=0.9)


def test_gumbel_samples_the_tempered_belief(generator):
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    for temperature in (0.5, 1.0, 2.0):
        token, chance = draw_tokens(logits, temperature, generator)
        assert (
            chi_square(
                torch.bincount(token, minlength=3).double(), (logits[0] / temperature).softmax(-1).double()
            )
            > 0.01
        )
        torch.testing.assert_close(
            chance, logits.softmax(-1).gather(1, token[:, None])[:, 0]
        )  # of the untempered belief
    assert draw_tokens(logits, 0.0, None)[0].unique().tolist() == [2]


SOLVERS = [
    lambda **k: AncestralUnmask(Flow(), MASK, **k),
    lambda **k: FirstHittingUnmask(Flow(), MASK, **k),
    lambda **k: ConfidentUnmask(Flow(), MASK, temperature=1.0, **k),
    lambda **k: ConfidentUnmask(Flow(), MASK, "random", **k),
]


@pytest.mark.parametrize("make", SOLVERS)
def test_what_is_revealed_never_changes_and_nothing_stays_masked(make, generator):
    x = masks(300)
    x[:, 1] = 1
    states = [x]
    out = sample(
        exact,
        make(),
        x,
        uniform(5),
        generator=generator,
        on_step=lambda state, s: states.append(state) and None,
    )
    for before, after in pairwise(states):
        kept = before != MASK
        assert torch.equal(after[kept], before[kept])
    assert not bool((out == MASK).any()) and bool((out[:, 1] == 1).all())


@pytest.mark.parametrize("make", SOLVERS)
def test_only_the_positions_asked_for_are_decided(make, generator):
    out = sample(
        exact, make(among=torch.tensor([False, True, True])), masks(50), uniform(3), generator=generator
    )
    assert bool((out[:, 0] == MASK).all()) and not bool((out[:, 1:] == MASK).any())


@pytest.mark.parametrize("remask", [0.3, 1.0])
def test_prompts_outlive_masking_again(remask, generator):
    known = torch.tensor([True, False, False])
    value = torch.tensor([1, 0, 0])
    states = []
    for solver in (
        AncestralUnmask(Flow(), MASK, remask=remask),
        ConfidentUnmask(Flow(), MASK, remask=remask),
    ):
        out = sample(
            exact,
            solver,
            masks(500),
            uniform(8),
            edit=Inpaint(known, value),
            generator=generator,
            on_step=lambda state, s: states.append(state) and None,
        )
        assert not bool((out == MASK).any())
        assert any(bool(((a != MASK) & (b == MASK)).any()) for a, b in pairwise(states))
    assert all(bool((state[:, 0] == 1).all()) for state in states)


@pytest.mark.parametrize("make", SOLVERS)
def test_a_belief_at_some_positions_is_the_belief_at_all(make):
    """The head where tokens are wanted, in any order of positions: the same sample, by the same random
    numbers a position."""
    places = torch.tensor([0, 1, 2])

    def some(x_t, t):
        return MaskedDenoised(exact(x_t, t).logits[:, places], places.expand(len(x_t), -1))

    whole, part = (
        sample(b, make(), masks(64), uniform(4), generator=torch.Generator().manual_seed(1))
        for b in (exact, some)
    )
    assert torch.equal(whole, part)
    backwards = torch.tensor([2, 0])

    def two(x_t, t):
        return MaskedDenoised(exact(x_t, t).logits[:, backwards], backwards.expand(len(x_t), -1))

    x = masks(64)
    x[:, 1] = 0
    a = ConfidentUnmask(Flow(), MASK)
    assert torch.equal(sample(exact, a, x, uniform(2)), sample(two, a, x, uniform(2)))


def test_guidance_at_scale_1_is_the_conditional_and_0_the_null():
    def denoiser(x_t, t, cond):
        return exact(x_t, t)

    x = masks(4)
    x[:, 0] = torch.tensor([0, 1, 0, 1])

    def blind(x_t):
        return x_t.masked_fill(torch.tensor([True, False, False]), MASK)

    t = torch.ones(4, dtype=torch.float64)
    for scale, expected in ((1.0, exact(x, t)), (0.0, exact(blind(x), t))):
        guided = cfg(denoiser, Branch(), Branch(view=blind), scale)(x, t)
        torch.testing.assert_close(guided.logits, expected.logits)
    u, c = exact(blind(x), t).logits, exact(x, t).logits
    torch.testing.assert_close(
        cfg(denoiser, Branch(), Branch(view=blind), 2.5)(x, t).logits, u + 2.5 * (c - u)
    )


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"remask": 1.5}],
)
def test_solvers_refuse_settings_of_no_meaning(wrong):
    for solver in (AncestralUnmask, FirstHittingUnmask, ConfidentUnmask):
        if solver is not FirstHittingUnmask or "temperature" in wrong:
            with pytest.raises(ValueError, match="a finite temperature"):
                solver(Flow(), 3, **wrong)
    for name in ("threshold", "factor", "edit"):
        with pytest.raises(ValueError, match="must be numbers of at least 0"):
            ConfidentUnmask(Flow(), 3, **{name: float("nan")})

"""Block diffusion and autoregression on one trunk: exact likelihoods by enumeration, block 1 against the
chain rule, writing with what is remembered against a plain loop, and toys learned in seconds."""

from itertools import permutations, product
from math import log

import pytest
import torch

from unveil.network.condition import Condition
from unveil.process.masked_objective import counted_loss, masked_loss
from unveil.sampling.noise import generators
from unveil.text.blocks import shares
from unveil.text.data.documents import Pieces, Stream
from unveil.text.generation import TextSettings, continue_text, fill_gaps, prompt_canvas, write
from unveil.text.likelihood import conditional_nats, is_exact, text_nats
from unveil.text.model import TextModel, TextShape
from unveil.text.training import block_lengths, text_batches, text_loss


class Letters:
    """The vocabulary a, b, c."""

    size, eos_id, mask_id = 5, 3, 4

    def encode(self, text: str) -> list[int]:
        return ["abc".index(letter) for letter in text]

    def decode(self, ids) -> str:
        return "".join("abc"[i] for i in ids if i < 3)

    def written(self) -> str:
        return "abc"


LETTERS = Letters()
KINDS = [{"block": 1}, {"block": 3}, {"causal": True}]


def random_model(scale: float = 0.4, **options) -> TextModel:
    torch.manual_seed(0)
    model = TextModel(
        TextShape(5, context=32, width=16, depth=2, heads=2, theta=30.0, **options), LETTERS
    ).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * scale
    return model


def log_p(model, context: list[int], block: list[int], place: int) -> torch.Tensor:
    """(V,) log-probabilities at a place of a block after clean context, from the whole sequence read at
    once."""
    logits = (
        model.denoiser(torch.tensor([context + block]), torch.ones(1))
        .logits[0, len(context) + place]
        .detach()
        .clone()
    )
    logits[LETTERS.mask_id] = float("-inf")
    return logits.log_softmax(-1)


def test_block_1_at_mask_rate_1_is_the_chain_rule():
    """The vectorised bound, both copies at once, against one token at a time: 1e-5; its Monte-Carlo form
    agrees within its interval."""
    model = random_model(block=1)
    ids = torch.randint(3, (3, 9), generator=torch.Generator().manual_seed(2))
    by_hand = torch.tensor(
        [[-float(log_p(model, row[:i], [4], 0)[row[i]]) for i in range(9)] for row in ids.tolist()]
    )
    cond = Condition(prefix=model.network.prefill(ids))
    uniform = torch.rand(ids.shape)
    counted = counted_loss(
        model.denoiser, ids, torch.ones((3, 9), dtype=torch.long), uniform, cond=cond, block=1
    )
    torch.testing.assert_close(counted * 9, by_hand.sum(1), rtol=0, atol=1e-5)
    certain = masked_loss(model.denoiser, ids, torch.ones((3, 9), dtype=torch.float64), uniform, cond=cond)
    torch.testing.assert_close(certain.float() * 9, by_hand.sum(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(conditional_nats(model, ids), by_hand, rtol=0, atol=1e-5)
    exact = text_nats(model, ids, 7, torch.Generator())
    assert is_exact(model) and exact.shape == (3, 1)
    drawn = text_nats(
        model, ids.repeat(60, 1), 8, torch.Generator().manual_seed(0), form="t", times="independent"
    )
    for row in range(3):
        mine = drawn[row::3].flatten()
        assert float(mine.mean()) == pytest.approx(
            float(exact[row]), abs=3.0 * float(mine.std()) / len(mine) ** 0.5
        )


@pytest.mark.parametrize("options", [{"causal": True}, {"block": 1}])
def test_exact_likelihoods_of_all_sequences_sum_to_one(options):
    ids = torch.tensor(list(product(range(4), repeat=4)))
    nats = text_nats(random_model(**options), ids, 1, torch.Generator())[:, 0]
    assert float((-4.0 * nats.double()).exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_causal_models_likelihood_is_its_next_token_probabilities():
    model, row = random_model(causal=True), [2, 0, 0, 1, 2, 1]
    expected = [-float(log_p(model, row[:i], [0], 0)[row[i]]) for i in range(6)]
    torch.testing.assert_close(
        conditional_nats(model, torch.tensor([row]))[0], torch.tensor(expected), rtol=0, atol=1e-5
    )
    known = torch.tensor([[True, True, False, False, False, False]])
    nats = text_nats(model, torch.tensor([row]), 1, torch.Generator(), known=known)
    assert float(nats) == pytest.approx(sum(expected[2:]) / 4, abs=1e-5)


def test_the_bound_of_blocks_is_above_the_exact_likelihood_of_every_sequence():
    """Blocks of 2 over 4 tokens: the bound averaged over all counts and orders; exact: the mean over orders
    within each block."""
    model = random_model(block=2)
    ids = torch.tensor(list(product(range(4), repeat=4)))
    cond = Condition(prefix=model.network.prefill(ids))
    bound = torch.zeros(len(ids))
    for count, first in product((1, 2), (0, 1)):
        uniform = torch.full((len(ids), 4), 0.5)
        uniform[:, first::2] = 0.1
        counts = torch.full((len(ids), 2), count)
        bound += counted_loss(model.denoiser, ids, counts, uniform, cond=cond, block=2).detach()
    exact, tables = [], {}
    for row in ids.tolist():
        total = 0.0
        for start in (0, 2):
            paths = 0.0
            for order in permutations(range(2)):
                block, path = [4, 4], 1.0
                for place in order:
                    key = (tuple(row[:start]), tuple(block), place)
                    if key not in tables:
                        tables[key] = log_p(model, row[:start], block, place).exp()
                    path *= float(tables[key][row[start + place]])
                    block[place] = row[start + place]
                paths += path / 2
            total -= log(paths)
        exact.append(total)
    exact_nats = torch.tensor(exact)
    assert float((-exact_nats).exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert bool((bound >= exact_nats - 1e-5).all()) and float((bound - exact_nats).max()) > 0.01
    draws = text_nats(model, ids[:4].repeat(100, 1), 4, torch.Generator().manual_seed(0)).mean(1)
    for i in range(4):
        mine = draws[i::4]
        assert float(mine.mean()) == pytest.approx(float(bound[i]) / 4, abs=4 * float(mine.std()) / 10)


@pytest.mark.parametrize("options", [{}, {"block": 4}])
def test_estimators_have_one_mean_and_l_the_least_variance(options):
    model = random_model(**options)
    ids = torch.randint(3, (1, 8), generator=torch.Generator().manual_seed(5)).repeat(500, 1)
    found = {}
    for form, times in product(("l", "t"), ("stratified", "antithetic", "independent")):
        nats = (
            text_nats(model, ids, 4, torch.Generator().manual_seed(2), form=form, times=times)
            .mean(1)
            .double()
        )
        found[form, times] = (float(nats.mean()), float(nats.std()))
    mean, _ = found["l", "stratified"]
    for other, spread in found.values():
        assert other == pytest.approx(mean, abs=4 * 2**0.5 * spread / 500**0.5)
    for times in ("stratified", "antithetic", "independent"):
        assert found["l", times][1] < 0.8 * found["t", times][1]
    assert found["t", "stratified"][1] < found["t", "independent"][1]


def test_a_models_conditional_scores_are_given_the_rest():
    model, row = random_model(), [2, 0, 1, 1]
    nats = conditional_nats(model, torch.tensor([row]), known=torch.tensor([[True, False, False, False]]))[0]
    for i in range(4):
        hidden = [4 if j == i else token for j, token in enumerate(row)]
        expected = 0.0 if i == 0 else -float(log_p(model, [], hidden, i)[row[i]])
        assert float(nats[i]) == pytest.approx(expected, abs=1e-5)


def plain_loop(model, prompt: list[int], length: int) -> list[int]:
    """The surest token of a block at a time, all of the sequence so far read anew; nothing is remembered or
    left out."""
    size, row = model.window, [*prompt, *[4] * length]
    for start in range(0, len(row), size):
        stop = min(start + size, len(row))
        while 4 in row[start:stop]:
            tables = {
                i: log_p(model, row[:start], row[start:stop], i - start)
                for i in range(start, stop)
                if row[i] == 4
            }
            place = max(tables, key=lambda i: (float(tables[i].max()), -i))
            row[place] = int(tables[place].argmax())
    return row


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("cache", ["auto", "none"])
def test_blocks_are_written_as_by_a_plain_loop(options, cache):
    model = random_model(0.8, **options)
    prompts = [[0, 1, 2, 2, 1], [2], [1, 1, 0]]
    settings = TextSettings(steps=16, stop=False, cache=cache)
    canvas = prompt_canvas(prompts, 8, LETTERS)
    rows = write(model, canvas, settings).ids
    for row, valid, prompt in zip(rows, canvas.valid, prompts, strict=True):
        assert row[valid].tolist() == plain_loop(model, prompt, 8)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("order", ["first-hitting", "ancestral", "random"])
def test_what_is_remembered_changes_no_sample(options, order):
    model, canvas = random_model(**options), prompt_canvas([[0, 1], [2]], 10, LETTERS)
    settings = TextSettings(steps=30, order=order, temperature=1.0, stop=False)
    out = [
        write(
            model,
            canvas,
            TextSettings(**{**vars(settings), "cache": cache}),
            torch.Generator().manual_seed(3),
        ).ids
        for cache in ("auto", "none")
    ]
    assert torch.equal(out[0], out[1]) and not bool((out[0] == 4).any())


def learned(steps: int = 120, **options) -> TextModel:
    """Trained on abcabcabc..., cut anywhere."""
    torch.manual_seed(0)
    form = options.pop("form", "l")
    model = TextModel(TextShape(5, context=24, width=16, depth=2, heads=2, theta=30.0, **options), LETTERS)
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    draw = text_batches(
        Pieces(Stream(torch.arange(300).int().numpy() % 3, 300), 12), 32, form, block=options.get("block", 0)
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        loss, _ = text_loss(model, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("options", [{"causal": True}, {"block": 3}])
def test_prompts_of_different_lengths_need_no_more_steps_than_each_alone(options):
    """Their blocks stand at other places: together they are more than any row has, and each row gets the
    steps it would get alone."""
    model, prompts = random_model(**options), [[0], [0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1, 2, 0]]
    settings = TextSettings(length=6, steps=6, stop=False, may_end=False)
    together = write(model, prompt_canvas(prompts, 6, LETTERS), settings).ids[:, -6:]
    alone = [write(model, prompt_canvas([prompt], 6, LETTERS), settings).ids[0, -6:] for prompt in prompts]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize(
    ("steps", "counts", "expected"),
    [
        (40, [16, 16, 8], [16, 16, 8]),
        (20, [16, 16, 8], [8, 8, 4]),
        (7, [16, 16, 8], [3, 3, 1]),
        (3, [10, 1, 1], [1, 1, 1]),
        (2, [1, 1, 1], [1, 1, 1]),
        (9, [4, 4], [5, 4]),
        (5, [0, 10], [1, 4]),
    ],
)
def test_steps_are_shared_by_the_masks_of_each_block(steps, counts, expected):
    assert shares(steps, counts) == expected


def test_a_short_last_block_takes_as_few_steps_as_it_has_tokens():
    """20 tokens in blocks of 8, one a step: 20 calls."""
    settings = TextSettings(length=20, steps=20, block=8, stop=False, may_end=False)
    assert write(random_model(), prompt_canvas([[0]], 20, LETTERS), settings).calls == 20


@pytest.mark.parametrize("options", [{"block": 4}, {"block": 4, "form": "t"}, {"block": 1}, {"causal": True}])
def test_toys_are_learned_and_written(options, generator):
    """log 3 nats for the first letter and nothing for the others; prompts go on, in whatever part of a block
    they end."""
    model = learned(**options)
    ids = torch.tensor([[0, 1, 2] * 4, [1, 2, 0] * 4]).repeat(8, 1)
    assert float(text_nats(model, ids, 4, generator).mean()) * 12 == pytest.approx(
        log(3), abs=1.0
    )  # a guess is 12 log 3
    settings = TextSettings(length=7, order="first-hitting")
    assert continue_text(model, ["abc", "ca", "b"], settings, generators(0, 3)) == [
        "abcabca",
        "bcabcab",
        "cabcabc",
    ]
    if options.get("block") == 4:
        assert fill_gaps(model, ["abcabc[*2]c"], TextSettings(steps=4, may_end=False)) == ["abcabcabc"]


def test_every_block_has_its_own_number_of_masks():
    draw = text_batches(
        Pieces(Stream(torch.zeros(40, dtype=torch.int32).numpy(), 40), 10, truncated=0.0), 6, "l", block=4
    )
    masks = draw(torch.Generator().manual_seed(0)).masks
    assert masks is not None and masks.shape == (6, 3) and block_lengths(10, 4).tolist() == [4, 4, 2]
    assert (
        bool((masks >= 1).all())
        and bool((masks <= torch.tensor([4, 4, 2])).all())
        and len(masks[:, 0].unique()) > 2
    )
    t = text_batches(
        Pieces(Stream(torch.zeros(40, dtype=torch.int32).numpy(), 40), 10, truncated=0.0), 6, "t", block=4
    )(torch.Generator()).t
    assert (
        t is not None
        and t.shape == (6, 10)
        and bool((t[:, :4] == t[:, :1]).all())
        and bool((t[:, 4] != t[:, 3]).all())
    )


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"block": 3}, {"block": 2}, "own blocks have 3 tokens"),
        ({"causal": True}, {"cache": "dual"}, "`cache=dual` is for masked models"),
        ({"block": 3}, {"scale": 2.0}, "never seen masked"),
        ({"block": 3}, {"steps": 1}, "1 steps are fewer than the 3 blocks"),
        ({}, {"edit": 0.9, "order": "ancestral"}, "`edit` needs an order by confidence"),
    ],
)
def test_what_a_model_cannot_do_is_refused(options, changes, message):
    with pytest.raises(ValueError, match=message):
        continue_text(random_model(**options), ["ab"], TextSettings(**({"length": 6, "steps": 8} | changes)))


def test_a_causal_model_has_no_blocks_and_is_padded_on_the_right():
    with pytest.raises(ValueError, match="a `causal` model has no blocks"):
        random_model(causal=True, block=2)
    with pytest.raises(ValueError, match="padded on the right only"):
        text_nats(
            random_model(block=2),
            torch.zeros((1, 3), dtype=torch.long),
            1,
            torch.Generator(),
            valid=torch.tensor([[False, True, True]]),
        )
    with pytest.raises(ValueError, match="in pairs"):
        text_nats(
            random_model(), torch.zeros((1, 3), dtype=torch.long), 3, torch.Generator(), times="antithetic"
        )

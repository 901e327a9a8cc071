"""Text models: the bound on an enumerable toy, a toy learned in seconds, prompts, gaps, blocks, guidance,
padding, and the end of text."""

from itertools import combinations, product
from math import comb, exp, log

import pytest
import torch

from unveil.errors import UnveilError
from unveil.process.masked_objective import counted_loss, masked_loss
from unveil.sampling.noise import generators
from unveil.text.blocks import blocks_of, ended
from unveil.text.canvas import padded
from unveil.text.continuation import write_on
from unveil.text.data.documents import Pieces, Stream
from unveil.text.data.tokens import ByteTokens
from unveil.text.generation import (
    RULED_OUT,
    Canvas,
    TextSettings,
    continue_text,
    fill_gaps,
    gap_canvas,
    prompt_canvas,
    write,
)
from unveil.text.likelihood import Draws, conditional_nats, text_nats
from unveil.text.model import TextModel, TextShape
from unveil.text.training import text_batches, text_loss

TOKENS = ByteTokens()
SMALL = TextShape(TOKENS.size, context=24, width=32, depth=2, heads=2, theta=30.0)


def random_model(**options) -> TextModel:
    torch.manual_seed(0)
    model = TextModel(
        TextShape(**{**{name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}, **options}),
        TOKENS,
    ).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * 0.25
    return model


class Letters:
    """The vocabulary a, b, c: any object that is `Tokens` will do."""

    size, eos_id, mask_id = 5, 3, 4

    def encode(self, text: str) -> list[int]:
        return ["abc".index(letter) for letter in text]

    def decode(self, ids) -> str:
        return "".join("abc"[i] for i in ids if i < 3)

    def written(self) -> str:
        return "abc"


@pytest.fixture(scope="module")
def cycle() -> TextModel:
    """Trained on abcabcabc..., cut anywhere: three equally likely sequences of each length."""
    torch.manual_seed(0)
    model = TextModel(TextShape(5, context=24, width=16, depth=2, heads=2, theta=30.0), Letters())
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    draw = text_batches(Pieces(Stream(torch.arange(300).int().numpy() % 3, 300), 12), 32)
    generator = torch.Generator().manual_seed(0)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 150)
        loss, _ = text_loss(model, draw(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def is_cycle(text: str) -> bool:
    return text in "abc" * 20


def test_a_toy_is_learned_to_its_entropy(cycle, generator):
    """log 3 nats for a whole sequence of 12, and nothing for what follows three known letters."""
    ids = torch.tensor([[0, 1, 2] * 4, [1, 2, 0] * 4]).repeat(16, 1)
    nats = text_nats(cycle, ids, 12, generator)
    assert nats.shape == (32, 12)
    assert float(nats.mean()) * 12 == pytest.approx(log(3), abs=0.3)
    known = torch.zeros_like(ids, dtype=torch.bool)
    known[:, :3] = True
    assert float(text_nats(cycle, ids, 9, generator, known=known).mean()) < 0.02
    wrong = ids.clone()
    wrong[:, 5] = (wrong[:, 5] + 1) % 3
    assert float(text_nats(cycle, wrong, 12, generator).mean()) > 0.3


@pytest.mark.parametrize(
    "order", ["confidence", "margin", "entropy", "left-to-right", "first-hitting", "ancestral"]
)
def test_the_toy_is_written_from_prompts_and_into_gaps(cycle, order, generator):
    settings = TextSettings(length=7, steps=40 if order == "ancestral" else 7, order=order)
    assert continue_text(cycle, ["abc", "ca", "b"], settings, generator) == ["abcabca", "bcabcab", "cabcabc"]
    filled = fill_gaps(cycle, ["ab[*4]a", "[*3]bcabc[*1]"], settings, generator)
    assert filled == ["abcabca", "bca" + "bcabc" + "a"]


def test_first_hitting_writes_all_three_sequences(cycle, generator):
    out = continue_text(
        cycle, [""] * 45, TextSettings(length=10, order="first-hitting", temperature=1.0), generator
    )
    assert sum(is_cycle(text) for text in out) >= 35
    starts = [sum(text[0] == letter for text in out) for letter in "abc"]
    assert min(starts) >= 6


def test_the_bound_is_the_enumeration_and_above_the_exact_likelihood():
    """Length 3 over all 2^3 masks: the draws' mean is the any-order bound; -log of the mean over orders of
    path probabilities is below."""
    model = random_model()
    ids = torch.tensor([[5, 200, 31]])

    def log_p(hidden: tuple[int, ...], place: int) -> float:
        x = ids.clone()
        x[0, list(hidden)] = TOKENS.mask_id
        logits = model.denoiser(x, torch.ones(1)).logits[0, place].detach()
        logits[TOKENS.mask_id] = float("-inf")
        return float(logits.log_softmax(-1)[ids[0, place]])

    bound = 0.0
    for size in (1, 2, 3):
        for hidden in combinations(range(3), size):
            bound -= sum(log_p(hidden, i) for i in hidden) / size / comb(3, size) / 3
    exact = 0.0
    for a, b, c in product(range(3), repeat=3):
        if {a, b, c} == {0, 1, 2}:
            exact += exp(log_p((a, b, c), a) + log_p((b, c), b) + log_p((c,), c)) / 6
    draws = text_nats(model, ids.repeat(200, 1), 12, torch.Generator().manual_seed(0))
    assert float(draws.mean()) == pytest.approx(bound, abs=4 * float(draws.std()) / 2400**0.5)
    assert bound > -log(exact) / 3


def test_both_forms_of_training_have_the_same_mean(generator):
    model, stream = random_model(), Stream(torch.arange(40).int().numpy(), 40)
    pieces = Pieces(stream, 8, truncated=0.0)
    found = {}
    for form, times in (("l", "stratified"), ("t", "stratified"), ("t", "antithetic"), ("t", "independent")):
        draw = text_batches(pieces, 64, form, times)
        with torch.no_grad():
            values = torch.tensor([float(text_loss(model, draw(generator))[0]) for _ in range(20)])
        found[form, times] = (float(values.mean()), float(values.std()) / 20**0.5)
    expected, error = found["l", "stratified"]
    for mean, spread in found.values():
        assert mean == pytest.approx(expected, abs=4 * (error**2 + spread**2) ** 0.5)
    assert error < min(spread for key, (_, spread) in found.items() if key[0] == "t")
    with pytest.raises(ValueError, match="must be even"):
        text_batches(pieces, 3, "t", "antithetic")


PROMPTS = ["abcde", "x", "two words"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"block": 4}, {"scale": 2.5}, {"order": "margin", "block": 3, "steps": 8}, {"threshold": 0.05}],
)
def test_ragged_prompts_in_one_batch_are_what_they_are_alone(changes):
    model = random_model()
    settings = TextSettings(**({"length": 10, "steps": 10, "stop": False} | changes))
    together = write(model, prompt_canvas([TOKENS.encode(p) for p in PROMPTS], 10, TOKENS), settings).ids
    for prompt, row in zip(PROMPTS, together, strict=True):
        alone = write(model, prompt_canvas([TOKENS.encode(prompt)], 10, TOKENS), settings).ids[0]
        assert row[-10:].tolist() == alone[-10:].tolist()
        assert row[-10 - len(prompt) : -10].tolist() == list(prompt.encode())


@pytest.mark.parametrize(
    "settings",
    [
        TextSettings(steps=5, remask=0.5, temperature=1.0),
        TextSettings(steps=5, order="ancestral", remask=1.0),
    ],
)
def test_gaps_keep_the_text_around_them(settings, generator):
    model = random_model()
    canvas = gap_canvas(["To be, [*8] that", "[*2]a[*3]"], TOKENS)
    states = []
    out = write(model, canvas, settings, generator, states.append).ids
    for state in [*states, out]:
        assert torch.equal(state[canvas.ids != TOKENS.mask_id], canvas.ids[canvas.ids != TOKENS.mask_id])
    assert not bool((out == TOKENS.mask_id).any()) and len(states) == 5
    assert bytes(canvas.ids[0][:7].tolist()) == b"To be, " and canvas.valid.sum(1).tolist() == [20, 6]


def test_guidance_is_lladas_line_and_scale_1_is_none(generator):
    """One call: null with the prompt masked plus scale times the difference; the same arg-max as computing
    both by hand."""
    model = random_model()
    canvas = prompt_canvas([TOKENS.encode("ab")], 1, TOKENS)
    t = torch.ones(1, dtype=torch.float64)
    conditional = model.denoiser(canvas.ids, t).logits[0, 2].detach()
    null = model.denoiser(torch.full((1, 3), TOKENS.mask_id), t).logits[0, 2].detach()
    for scale in (0.0, 1.0, 3.0):
        logits = null + scale * (conditional - null)
        logits[TOKENS.mask_id] = float("-inf")
        out = write(model, canvas, TextSettings(length=1, steps=1, scale=scale)).ids
        assert int(out[0, 2]) == int(logits.argmax())
    many = prompt_canvas([TOKENS.encode("abc"), TOKENS.encode("d")], 8, TOKENS)
    one = write(model, many, TextSettings(steps=8)).ids
    assert torch.equal(one, write(model, many, TextSettings(steps=8, scale=1.0)).ids)
    assert not torch.equal(one, write(model, many, TextSettings(steps=8, scale=4.0)).ids)


def test_blocks_are_finished_from_left_to_right():
    wanted = torch.tensor([[False, True, True, False, True], [True, False, False, False, False]])
    blocks = blocks_of(wanted, 2)
    assert [b.int().tolist() for b in blocks] == [
        [[0, 1, 1, 0, 0], [1, 0, 0, 0, 0]],
        [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]],
    ]
    assert torch.equal(blocks_of(wanted, 0)[0], wanted)
    model, states = random_model(), []
    canvas = prompt_canvas([TOKENS.encode("ab")], 9, TOKENS)
    written = write(
        model,
        canvas,
        TextSettings(block=3, steps=6, stop=False),
        on_step=lambda x: states.append(x[0, 2:] != TOKENS.mask_id),
    )
    assert [int(s.sum()) for s in states] == [2, 3, 5, 6, 8, 9] and written.calls == 6
    for state in states:
        done = int(state.sum()) // 3 * 3
        assert bool(state[:done].all()) and not bool(state[done + 3 :].any())


def test_steps_without_a_mask_to_fill_call_nothing():
    written = write(
        random_model(), prompt_canvas([TOKENS.encode("ab")], 4, TOKENS), TextSettings(steps=50, stop=False)
    )
    assert written.calls == 4


def test_without_a_length_text_grows_part_by_part_to_the_end_of_the_context():
    """Each part is what `write` makes of all before it as the prompt; the last one is as long as there is
    room."""
    model, settings = random_model(), TextSettings(length=5, steps=3, may_end=False)
    prompts = [TOKENS.encode("abc"), TOKENS.encode("c")]
    done = write_on(model, prompts, settings)
    for row, prompt in zip(done.ids.tolist(), prompts, strict=True):
        ids, grown = list(prompt), len(prompt)
        while grown < model.shape.context:
            part = min(5, model.shape.context - grown)
            ids = write(model, prompt_canvas([ids], part, TOKENS), settings).ids[0].tolist()
            grown += part
        assert row[3 - len(prompt) :] == ids + [TOKENS.mask_id] * (
            len(prompt) - 1
        )  # the shorter prompt has room for more
    assert done.ids.shape == (2, 3 + model.shape.context - 1)
    with pytest.raises(ValueError, match="guidance masks the prompt"):
        write_on(model, prompts, TextSettings(scale=2.0))


def test_rows_end_at_the_end_of_text():
    model = random_model()
    with torch.no_grad():  # the head says end-of-text, a little less each step to the right
        model.denoiser.network.ff_out.weight.zero_()
        model.denoiser.network.ff_out.weight[TOKENS.eos_id] = model.denoiser.network.ln_f.weight
    settings = TextSettings(length=12, steps=12, block=4)
    canvas = prompt_canvas([TOKENS.encode("ab"), TOKENS.encode("c")], 12, TOKENS)
    wanted = canvas.ids == TOKENS.mask_id
    row = torch.tensor(
        [
            [7, 7, TOKENS.mask_id, TOKENS.eos_id],
            [7, 7, TOKENS.eos_id, TOKENS.mask_id],
            [TOKENS.eos_id, 7, 7, 7],
        ]
    )
    after_prompt = torch.tensor([[False, True, True, True]]).expand(3, -1)
    assert ended(row, after_prompt, row == TOKENS.mask_id, TOKENS.eos_id).tolist() == [False, True, False]
    out = write(model, canvas, TextSettings(length=12, steps=12, block=4, may_end=False)).ids
    assert not bool((out[wanted] == TOKENS.eos_id).any()) and RULED_OUT < -1e3
    network = model.denoiser.network
    network.ff_out = torch.nn.Linear(32, TOKENS.size)
    torch.nn.init.zeros_(network.ff_out.weight)
    with torch.no_grad():
        network.ff_out.bias.zero_()
        network.ff_out.bias[TOKENS.eos_id] = 3.0
    short = write_on(model, [TOKENS.encode("ab"), TOKENS.encode("c")], settings)
    assert short.calls == 1 and short.ids.shape == (2, 14)
    early = write(model, canvas, settings)
    assert early.calls == 1 and continue_text(model, ["ab"], settings) == [""]
    assert write(model, canvas, TextSettings(length=12, steps=12, block=4, stop=False)).calls == 12


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda m: continue_text(m, ["x" * 20], TextSettings(length=5)), "the model's context is 24"),
        (
            lambda m: continue_text(m, ["x"], TextSettings(length=8, block=2, steps=3)),
            "3 steps are fewer than the 4 blocks",
        ),
        (lambda m: prompt_canvas([[5, TOKENS.mask_id]], 3, TOKENS), "holds the mask token"),
        (lambda m: fill_gaps(m, ["no gap"]), "has no gap"),
        (lambda m: continue_text(m, ["x"], TextSettings(length=0)), "at least 1 token"),
        (lambda m: continue_text(m, []), "nothing to write"),
        (
            lambda m: text_nats(m, torch.zeros((1, 3), dtype=torch.long), 0, torch.Generator()),
            "draws must be a whole number of at least 1",
        ),
        (
            lambda m: text_nats(
                m,
                torch.zeros((1, 3), dtype=torch.long),
                1,
                torch.Generator(),
                known=torch.ones((1, 3), dtype=torch.bool),
            ),
            "needs a token to score",
        ),
    ],
)
def test_impossible_wishes_are_refused(run, message):
    with pytest.raises(ValueError, match=message):
        run(random_model())


def test_weights_of_another_vocabulary_are_refused():
    with pytest.raises(UnveilError, match="of 300 tokens, but the tokenizer has 258"):
        TextModel(TextShape(300), TOKENS)


def test_padding_is_neither_seen_nor_scored():
    model = random_model()
    ids = torch.tensor([[1, 2, 3, 4, 9, 9]])
    valid = torch.tensor([[True] * 4 + [False] * 2])
    many = text_nats(
        model, ids.repeat(100, 1), 4, torch.Generator().manual_seed(0), valid=valid.repeat(100, 1)
    )
    alone = text_nats(model, ids[:, :4].repeat(100, 1), 4, torch.Generator().manual_seed(1))
    spread = float((many.var() / 400 + alone.var() / 400) ** 0.5)
    assert float(many.mean()) == pytest.approx(float(alone.mean()), abs=4 * spread)
    changed = ids.clone()
    changed[0, 4:] = 100
    before, after = (
        text_nats(model, x, 4, torch.Generator().manual_seed(1), valid=valid) for x in (ids, changed)
    )
    torch.testing.assert_close(before, after)


def alone_and_together(model, patterns: list[list[int]], settings: TextSettings) -> None:
    """Rows with generators of their own are the same alone and beside others, in full."""
    together = write(model, padded(patterns, TOKENS.eos_id), settings, generators(0, len(patterns)))
    for i, pattern in enumerate(patterns):
        alone = write(model, padded([pattern], TOKENS.eos_id), settings, generators(0, 1, i)).ids[0]
        assert together.ids[i, -len(pattern) :].tolist() == alone.tolist(), (i, settings)


M = TOKENS.mask_id
RAGGED = [[5, 6, 7, *[M] * 10], [9, *[M] * 10], [5, 5, M, M, M, 8, 8, M, M], [M] * 8]
WAYS = [
    *(
        {"order": order, "temperature": 1.0}
        for order in ("confidence", "margin", "entropy", "random", "left-to-right", "ancestral")
    ),
    {"order": "first-hitting", "temperature": 1.0},
    {"temperature": 0.9, "block": 4},
    {"order": "first-hitting", "temperature": 0.9, "block": 3},
    {"temperature": 0.9, "remask": 0.6, "block": 5},
    {"order": "ancestral", "temperature": 0.9, "remask": 0.9},
    {"temperature": 0.9, "edit": 0.05, "block": 4, "edit_steps": 3},
    {"temperature": 0.9, "edit": 0.02},
    {"temperature": 0.7, "cache": "prefix", "block": 3},
    {"temperature": 0.7, "cache": "dual", "block": 4},
    {"order": "random", "temperature": 0.7, "scale": 2.0, "threshold": None},
    {"temperature": 1.0, "threshold": 0.02, "may_end": False},
    {"temperature": 1.0, "factor": 0.99, "stop": False},
]


@pytest.fixture(scope="module")
def often_ending() -> TextModel:
    """Writes an end of text every few tokens."""
    model = random_model()
    model.network.ff_out = torch.nn.Linear(32, TOKENS.size)
    with torch.no_grad():
        torch.nn.init.normal_(model.network.ff_out.weight, std=0.3)
        model.network.ff_out.bias.zero_()
        model.network.ff_out.bias[TOKENS.eos_id] = 3.5
    return model


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_row_is_what_it_is_alone_whatever_stands_beside_it(way, often_ending):
    alone_and_together(often_ending, RAGGED, TextSettings(**({"length": 10, "steps": 11} | way)))


@pytest.mark.parametrize("order", ["confidence", "ancestral", "first-hitting"])
@pytest.mark.parametrize("options", [{"block": 4}, {"causal": True}], ids=str)
def test_rows_of_models_of_blocks_are_what_they_are_alone(options, order):
    model = random_model(**options)
    with torch.no_grad():
        model.network.ff_out.weight[TOKENS.eos_id] += 0.4
    prompts = [[*prompt, *[M] * 6] for prompt in ([5, 6, 7], [1, 2, 3, 4, 5, 6, 7], [])]
    settings = TextSettings(
        length=6, steps=9, order=order, temperature=1.0, cache="none" if order == "ancestral" else "auto"
    )
    alone_and_together(model, prompts, settings)
    if order == "confidence":
        alone_and_together(model, prompts, TextSettings(length=6, steps=9, temperature=1.0, remask=0.5))


def test_text_without_a_length_does_not_depend_on_the_rows_beside_it(often_ending):
    prompts, settings = (
        [[5, 6, 7], [9], [5, 6], [1]],
        TextSettings(length=4, steps=4, order="first-hitting", temperature=1.0),
    )
    together = write_on(often_ending, prompts, settings, generators(3, 4)).ids
    lengths = set()
    for i, prompt in enumerate(prompts):
        alone = write_on(often_ending, [prompt], settings, generators(3, 1, i)).ids[0].tolist()
        row = together[i, 3 - len(prompt) :].tolist()
        assert row[: len(alone)] == alone and set(row[len(alone) :]) <= {M}
        lengths.add(len(alone))
    assert len(lengths) > 1 and max(lengths) <= often_ending.shape.context


def test_one_generator_serves_a_batch_and_generators_must_be_as_many_as_rows():
    model, settings = random_model(), TextSettings(length=6, steps=6, temperature=1.0)
    one = [
        continue_text(model, ["ab", "c"], settings, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    ]
    assert one[0] == one[1] != one[2]
    with pytest.raises(ValueError, match="generators cannot serve"):
        continue_text(model, ["ab", "c", "d"], settings, generators(0, 2))
    with pytest.raises(ValueError, match="give one for each row"):
        write(model, padded(RAGGED, TOKENS.eos_id), TextSettings(block=4, steps=9), generators(0, 2))


WRONG = [
    *({name: value} for name in ("length", "steps") for value in (-3, 2.0, True, "8", float("nan"))),
    {"steps": None},
    *({name: value} for name in ("block", "edit_steps") for value in (-2, 1.5, None, False)),
    *(
        {name: value}
        for name in ("temperature", "scale", "remask")
        for value in (float("nan"), float("inf"), None, "1", True)
    ),
    *({name: value} for name in ("temperature", "remask") for value in (-1.0, -1e-9)),
    *({name: value} for name in ("threshold", "edit") for value in (5.0, 0.0, -0.1, float("nan"), "1", True)),
    *({"factor": value} for value in (0.0, -1.0, float("nan"), float("inf"), "1")),
    *({name: value} for name in ("order", "cache") for value in ("best", "", None, 0)),
    *({name: value} for name in ("stop", "may_end") for value in (1, "yes", None)),
    {"remask": 1.5},
    {"remask": 0.5, "order": "first-hitting"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_settings_are_checked_where_they_are_made(wrong):
    settings = object.__new__(
        TextSettings
    )  # not made the usual way, where the tests' own check of types comes first
    vars(settings).update(vars(TextSettings()) | wrong)
    with pytest.raises(ValueError, match=f"^`{next(iter(wrong))}` "):
        settings.__post_init__()


CANVAS = padded([[5, M, M]], TOKENS.eos_id)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda m: continue_text(m, "abc"),
            r"prompts must be a list of texts, got one text; write \['abc'\]",
        ),
        (lambda m: fill_gaps(m, "a[*2]"), "patterns must be a list of texts, got one text"),
        (lambda m: continue_text(m, ["x"], TextSettings(length=10**9)), "the model's context is 24"),
        (lambda m: fill_gaps(m, ["[*99999999999]"]), "a gap of 99999999999 tokens"),
        (lambda m: fill_gaps(m, ["[*0] only"]), "has no gap"),
        (
            lambda m: prompt_canvas([[5, 999]], 3, TOKENS),
            "a prompt holds 999, which is none of the vocabulary's ids",
        ),
        (lambda m: prompt_canvas([[5, -1]], 3, TOKENS), "a prompt holds -1"),
        (lambda m: write(m, Canvas(CANVAS.ids * 0, CANVAS.valid), TextSettings()), "holds no mask"),
        (
            lambda m: write(m, Canvas(CANVAS.ids + 1, CANVAS.valid), TextSettings()),
            "holds no mask|ids must lie in",
        ),
        (
            lambda m: write(m, Canvas(CANVAS.ids, torch.tensor([[True, True, False]])), TextSettings()),
            "padded on the left",
        ),
        (lambda m: write(m, Canvas(CANVAS.ids[:0], CANVAS.valid[:0]), TextSettings()), "at least one"),
        (lambda m: write_on(m, [[5] * 24], TextSettings(length=4, steps=4)), "the model's context is 24"),
    ],
)
def test_canvases_are_checked(run, message):
    with pytest.raises(ValueError, match=message):
        run(random_model())


def test_empty_prompts_and_prompts_with_an_end_are_written_on():
    model, settings = random_model(), TextSettings(length=3, steps=3, may_end=False)
    assert len(model.tokens.encode(continue_text(model, [""], settings)[0])) >= 1
    done = write(model, prompt_canvas([[5, TOKENS.eos_id, 6]], 3, TOKENS), settings)
    assert done.ids[0, :3].tolist() == [5, TOKENS.eos_id, 6] and not bool((done.ids == M).any())


@pytest.mark.parametrize("options", [{}, {"block": 4}], ids=str)
@pytest.mark.parametrize("form", ["l", "t"])
def test_a_padded_row_is_scored_as_it_is_alone(options, form):
    model = random_model(**options)
    ids = torch.arange(33).reshape(3, 11)
    lengths = (11, 5, 8)
    valid = torch.arange(11) < torch.tensor(lengths)[:, None]
    known = torch.arange(11).expand(3, -1) < torch.tensor([2, 0, 3])[:, None]
    together = text_nats(model, ids, 3, generators(4, 3), known=known, valid=valid, form=form)
    for i, length in enumerate(lengths):
        row = (slice(i, i + 1), slice(length))
        alone = text_nats(model, ids[row], 3, generators(4, 1, i), known=known[row], form=form)
        torch.testing.assert_close(together[i], alone[0], rtol=1e-5, atol=1e-5)


def test_recorded_numbers_give_the_losses_they_stand_for():
    model, ids = random_model(), torch.arange(12).reshape(2, 6)
    drawn = Draws(
        torch.tensor([[[0.1, 0.9]], [[0.5, 0.3]]]),
        torch.rand((2, 2, 6), generator=torch.Generator().manual_seed(1)),
    )
    counted = text_nats(model, ids, 2, drawn=drawn)
    noised = text_nats(model, ids, 2, form="t", drawn=drawn)
    for k in range(2):
        count = 1 + (6 * drawn.quantiles[:, 0, k]).long()
        torch.testing.assert_close(
            counted[:, k], counted_loss(model.denoiser, ids, count, drawn.uniform[k]).detach()
        )
        torch.testing.assert_close(
            noised[:, k],
            masked_loss(model.denoiser, ids, 1.0 - drawn.quantiles[:, 0, k], drawn.uniform[k]).detach(),
        )
    with pytest.raises(ValueError, match=r"drawn must be quantiles \(2, 1, 3\)"):
        text_nats(model, ids, 3, drawn=drawn)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros((1, 25), dtype=torch.long), "a row of 25 tokens is too long, the model's context is 24"),
        (torch.tensor([[1, 258]]), "ids must lie in 0 .. 257, the vocabulary, got 1 .. 258"),
        (torch.tensor([[-1, 5]]), "ids must lie in 0 .. 257"),
    ],
)
def test_likelihoods_check_what_they_are_given(ids, message):
    model = random_model()
    for score in (text_nats, conditional_nats):
        with pytest.raises(ValueError, match=message):
            score(model, ids, *([2] if score is text_nats else []))


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {name: value}
            for name in ("context", "width", "depth", "heads", "vocabulary")
            for value in (0, -1, 1.5, True, None)
        ),
        *({name: value} for name in ("kv_heads", "hidden", "block") for value in (-1, 0.5)),
        *(
            {name: value}
            for name in ("theta", "epsilon")
            for value in (0.0, -1.0, float("nan"), float("inf"), "1")
        ),
        {"epsilon": 1.0},
        {"schedule": "sine"},
        {"width": 20, "heads": 3},
    ],
    ids=str,
)
def test_shapes_are_checked_where_they_are_made(wrong):
    shape = object.__new__(TextShape)
    vars(shape).update(vars(SMALL) | wrong)
    with pytest.raises(ValueError, match=f"^`{next(iter(wrong))}` must be"):
        shape.__post_init__()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_network_answers_for_other_tokens_and_times_as_the_network_does():
    """No time is read, so none can be frozen; nor are batches, lengths, or what stands there."""
    for options in ({}, {"causal": True}, {"block": 4}):
        network = random_model(**options).network
        ids = torch.arange(12).reshape(2, 6)
        with torch.no_grad():
            traced = torch.jit.trace(network, (ids, torch.full((2,), 0.5)), check_trace=False)
            for other, t in ((ids + 100, 0.9), (ids[:1] * 3, 0.1), (torch.arange(30).reshape(3, 10), 0.5)):
                torch.testing.assert_close(traced(other, torch.full((len(other),), t)), network(other))

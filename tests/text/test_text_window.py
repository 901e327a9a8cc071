"""The exact mode against a plain loop that leaves nothing out; remembered surroundings and their error; edits
of what is written."""

from dataclasses import replace

import pytest
import torch

from unveil.text.block_cache import blocks_by_position, cached_columns, shown_window
from unveil.text.blocks import blocks_of
from unveil.text.data.tokens import ByteTokens
from unveil.text.generation import Canvas, TextSettings, prompt_canvas, write
from unveil.text.model import TextModel, TextShape

TOKENS = ByteTokens()
MASK, EOS = TOKENS.mask_id, TOKENS.eos_id


def random_model(scale: float = 0.25, **options) -> TextModel:
    torch.manual_seed(0)
    shape = {"context": 40, "width": 32, "depth": 2, "heads": 2, "theta": 30.0} | options
    model = TextModel(TextShape(TOKENS.size, **shape), TOKENS).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn_like(weight) * scale
    return model


@torch.no_grad()
def plain_loop(
    model, prompt: list[int], length: int, steps: int, block: int, w: float, may_end: bool
) -> tuple[list[int], int]:
    """LLaDA's sampler at temperature 0, in full: all positions at every step, also where nothing is
    committed; (tokens, calls).

    Nie et al. 2025, algorithm 5, with the published code's even share of commits; its null branch masks the
    prompt.
    """
    x = torch.tensor([[*prompt, *[MASK] * length]])
    given, calls = x != MASK, 0
    for b in range(length // block):
        stop = len(prompt) + (b + 1) * block
        per_block = steps // (length // block)
        masks = int((x[:, :stop] == MASK).sum())
        for step in range(per_block):
            commit = masks // per_block + (step < masks % per_block)
            logits = model.denoiser(x, torch.ones(1)).logits[0]
            calls += 1
            if w:
                null = model.denoiser(x.masked_fill(given, MASK), torch.ones(1)).logits[0]
                logits = null + (w + 1) * (logits - null)
            logits[:, MASK] = float("-inf")
            if not may_end:
                logits[:, EOS] -= 1e4
            confidence, token = logits.softmax(-1).max(-1)
            confidence[x[0] != MASK] = -1.0
            confidence[stop:] = -1.0
            for place in confidence.argsort(descending=True, stable=True)[:commit].tolist():
                x[0, place] = token[place]
    return x[0].tolist(), calls


@pytest.mark.parametrize(
    ("steps", "block", "w", "may_end"),
    [
        (12, 12, 0.0, False),
        (6, 12, 0.0, True),
        (5, 12, 1.5, False),
        (12, 4, 0.0, True),
        (30, 6, 0.0, False),
        (36, 12, 0.5, True),
    ],
)
def test_the_exact_mode_writes_the_tokens_of_a_plain_loop(steps, block, w, may_end):
    """Most where steps do not divide the tokens, exceed them, or fall into blocks; fewer calls where nothing
    would be committed."""
    model = random_model()
    for prompt in ([*b"To be"], [*b"x"]):
        expected, calls = plain_loop(model, prompt, 12, steps, block, w, may_end)
        settings = TextSettings(
            length=12, steps=steps, block=block, scale=1.0 + w, stop=False, may_end=may_end
        )
        written = write(model, prompt_canvas([prompt], 12, TOKENS), settings)
        assert written.ids[0].tolist() == expected
        assert written.calls == min(calls, 12)


def test_the_head_works_only_where_tokens_are_wanted():
    """Of 3 blocks of 4 tokens, one a step: 4 + 3 + 2 + 1 positions a block, not 14 a step."""
    model, asked = random_model(), []
    head = model.network.ff_out
    head.register_forward_hook(lambda module, inputs, out: asked.append(inputs[0].shape[1]))
    feed = model.network.blocks[-1].ff_out
    rows = []
    feed.register_forward_hook(lambda module, inputs, out: rows.append(inputs[0].shape[1]))
    write(model, prompt_canvas([[65, 66]], 12, TOKENS), TextSettings(steps=12, block=4, stop=False))
    assert asked == rows == [4, 3, 2, 1] * 3


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_remembered_surroundings_are_exact_where_nothing_has_changed(cache):
    """One step a block sees what it would without; with more steps a little error is left, and it is small
    where attention is weak."""
    canvas = prompt_canvas([[*b"To be, or"], [*b"x"]], 12, TOKENS)
    model = random_model()
    for scale in (1.0, 2.0):
        once = TextSettings(steps=3, block=4, stop=False, scale=scale)
        plain, quick = (
            write(model, canvas, TextSettings(**{**vars(once), "cache": c})) for c in ("none", cache)
        )
        assert torch.equal(plain.ids, quick.ids) and quick.calls == plain.calls + 3
    for weight in model.network.blocks:
        weight.attn_out.weight.data *= 0.02
    many = TextSettings(steps=12, block=4, stop=False)
    plain, quick = (
        write(model, canvas, TextSettings(**{**vars(many), "cache": c})).ids for c in ("none", cache)
    )
    assert float((plain == quick).float().mean()) > 0.9


@pytest.mark.parametrize(("cache", "shown"), [("prefix", [3, 4, 5, 6, 7]), ("dual", [3, 4])])
def test_what_a_cache_shows_and_remembers(cache, shown):
    among = torch.tensor([[False] * 3 + [True] * 2 + [False] * 3])
    window, rest = shown_window(among, torch.ones_like(among), cache)
    assert window.columns.tolist() == [shown] and rest.tolist() == [[c for c in range(8) if c not in shown]]
    assert (
        window.among.tolist() == [[c in (3, 4) for c in shown]]
        and window.positions is not None
        and window.positions.tolist() == [shown]
    )
    x = torch.arange(8)[None] + 60
    prefix = cached_columns(random_model(), x, torch.ones_like(among), rest)
    assert prefix[0].tolist() == [[c + 60 for c in rest[0].tolist()]] and prefix[1].tolist() == rest.tolist()


def test_gaps_are_filled_with_a_cache_where_rows_differ():
    model = random_model()
    ids = torch.full((2, 9), 70)
    ids[0, [1, 2, 6, 7]] = MASK
    ids[1, [4, 5, 8]] = MASK
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[1, :2] = False
    canvas = Canvas(ids, valid)
    settings = TextSettings(steps=2, block=2, stop=False, may_end=False, cache="none")
    plain = write(model, canvas, settings).ids
    for cache in ("prefix", "dual"):
        out = write(model, canvas, TextSettings(**{**vars(settings), "cache": cache})).ids
        assert torch.equal(out[ids != MASK], ids[ids != MASK]) and torch.equal(out, plain)


def test_blocks_by_position_are_those_of_training():
    valid = torch.tensor([[True] * 7, [False] * 2 + [True] * 5])
    wanted = torch.tensor([[False] * 4 + [True] * 3, [False] * 4 + [True] * 3])
    blocks = blocks_by_position(wanted, valid, 3)
    assert [b.int().tolist() for b in blocks] == [
        [[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0]],
        [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1, 1]],
        [[0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]],
    ]
    assert len(blocks_of(wanted, 3)) == 1


def test_written_tokens_are_edited_and_given_ones_never():
    """With every other token unlikely at the threshold nothing changes; at 0 all that is written follows the
    belief until it rests."""
    model = random_model(0.6)
    canvas = prompt_canvas([[*b"ab"], [*b"c"]], 8, TOKENS)
    plain = write(model, canvas, TextSettings(steps=8, stop=False))
    never = write(model, canvas, TextSettings(steps=8, stop=False, edit=1.0))
    assert torch.equal(plain.ids, never.ids)
    states = []
    edited = write(
        model, canvas, TextSettings(steps=8, stop=False, edit=1e-9, edit_steps=30), on_step=states.append
    )
    for state in states:
        assert torch.equal(state[canvas.ids != MASK], canvas.ids[canvas.ids != MASK])
    assert not torch.equal(edited.ids, plain.ids) and not bool((edited.ids == MASK).any())
    if edited.calls < 38:  # it came to rest: every token is what the belief says of its place
        logits = model.denoiser(edited.ids, torch.ones(2), None).logits[0, 2:]
        logits[:, MASK] = float("-inf")
        assert torch.equal(logits.argmax(-1), edited.ids[0, 2:])


class Few:
    """Three numbers, an end and a mask."""

    size, eos_id, mask_id = 5, 3, 4

    def encode(self, text):
        return [int(c) for c in text]

    def decode(self, ids):
        return "".join(map(str, ids))

    def written(self):
        return "few"


@pytest.mark.parametrize("order", ["ancestral", "confidence"])
def test_an_end_that_may_be_masked_again_does_not_stop_a_block(order):
    """With the same draws the tokens are those of the whole loop: an end that stands for a moment is no
    end."""
    model = TextModel(TextShape(5, context=8, width=8, depth=1, heads=2), Few()).eval()
    torch.nn.init.zeros_(model.network.ff_out.weight)
    for seed in range(8):
        settings = TextSettings(8, steps=24, order=order, temperature=1.0, remask=0.9)
        stopped, whole = (
            write(
                model,
                prompt_canvas([[0]], 7, model.tokens),
                replace(settings, stop=stop),
                torch.Generator().manual_seed(seed),
            ).ids[0]
            for stop in (True, False)
        )
        if 3 in whole[1:]:  # what stands after the end is not kept
            whole[2 + whole[1:].tolist().index(3) :] = 4
        assert stopped.tolist() == whole.tolist()

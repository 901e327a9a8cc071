"""Writing: a canvas of known tokens and masks, filled in any order, in blocks; prompts and gaps; guidance; a stop at the end of text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.apps.text_model import TextModel
from unveil.apps.text_window import (
    Cache,
    Window,
    advanced,
    blocks_by_place,
    place_window,
    remembered_rest,
    row_places,
    shown_window,
    whole_window,
)
from unveil.data.tokens import Tokens
from unveil.network.condition import Condition
from unveil.network.prefix import Prefix
from unveil.process.denoised import Denoise, MaskedDenoised
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.guidance import Branch, cfg, reweighted, tapped
from unveil.sampling.loop import sample
from unveil.sampling.masked import AncestralUnmask, ConfidentUnmask, FirstHittingUnmask, remembered

GAP = re.compile(r"\[\*(\d+)\]")
RULED_OUT = -1e4
WritingOrder = Literal["confidence", "margin", "entropy", "random", "left-to-right", "ancestral", "first-hitting"]


@dataclass(frozen=True)
class TextSettings:
    """How to write.

    Args:
        length: new tokens after a prompt.
        steps: calls of the network, shared out over the blocks by their tokens; `first-hitting` takes one a token instead.
        block: tokens of a block; blocks are finished from left to right. 0: one block.
        order: which masks are filled first (`ConfidentUnmask`), or the model's own process: `ancestral`, or the exact `first-hitting`.
        temperature: 0 takes the best token.
        scale: of classifier-free guidance against the masked prompt: 1 none, w + 1 for LLaDA's w.
        threshold, factor, remask: as of the solvers.
        stop: rows end at their first end-of-text; nothing is computed once all have one.
        may_end: whether end-of-text may be written at all.
        cache: auto: what is remembered changes nothing; prefix and dual of masked models change a little; none: for comparison. See
            `text_window.py`.
        edit: written tokens give way to others at least this probable, as of `ConfidentUnmask`; at most `edit_steps` calls a block more.
    """

    length: int = 128
    steps: int = 64
    block: int = 0
    order: WritingOrder = "confidence"
    temperature: float = 0.0
    scale: float = 1.0
    threshold: float | None = None
    factor: float | None = None
    remask: float = 0.0
    stop: bool = True
    may_end: bool = True
    cache: Cache = "auto"
    edit: float | None = None
    edit_steps: int = 16


class Canvas(NamedTuple):
    """Rows of tokens with gaps, padded on the left.

    Args:
        ids: (B, L); masks are what is to be written.
        valid: (B, L) bool, no padding.
    """

    ids: Int[Tensor, "B L"]
    valid: Bool[Tensor, "B L"]


class Written(NamedTuple):
    """A filled canvas, and how often the network was called."""

    ids: Int[Tensor, "B L"]
    calls: int


def prompt_canvas(prompts: Sequence[Sequence[int]], length: int, tokens: Tokens, device: torch.device | None = None) -> Canvas:
    """Prompts, and `length` masks after each.

    Raises:
        ValueError: a prompt holds [MASK], or there is nothing to write.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1 token, got {length}")
    for prompt in prompts:
        if tokens.mask_id in prompt:
            raise ValueError(
                "the prompt holds the mask token; take it out, or give gaps by an infill pattern such as 'To be, [*8] that is'"
            )
    return padded([[*prompt, *[tokens.mask_id] * length] for prompt in prompts], tokens.eos_id, device)


def gap_canvas(patterns: Sequence[str], tokens: Tokens, device: torch.device | None = None) -> Canvas:
    """Patterns such as "To be, [*8] that is the question": a gap of 8 tokens.

    Raises:
        ValueError: a pattern has no gap, or its text holds the mask token.
    """
    rows: list[list[int]] = []
    for pattern in patterns:
        pieces = GAP.split(pattern)  # text, count, text, count, ..., text
        row: list[int] = []
        for i, piece in enumerate(pieces):
            ids = [tokens.mask_id] * int(piece) if i % 2 else tokens.encode(piece) if piece else []
            if not i % 2 and tokens.mask_id in ids:
                raise ValueError("the pattern holds the text of the mask token; write gaps as [*8]")
            row += ids
        if tokens.mask_id not in row:
            raise ValueError(f"the pattern {pattern!r} has no gap; write one of 8 tokens as [*8]")
        rows.append(row)
    return padded(rows, tokens.eos_id, device)


def padded(rows: Sequence[Sequence[int]], filler: int, device: torch.device | None = None) -> Canvas:
    """Rows of different lengths as one canvas."""
    if not rows:
        raise ValueError("there is nothing to write: give at least one prompt")
    longest = max(map(len, rows))
    ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return Canvas(ids, torch.arange(longest, device=device) >= longest - lengths[:, None])


def write(
    model: TextModel,
    canvas: Canvas,
    settings: TextSettings,
    generator: torch.Generator | None = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> Written:
    """Fill every mask of a canvas; what was no mask never changes.

    Args:
        on_step: called with the tokens (B, L) after every step, for streaming.
    Raises:
        ValueError: longer than the context, or what `check_settings` refuses.
    """
    ids, valid = canvas
    tokens = model.tokens
    if int(valid.sum(1).max()) > model.shape.context:
        raise ValueError(
            f"prompt and new tokens are {int(valid.sum(1).max())}, but the model's context is {model.shape.context}; "
            "give a shorter prompt or fewer tokens"
        )
    wanted = ids == tokens.mask_id
    blocks = blocks_by_place(wanted, valid, model.window) if model.window else blocks_of(wanted, settings.block)
    own = max(1, int(torch.stack([among.any(1) for among in blocks]).sum(0).max()))  # of one row; prompts of other lengths shift blocks
    check_settings(model, settings, own)
    calls = [0]

    def count(belief: MaskedDenoised, t: Tensor) -> None:
        calls[0] += 1

    def finished(x: Tensor) -> bool:
        return settings.stop and settings.may_end and bool(ended(x, wanted, tokens).all())

    def watched(window: Window, base: Tensor, last: Tensor) -> Callable[[Tensor, Tensor], bool]:
        states = [last]

        def after(state: Tensor, s: Tensor) -> bool:
            whole, still = window.put(base, state), torch.equal(states[0], state)
            states[0] = state
            if on_step is not None:
                on_step(whole)
            masks = settings.remask > 0.0 or bool(((state == tokens.mask_id) & window.among).any())
            final = settings.remask == 0.0 and settings.edit is None  # else a written end may be masked or edited away again
            return (final and finished(whole)) or not (masks or (settings.edit is not None and not still))

        return after

    x, prefix = ids, None
    counts = [int(among.sum(1).max()) for among in blocks]
    steps = shares(settings.steps * sum(counts) // max(1, int(wanted.sum(1).max())), counts)  # more where rows' blocks are at other places
    for among, share in zip(blocks, steps, strict=True):
        window, conditions, prefix, read = shown(model, canvas, among, settings, x, prefix)
        calls[0] += read
        here = x.gather(1, window.columns)
        prompt = (valid & ~wanted).gather(1, window.columns)
        denoise = remembered(tapped(belief_of(model, window, conditions, prompt, settings), count))
        times = uniform(share)
        if settings.edit is not None:
            times = torch.cat([times, times.new_zeros(settings.edit_steps)])
        solver, edit = solver_of(model, settings, window.among), Inpaint(~window.among, here)
        x = window.put(x, sample(denoise, solver, here, times, edit=edit, generator=generator, on_step=watched(window, x, here)))
        if finished(x):
            break
    return Written(x, calls[0])


def write_on(
    model: TextModel,
    prompts: Sequence[Sequence[int]],
    settings: TextSettings,
    generator: torch.Generator | None = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> Written:
    """Write after prompts without a length: part after part of `settings.length` masks, until all rows have ended or the context is full.

    A network sees no masks beyond a part, so that it is not told how long the text will be; steps and blocks are of each part.

    Raises:
        ValueError: as `write`; or guidance, whose prompt would be all that is written.
    """
    if settings.scale != 1.0:
        raise ValueError("guidance masks the prompt, but here all that is written is one for what follows; give a length, or scale 1")
    canvas = prompt_canvas(prompts, settings.length, model.tokens, model.device)
    first, calls = canvas.ids.shape[1] - settings.length, 0
    while True:
        done = write(model, canvas, settings, generator, on_step)
        calls += done.calls
        ends = (done.ids[:, first:] == model.tokens.eos_id).any(1)
        room = model.shape.context - int(canvas.valid.sum(1).max())
        if not room or (settings.stop and bool(ends.all())):
            return Written(done.ids, calls)
        more = torch.full((len(ends), min(room, settings.length)), model.tokens.mask_id, device=model.device)
        left = done.ids.masked_fill(done.ids == model.tokens.mask_id, model.tokens.eos_id)  # of rows that ended
        canvas = Canvas(torch.cat([left, more], dim=1), torch.cat([canvas.valid, torch.ones_like(more, dtype=torch.bool)], dim=1))


def shown(
    model: TextModel, canvas: Canvas, among: Tensor, settings: TextSettings, x: Tensor, prefix: Prefix | None
) -> tuple[Window, list[Condition | None], Prefix | None, int]:
    """What the network is shown while the block `among` of x is written; it is told the conditions of the text with its prompt, and, if
    guidance needs it, with the prompt masked; what a model of blocks remembers from now on; and how many calls reading took.
    """
    if model.window and settings.cache == "auto":
        start = int(row_places(canvas.valid)[among].min()) // model.window * model.window
        prefix = advanced(model, x, canvas.valid, prefix, start)
        window = place_window(among, canvas.valid, start, start + model.window)
        return window, [window.condition(prefix)], prefix, 0
    if settings.cache in ("prefix", "dual"):
        window, rest = shown_window(among, canvas.valid, settings.cache)
        views = (
            [x] if settings.scale == 1.0 else [x, x.masked_fill(canvas.valid & (canvas.ids != model.tokens.mask_id), model.tokens.mask_id)]
        )
        return window, [window.condition(remembered_rest(model, view, canvas.valid, rest)) for view in views], None, 1
    window = whole_window(model, among, canvas.valid)
    return window, [window.condition()] * 2, None, 0


def check_settings(model: TextModel, settings: TextSettings, blocks: int) -> None:
    """Refuse what this model cannot do.

    Raises:
        ValueError: fewer steps than blocks; blocks or a cache of another kind of model; guidance of a model that knows no masked prompt;
            edits, or commits by a threshold or a factor, in an order that has none.
    """
    if settings.steps < blocks and not (model.window and settings.order == "first-hitting"):
        raise ValueError(f"{settings.steps} steps are fewer than the {blocks} blocks; give more steps or larger blocks")
    if model.window and settings.block not in (0, model.window):
        raise ValueError(f"this model's own blocks are of {model.window} tokens, but blocks of {settings.block} were asked for; give none")
    if model.window and settings.cache in ("prefix", "dual"):
        raise ValueError(f"the cache {settings.cache!r} is of masked models; this one remembers its blocks exactly: give auto")
    if model.window and settings.scale != 1.0:
        raise ValueError("guidance masks the prompt, which a causal model, or one of blocks, has never seen masked; leave the scale at 1")
    if settings.edit is not None and settings.order in ("ancestral", "first-hitting"):
        raise ValueError(f"edits need an order of confident unmasking, got {settings.order!r}")
    if (settings.threshold is not None or settings.factor is not None) and settings.order in ("ancestral", "first-hitting"):
        raise ValueError(f"a threshold or factor commits by confidence, which the order {settings.order} does not ask for; give another")


def blocks_of(wanted: Bool[Tensor, "B L"], size: int) -> list[Tensor]:
    """The wanted positions of each row in blocks of `size` from the left, each (B, L) bool; size 0: all in one."""
    rank = wanted.long().cumsum(1) - 1
    longest = int(rank.max()) + 1
    count = -(-longest // size) if size else 1
    return [wanted & (rank // (size or longest) == i) for i in range(count)]


def shares(steps: int, counts: Sequence[int]) -> list[int]:
    """Steps of each block, at least 1, in proportion to its masks: whole numbers whose sum is `steps`, or that of 1 a block if it is more.

    Every block has its floor; what is left goes to the largest fractions, the first of equal ones.
    """
    total = max(1, sum(counts))
    ideal = [steps * count / total for count in counts]
    found = [max(1, int(share)) for share in ideal]
    while sum(found) < steps and found:
        found[max(range(len(found)), key=lambda i: ideal[i] - found[i])] += 1
    while sum(found) > max(steps, len(found)):
        found[max((i for i in range(len(found)) if found[i] > 1), key=lambda i: found[i] - ideal[i])] -= 1
    return found


def ended(x: Tensor, wanted: Tensor, tokens: Tokens) -> Tensor:
    """(B,) bool: rows with an end-of-text among what was wanted and no mask before it."""
    end = (x == tokens.eos_id) & wanted
    open_ = (x == tokens.mask_id).long().cumsum(1) > 0
    return (end & ~open_).any(1)


def belief_of(
    model: TextModel, window: Window, conditions: Sequence[Condition | None], prompt: Tensor, settings: TextSettings
) -> Denoise[MaskedDenoised]:
    """The denoiser with its condition bound: the head only where a token is still wanted, guidance, end-of-text.

    Args:
        conditions: of the text with its prompt, and with the prompt masked.
        prompt: (B, W) bool, of the window.
    """
    mask, device = model.tokens.mask_id, prompt.device

    def denoiser(x: Tensor, t: Tensor, condition: Condition | None) -> MaskedDenoised:
        asked = window.among.repeat(len(x) // len(prompt), 1)
        if settings.edit is None:
            asked = asked & (x == mask)
        count = max(1, int(asked.sum(1).max()))
        positions = (~asked).long().argsort(dim=1, stable=True)[:, :count]
        return model.denoiser(x, t, condition, positions)

    def plain(x_t: Tensor, t: Tensor) -> MaskedDenoised:
        return denoiser(x_t, t, conditions[0])

    def hidden(x: Tensor) -> Tensor:
        return x.masked_fill(prompt, mask)

    guided = plain
    if settings.scale != 1.0:
        guided = cfg(denoiser, Branch(conditions[0]), Branch(conditions[1], hidden), settings.scale)
    if not model.denoiser.forbid_mask:
        guided = in_double(guided)
    if settings.may_end:
        return guided
    score = torch.zeros(model.tokens.size, device=device)
    score[model.tokens.eos_id] = RULED_OUT
    return reweighted(guided, score)


def in_double(denoise: Denoise[MaskedDenoised]) -> Denoise[MaskedDenoised]:
    """Logits in float64 after guidance, as LLaDA's sampler has them: in float32 many sure tokens have probability 1, and order is lost."""

    def exact(x_t: Tensor, t: Tensor) -> MaskedDenoised:
        belief = denoise(x_t, t)
        return MaskedDenoised(belief.logits.double(), belief.positions)

    return exact


def solver_of(model: TextModel, settings: TextSettings, among: Tensor) -> Any:
    """The solver of an order."""
    schedule, mask, forbid = model.denoiser.schedule, model.tokens.mask_id, model.denoiser.forbid_mask
    if settings.order == "first-hitting":
        return FirstHittingUnmask(schedule, mask, settings.temperature, forbid, among)
    if settings.order == "ancestral":
        return AncestralUnmask(schedule, mask, settings.temperature, forbid, settings.remask, among)
    more = (settings.remask, settings.threshold, settings.factor, among, settings.edit)
    return ConfidentUnmask(schedule, mask, settings.order, settings.temperature, forbid, *more)


def continue_text(
    model: TextModel,
    prompts: Sequence[str],
    settings: TextSettings = TextSettings(),
    generator: torch.Generator | None = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> list[str]:
    """What follows each prompt, all in one batch, cut at the end of text."""
    canvas = prompt_canvas([model.tokens.encode(p) for p in prompts], settings.length, model.tokens, model.device)
    filled = write(model, canvas, settings, generator, on_step).ids[:, -settings.length :]
    return [model.tokens.decode(until_end(row, model.tokens, settings)) for row in filled.tolist()]


def fill_gaps(
    model: TextModel,
    patterns: Sequence[str],
    settings: TextSettings = TextSettings(may_end=False),
    generator: torch.Generator | None = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> list[str]:
    """Each pattern with its gaps filled; see `gap_canvas`."""
    canvas = gap_canvas(patterns, model.tokens, model.device)
    filled = write(model, canvas, settings, generator, on_step).ids
    return [model.tokens.decode(row[valid].tolist()) for row, valid in zip(filled, canvas.valid, strict=True)]


def until_end(row: list[int], tokens: Tokens, settings: TextSettings) -> list[int]:
    """A row up to its first end-of-text."""
    return row[: row.index(tokens.eos_id)] if settings.stop and tokens.eos_id in row else row

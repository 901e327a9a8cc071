"""Writing: a canvas of known tokens and masks, filled in any order, in blocks; prompts and gaps; guidance; a stop at the end of text.

What is written in a row depends on its own prompt, settings and generator alone, whatever stands beside it in the batch, up to the rounding
of matrix products: rows whose blocks or windows differ are written one kind after the other (`alike`).
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.network.condition import Condition
from unveil.process.denoised import Denoise, MaskedDenoised
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.guidance import Branch, cfg, reweighted, tapped
from unveil.sampling.loop import sample
from unveil.sampling.masked import AncestralUnmask, ConfidentUnmask, FirstHittingUnmask, remembered
from unveil.sampling.noise import Noise
from unveil.text.block_cache import (
    Window,
    advanced,
    blocks_by_place,
    place_window,
    remembered_rest,
    row_places,
    shown_window,
    whole_window,
)
from unveil.text.canvas import Canvas, check_room, checked, gap_canvas, listed, padded, prompt_canvas
from unveil.text.data.tokens import Tokens
from unveil.text.model import TextModel
from unveil.text.networks.prefix import Prefix
from unveil.text.settings import TextSettings, check_settings

__all__ = [
    "Canvas",
    "TextSettings",
    "Written",
    "continue_text",
    "fill_gaps",
    "gap_canvas",
    "padded",
    "prompt_canvas",
    "write",
    "write_on",
]
RULED_OUT = -1e4
PLAIN, GAPS = TextSettings(), TextSettings(may_end=False)


class Written(NamedTuple):
    """A filled canvas, and how often the network was called."""

    ids: Int[Tensor, "B L"]
    calls: int


def write(
    model: TextModel,
    canvas: Canvas,
    settings: TextSettings,
    generator: Noise = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> Written:
    """Fill every mask of a canvas; what was no mask never changes.

    Args:
        generator: one for all rows, or one for each, whose text then does not depend on the rows beside it (`noise.generators`).
        on_step: called with the tokens (B, L) after every step, for streaming.
    Raises:
        ValueError: longer than the context, or what `checked` and `check_settings` refuse.
    """
    ids, valid = checked(model, canvas)
    wanted = (ids == model.tokens.mask_id) & valid
    blocks = (
        blocks_by_place(wanted, valid, model.window) if model.window else blocks_of(wanted, settings.block)
    )
    check_settings(model, settings, max(1, int(torch.stack([among.any(1) for among in blocks]).sum(0).max())))
    x, calls = ids.clone(), 0
    kinds = alike(model, wanted, valid, settings)
    for rows in kinds:
        left = int((~valid[rows]).sum(1).min())  # padding of all of them

        own, on_part = noise_of(generator, rows, len(ids)), None
        if on_step is not None:
            on_part = partial(_put_and_show, on_step, x, rows, left)
        part = _write_alike(model, Canvas(ids[rows, left:], valid[rows, left:]), settings, own, on_part)
        x, calls = _put(x, rows, left, part.ids), calls + part.calls
    return Written(x, calls)


def alike(
    model: TextModel, wanted: Bool[Tensor, "B L"], valid: Bool[Tensor, "B L"], settings: TextSettings
) -> list[Tensor]:
    """Rows (N,) that are written together: steps are shared out over their blocks alike, and caches remember as much of each."""
    single = (
        model.window == 1 and not settings.remask and settings.edit is None
    )  # a token a block: one step each
    approximate = settings.cache in ("prefix", "dual")
    if not approximate and (single or settings.order == "first-hitting"):
        return [torch.arange(len(wanted), device=wanted.device)]
    kinds: dict[Hashable, list[int]] = {}
    places = row_places(valid)
    for i, row in enumerate(wanted):
        columns = row.nonzero()[:, 0]
        key: Hashable = None
        if model.window:
            key = tuple(places[i, columns].tolist())
        elif approximate or 0 < settings.block < len(columns):
            begun = (
                columns[:: settings.block or max(1, len(columns))]
                if settings.cache == "prefix"
                else columns[:0]
            )
            key = (len(columns), *(wanted.shape[1] - begun).tolist())
        kinds.setdefault(key, []).append(i)
    return [torch.tensor(rows, device=wanted.device) for rows in kinds.values()]


def noise_of(generator: Noise, rows: Tensor, count: int) -> Noise:
    """The randomness of some of `count` rows.

    Raises:
        ValueError: generators that each serve several rows, of which only some are written together.
    """
    if not isinstance(generator, Sequence) or (len(rows) == count and len(generator) != count):
        return generator
    if len(generator) != count:
        raise ValueError(
            f"{len(generator)} generators for {count} rows of different blocks; give one for each row"
        )
    return [generator[i] for i in rows.tolist()]


def _put_and_show(
    on_step: Callable[[Tensor], object], x: Tensor, rows: Tensor, left: int, state: Tensor
) -> None:
    on_step(_put(x, rows, left, state))


def _put(x: Tensor, rows: Tensor, left: int, state: Tensor) -> Tensor:
    """x with the state of some rows, from column `left` on."""
    out = x.clone()
    out[rows, left:] = state
    return out


def _write_alike(
    model: TextModel,
    canvas: Canvas,
    settings: TextSettings,
    generator: Noise,
    on_step: Callable[[Tensor], object] | None,
) -> Written:
    """Fill rows that are `alike`. A row that is done changes no more, and draws no more numbers, while others go on."""
    ids, valid = canvas
    tokens = model.tokens
    wanted = (ids == tokens.mask_id) & valid
    blocks = (
        blocks_by_place(wanted, valid, model.window) if model.window else blocks_of(wanted, settings.block)
    )
    calls, ends = [0], settings.stop and settings.may_end
    final = (
        settings.remask == 0.0 and settings.edit is None
    )  # else a written end may be masked or edited away again
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    def count(belief: MaskedDenoised, t: Tensor) -> None:
        calls[0] += 1

    def watched(
        window: Window, active: Tensor, base: Tensor, last: Tensor
    ) -> Callable[[Tensor, Tensor], bool]:
        states = [last]

        def after(state: Tensor, s: Tensor) -> bool:
            whole, still = window.put(base, state), (states[0] == state).all(1)
            states[0] = state
            if on_step is not None:
                on_step(whole)
            full = ~((state == tokens.mask_id) & active).any(1) & (settings.remask == 0.0)
            rests = full & still if settings.edit is not None else full
            if ends and final:
                rests = rests | ended(whole, wanted, tokens)
            active.masked_fill_(rests[:, None], False)
            return not bool(active.any())

        return after

    x, prefix = ids, None
    counts = [int(among.sum(1).max()) for among in blocks]
    steps = shares(
        settings.steps * sum(counts) // max(1, int(wanted.sum(1).max())), counts
    )  # more where rows' blocks are at other places
    for among, share in zip(blocks, steps, strict=True):
        among = among & ~done[:, None]
        if not bool(among.any()):
            continue
        window, conditions, prefix, read = shown(model, canvas, among, settings, x, prefix)
        calls[0] += read
        here, active = x.gather(1, window.columns), window.among.clone()
        prompt = (valid & ~wanted).gather(1, window.columns)
        denoise = remembered(tapped(belief_of(model, window, conditions, prompt, settings), count))
        times = uniform(1 if model.window == 1 and final else share)
        if settings.edit is not None:
            times = torch.cat([times, times.new_zeros(settings.edit_steps)])
        solver, edit = solver_of(model, settings, active), Inpaint(~window.among, here)
        on_each = watched(window, active, x, here)
        x = window.put(
            x, sample(denoise, solver, here, times, edit=edit, generator=generator, on_step=on_each)
        )
        if ends:
            done = ended(x, wanted, tokens)
    if ends:
        after_end = ((x == tokens.eos_id) & wanted).long().cumsum(1).roll(1, dims=1) > 0
        after_end[:, 0] = False
        x = x.masked_fill(after_end & wanted & done[:, None], tokens.mask_id)
    return Written(x, calls[0])


def write_on(
    model: TextModel,
    prompts: Sequence[Sequence[int]],
    settings: TextSettings,
    generator: Noise = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> Written:
    """Write after prompts without a length: part after part of `settings.length` masks, until a row has ended or its context is full.

    A network sees no masks beyond a part, so that it is not told how long the text will be; steps and blocks are of each part.

    Args:
        on_step: as of `write`, with the rows that are written on.
    Returns:
        Rows that begin in one column after their prompts; what was not written, after an end or a full context, stays masked.
    Raises:
        ValueError: as `write`; or guidance, whose prompt would be all that is written.
    """
    if settings.scale != 1.0:
        raise ValueError(
            "guidance masks the prompt, but here all that is written is one for what follows; give a length, or scale 1"
        )
    check_room(model, max(map(len, prompts), default=0), 1)
    rows, calls, tokens = [list(prompt) for prompt in prompts], 0, model.tokens
    going = list(range(len(rows)))
    while going:
        room = min(max(model.shape.context - len(rows[i]) for i in going), settings.length)
        now = [i for i in going if min(model.shape.context - len(rows[i]), settings.length) == room]
        here = torch.tensor(now, device=model.device)
        own = noise_of(generator, here, len(rows))
        done = write(
            model, prompt_canvas([rows[i] for i in now], room, tokens, model.device), settings, own, on_step
        )
        calls += done.calls
        for i, new in zip(now, done.ids[:, -room:].tolist(), strict=True):
            rows[i] += new
            full = len(rows[i]) == model.shape.context
            if full or (settings.stop and tokens.eos_id in rows[i][len(prompts[i]) :]):
                going.remove(i)
    longest = max((len(row) - len(prompt) for row, prompt in zip(rows, prompts, strict=True)), default=0)
    whole = [
        row + [tokens.mask_id] * (len(prompt) + longest - len(row))
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    return Written(padded(whole, tokens.eos_id, model.device).ids, calls)


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
            [x]
            if settings.scale == 1.0
            else [x, x.masked_fill(canvas.valid & (canvas.ids != model.tokens.mask_id), model.tokens.mask_id)]
        )
        return (
            window,
            [window.condition(remembered_rest(model, view, canvas.valid, rest)) for view in views],
            None,
            1,
        )
    window = whole_window(model, among, canvas.valid)
    return window, [window.condition()] * 2, None, 0


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
    model: TextModel,
    window: Window,
    conditions: Sequence[Condition | None],
    prompt: Tensor,
    settings: TextSettings,
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
    settings: TextSettings = PLAIN,
    generator: Noise = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> list[str]:
    """What follows each prompt, all in one batch, cut at the end of text.

    Args:
        generator: as of `write`; `noise.generators(seed, len(prompts))` makes each text independent of the others.
    Raises:
        ValueError: as `write`, or a single text in place of a list.
    """
    given = [model.tokens.encode(prompt) for prompt in listed(prompts, "prompts")]
    if given:
        check_room(model, max(map(len, given)), settings.length)
    canvas = prompt_canvas(given, settings.length, model.tokens, model.device)
    filled = write(model, canvas, settings, generator, on_step).ids[:, -settings.length :]
    return [model.tokens.decode(until_end(row, model.tokens, settings)) for row in filled.tolist()]


def fill_gaps(
    model: TextModel,
    patterns: Sequence[str],
    settings: TextSettings = GAPS,
    generator: Noise = None,
    on_step: Callable[[Tensor], object] | None = None,
) -> list[str]:
    """Each pattern with its gaps filled; see `gap_canvas`."""
    canvas = gap_canvas(patterns, model.tokens, model.device)
    filled = write(model, canvas, settings, generator, on_step).ids
    return [model.tokens.decode(row[valid].tolist()) for row, valid in zip(filled, canvas.valid, strict=True)]


def until_end(row: list[int], tokens: Tokens, settings: TextSettings) -> list[int]:
    """A row up to its first end-of-text."""
    return row[: row.index(tokens.eos_id)] if settings.stop and tokens.eos_id in row else row

"""Writing: the masks of a canvas are filled in any order, in blocks, with or without guidance, up to the end
of text.

What is written in a row depends on its own prompt, settings and generator alone, not on the other rows of the
batch, up to the rounding of matrix products: rows whose blocks or windows differ are written in separate
batches (`alike`).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.network.condition import Condition
from unveil.process.denoised import Denoise, MaskedDenoised
from unveil.process.grid import uniform
from unveil.sampling.guidance import Branch, cfg, reweighted, tapped
from unveil.sampling.loop import sample
from unveil.sampling.masked import AncestralUnmask, ConfidentUnmask, FirstHittingUnmask, reused
from unveil.sampling.noise import Noise
from unveil.text.block_cache import View, row_positions, view_of
from unveil.text.blocks import Block, blocks_for, check_settings, shares
from unveil.text.canvas import Canvas, check_room, checked, gap_canvas, listed, prompt_canvas
from unveil.text.data.tokens import Tokens
from unveil.text.model import TextModel
from unveil.text.settings import TextSettings

RULED_OUT = -1e4
PLAIN, GAPS = TextSettings(), TextSettings(may_end=False)
OnStep = Callable[[Tensor], object] | None


class Written(NamedTuple):
    """A filled canvas, and the number of network calls."""

    ids: Int[Tensor, "B L"]
    calls: int


def write(
    model: TextModel, canvas: Canvas, settings: TextSettings, generator: Noise = None, on_step: OnStep = None
) -> Written:
    """Fill every mask of a canvas; all other tokens stay as they are.

    Args:
        generator: one for all rows, or one per row, so that each text is independent of the other rows
            (`noise.generators`).
        on_step: called with the tokens (B, L) after every step, for streaming.
    Raises:
        ValueError: longer than the context, or refused by `checked` or `check_settings`.
    """
    ids, valid = checked(model, canvas)
    hidden = (ids == model.tokens.mask_id) & valid
    blocks = blocks_for(model, hidden, valid, settings)
    check_settings(model, settings, max(1, int(torch.stack([block.any(1) for block in blocks]).sum(0).max())))
    x, calls = ids, 0
    for rows in alike(model, hidden, valid, settings):
        left = int((~valid[rows]).sum(1).min())  # padding columns of all these rows
        part = Canvas(ids[rows, left:], valid[rows, left:])
        own = [rest for block in blocks if bool((rest := block[rows, left:]).any())]
        if not own:
            continue
        noise = noise_of(generator, rows, len(ids))
        done = _write_alike(model, part, own, settings, noise, _on_rows(on_step, x, rows, left))
        x, calls = _put(x, rows, left, done.ids), calls + done.calls
    return Written(x, calls)


def alike(
    model: TextModel, hidden: Bool[Tensor, "B L"], valid: Bool[Tensor, "B L"], settings: TextSettings
) -> list[Tensor]:
    """Groups of rows (N,) that are written together: they have the same steps per block, and as many cached
    columns.

    Args:
        hidden: the positions that are to be written.
    """
    # whether each block and step is one token
    single = model.window == 1 and not settings.remask and settings.edit is None
    approximate = settings.cache in ("prefix", "dual")
    if not approximate and (single or settings.order == "first-hitting"):
        return [torch.arange(len(hidden), device=hidden.device)]
    groups: dict[Hashable, list[int]] = {}
    positions = row_positions(valid)
    for i, row in enumerate(hidden):
        columns = row.nonzero()[:, 0]
        key: Hashable = None
        if model.window:
            key = tuple(positions[i, columns].tolist())
        elif approximate or 0 < settings.block < len(columns):
            size = settings.block or max(1, len(columns))
            begun = columns[::size] if settings.cache == "prefix" else columns[:0]
            key = (len(columns), *(len(row) - begun).tolist())
        groups.setdefault(key, []).append(i)
    return [torch.tensor(rows, device=hidden.device) for rows in groups.values()]


def noise_of(generator: Noise, rows: Tensor, count: int) -> Noise:
    """The generators of some of `count` rows.

    Raises:
        ValueError: generators that each serve several rows, only some of which are written together.
    """
    if not isinstance(generator, Sequence) or (len(rows) == count and len(generator) != count):
        return generator
    if len(generator) != count:
        raise ValueError(
            f"{len(generator)} generators for {count} rows of different blocks; give one for each row"
        )
    return [generator[i] for i in rows.tolist()]


def _on_rows(on_step: OnStep, x: Tensor, rows: Tensor, left: int) -> OnStep:
    """`on_step` for the state of some rows: it is called with all of x."""
    return None if on_step is None else lambda state: on_step(_put(x, rows, left, state))


def _put(x: Tensor, rows: Tensor, left: int, state: Tensor) -> Tensor:
    """x with the state of some rows, from column `left` on."""
    out = x.clone()
    out[rows, left:] = state
    return out


def _write_alike(
    model: TextModel,
    canvas: Canvas,
    blocks: Sequence[Tensor],
    settings: TextSettings,
    generator: Noise,
    on_step: OnStep,
) -> Written:
    """Fill rows that are `alike`, block after block. A finished row no longer changes or uses random
    numbers."""
    x, valid = canvas
    hidden = torch.stack(list(blocks)).any(0)
    prompt = valid & ~hidden
    counts = [int(block.sum(1).max()) for block in blocks]
    longest = int(hidden.sum(1).max())
    # more than `steps` where the blocks of rows are at different positions
    steps = (settings.steps or longest) * sum(counts) // longest
    calls, prefix = 0, None
    done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for block, share in zip(blocks, shares(steps, counts), strict=True):
        among = block & ~done[:, None]
        if not bool(among.any()):
            continue
        view = view_of(model, x, valid, prompt, among, settings, prefix)
        x, ended, more = _write_block(model, view, x, prompt, share, settings, generator, on_step)
        prefix, calls, done = view.prefix, calls + view.calls + more, done | ended
    after_end = ((x == model.tokens.eos_id) & hidden).long().cumsum(1).roll(1, dims=1) > 0
    after_end[:, 0] = False
    return Written(x.masked_fill(after_end & hidden & done[:, None], model.tokens.mask_id), calls)


def _write_block(
    model: TextModel,
    view: View,
    x: Int[Tensor, "B L"],
    prompt: Bool[Tensor, "B L"],
    steps: int,
    settings: TextSettings,
    generator: Noise,
    on_step: OnStep,
) -> tuple[Tensor, Tensor, int]:
    """x with one block filled, which rows ended in it, and the number of network calls."""
    window = view.window
    block = Block(window.among, model.tokens.mask_id, model.tokens.eos_id, settings)
    before = x.gather(1, window.columns)  # (B, W)
    belief = belief_of(model, view, block, prompt.gather(1, window.columns), settings)
    calls: list[Tensor] = []
    denoise = reused(tapped(belief, lambda _, t: calls.append(t)))
    times = uniform(1 if model.window == 1 and block.final else steps)
    if block.edits:
        times = torch.cat([times, times.new_zeros(settings.edit_steps)])

    def finish(state: Tensor, s: Tensor) -> bool:
        nonlocal before
        if on_step is not None:
            on_step(window.put(x, state))
        earlier, before = before, state
        return block.finish(earlier, state)

    solver = solver_of(model, settings, block)
    state = sample(denoise, solver, before, times, generator=generator, on_step=finish)
    return window.put(x, state), block.ended(state), len(calls)


def belief_of(
    model: TextModel, view: View, block: Block, prompt: Bool[Tensor, "B W"], settings: TextSettings
) -> Denoise[MaskedDenoised]:
    """The denoiser with its condition bound, guidance, and without end-of-text if it may not be written.

    Logits are computed only at the positions where a token is still needed.

    Args:
        prompt: the known tokens of the window, which guidance masks.
    """
    mask = model.tokens.mask_id

    def without_prompt(x: Tensor) -> Tensor:
        return x.masked_fill(prompt, mask)

    def belief(x_t: Tensor, t: Tensor) -> MaskedDenoised:
        positions = block.positions(x_t)  # (B, P)

        def denoiser(x: Tensor, t: Tensor, condition: Condition | None) -> MaskedDenoised:
            both = positions.repeat(len(x) // len(x_t), 1)  # guidance puts its two branches into one batch
            return model.denoiser(x, t, condition, both)

        if settings.scale == 1.0:
            return denoiser(x_t, t, view.conditions[0])
        branches = Branch(view.conditions[0]), Branch(view.conditions[1], without_prompt)
        return cfg(denoiser, *branches, settings.scale)(x_t, t)

    guided = belief if model.denoiser.forbid_mask else in_double(belief)
    if settings.may_end:
        return guided
    score = torch.zeros(model.tokens.size, device=prompt.device)
    score[model.tokens.eos_id] = RULED_OUT
    return reweighted(guided, score)


def in_double(denoise: Denoise[MaskedDenoised]) -> Denoise[MaskedDenoised]:
    """Logits in float64 after guidance, as in LLaDA's sampler: in float32 many probabilities round to 1, and
    their order is lost."""

    def exact(x_t: Tensor, t: Tensor) -> MaskedDenoised:
        belief = denoise(x_t, t)
        return MaskedDenoised(belief.logits.double(), belief.positions)

    return exact


def solver_of(
    model: TextModel, settings: TextSettings, block: Block
) -> AncestralUnmask | ConfidentUnmask | FirstHittingUnmask:
    """The solver of an order."""
    it, mask, temperature, remask = (
        model.denoiser,
        model.tokens.mask_id,
        settings.temperature,
        settings.remask,
    )
    if settings.order == "first-hitting":
        return FirstHittingUnmask(it.schedule, mask, temperature, it.forbid_mask, block.changeable)
    if settings.order == "ancestral":
        return AncestralUnmask(it.schedule, mask, temperature, it.forbid_mask, remask, block.changeable)
    more = (remask, settings.threshold, settings.factor, block.changeable, settings.edit)
    return ConfidentUnmask(it.schedule, mask, settings.order, temperature, it.forbid_mask, *more)


def write_after(
    model: TextModel,
    prompts: Sequence[Sequence[int]],
    length: int,
    settings: TextSettings,
    generator: Noise = None,
    on_step: OnStep = None,
) -> Written:
    """The `length` new tokens after each prompt, (B, length); otherwise as `write`."""
    if prompts:
        check_room(model, max(map(len, prompts)), length)
    canvas = prompt_canvas(prompts, length, model.tokens, model.device)
    done = write(model, canvas, settings, generator, on_step)
    return Written(done.ids[:, -length:], done.calls)


def continue_text(
    model: TextModel,
    prompts: Sequence[str],
    settings: TextSettings = PLAIN,
    generator: Noise = None,
    on_step: OnStep = None,
) -> list[str]:
    """The continuation of each prompt, all in one batch, cut at the end of text.

    Args:
        generator: as in `write`; `noise.generators(seed, len(prompts))` makes each text independent of the
            others.
    Raises:
        ValueError: as `write`; or a single text instead of a list.
    """
    encoded = [model.tokens.encode(prompt) for prompt in listed(prompts, "prompts")]
    length = settings.tokens(model.shape.context - max(map(len, encoded), default=0))
    rows = write_after(model, encoded, length, settings, generator, on_step).ids.tolist()
    return [model.tokens.decode(until_end(row, model.tokens, settings)) for row in rows]


def fill_gaps(
    model: TextModel,
    patterns: Sequence[str],
    settings: TextSettings = GAPS,
    generator: Noise = None,
    on_step: OnStep = None,
) -> list[str]:
    """Each pattern with its gaps filled; see `gap_canvas`."""
    canvas = gap_canvas(patterns, model.tokens, model.device)
    filled = write(model, canvas, settings, generator, on_step).ids
    return [model.tokens.decode(row[valid].tolist()) for row, valid in zip(filled, canvas.valid, strict=True)]


def until_end(row: list[int], tokens: Tokens, settings: TextSettings) -> list[int]:
    """A row up to its first end-of-text."""
    return row[: row.index(tokens.eos_id)] if settings.stop and tokens.eos_id in row else row

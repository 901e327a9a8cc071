"""The columns of a canvas that the network is evaluated on while one block is written, and the keys and
values that are cached.

    whole     all tokens that the block's beliefs depend on (block diffusion: the blocks so far); no cache
    exact     block diffusion and causal models: the block alone; earlier blocks are cached and never change
    prefix    masked models: the block and all tokens after it; tokens before it are cached when it begins
    dual      masked models: the block alone; all other tokens are cached when it begins

The last two are approximations (Wu et al. 2025, Fast-dLLM, section 3.2): every token's keys depend on the
tokens that are being written.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.network.condition import Condition
from unveil.text.model import TextModel
from unveil.text.networks.prefix import Prefix, at_columns
from unveil.text.settings import Cache, TextSettings


class Window(NamedTuple):
    """Columns of a canvas that the network is evaluated on.

    Args:
        columns: (B, W) indices of the columns.
        among: (B, W) bool, the positions that are to be written.
        valid: (B, W) bool, False at padding; None without padding.
        positions: (B, W) positions within the row; None: 0, 1, ...
    """

    columns: Int[Tensor, "B W"]
    among: Bool[Tensor, "B W"]
    valid: Tensor | None = None
    positions: Tensor | None = None

    def condition(self, prefix: Prefix | None = None) -> Condition | None:
        """The condition that the network needs for these columns."""
        if self.valid is None and self.positions is None and prefix is None:
            return None
        return Condition(valid=self.valid, places=self.positions, prefix=prefix)

    def put(self, x: Tensor, state: Tensor) -> Tensor:
        """The canvas x with the tokens of `state` at the written positions."""
        rows, within = self.among.nonzero(as_tuple=True)
        return x.index_put((rows, self.columns[rows, within]), state[rows, within])


def row_positions(valid: Bool[Tensor, "B L"]) -> Tensor:
    """(B, L) positions of the tokens within their row; padding on the left has negative ones."""
    return torch.arange(valid.shape[1], device=valid.device) - (~valid).sum(1, keepdim=True)


def blocks_by_position(hidden: Bool[Tensor, "B L"], valid: Bool[Tensor, "B L"], size: int) -> list[Tensor]:
    """Like `blocks_of`, but at the block boundaries of a model trained with blocks of `size`, by positions in
    the row.

    Blocks without a hidden position are left out.
    """
    number = row_positions(valid).div(size, rounding_mode="floor")
    return [among for i in range(int(number.max()) + 1) if bool((among := hidden & (number == i)).any())]


def whole_window(model: TextModel, among: Tensor, valid: Tensor) -> Window:
    """All columns that the beliefs at `among` depend on."""
    stop = valid.shape[1]
    if model.window:  # no position attends to later blocks
        number = row_positions(valid).div(model.window, rounding_mode="floor")
        own = (number == number.masked_fill(~among, -1).amax(1, keepdim=True)) & valid
        stop = int((own.any(0) * torch.arange(1, stop + 1, device=among.device)).max())
    columns = torch.arange(stop, device=among.device).expand(len(among), -1)
    return Window(columns, among[:, :stop], None if bool(valid.all()) else valid[:, :stop])


def shown_window(among: Tensor, valid: Tensor, cache: Cache) -> tuple[Window, Tensor]:
    """The window of a masked model with a cache, and the columns (B, K) that are cached."""
    shown = among.long().cumsum(1) > 0 if cache == "prefix" else among
    count = int(shown.sum(1).max())
    order = (~shown).long().argsort(dim=1, stable=True)
    columns, rest = order[:, :count].sort(1).values, order[:, count:].sort(1).values
    parts = (among, valid, row_positions(valid).clamp(min=0))
    return Window(columns, *(part.gather(1, columns) for part in parts)), rest


def cached_columns(model: TextModel, x: Tensor, valid: Tensor, rest: Tensor) -> Prefix:
    """Keys and values of columns `rest` of x, computed together with all of x."""
    return at_columns(model.network.prefill(x, None if bool(valid.all()) else Condition(valid=valid)), rest)


def block_window(among: Tensor, valid: Tensor, start: int, stop: int) -> Window:
    """Positions start .. stop - 1 of every row, for a model of blocks; rows may be shorter."""
    padding = (~valid).sum(1, keepdim=True)
    positions = torch.arange(start, stop, device=valid.device).expand(len(valid), -1)
    columns = positions + padding
    inside = columns < valid.shape[1]
    columns = columns.clamp(max=valid.shape[1] - 1)
    return Window(columns, among.gather(1, columns) & inside, inside, positions)


def advanced(model: TextModel, x: Tensor, valid: Tensor, prefix: Prefix | None, stop: int) -> Prefix | None:
    """The prefix of a model of blocks, extended to positions 0 .. stop - 1, which are finished."""
    start = 0 if prefix is None else prefix[0].shape[1]
    if stop <= start:
        return prefix
    window = block_window(torch.zeros_like(valid), valid, start, stop)
    return model.network.prefill(x.gather(1, window.columns), window.condition(prefix))


class View(NamedTuple):
    """What the network sees while one block is written.

    Args:
        window: the columns of the canvas that it is evaluated on.
        conditions: with the prompt and, for guidance, with the prompt masked.
        prefix: keys and values of the blocks before, of a model of blocks; the next block's view is made from
            them.
        calls: number of network calls for the cached columns.
    """

    window: Window
    conditions: tuple[Condition | None, ...]
    prefix: Prefix | None = None
    calls: int = 0


def view_of(
    model: TextModel,
    x: Int[Tensor, "B L"],
    valid: Bool[Tensor, "B L"],
    prompt: Bool[Tensor, "B L"],
    among: Bool[Tensor, "B L"],
    settings: TextSettings,
    prefix: Prefix | None,
) -> View:
    """What the network sees while the block `among` of x is written.

    Args:
        prompt: the known tokens, which guidance masks.
        prefix: that of the block before.
    """
    if model.window and settings.cache == "auto":
        start = int(row_positions(valid)[among].min()) // model.window * model.window
        prefix = advanced(model, x, valid, prefix, start)
        window = block_window(among, valid, start, start + model.window)
        return View(window, (window.condition(prefix),), prefix)
    if settings.cache in ("prefix", "dual"):
        window, rest = shown_window(among, valid, settings.cache)
        texts = [x] if settings.scale == 1.0 else [x, x.masked_fill(prompt, model.tokens.mask_id)]
        conditions = (window.condition(cached_columns(model, text, valid, rest)) for text in texts)
        return View(window, tuple(conditions), calls=1)
    window = whole_window(model, among, valid)
    return View(window, (window.condition(),) * 2)

"""What the network is shown while one block of a canvas is written, and what it remembers of the rest: keys and values.

    whole     all that the block's beliefs depend on: every token of a masked model, the blocks so far of one of blocks; nothing remembered
    exact     models of blocks, and causal ones: the block alone; those before are remembered, and never change. The same beliefs.
    prefix    masked models: the block and what follows; what is before is remembered as it was when the block was begun
    dual      masked models: the block alone; the rest is remembered as it was when the block was begun

The last two are approximations (Wu et al. 2025, Fast-dLLM, section 3.2): every token's keys depend on those that are being written.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unveil.network.condition import Condition
from unveil.text.canvas import Canvas
from unveil.text.model import TextModel
from unveil.text.networks.prefix import Prefix, at_columns
from unveil.text.settings import Cache, TextSettings


class Window(NamedTuple):
    """Columns of a canvas that the network is shown.

    Args:
        columns: (B, W).
        among: (B, W) bool, what is to be written there.
        valid: (B, W) bool, no padding, or nothing where there is none.
        places: (B, W), where they stand in their row, or nothing if from 0 on.
    """

    columns: Int[Tensor, "B W"]
    among: Bool[Tensor, "B W"]
    valid: Tensor | None = None
    places: Tensor | None = None

    def condition(self, prefix: Prefix | None = None) -> Condition | None:
        """What the network is told of it."""
        if self.valid is None and self.places is None and prefix is None:
            return None
        return Condition(valid=self.valid, places=self.places, prefix=prefix)

    def put(self, x: Tensor, state: Tensor) -> Tensor:
        """The canvas x with what was written here."""
        rows, within = self.among.nonzero(as_tuple=True)
        return x.index_put((rows, self.columns[rows, within]), state[rows, within])


def row_places(valid: Bool[Tensor, "B L"]) -> Tensor:
    """(B, L) where tokens stand in their row, padding on the left not counted; that is below 0."""
    return torch.arange(valid.shape[1], device=valid.device) - (~valid).sum(1, keepdim=True)


def blocks_by_place(wanted: Bool[Tensor, "B L"], valid: Bool[Tensor, "B L"], size: int) -> list[Tensor]:
    """Like `blocks_of`, but cut where a model of blocks of `size` has its own: by places in the row. Only those with anything to write."""
    number = row_places(valid).div(size, rounding_mode="floor")
    return [among for i in range(int(number.max()) + 1) if bool((among := wanted & (number == i)).any())]


def whole_window(model: TextModel, among: Tensor, valid: Tensor) -> Window:
    """Everything that the beliefs at `among` depend on."""
    stop = valid.shape[1]
    if model.window:  # later blocks are seen by nobody
        number = row_places(valid).div(model.window, rounding_mode="floor")
        own = (number == number.masked_fill(~among, -1).amax(1, keepdim=True)) & valid
        stop = int((own.any(0) * torch.arange(1, stop + 1, device=among.device)).max())
    columns = torch.arange(stop, device=among.device).expand(len(among), -1)
    return Window(columns, among[:, :stop], None if bool(valid.all()) else valid[:, :stop])


def shown_window(among: Tensor, valid: Tensor, cache: Cache) -> tuple[Window, Tensor]:
    """The window of a masked model with a cache, and the columns (B, K) that are remembered."""
    shown = among
    if cache == "prefix":
        shown = among.long().cumsum(1) > 0
    count = int(shown.sum(1).max())
    order = (~shown).long().argsort(dim=1, stable=True)
    columns, rest = order[:, :count].sort(1).values, order[:, count:].sort(1).values
    places = row_places(valid).clamp(min=0)
    return Window(
        columns, among.gather(1, columns), valid.gather(1, columns), places.gather(1, columns)
    ), rest


def remembered_rest(model: TextModel, x: Tensor, valid: Tensor, rest: Tensor) -> Prefix:
    """Keys and values of columns `rest` of x, read together with all of x."""
    return at_columns(model.network.prefill(x, None if bool(valid.all()) else Condition(valid=valid)), rest)


def place_window(among: Tensor, valid: Tensor, start: int, stop: int) -> Window:
    """Places start .. stop - 1 of every row, of a model of blocks; rows may end before."""
    padding = (~valid).sum(1, keepdim=True)
    places = torch.arange(start, stop, device=valid.device).expand(len(valid), -1)
    columns = places + padding
    there = columns < valid.shape[1]
    columns = columns.clamp(max=valid.shape[1] - 1)
    return Window(columns, among.gather(1, columns) & there, there, places)


def advanced(model: TextModel, x: Tensor, valid: Tensor, prefix: Prefix | None, stop: int) -> Prefix | None:
    """The prefix of a model of blocks, grown to places 0 .. stop - 1, which are written."""
    start = 0 if prefix is None else prefix[0].shape[1]
    if stop <= start:
        return prefix
    window = place_window(torch.zeros_like(valid), valid, start, stop)
    return model.network.prefill(x.gather(1, window.columns), window.condition(prefix))


class View(NamedTuple):
    """What the network sees while one block is written.

    Args:
        window: the columns of the canvas that it is evaluated on.
        conditions: with the prompt and, for guidance, with the prompt masked.
        prefix: keys and values of the blocks before, of a model of blocks; the next block's view is made from them.
        calls: network calls that reading the rest of the canvas took.
    """

    window: Window
    conditions: tuple[Condition | None, ...]
    prefix: Prefix | None = None
    calls: int = 0


def view_of(
    model: TextModel, canvas: Canvas, among: Tensor, settings: TextSettings, x: Tensor, prefix: Prefix | None
) -> View:
    """What the network sees while the block `among` of x (B, L) is written.

    Args:
        canvas: the ids before anything was written, whose masks are not part of the prompt.
        prefix: that of the block before.
    """
    valid = canvas.valid
    if model.window and settings.cache == "auto":
        start = int(row_places(valid)[among].min()) // model.window * model.window
        prefix = advanced(model, x, valid, prefix, start)
        window = place_window(among, valid, start, start + model.window)
        return View(window, (window.condition(prefix),), prefix)
    if settings.cache in ("prefix", "dual"):
        window, rest = shown_window(among, valid, settings.cache)
        mask = model.tokens.mask_id
        prompts = [x] if settings.scale == 1.0 else [x, x.masked_fill(valid & (canvas.ids != mask), mask)]
        conditions = (window.condition(remembered_rest(model, prompt, valid, rest)) for prompt in prompts)
        return View(window, tuple(conditions), calls=1)
    window = whole_window(model, among, valid)
    return View(window, (window.condition(),) * 2)

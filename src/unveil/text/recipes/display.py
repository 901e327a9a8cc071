"""Partly written text in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count

from torch import Tensor

from unveil.text.model import TextModel

SHOWN_MASK = "░"


def printable(text: str) -> str:
    """Text that a terminal may show: control characters, which could move its cursor, become the replacement
    character."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def partly(model: TextModel, row: list[int]) -> str:
    """The text of a row, with a sign for each token that is still masked."""
    shown, piece = "", []
    for token in [*row, None]:
        if token is None or token == model.tokens.mask_id:
            shown += model.tokens.decode(piece) + (SHOWN_MASK if token is not None else "")
            piece = []
        else:
            piece.append(token)
    return printable(shown)


@contextmanager
def shown(
    model: TextModel, watch: bool, every: int = 1, part: Callable[[list[int]], list[int]] = list
) -> Generator[Callable[[Tensor], object] | None]:
    """Yield a function to call after each step, which shows the first row: redrawn in place in a terminal,
    elsewhere as lines. None if nothing is shown.

    Args:
        every: steps per line outside a terminal; 0: no lines.
        part: row -> the tokens of it that are shown.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console, steps = Console(stderr=True), count(1)

    def text(state: Tensor) -> str:
        return partly(model, part(state[0].tolist()))

    def line(state: Tensor) -> None:
        if next(steps) % every == 0:
            console.print(Text(text(state).replace("\n", "⏎")), soft_wrap=True)

    if watch and console.is_terminal:
        with Live(console=console, refresh_per_second=20, transient=True) as live:
            yield lambda state: live.update(Text(text(state)))
    else:
        yield line if watch and every else None

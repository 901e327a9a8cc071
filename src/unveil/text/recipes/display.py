"""Partly written text in a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor

    from unveil.text.generation import Canvas
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
    model: TextModel, canvas: Canvas, watch: bool, every: int = 1
) -> Generator[Callable[[Tensor], object] | None]:
    """Yields what to call after each step: the first sample, redrawn in place in a terminal; elsewhere a line
    every so many steps."""
    if not watch:
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    padding = int((~canvas.valid[0]).sum())  # on the left; rows may grow on the right
    if not console.is_terminal:
        steps = count(1)

        def line(state: Tensor) -> None:
            if next(steps) % every == 0:
                console.print(
                    Text(partly(model, state[0][padding:].tolist()).replace("\n", "⏎")), soft_wrap=True
                )

        yield line
        return
    with Live(console=console, refresh_per_second=20, transient=True) as live:
        yield lambda state: live.update(Text(partly(model, state[0][padding:].tolist())))

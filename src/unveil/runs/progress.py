"""Progress of long work on the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar

Progress = Callable[
    [str, int, int, Mapping[str, float | int]], None
]  # what, steps done, total, numbers to show
_shown: ContextVar[Progress | None] = ContextVar("_shown", default=None)


def as_clock(seconds: float) -> str:
    """Format seconds as h:mm:ss, rounded."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextlib.contextmanager
def shown_progress() -> Generator[Progress]:
    """Yield a function that shows progress: a bar on a terminal, elsewhere a line at most every 10 s.

    Inside another `shown_progress` it is the other's, so that a terminal has one display.
    """
    if (outer := _shown.get()) is not None:
        yield outer
        return
    with _display() as show:
        mark = _shown.set(show)
        try:
            yield show
        finally:
            _shown.reset(mark)


@contextlib.contextmanager
def _display() -> Generator[Progress]:
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def fancy(what: str, done: int, total: int, numbers: Mapping[str, float | int]) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, numbers="")
            shown = " ".join(f"{k} {numbers[k]:.4g}" for k in ("loss", "steps_per_second") if k in numbers)
            bars.update(tasks[what], completed=done, numbers=shown)

        yield fancy


def _lines() -> Progress:
    """Print a line at the first call, at the end, and at most every 10 s in between."""
    current, began, first, at = "", 0.0, 0, -1e9

    def line(what: str, done: int, total: int, numbers: Mapping[str, float | int]) -> None:
        nonlocal current, began, first, at
        now = time.monotonic()
        if what == current and now - at < 10.0 and done < total:
            return
        if what != current:
            current, began, first = what, now, done
        at = now
        rate = numbers.get("steps_per_second") or (done - first) / max(now - began, 1e-9)
        extra = " ".join(f"{name}={number:.4g}" for name, number in numbers.items() if name != "step")
        left = f"ETA {as_clock((total - done) / rate)}" if rate > 0.0 and done < total else ""
        print(" ".join(filter(None, (f"{what}: {done}/{total}", extra, left))), file=sys.stderr, flush=True)

    return line

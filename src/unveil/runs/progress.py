"""Progress of long work on the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Mapping
from typing import Any

Progress = Callable[[str, int, int, Mapping[str, float]], None]  # what, steps done, total, numbers to show


def as_clock(seconds: float) -> str:
    """Format seconds as h:mm:ss, rounded."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextlib.contextmanager
def shown_progress() -> Generator[Progress]:
    """Yield a function that shows progress: a bar on a terminal, elsewhere a line at most every 10 s."""
    if not sys.stderr.isatty():
        from time import monotonic

        state: dict[str, Any] = {"at": -1e9, "what": ""}

        def plain(what: str, done: int, total: int, numbers: Any) -> None:
            if what == state["what"] and monotonic() - state["at"] < 10.0 and done < total:
                return
            if what != state["what"]:
                state.update(began=monotonic(), first=done)
            state.update(at=monotonic(), what=what)
            rate = numbers.get("steps_per_second") or (done - state["first"]) / max(
                state["at"] - state["began"], 1e-9
            )
            extra = " ".join(f"{k}={v:.4g}" for k, v in numbers.items() if k != "step")
            left = f"ETA {as_clock((total - done) / rate)}" if rate > 0.0 and done < total else ""
            print(
                " ".join(filter(None, (f"{what}: {done}/{total}", extra, left))), file=sys.stderr, flush=True
            )

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def fancy(what: str, done: int, total: int, numbers: Any) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, numbers="")
            shown = " ".join(f"{k} {numbers[k]:.4g}" for k in ("loss", "steps_per_second") if k in numbers)
            bars.update(tasks[what], completed=done, numbers=shown)

        yield fancy

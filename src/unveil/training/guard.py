"""Guards around a run: one writer a folder, and interrupts that wait for a good moment."""

import fcntl
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from unveil.errors import UnveilError


@contextmanager
def only_writer(run: Path) -> Generator[None]:
    """Hold the run folder's lock; the system drops it when the process dies, however it dies.

    Raises:
        UnveilError: another process trains here, or the folder cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        handle = open(run / ".lock", "w")  # noqa: SIM115 (held beyond this block)
    except OSError as error:
        raise UnveilError(f"{run}: cannot write there ({error.strerror})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UnveilError(f"{run}: another process trains in this folder; wait for it, or give another --out") from None
        yield


class Interrupts:
    """Notes Ctrl-C and SIGTERM instead of dying in the middle of a step; a second one dies at once. In the main thread only."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, signal.Handlers | None] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

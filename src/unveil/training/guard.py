"""Guards of a run: one writer per folder, and interrupts that wait for the end of a step."""

import fcntl
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from unveil.errors import UnveilError
from unveil.training.checkpoint import checkpoints


@contextmanager
def only_writer(run: Path) -> Generator[None]:
    """Hold the lock of the run folder; the operating system releases it when the process ends in any way.

    Raises:
        UnveilError: another process trains in the folder, or the folder cannot be made.
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
            raise UnveilError(
                f"{run}: another process trains in this folder; wait for it, or give another `out`"
            ) from None
        yield


class Interrupts:
    """Handle Ctrl-C and SIGTERM during a training.

    The first signal waits for the end of the step, the second exits at once. Python runs signal handlers
    between bytecodes, so not during one call of a large network that takes minutes. The C handler, however,
    writes each signal's number to a pipe at once, and a thread that reads the pipe needs only the
    interpreter's lock, which torch's operations release. The exit is `os._exit` with 128 + the signal's
    number; checkpoints are written completely or not at all, so none is left half written. Outside the main
    thread signals are not handled.

    Args:
        run: the run folder, whose newest checkpoint is named at the exit.
        speaks: write messages to standard error; off in all but one of several processes.
    """

    def __init__(self, run: Path, speaks: bool = True) -> None:
        self.requested = False
        """whether a signal has arrived"""
        self.stepping = False
        """whether there is a step to wait for; before the first step a signal exits at once"""
        self._run, self._speaks = run, speaks
        self._before: dict[signal.Signals, signal.Handlers | None] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._end, self._start = os.pipe()
        os.set_blocking(self._start, False)
        self._watcher = threading.Thread(target=self._watch, name="interrupts", daemon=True)
        self._watcher.start()
        self._wakeup = signal.set_wakeup_fd(self._start, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._before = {}
        os.close(self._start)  # ends the thread
        self._watcher.join()
        os.close(self._end)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def _watch(self) -> None:
        """Read the numbers of signals as they arrive, until the pipe is closed."""
        seen = 0
        while numbers := os.read(self._end, 64):
            for number in numbers:
                if number not in (signal.SIGINT, signal.SIGTERM):
                    continue
                seen += 1
                if seen > 1 or not self.stepping:
                    self._leave(number)
                self._say("stopping after this step; again to stop at once")

    def _leave(self, number: int) -> None:
        saved = checkpoints(self._run)
        advice = (
            f"{saved[-1]} was saved last; go on with the same command and --resume"
            if saved
            else "nothing was saved yet"
        )
        self._say(f"stopped at once; {advice}")
        os._exit(128 + number)

    def _say(self, line: str) -> None:
        if not self._speaks:
            return
        shown = "\x1b[?25h\n" if os.isatty(2) else ""  # a progress bar hides the cursor
        with suppress(OSError):
            os.write(2, f"{shown}unveil: {line}\n".encode())

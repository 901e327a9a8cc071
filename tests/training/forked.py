"""A training in a forked child of the tests: starts in milliseconds, and what it writes is waited for, never
a time."""

import os
import select
import signal
import traceback
import warnings
from collections.abc import Callable

LONGEST = 120.0  # seconds without a word, after which a child is hung and killed


class Child:
    """Runs `work` in a forked process, whose standard error and `say` come through one pipe, and exits with
    0, or 1 after a traceback."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._read, write = os.pipe()
        self._held = b""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # forks of a process with threads; none of ours holds a lock here
            self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        code = 1
        try:
            os.dup2(write, 2)
            work()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def _more(self) -> bytes:
        if not select.select([self._read], [], [], LONGEST)[0]:
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"the child hangs; it said {self._held!r}")
        return os.read(self._read, 65536)

    def wait_for(self, word: str) -> None:
        """Until the child has said it."""
        while word.encode() not in self._held:
            more = self._more()
            assert more, f"the child ended and said {self._held!r}"
            self._held += more

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Its exit status, negative for a signal, and all it said."""
        while more := self._more():
            self._held += more
        os.close(self._read)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), self._held.decode()


def say(word: str) -> None:
    """Of a child."""
    os.write(2, f"{word}\n".encode())

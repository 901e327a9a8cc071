"""Jobs: a bounded queue, one worker thread, progress, previews and cancelling."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from secrets import token_hex
from typing import Literal

from unveil.errors import UnveilError, one_line
from unveil.files.json_objects import JsonObject

State = Literal["queued", "running", "done", "failed", "cancelled"]
Work = Callable[["Job"], object]
Clock = Callable[[], float]
ENDED = ("done", "failed", "cancelled")
OUT_OF_MEMORY = "out of memory; ask for fewer or smaller images"


class Cancelled(Exception):
    """The job was cancelled; its work ends at the next step."""


class Full(Exception):
    """No room in the queue, or the queue is closed."""


class Job:
    """A piece of work, its progress and its result.

    Args:
        kind: such as "image".
        work: called in the worker thread with the job; its result becomes `result`.
        size: bytes of a result.
    """

    def __init__(self, kind: str, work: Work, size: Callable[[object], int], clock: Clock) -> None:
        self.id = token_hex(16)
        self.kind, self.work, self.size, self.clock = kind, work, size, clock
        self.state: State = "queued"
        self.step, self.steps = 0, 0
        self.earlier, self.all = 0, 0  # steps before the present part, and of all parts, of a job of several
        self.watched = False  # somebody asked for a preview, so that they are made
        self.preview: bytes | None = None
        self.texts: tuple[str, ...] = ()  # what will not change any more, of a job of text
        self.data: JsonObject = {}  # what there is so far, of other jobs
        self.result: object = None
        self.error, self.internal = "", False
        self.began, self.deadline = 0.0, 0.0
        self.stop, self.skip = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], object]] = []

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ENDED

    @property
    def progress(self) -> float:
        """The fraction that is done, 0 .. 1."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Cancelled: it was cancelled.
            ValueError: it takes too long.
        """
        if self.stop.is_set():
            raise Cancelled
        if self.clock() > self.deadline:
            raise ValueError("the job took longer than this server allows (`seconds`); ask for less")

    def report(
        self,
        step: int,
        steps: int,
        preview: bytes | None = None,
        texts: tuple[str, ...] | None = None,
        data: JsonObject | None = None,
    ) -> None:
        """Record progress and tell the listeners; raises as `check`."""
        self.check()
        self.step, self.steps = self.earlier + step, self.all or steps
        self.preview = preview or self.preview
        self.texts = self.texts if texts is None else texts
        self.data = self.data if data is None else data
        self.tell()

    def listen(self, listener: Callable[[], object]) -> None:
        """Call a function, from any thread, at each change."""
        with self._lock:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], object]) -> None:
        """Call it no more."""
        with self._lock:
            self._listeners.remove(listener)

    def tell(self) -> None:
        """Call the listeners."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()


class Jobs:
    """The queue, the worker, and the results that are kept.

    Args:
        waiting: largest number of jobs that wait.
        seconds: longest time of a job.
        kept: largest size of all results, in bytes; the oldest are dropped first.
    """

    def __init__(self, waiting: int, seconds: float, kept: int, clock: Clock = time.monotonic) -> None:
        self.waiting, self.seconds, self.kept, self.clock = waiting, seconds, kept, clock
        self.current: Job | None = None
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._worker: threading.Thread | None = None

    def start(self, first: Callable[[], object] | None = None) -> None:
        """Start the worker.

        Args:
            first: called in the worker before the first job, such as imports; what it raises is ignored,
                since the first job raises it again.
        """
        self._worker = threading.Thread(target=self._run, args=(first,), name="worker", daemon=True)
        self._worker.start()

    def submit(self, kind: str, work: Work, size: Callable[[object], int] = lambda _: 0) -> Job:
        """Put work into the queue.

        Raises:
            Full: too many jobs wait.
        """
        job = Job(kind, work, size, self.clock)
        with self._changed:
            if self._closed or len(self._queue) >= self.waiting:
                raise Full
            self._queue.append(job)
            self.jobs[job.id] = job
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or end it at its next step."""
        job.stop.set()
        with self._changed:
            waits = job in self._queue
            if waits:
                self._queue.remove(job)
                job.state = "cancelled"
        if waits:
            job.tell()

    @property
    def open_jobs(self) -> int:
        """The number of jobs that run or wait."""
        return len(self._queue) + (self.current is not None)

    def close(self) -> None:
        """Cancel all jobs, and wait for the worker."""
        with self._changed:
            self._closed = True
            waiting, current = list(self._queue), self.current
            self._changed.notify()
        for job in waiting:
            self.cancel(job)
        if current is not None:
            current.stop.set()
        if self._worker is not None:
            self._worker.join(timeout=30)

    def _run(self, first: Callable[[], object] | None) -> None:
        if first is not None:
            try:
                first()
            except Exception as error:  # the first job that needs it fails with the same words
                del error
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self.current = self._queue.popleft()
            try:
                self._do(job)
            finally:
                self.current = None
                self._drop()
                job.tell()

    def _do(self, job: Job) -> None:
        job.state, job.began = "running", self.clock()
        job.deadline = job.began + self.seconds
        job.tell()
        try:
            job.result = job.work(job)
            job.state = "done"
        except Cancelled:
            job.state = "cancelled"
        except (UnveilError, ValueError) as error:
            job.error, job.state = one_line(str(error)), "failed"
        except Exception as error:
            memory = isinstance(error, MemoryError) or "memory" in str(error).lower()
            job.error = OUT_OF_MEMORY if memory else f"internal error, {type(error).__name__}: {error}"
            job.error, job.internal, job.state = one_line(job.error), not memory, "failed"
        job.work = _nothing  # frees the uploads
        job.preview = None

    def _drop(self) -> None:
        """Forget the oldest results until the others fit, and all but the newest 1,000 jobs."""
        with self._changed:
            ended = [job for job in self.jobs.values() if job.ended]
            total = sum(job.size(job.result) for job in ended if job.result is not None)
            for k, job in enumerate(ended[:-1]):
                if total <= self.kept and len(ended) - k <= 1000:
                    return
                total -= job.size(job.result) if job.result is not None else 0
                del self.jobs[job.id]


def _nothing(_: Job) -> None:
    return None

"""Sessions of PushT: one simulation each, in a thread of its own, at 10 Hz.

Why not the queue: a session lasts for minutes and must answer within a control step, while a job of images
may hold the worker for longer. So every session steps in its own thread, and calls the policy there: a
decision takes tens of milliseconds of one core, once in `n_action` steps. Loading takes turns with the jobs
behind the lock of `Models`; calls of a loaded network need no lock, since networks keep nothing between calls
(the one with preallocated memory lends it to one thread at a time). A session moves only while somebody reads
its events, so an abandoned one costs nothing until it is dropped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from secrets import token_hex
from typing import TYPE_CHECKING

from unveil.errors import UnveilError, one_line
from unveil.files.json_objects import JsonObject
from unveil.serve.installed import missing
from unveil.serve.refusal import Refused

if TYPE_CHECKING:
    from unveil.policy.recipes.pusht.teleoperation import Teleoperation

PERIOD = 0.1  # seconds of a control step
MOST = 4  # sessions
ALONE = 60.0  # seconds without a reader, after which a session is dropped
UNTOUCHED = 1800.0  # seconds without a command
SHOWN = 20  # control steps for which a solved scene stands still

Clock = Callable[[], float]
Command = Callable[["Teleoperation"], object]


def simulator_needs() -> str:
    """What is to be installed for the simulator of PushT."""
    return missing("gym_pusht", "pymunk", extra="pusht")


class Session:
    """A scene, its thread, and those who read its states.

    Args:
        make: makes the scene, in the thread.
    """

    def __init__(self, make: Callable[[], Teleoperation], clock: Clock = time.monotonic) -> None:
        self.id = token_hex(16)
        self.scene: Teleoperation | None = None
        self.pointer: tuple[float, float] | None = None
        self.error, self.closed = "", False
        self.state: JsonObject = {"loading": True, "error": ""}
        self._make, self._clock = make, clock
        self._steps = self._still = 0
        self._decision = 0.0  # milliseconds of the last one
        self._commands: list[Command] = []
        self._listeners: list[Callable[[], object]] = []
        self._changed = threading.Condition()
        self._read = self._touched = clock()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="policy", daemon=True).start()

    @property
    def watched(self) -> bool:
        """Whether somebody reads the states."""
        return bool(self._listeners)

    @property
    def expired(self) -> bool:
        """Whether nobody has read, or commanded, for long."""
        now = self._clock()
        return (not self.watched and now - self._read > ALONE) or now - self._touched > UNTOUCHED

    def listen(self, listener: Callable[[], object]) -> None:
        """Call a function, from the session's thread, after each step."""
        with self._changed:
            self._listeners.append(listener)
            self._changed.notify_all()

    def unlisten(self, listener: Callable[[], object]) -> None:
        """Call it no more."""
        with self._changed:
            self._listeners.remove(listener)
            self._read = self._clock()
            self._changed.notify_all()

    def point(self, pointer: tuple[float, float]) -> None:
        """Where the person points from now on, in pixels of 512."""
        self.pointer, self._touched = pointer, self._clock()

    def command(self, command: Command) -> JsonObject:
        """Change the scene; returns the new state.

        Raises:
            Refused: it is loading still, or could not be loaded.
            ValueError: what the scene refuses.
        """
        self._touched = self._clock()
        with self._changed:
            if self.scene is None:
                raise Refused(409, self.error or "the policy is loading; try again")
            before = self.scene.driver
            command(self.scene)
            if self.scene.driver != before or self.scene.world.lengths[0] == 0:
                self.pointer = None
            self._describe()
        self._tell()
        return self.state

    def load(self) -> None:
        """Make the scene; an error is kept for the states."""
        try:
            scene = self._make()
        except (UnveilError, ValueError, ImportError) as error:
            self.error, self.closed = one_line(str(error)), True
            self.state = {"loading": False, "error": self.error}
        else:
            with self._changed:
                self.scene = scene
                self._describe()
        self._tell()

    def tick(self) -> None:
        """One control step of 0.1 s; a solved scene stands still for a while, then there is a new start."""
        with self._changed:
            scene = self.scene
            assert scene is not None
            self._still = self._still + 1 if scene.solved else 0
            if self._still > SHOWN:
                scene.restart()
                self.pointer = None
            decisions, began = scene.policy.decisions, time.perf_counter()
            try:
                scene.step(self.pointer)
            except (UnveilError, ValueError) as error:
                self.error, self.closed = one_line(str(error)), True
            except Exception as error:
                internal = f"internal error, {type(error).__name__}: {error}"
                self.error, self.closed = one_line(internal), True
            if scene.policy.decisions > decisions:
                self._decision = 1000 * (time.perf_counter() - began)
            self._steps += 1
            self._describe()
        self._tell()

    def close(self) -> None:
        """End the thread and the events of the readers."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._tell()

    def _run(self) -> None:
        self.load()
        while not self.closed:
            with self._changed:
                while not (self.watched or self.closed or self.expired):
                    self._changed.wait(timeout=ALONE / 4)
            if self.expired:
                self.close()
            if self.closed:
                return
            began = self._clock()
            self.tick()
            with self._changed:
                rest = PERIOD - (self._clock() - began)
                self._changed.wait_for(lambda: self.closed, timeout=max(0.005, rest))

    def _tell(self) -> None:
        with self._changed:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def _describe(self) -> None:
        """The state as JSON, in pixels of 512 and radians."""
        scene = self.scene
        assert scene is not None
        world, chunk = scene.world, scene.chunk
        episodes, rows = scene.recorded
        self.state = {
            "loading": False,
            "error": self.error,
            "step": self._steps,
            "start": scene.start,
            "driver": scene.driver,
            "agent": world.states[0, :2].round(2).tolist(),
            "block": world.states[0, 2:].round(4).tolist(),
            "target": scene.target.round(2).tolist(),
            "coverage": round(float(world.coverage[0]), 4),
            "best": round(float(world.best[0]), 4),
            "solved": scene.solved,
            "chunk": [] if chunk is None else chunk.round(1).tolist(),
            "executed": [scene.executed.start, scene.executed.stop],
            "decision_ms": round(self._decision, 1),
            "keep_out": [] if scene.disc is None else list(scene.disc),
            "delay": scene.delay,
            "asynchronous": scene.asynchronous,
            "recording": scene.recording,
            "episodes": episodes,
            "recorded": rows,
        }


class Sessions:
    """The sessions of a server.

    Args:
        most: largest number; beyond it the oldest one that nobody reads is dropped.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def open(self, session: Session) -> None:
        """Keep a session, and start its thread.

        Raises:
            Refused: all others are being watched.
        """
        with self._lock:
            self._drop()
            unwatched = [one for one in self._sessions.values() if not one.watched]
            if len(self._sessions) >= self.most:
                if not unwatched:
                    raise Refused(429, f"{self.most} simulations run already; close the Policy tab elsewhere")
                unwatched[0].close()
                del self._sessions[unwatched[0].id]
            self._sessions[session.id] = session
        session.start()

    def find(self, name: str) -> Session:
        """The session of an id.

        Raises:
            Refused: there is none, or no more.
        """
        with self._lock:
            self._drop()
            if name not in self._sessions:
                raise Refused(
                    404, "there is no such simulation; it is dropped when nobody watches it for a minute"
                )
            return self._sessions[name]

    def end(self, name: str) -> None:
        """Close a session and forget it."""
        self.find(name).close()
        with self._lock:
            self._sessions.pop(name, None)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for one in self._sessions.values():
                one.close()
            self._sessions.clear()

    def _drop(self) -> None:
        for name in [
            one.id for one in self._sessions.values() if one.expired or (one.closed and not one.error)
        ]:
            self._sessions.pop(name).close()

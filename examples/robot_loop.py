"""A control loop for a robot: a policy at a fixed rate, with limits, a watchdog, and a recording to train on.

python examples/robot_loop.py record --out demos.npz                # a script moves the simulated arm
unveil train policy --data demos.npz --preset tiny --out runs/arm
python examples/robot_loop.py run --checkpoint runs/arm --action-limits=-2:2 --out recorded.npz
unveil train policy --data recorded.npz                             # what was executed is a data set again

For your own robot write a class with the four methods of `SimulatedArm`; the loop needs nothing else.
"""

import argparse
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import unveil
from unveil.policy.data.demonstrations import Demonstrations, Recording, write_demonstrations
from unveil.policy.realtime import RealTimePolicy

JOINTS = 7
NAMES = (*(f"joint_{i}" for i in range(JOINTS)), "gripper")


class SimulatedArm:
    """Seven joints that follow their targets, and a gripper; the task is to reach joint positions."""

    def __init__(self, seed: int, hz: float) -> None:
        rng = np.random.default_rng(seed)
        self.joints, self.goal = rng.uniform(-1.0, 1.0, (2, JOINTS))
        self.gripper, self.hz, self.stopped = 0.08, hz, False

    def read(self) -> dict[str, np.ndarray]:
        """What the policy observes, by the names of the data."""
        return {"joints": self.joints.copy(), "goal": self.goal.copy(), "gripper": np.array([self.gripper])}

    def command(self, action: np.ndarray) -> None:
        """Set the targets of the joints, in radians, and of the gripper, in metres."""
        if not self.stopped:
            self.joints += (1.0 - math.exp(-12.0 / self.hz)) * (action[:JOINTS] - self.joints)
            self.gripper = float(action[JOINTS])

    def stop(self) -> None:
        """Stop at once; must work from another thread while `command` or the policy hangs."""
        self.stopped = True

    def reached(self) -> bool:
        """Whether the episode is over."""
        return bool(np.abs(self.joints - self.goal).max() < 0.05)


@dataclass(frozen=True)
class Limits:
    """Limits of what the robot is commanded, whatever the policy says.

    Args:
        low, high: (A,), least and largest action.
        change: (A,), largest change of an action per second.
    """

    low: np.ndarray
    high: np.ndarray
    change: np.ndarray

    def applied(self, action: np.ndarray, last: np.ndarray, hz: float) -> np.ndarray:
        """The action within the limits, and near enough to the last one."""
        near = np.clip(action, last - self.change / hz, last + self.change / hz)
        return np.clip(near, self.low, self.high)


class Watchdog:
    """Calls `stop` if it is not fed for `seconds`: the policy, the camera or the bus hangs."""

    def __init__(self, seconds: float, stop: Callable[[], None]) -> None:
        self.seconds, self.stop, self.bitten = seconds, stop, False
        self._fed, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def feed(self) -> None:
        self._fed.set()

    def close(self) -> None:
        self._ended = True
        self._fed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended:
            if not self._fed.wait(self.seconds):
                self.bitten = True
                self.stop()
                return
            self._fed.clear()


@dataclass
class Clock:
    """Wakes up at a fixed rate; steps that begin late are counted, and the rate is kept from then on."""

    hz: float
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    late: int = 0
    _next: float = field(default=-math.inf)

    def wait(self) -> None:
        now = self.now()
        if now < self._next:
            self.sleep(self._next - now)
        elif self._next > -math.inf and now > self._next + 0.5 / self.hz:
            self.late, self._next = self.late + 1, now
        self._next = max(self._next, now) + 1.0 / self.hz


@dataclass
class Log:
    """Observations and executed actions of episodes, for `unveil train policy --data`."""

    observations: list[dict[str, np.ndarray]] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, observation: dict[str, np.ndarray], action: np.ndarray) -> None:
        self.observations.append(observation)
        self.actions.append(action)

    def end(self) -> None:
        if self.actions and (not self.ends or self.ends[-1] < len(self.actions)):
            self.ends.append(len(self.actions))

    def write(self, path: Path, hz: float) -> None:
        names = self.observations[0]
        seen = {name: np.stack([it[name] for it in self.observations]).astype(np.float32) for name in names}
        actions = np.stack(self.actions).astype(np.float32)
        recording = Recording(hz=hz, action_names=NAMES)
        write_demonstrations(path, Demonstrations(seen, actions, np.array(self.ends), recording=recording))


def control(robot, policy, limits: Limits, clock: Clock, watchdog: Watchdog, steps: int, log: Log) -> str:
    """One episode; returns why it ended. The robot is stopped in every case but success."""
    policy.reset()
    last = np.concatenate([robot.read()["joints"], robot.read()["gripper"]])
    try:
        for _ in range(steps):
            clock.wait()
            observation = robot.read()
            action = policy.act(observation)  # finite, or one ValueError with the cause
            watchdog.feed()
            if watchdog.bitten:
                return "the watchdog stopped the robot"
            last = limits.applied(action, last, clock.hz)
            robot.command(last)
            log.add(observation, last)
            if robot.reached():
                return "reached"
    except ValueError as error:
        robot.stop()
        return f"stopped: {error}"
    finally:
        log.end()
    robot.stop()
    return "time is up"


def delay_of(policy: unveil.Policy, robot, hz: float) -> int:
    """Control steps that a decision takes here, measured, at most what a chunk bridges."""
    policy.act(robot.read())  # the first decision allocates
    policy.reset()
    began = time.perf_counter()
    policy.act(robot.read())
    policy.reset()
    steps = math.ceil((time.perf_counter() - began) * hz)
    return min(steps, policy.n_action, (policy.model.shape.horizon - policy.model.shape.n_obs + 1) // 2)


def scripted(arm: SimulatedArm, steps: int, log: Log, rng: np.random.Generator) -> None:
    """A demonstration: towards the goal by at most 0.15 rad per step, with the noise of a hand."""
    for _ in range(steps):
        seen = arm.read()
        step = np.clip(seen["goal"] - seen["joints"], -0.15, 0.15)
        action = np.append(seen["joints"] + step + 0.005 * rng.standard_normal(JOINTS), arm.gripper)
        arm.command(action)
        log.add(seen, action)
    log.end()


def limits_of(text: str, policy: unveil.Policy, change: float) -> Limits:
    """The limits LOW:HIGH of all actions; without a text those of the data that the policy learned from."""
    acted = policy.model.acted
    low, high = (acted.denormalized(it).cpu().numpy().astype(float) for it in (acted.least, acted.most))
    if text:
        least, colon, most = text.partition(":")
        if not colon or not float(least) < float(most):
            raise SystemExit(f"--action-limits is LOW:HIGH, such as -2:2; got {text}")
        low, high = np.full_like(low, float(least)), np.full_like(high, float(most))
    return Limits(low, high, np.full_like(low, change))


def record(out: Path, episodes: int, hz: float, steps: int, seed: int) -> None:
    log = Log()
    for i in range(episodes):
        scripted(SimulatedArm(seed + i, hz), steps, log, np.random.default_rng(seed + i))
    log.write(out, hz)
    print(f"{out}: {episodes} demonstrations, {len(log.actions):,} steps at {hz:g} Hz")


def run(
    checkpoint: str, out: Path, episodes: int, hz: float, steps: int, seed: int, limits: str, change: float
) -> list[str]:
    policy = unveil.load(checkpoint, "cpu")
    delay = delay_of(policy, SimulatedArm(seed, hz), hz)
    acting = RealTimePolicy(policy, delay, "naive", execute=max(delay, policy.n_action // 2), background=True)
    within, log, ended = limits_of(limits, policy, change), Log(), []
    for i in range(episodes):
        robot, clock = SimulatedArm(seed + i, hz), Clock(hz)
        watchdog = Watchdog(max(0.5, 10.0 / hz), robot.stop)
        ended.append(control(robot, acting, within, clock, watchdog, steps, log))
        watchdog.close()
        error = float(np.abs(robot.joints - robot.goal).max())
        print(f"episode {i}: {ended[-1]}; largest error {error:.3f} rad; {clock.late} late steps")
    acting.close()
    log.write(out, hz)
    print(f"{ended.count('reached')} of {episodes} reached; a decision takes {delay} steps; recorded: {out}")
    return ended


def main(words: list[str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("record", "run"))
    parser.add_argument("--checkpoint", default="runs/arm")
    parser.add_argument("--out", type=Path, default=Path("arm.npz"))
    parser.add_argument("--episodes", type=int, default=0, help="by default 100 to record, 5 to run")
    parser.add_argument("--hz", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=60, help="largest number of steps of an episode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--action-limits", default="", help="LOW:HIGH; by default those of the data")
    parser.add_argument("--rate-limit", type=float, default=6.0, help="largest change per second")
    it = parser.parse_args(words)
    if it.what == "record":
        record(it.out, it.episodes or 100, it.hz, it.steps, it.seed)
        return []
    limits = (it.action_limits, it.rate_limit)
    return run(it.checkpoint, it.out, it.episodes or 5, it.hz, it.steps, it.seed + 10_000, *limits)


if __name__ == "__main__":
    main()

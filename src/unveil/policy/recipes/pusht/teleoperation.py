"""One scene of PushT that a person and a policy push in turn, with a keep-out disc and recorded
demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from unveil.policy.data.demonstrations import Demonstrations, write_demonstrations
from unveil.policy.model import PolicyModel
from unveil.policy.policy import Policy
from unveil.policy.realtime import RealTimePolicy
from unveil.policy.recipes.load import fitted, policy_of, read_policy_config
from unveil.policy.settings import Delayed, PolicySettings
from unveil.policy.worlds.pusht.block import SIDE
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.policy.worlds.pusht.observations import seen
from unveil.runs.checkpoints import find_checkpoint
from unveil.sampling.guidance import costing

ENDLESS = 10**9  # control steps of an episode; a person decides when it ends
SHORTEST = 5  # control steps of the shortest episode that is recorded
MOST_ROWS = 36_000  # recorded control steps: one hour
MARGIN = 15.0  # pixels: the agent lags behind its targets, and swings past them
SCALE, UNTIL = 10.0, 0.95  # of the guidance around the disc; see examples/pusht_keep_out.py
# Without the Jacobian a decision takes 26 ms instead of 260 ms, on one busy core; in 10 episodes of 200 steps
# the agent is in the disc of the example in 0.4 % of the steps instead of 0.1 % (11.2 % without guidance).
JACOBIAN = False


class Disc(NamedTuple):
    """A disc that the agent is to stay out of, in pixels of 512."""

    x: float
    y: float
    radius: float


def inside(chunk: Float[Tensor, "N H 2"], disc: Disc) -> Float[Tensor, " N"]:
    """The cost of chunks of targets: the squared depth in the disc with its margin, in radii, summed."""
    distance = ((chunk - chunk.new_tensor(disc[:2])).square().sum(-1) + 1e-6).sqrt()
    return ((disc.radius + MARGIN - distance) / disc.radius).clamp(min=0).square().sum(-1)


class Teleoperation:
    """One scene of PushT. Each `step` of 0.1 s moves the agent towards a person's target, or towards that of
    the policy.

    Args:
        policy: the policy to hand over to.
        observation: the name of its observation, as `seen` knows it.
        start: seed of the first start, as in the published environment; `restart` takes the next one.
    Attributes:
        driver: who moves the agent: "person" or "policy".
        delay, asynchronous: control steps that a decision of the policy takes, and what it does meanwhile.
        disc: what the policy keeps out of; None: nothing.
        recording: whether a person's steps are recorded.
        target: (2,), where the agent is attracted to.
    Raises:
        UnveilError: a policy for other observations than PushT's.
    """

    def __init__(self, policy: Policy, observation: str, start: int) -> None:
        self.policy, self.observation, self.start = policy, observation, start
        self.world = PushTEpisodes(1, start, ENDLESS)
        seen(observation, self.world)
        self.driver, self.recording = "person", False
        self.disc: Disc | None = None
        self.delay = 0
        self.asynchronous: Delayed = "naive"
        self.target = self.world.states[0, :2].copy()
        self._acting: Policy | RealTimePolicy = policy
        self._episodes: list[list[tuple[np.ndarray, np.ndarray]]] = []  # rows (state, action)
        self._open: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def solved(self) -> bool:
        """Whether the block covers the target; the scene then stands still."""
        return bool(self.world.solved[0])

    @property
    def chunk(self) -> Float[np.ndarray, "H 2"] | None:
        """The chunk that the policy executes; None while a person drives."""
        chunks = self._acting.chunks
        return None if self.driver == "person" or chunks is None else chunks[0]

    @property
    def executed(self) -> slice:
        """The rows of the chunk that are executed."""
        return self._acting.executed

    @property
    def recorded(self) -> tuple[int, int]:
        """The numbers of recorded episodes and control steps, with the one that is being recorded."""
        episodes = [*self._episodes, *([self._open] if self._open else [])]
        return len(episodes), sum(map(len, episodes))

    def hand_over(self, driver: str) -> None:
        """Let a person or the policy go on.

        Raises:
            ValueError: another word than "person" and "policy".
        """
        if driver not in ("person", "policy"):
            raise ValueError(f"driver must be person or policy, got {driver!r}")
        if driver != self.driver:
            self._close()
            self.driver = driver
            self.target = self.world.states[0, :2].copy()
            self._acting.reset()

    def decide_with(self, delay: int, asynchronous: Delayed) -> None:
        """Let decisions of the policy take time.

        Raises:
            ValueError: a delay that its chunks cannot bridge in this way.
        """
        self._acting = RealTimePolicy(self.policy, delay, asynchronous) if delay else self.policy
        self.delay, self.asynchronous = delay, asynchronous
        self._acting.reset()

    def keep_out(self, disc: Disc | None) -> None:
        """Steer the policy around a disc from its next decision on, which is the next step."""
        self.disc = disc
        self.policy.steer = (
            None
            if disc is None
            else costing(
                self.policy.model, lambda chunk: inside(chunk, disc), SCALE, jacobian=JACOBIAN, until=UNTIL
            )
        )
        self._acting.reset()

    def record(self, recording: bool) -> None:
        """Record a person's steps from now on, or stop. A hand-over and a restart end an episode, too."""
        self._close()
        self.recording = recording

    def discard(self) -> None:
        """Forget the newest recorded episode."""
        if self._open:
            self._open = []
        elif self._episodes:
            self._episodes.pop()

    def restart(self, start: int | None = None) -> None:
        """A new start.

        Args:
            start: its seed; by default the next one.
        """
        self._close()
        self.start = self.start + 1 if start is None else start
        self.world.reset(self.start)
        self.target = self.world.states[0, :2].copy()
        self._acting.reset()

    def step(self, pointer: Sequence[float] | None = None) -> None:
        """Move on by 0.1 s.

        Args:
            pointer: where a person points, in pixels of 512; None: the agent stays where it was sent.
        """
        if self.solved:
            return
        state = self.world.states[0].copy()
        if self.driver == "policy":
            self.target = self._acting.act(seen(self.observation, self.world))[0]
        elif pointer is not None:
            self.target = np.clip(np.asarray(pointer, np.float64), 0.0, SIDE)
        if self.recording and self.driver == "person" and self.recorded[1] < MOST_ROWS:
            self._open.append((state, self.target.copy()))
        self.world.step(self.target[None])
        if self.solved:
            self._close()

    def demonstrations(self) -> Demonstrations | None:
        """What was recorded, as `unveil train pusht --data FILE.npz` reads it; None if nothing was."""
        episodes = [*self._episodes, *([self._open] if len(self._open) >= SHORTEST else [])]
        if not episodes:
            return None
        rows = [row for episode in episodes for row in episode]
        states = np.array([state for state, _ in rows], np.float32)
        actions = np.array([action for _, action in rows], np.float32)
        return Demonstrations({"state": states}, actions, np.cumsum([len(it) for it in episodes]))

    def _close(self) -> None:
        """End the episode that is being recorded."""
        if len(self._open) >= SHORTEST:
            self._episodes.append(self._open)
        self._open = []


def npz_of(demonstrations: Demonstrations) -> bytes:
    """The bytes of the file that `unveil train pusht --data` reads."""
    with TemporaryDirectory(prefix="unveil-") as folder:
        file = Path(folder) / "demonstrations.npz"
        write_demonstrations(file, demonstrations)
        return file.read_bytes()


def teleoperation_of(
    model: PolicyModel, place: str, settings: PolicySettings, start: int, seed: int
) -> Teleoperation:
    """The scene of a policy whose network is loaded.

    Args:
        place: where its config.json is: the name of a packaged model, a run or a checkpoint.
        seed: seed of the policy's noise.
    Raises:
        ValueError: settings that do not suit the weights.
    """
    config = read_policy_config(find_checkpoint(place))
    policy = policy_of(model, fitted(settings, config), seed, clip=bool(config.get("clip", True)))
    return Teleoperation(policy, str(config["observation"]), start)

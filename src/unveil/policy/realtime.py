"""Real-time control: act while the next chunk is computed, where a decision takes longer than a control step.

    n_obs 2, horizon 16, delay d = 3, execute s = 6; row 1 of a chunk is the action of the step at which its
    computation began

    step             0 .. 5   6   7   8   9 .. 11   12  13  14   15 ..
    begun            #0       #1                    #2
    executed         #0 rows 1 .. 9       #1 rows 4 .. 9         #2 rows 4 .. 9
                              ^ observes step 6; rows 7 .. 9 of #0 are executed during the delay: they are its
                              own rows 1 .. 3

Chunk j begins at step j s, with the observation of that step, and takes over at step j s + d. While it is
computed, d actions of the previous chunk are executed. The methods differ in what the new chunk is
conditioned on:

    wait     nothing is executed during the delay: the body holds its last target for d steps, and then
             executes the first s actions
    naive    no condition: its own first d actions are skipped, and it may continue differently from the
             previous chunk
    prefix   ours: those d actions are its clean, known beginning, as in training (`PolicyShape.prefix`), by
             `Inpaint`
    soft     training-free, real-time chunking: the previous chunk's remaining actions guide the belief; see
             `pulled`
    hard     training-free: those actions are inserted with noise of level t (`Replace`, Lugmayr et al. 2022)

Black, Galliker & Levine 2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv:2506.07339): d,
s, `naive` and `soft`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import e, expm1
from typing import NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.checks import flag, kind, whole
from unveil.policy.data.chunks import check_window
from unveil.policy.model import PolicyModel
from unveil.policy.observing import rows_of
from unveil.policy.policy import Policy, marks
from unveil.policy.settings import Delayed
from unveil.process.corrupt import like
from unveil.process.schedule import Schedule
from unveil.sampling.edit import Replace
from unveil.sampling.guidance import ALWAYS, Guidance, steered

MOST_GAIN = 5.0  # beta of Black et al. 2025, section A.1


class Job(NamedTuple):
    """A running computation of chunks.

    Args:
        rows: (N,), its environments.
        episodes: (N,), the number of each environment's episode; the chunk is dropped if another one has
            begun.
        due: the call of `act` that takes the chunks over.
        chunks: function that waits for the chunks (N, H, A).
    """

    rows: Int[np.ndarray, " N"]
    episodes: Int[np.ndarray, " N"]
    due: int
    chunks: Callable[[], Float[np.ndarray, "N H A"]]


class RealTimePolicy:
    """`act` maps observations to actions like `Policy`, once per control step; decisions take `delay` calls.

    The first chunk of an episode is computed before its first step, with every method. Without delay `wait`,
    `naive`, `prefix` and `hard` equal the plain `Policy` with n_action = execute; `soft` is still guided by
    the previous chunk.

    Args:
        policy: policy whose model, solver, noise and guidance are used; its own queue is not.
        delay: d, control steps that a decision takes.
        execute: s, control steps between the beginnings of two decisions (`wait`: executed actions per
            chunk). By default the policy's `n_action`, or fewer where the chunk does not hold as many with
            the delay.
        background: compute in a thread, as on a robot, and wait only if it is late; else at once, as in a
            simulation of the delay. Both give exactly the same actions.
    Attributes:
        chunks: (B, H, A), the chunk that each environment executes.
        decisions: as in `Policy`.
    Raises:
        ValueError: an unknown method, d > s, a chunk that does not hold n_obs - 1 + d + s actions, or with
            `prefix` a delay longer than the prefixes in training.
    """

    chunks: Float[np.ndarray, "B H A"] | None

    def __init__(
        self,
        policy: Policy,
        delay: int,
        method: Delayed = "prefix",
        *,
        execute: int | None = None,
        background: bool = False,
    ) -> None:
        kind("real time: policy", policy, Policy)
        shape = policy.model.shape
        delay, background = whole("real time: delay", delay, 0), flag("real time: background", background)
        execute = None if execute is None else whole("real time: execute", execute)
        if method not in get_args(Delayed):
            methods = ", ".join(get_args(Delayed))
            raise ValueError(f"unknown method {method!r} of real-time control; methods: {methods}")
        if execute is None:
            free = shape.horizon - shape.n_obs + 1 - delay
            execute = policy.n_action if method == "wait" else min(policy.n_action, free)
        self._skipped = skipped = 0 if method == "wait" else delay  # rows of a chunk that come too late
        check_window(shape.n_obs, shape.horizon, max(1, execute))
        if execute < max(1, skipped) or shape.n_obs - 1 + skipped + execute > shape.horizon:
            raise ValueError(
                "real time: delay <= execute and n_obs - 1 + delay + execute <= horizon are needed, got "
                f"delay {skipped}, execute {execute}, n_obs {shape.n_obs} and horizon {shape.horizon}"
            )
        if method == "prefix" and delay > shape.prefix:
            trained = f"this policy was trained with prefixes of up to {shape.prefix} actions"
            raise ValueError(f"real time: {trained}, the delay is {delay}")
        self.policy, self.delay, self.n_action, self.method = policy, delay, execute, method
        self._thread = ThreadPoolExecutor(1, "policy") if background else None
        self._jobs: list[Job] = []
        self.chunks = None
        self.reset()

    @property
    def model(self) -> PolicyModel:
        """The policy's model."""
        return self.policy.model

    @property
    def executed(self) -> slice:
        """The rows of a chunk that are executed: `execute` actions, after those of the delay."""
        first = self.model.shape.n_obs - 1 + self._skipped
        return slice(first, first + self.n_action)

    @property
    def decisions(self) -> int:
        """Number of predictions so far."""
        return self.policy.decisions

    def close(self) -> None:
        """Wait for running computations and end the thread, if there is one."""
        if self._thread is not None:
            self._thread.shutdown()

    def reset(self, rows: Bool[np.ndarray, " B"] | None = None) -> None:
        """Begin new episodes in all environments, or the marked ones; their running computations are dropped.

        Raises:
            ValueError: as `Policy.reset`.
        """
        rows = marks(rows, None if self.chunks is None else len(self.chunks))
        if rows is None or self.chunks is None:
            for job in self._jobs:
                with suppress(ValueError):  # its actions are not finite, and nobody needs them
                    job.chunks()
            self._jobs, self.chunks, self._now = [], None, 0
        else:
            self._position[rows] = -1
            self._episode[rows] += 1

    def act(
        self, observations: object, *, noise: np.ndarray | Tensor | None = None
    ) -> Float[np.ndarray, "*B A"]:
        """The next action of every environment.

        Args:
            observations: as in `Policy.act`.
            noise: as in `Policy.act`, for the decisions that begin in this call.
        Raises:
            ValueError: as `Policy.act`.
        """
        shape, first = self.model.shape, self.model.shape.n_obs - 1
        observations, single = rows_of(shape, observations)
        count = len(observations)
        noise = None if noise is None else self.policy.check_noise(noise, count)
        if self.chunks is None:
            self.chunks = np.zeros((count, shape.horizon, shape.actions))
            self._held = np.zeros((count, shape.actions))
            self._history = np.zeros((count, shape.n_obs, shape.observations), np.float32)
            self._position = np.full(count, -1)  # actions executed since the observation of the current chunk
            self._episode = np.zeros(count, np.int64)
            self._busy = np.zeros(count, bool)
        if len(self.chunks) != count:
            raise ValueError(
                f"policy: {len(self.chunks)} environments before, {count} now; call reset() in between"
            )
        fresh = self._position < 0
        self._busy &= ~fresh
        self._history = np.concatenate([self._history[:, 1:], observations[:, None]], axis=1)
        self._history[fresh] = observations[fresh, None]
        self._take_over()
        self._begin(np.flatnonzero(fresh), 0, noise, alone=True)
        deciding = ~fresh & ~self._busy & (self._position >= self.n_action)
        self._begin(np.flatnonzero(deciding), self.delay, noise, alone=False)
        self._take_over()  # without delay, the chunks that have just begun
        holding = self._busy if self.method == "wait" else np.zeros(count, bool)
        new = self.chunks[np.arange(count), np.where(holding, 0, first + self._position)]  # (B, A)
        actions = np.where(holding[:, None], self._held, new)
        self._held = actions
        self._position += ~holding
        self._now += 1
        return (actions[0] if single else actions).copy()

    def _begin(
        self, rows: Int[np.ndarray, " N"], delay: int, noise: np.ndarray | None, *, alone: bool
    ) -> None:
        """Start to compute chunks for these environments; `alone`: without a previous chunk to continue."""
        if not len(rows):
            return
        drawn = None if noise is None else noise[:, rows]
        predict = partial(self.policy.predict, self._history[rows], noise=drawn, environments=rows)
        compute = predict if alone else self._continuing(predict, rows)
        self.policy.decisions += 1
        if self._thread is None:
            made = compute()
            ready: Callable[[], np.ndarray] = lambda: made  # noqa: E731
        else:
            ready = self._thread.submit(compute).result
        self._jobs.append(Job(rows, self._episode[rows], self._now + delay, ready))
        self._busy[rows] = True

    def _continuing(
        self, predict: Callable[..., Float[np.ndarray, "N H A"]], rows: Int[np.ndarray, " N"]
    ) -> Callable[[], Float[np.ndarray, "N H A"]]:
        """The prediction of new chunks, conditioned by the method on the rest of the previous ones."""
        assert self.chunks is not None
        shape, d, s = self.model.shape, self.delay, self.n_action
        if self.method in ("wait", "naive") or (d == 0 and self.method != "soft"):
            return predict
        first = shape.n_obs - 1
        # Row i is the previous chunk's action of the same step; the last s rows are not used.
        last = np.roll(self.chunks[rows], -s, axis=1)  # (N, H, A)
        if self.method == "prefix":
            return partial(predict, prefix=last[:, first : first + d])
        value = self.model.acted.normalized(torch.from_numpy(last).to(self.model.device, self.model.dtype))
        schedule = self.model.denoiser.schedule
        if self.method == "hard":
            known = shape.known(torch.full((len(rows),), d, device=value.device))
            # Inpainted observations are set by their own edit, which comes later.
            observations = value.new_zeros(len(rows), shape.horizon, shape.observations)
            return partial(predict, edit=Replace(known, shape.rows(value, observations), schedule))
        weights = torch.zeros(shape.horizon, dtype=torch.float64)
        weights[first:] = soft_weights(shape.horizon - first, d, s)
        return partial(predict, steer=pulled(value, weights.to(value), schedule))

    def _take_over(self) -> None:
        assert self.chunks is not None
        due = [job for job in self._jobs if job.due <= self._now]
        self._jobs = [job for job in self._jobs if job.due > self._now]
        for job in due:
            chunks = job.chunks()
            same = self._episode[job.rows] == job.episodes
            rows = job.rows[same]
            self._position[rows] = np.where(self._position[rows] < 0, 0, self._skipped)
            self.chunks[rows], self._busy[rows] = chunks[same], False


def soft_weights(length: int, delay: int, execute: int) -> Float[Tensor, " N"]:
    """The weight of the previous chunk's action i in the new one. Black et al. 2025, eq. 5, H = `length`.

        w_i = 1                                                                    for i < d
            = c (e^c - 1) / (e - 1),  c = (H - s - i) / (H - s - d + 1)            for d <= i < H - s
            = 0, as the previous chunk has ended                                   for i >= H - s

    Returns:
        (H,), float64.
    """
    end, weights = length - execute, torch.zeros(length, dtype=torch.float64, device="cpu")
    weights[: min(delay, end)] = 1.0
    for i in range(delay, end):
        c = (end - i) / (end - delay + 1)
        weights[i] = c * expm1(c) / (e - 1.0)
    return weights


def pulled(
    target: Float[Tensor, "B H A"], weights: Float[Tensor, " H"], schedule: Schedule, most: float = MOST_GAIN
) -> Guidance:
    """Guide the belief about clean chunks towards `target`: real-time chunking's soft mask, on any schedule.

        cost(m, t) = c_t / 2 sum_i w_i |m_i - target_i|^2
        c_t = min(1 / r_t^2, beta alpha_t / sigma_t),    r_t^2 = sigma_t^2 / (alpha_t^2 + sigma_t^2)
        mean' = mean - sigma_t^2 / alpha_t * grad_{x_t} cost(mean(x_t), t)

    The last line is `steered` with the jacobian. This is pseudo-inverse guidance (Song et al. 2023) with
    weights. Black et al. 2025 write it for the velocity of flow matching, with tau = 1 - t:

        v += min(beta, (1 - tau) / (tau r^2)) J^T W (target - mean)

    As mean = x + (1 - tau) v, that moves the mean by (1 - tau) times as much, which with alpha = tau and
    sigma = 1 - tau is the last line above. Here the guidance acts on the belief, and so holds for eps, v and
    x_0 on any schedule. One thing differs: where alpha = 0 (t = 1 of `Flow`) steering would have infinite
    gain, and there is no guidance; in the paper it has the gain beta.

    r_t^2 is the belief's variance if actions are N(0, 1) and independent: there w = 1 is exact, mean' =
    target. For w < 1 no single likelihood of the target gives this shift at all t, and real actions are
    correlated: it is guidance, not Bayes' rule.

    Args:
        target: (B, H, A), normalised.
        weights: (H,), in [0, 1].
        most: beta, the largest gain.
    """

    def cost(mean: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        strength = torch.minimum((alpha**2 + sigma**2) / sigma**2, most * alpha / sigma)
        error = (mean[..., : target.shape[2]] - target).square().sum(2)  # (B, H)
        return 0.5 * (error * weights * like(strength, weights)[:, None]).sum(1)

    # With alpha(1) = 0 the gain at t = 1 would be infinite.
    pure_noise = bool(schedule.alpha(torch.ones(1, dtype=torch.float64, device="cpu")) == 0.0)
    return partial(steered, cost=cost, schedule=schedule, interval=(0.0, 0.9999) if pure_noise else ALWAYS)

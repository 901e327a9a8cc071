"""Acting while the next chunk is computed: real-time control by a policy that takes longer to decide than a control step lasts.

    n_obs 2, horizon 16, delay d = 3, execute s = 6; row 1 of a chunk is the action of the step at which it was begun

    step             0 .. 5   6   7   8   9 .. 11   12  13  14   15 ..
    begun            #0       #1                    #2
    carried out      #0 rows 1 .. 9       #1 rows 4 .. 9         #2 rows 4 .. 9
                              ^ sees step 6, knows that rows 7 .. 9 of #0 come meanwhile: they are its own rows 1 .. 3

Chunk j is begun at step j s, from the observation of that step, and takes over at step j s + d. While it is computed the body carries out
d actions of the chunk before. The methods differ in what the new chunk knows of those:

    wait     nothing is carried out meanwhile: the body holds its last target for d steps, then does s actions from the first on
    naive    nothing: its own first d actions are skipped, and it may go on elsewhere than the last chunk went
    prefix   ours: they are the clean known beginning of the new chunk, which the policy was trained with (`PolicyShape.prefix`): `Inpaint`
    soft     training-free, real-time chunking: the last chunk's remaining actions pull at the belief, see `pulled`
    hard     training-free: they are put in noised to t (`Replace`, Lugmayr et al. 2022)

Black, Galliker & Levine 2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv:2506.07339): d, s, `naive` and `soft`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import e, expm1
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.checks import flag, kind, whole
from unveil.policy.data.chunks import check_window
from unveil.policy.model import PolicyModel
from unveil.policy.policy import Policy, marks
from unveil.process.corrupt import like
from unveil.process.schedule import Schedule
from unveil.sampling.edit import Replace
from unveil.sampling.guidance import ALWAYS, Guidance, steered

Method = Literal["wait", "naive", "prefix", "soft", "hard"]
MOST_GAIN = 5.0  # beta of Black et al. 2025, section A.1


class Job(NamedTuple):
    """A computation under way.

    Args:
        rows: (N,), the environments that it is for.
        episodes: (N,), which of each row's episodes it is for; it counts for nothing in the next.
        due: the call of `act` that takes it over.
        chunks: waits for its chunks (N, H, A).
    """

    rows: Int[np.ndarray, " N"]
    episodes: Int[np.ndarray, " N"]
    due: int
    chunks: Callable[[], Float[np.ndarray, "N H A"]]


class RealTimePolicy:
    """`act` maps observations (B, D) to actions (B, A), one call a control step; a decision takes effect `delay` calls after it began.

    The first chunk of an episode is computed before its first step, whatever the method: a body at rest may think. Without delay `wait`,
    `naive`, `prefix` and `hard` are the plain `Policy` with n_action = execute; `soft` still pulls towards what the last chunk holds.

    Args:
        policy: its model, solver, noise and guidance; its own queue is not used.
        delay: d, control steps that a decision takes.
        execute: s, control steps between the beginnings of two decisions (`wait`: actions carried out of each chunk). By default as many
            as the policy's `n_action`, or fewer where the chunk does not hold them with the delay.
        background: compute in a thread of its own, as on a robot, and wait for it only where it is late; else at once, as in a simulation
            of the delay. The actions are the same to the last bit.
    Attributes:
        chunks: (B, H, A), what each environment carries out.
        decisions: as of `Policy`.
    Raises:
        ValueError: a method that there is not, d > s, a chunk that does not hold n_obs - 1 + d + s actions, or with `prefix` a policy that
            was trained with a shorter one than d.
    """

    chunks: Float[np.ndarray, "B H A"] | None

    def __init__(
        self,
        policy: Policy,
        delay: int,
        method: Method = "prefix",
        *,
        execute: int | None = None,
        background: bool = False,
    ) -> None:
        kind("real time: policy", policy, Policy)
        shape = policy.model.shape
        delay, background = whole("real time: delay", delay, 0), flag("real time: background", background)
        execute = None if execute is None else whole("real time: execute", execute)
        if method not in get_args(Method):
            raise ValueError(
                f"unknown method {method!r} of real-time control; methods: {', '.join(get_args(Method))}"
            )
        if execute is None:
            execute = (
                policy.n_action
                if method == "wait"
                else min(policy.n_action, shape.horizon - shape.n_obs + 1 - delay)
            )
        check_delay(shape.n_obs, shape.horizon, min(delay, 0) if method == "wait" else delay, execute)
        if method == "prefix" and delay > shape.prefix:
            raise ValueError(
                f"real time: this policy was trained with prefixes of up to {shape.prefix} actions, the delay is {delay}"
            )
        self.policy, self.delay, self.n_action, self.method = policy, delay, execute, method
        self._thread = ThreadPoolExecutor(1, "policy") if background else None
        self._jobs: list[Job] = []
        self.chunks = None
        self.reset()

    @property
    def model(self) -> PolicyModel:
        """The policy's."""
        return self.policy.model

    @property
    def executed(self) -> slice:
        """The rows of a chunk that are carried out: `execute` actions, after those of the delay."""
        first = self.model.shape.n_obs - 1 + (0 if self.method == "wait" else self.delay)
        return slice(first, first + self.n_action)

    @property
    def decisions(self) -> int:
        """Number of predictions so far."""
        return self.policy.decisions

    def close(self) -> None:
        """Wait for what is computed and end the thread; nothing to do without one."""
        if self._thread is not None:
            self._thread.shutdown()

    def reset(self, rows: Bool[np.ndarray, " B"] | None = None) -> None:
        """Begin new episodes in all environments or in the marked ones; what is being computed for them is dropped when it is done.

        Raises:
            ValueError: as `Policy.reset`.
        """
        rows = marks(rows, None if self.chunks is None else len(self.chunks))
        if rows is None or self.chunks is None:
            for job in self._jobs:
                job.chunks()
            self._jobs, self.chunks, self._now = [], None, 0
            self._seen: np.ndarray = np.zeros((0, 0, 0), np.float32)
        else:
            self._place[rows] = -1
            self._episode[rows] += 1

    def act(
        self, observations: Float[np.ndarray, "B D"], *, noise: np.ndarray | Tensor | None = None
    ) -> Float[np.ndarray, "B A"]:
        """The next action of every environment.

        Args:
            noise: as of `Policy.act`: for the decisions that begin in this call.
        Raises:
            ValueError: as `Policy.act`.
        """
        shape, first = self.model.shape, self.model.shape.n_obs - 1
        observations = self.policy.check(observations)
        count = len(observations)
        noise = None if noise is None else self.policy.check_noise(noise, count)
        if self.chunks is None:
            self.chunks = np.zeros((count, shape.horizon, shape.actions))
            self._held = np.zeros((count, shape.actions))
            self._seen = np.zeros((count, shape.n_obs, shape.observations), np.float32)
            self._place = np.full(
                count, -1
            )  # actions done since the observation that the chunk in use was begun with
            self._episode = np.zeros(count, np.int64)
            self._busy = np.zeros(count, bool)
        if len(self.chunks) != count:
            raise ValueError(
                f"policy: {len(self.chunks)} environments before, {count} now; call reset() in between"
            )
        fresh = self._place < 0
        self._busy &= ~fresh
        self._seen = np.concatenate([self._seen[:, 1:], observations[:, None]], axis=1)
        self._seen[fresh] = observations[fresh, None]
        self._take_over()
        self._begin(np.flatnonzero(fresh), 0, noise, alone=True)
        self._begin(
            np.flatnonzero(~fresh & ~self._busy & (self._place >= self.n_action)),
            self.delay,
            noise,
            alone=False,
        )
        self._take_over()  # where there is no delay
        holding = self._busy if self.method == "wait" else np.zeros(count, bool)
        actions = np.where(
            holding[:, None],
            self._held,
            self.chunks[np.arange(count), np.where(holding, 0, first + self._place)],
        )
        self._held = actions
        self._place += ~holding
        self._now += 1
        return actions.copy()

    def _begin(
        self, rows: Int[np.ndarray, " N"], delay: int, noise: np.ndarray | None, *, alone: bool
    ) -> None:
        """Start to compute chunks for these environments; `alone` without regard to what they carry out, as they carry out nothing."""
        if not len(rows):
            return
        given = None if noise is None else noise[:, rows]
        predict = partial(self.policy.predict, self._seen[rows], noise=given, environments=rows)
        compute = predict if alone else self._given_the_last(predict, rows)
        self.policy.decisions += 1
        if self._thread is None:
            made = compute()
            ready: Callable[[], np.ndarray] = lambda: made  # noqa: E731
        else:
            ready = self._thread.submit(compute).result
        self._jobs.append(Job(rows, self._episode[rows], self._now + delay, ready))
        self._busy[rows] = True

    def _given_the_last(
        self, predict: Callable[..., Float[np.ndarray, "N H A"]], rows: Int[np.ndarray, " N"]
    ) -> Callable[[], Float[np.ndarray, "N H A"]]:
        """The prediction of new chunks by the method, from what the last ones still hold."""
        assert self.chunks is not None
        shape, d, s = self.model.shape, self.delay, self.n_action
        if self.method in ("wait", "naive") or (d == 0 and self.method != "soft"):
            return predict
        first = shape.n_obs - 1
        last = np.roll(
            self.chunks[rows], -s, axis=1
        )  # row i: the last chunk's action of the same step; its last s rows say nothing
        if self.method == "prefix":
            return partial(predict, prefix=last[:, first : first + d])
        value = self.model.acted.normalized(torch.from_numpy(last).to(self.model.device, self.model.dtype))
        schedule = self.model.denoiser.schedule
        if self.method == "hard":
            known = shape.known(torch.full((len(rows),), d, device=value.device))
            seen = value.new_zeros(
                len(rows), shape.horizon, shape.observations
            )  # the observations' own edit comes after
            return partial(predict, edit=Replace(known, shape.rows(value, seen), schedule))
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
            skipped = 0 if self.method == "wait" else self.delay
            self._place[rows] = np.where(self._place[rows] < 0, 0, skipped)
            self.chunks[rows], self._busy[rows] = chunks[same], False


def check_delay(n_obs: int, horizon: int, delay: int, execute: int) -> None:
    """Refuse delays that chunks cannot bridge.

    Raises:
        ValueError: d < 0, d > s, or n_obs - 1 + d + s > horizon.
    """
    if delay < 0:
        raise ValueError(f"real time: the delay must be at least 0, got {delay}")
    check_window(n_obs, horizon, max(1, execute))
    if execute < max(1, delay) or n_obs - 1 + delay + execute > horizon:
        raise ValueError(
            f"real time: delay <= execute and n_obs - 1 + delay + execute <= horizon are needed, got delay {delay}, execute {execute}, "
            f"n_obs {n_obs} and horizon {horizon}"
        )


def soft_weights(length: int, delay: int, execute: int) -> Float[Tensor, " N"]:
    """How much action i of a chunk shall be that of the last one: Black et al. 2025, eq. 5, with H = `length`.

        w_i = 1                                                                          for i < d
            = c (e^c - 1) / (e - 1),  c = (H - s - i) / (H - s - d + 1)      for d <= i < H - s
            = 0                                                                          for i >= H - s, where the last chunk has ended

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
    """Pull the belief about clean chunks towards `target`, row by row: real-time chunking's soft mask, for every diffusion.

        cost(m, t) = c_t / 2 sum_i w_i |m_i - target_i|^2,    c_t = min(1 / r_t^2, beta alpha_t / sigma_t),
        mean' = mean - sigma_t^2 / alpha_t * grad_{x_t} cost(mean(x_t), t),    r_t^2 = sigma_t^2 / (alpha_t^2 + sigma_t^2)

    The second line is `steered` with the jacobian. Pseudo-inverse guidance (Song et al. 2023) with weights: Black et al. 2025 write it for
    the velocity of flow matching, with tau = 1 - t: v += min(beta, (1 - tau) / (tau r^2)) J^T W (target - mean). As mean = x + (1 - tau) v,
    that moves the mean by (1 - tau) times as much, which with alpha = tau and sigma = 1 - tau is the line above. Here it is said of the
    belief, and so holds for eps, v and x_0 on any schedule. One thing differs: where alpha = 0 (t = 1 of `Flow`) steering has infinite
    gain and nothing is pulled; they pull by beta.

    r_t^2 is the belief's variance if actions are N(0, 1), independent: there w = 1 is exact, mean' = target. For w < 1 no one likelihood
    of the target gives this shift at all t, and real actions have another covariance: a pull, not Bayes' rule.

    Args:
        most: beta.
    """

    def cost(mean: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        strength = torch.minimum((alpha**2 + sigma**2) / sigma**2, most * alpha / sigma)
        return 0.5 * (
            (mean[..., : target.shape[2]] - target).square().sum(2)
            * weights
            * like(strength, weights)[:, None]
        ).sum(1)

    starts_without_signal = bool(schedule.alpha(torch.ones(1, dtype=torch.float64, device="cpu")) == 0.0)
    return partial(
        steered, cost=cost, schedule=schedule, interval=(0.0, 0.9999) if starts_without_signal else ALWAYS
    )

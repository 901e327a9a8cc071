"""A policy's success in any environment with gymnasium's interface: `unveil eval policy --env`."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from unveil.files.atomic import check_output
from unveil.files.notes import note
from unveil.files.pictures import video_suffixes, write_video
from unveil.policy.data.frames import resized
from unveil.policy.evaluation.rollouts import Rollouts, roll, rollout_metrics
from unveil.policy.evaluation.tiles import tiled
from unveil.policy.observing import rows_of
from unveil.policy.policy import Policy
from unveil.policy.recipes.any_policy import any_policy, with_delay
from unveil.policy.recipes.config import EvalPolicy
from unveil.policy.worlds.environments.named import arguments_of, make
from unveil.policy.worlds.environments.spaces import (
    RENDER,
    Environment,
    check_actions,
    mapping_of,
    picture,
    reader,
)
from unveil.runs.progress import Progress

SHOWN, HIGH, MOST_FRAMES, TIMED = (
    4,
    240,
    400,
    10,
)  # episodes of a video, its pixels and frames; timed decisions
LONGEST = 1000  # steps, where the environment ends no episode


def evaluate_in_environment(config: EvalPolicy, progress: Progress) -> dict[str, object]:
    """Run the policy in all episodes; returns success or return with intervals, and decision times.

    Raises:
        UnveilError: no such environment, or its observations or actions do not fit the policy; the message
            says which field.
    """
    if config.video is not None:
        if config.video.suffix not in (suffixes := video_suffixes()):
            more = "" if ".mp4" in suffixes else " (.mp4 needs ffmpeg: pip install imageio[ffmpeg])"
            raise ValueError(f"`video` must end in {' or '.join(suffixes)}{more}, got {config.video}")
        check_output(config.video)
    mapping, arguments = mapping_of(config.mapping), arguments_of(config.env_args)
    plain, _ = any_policy(config.checkpoint, config.job.device, config.job.seed, config.settings)
    policy = with_delay(plain, config.delay, config.asynchronous, config.settings.n_action)
    shape, drawn = plain.model.shape, config.video is not None or RENDER in mapping.values()
    count = min(config.parallel, config.episodes)
    environments = [make(config.env, arguments, drawn=drawn) for _ in range(count)]
    try:
        check_actions(config.env, environments[0].action_space, shape.actions)
        first, _ = environments[0].reset(seed=config.job.seed)
        read = reader(config.env, [part.key for part in shape.parts], mapping, first)
        film = Film(environments) if config.video is not None else None
        began, steps = perf_counter(), 0

        def on_step(done: Rollouts, shown: list[int], running: list[bool]) -> None:
            nonlocal steps
            steps += 1
            finished = max(shown) + 1 - sum(running)
            progress("acting", finished, config.episodes, {"return": float(done.returns.mean())})
            if film is not None:
                film.take(shown, running)

        most = config.max_steps or LONGEST
        done = roll(environments, read, policy, config.episodes, config.job.seed, most, on_step)
        spent = perf_counter() - began
    finally:
        for environment in environments:
            environment.close()
    if not done.reported and not done.returns.any():
        note(
            f"{config.env} reports no success (is_success in its info) and its rewards are all 0: nothing "
            "measures the policy"
        )
    if film is not None and config.video is not None:
        write_video(config.video, film.frames, 60)
    times = decision_times(plain, done.last)
    metrics = rollout_metrics(done) | {
        "decision_ms_p50": float(np.quantile(times, 0.5)),
        "decision_ms_p95": float(np.quantile(times, 0.95)),
        "steps_per_second": float(done.lengths.sum()) / spent,
    }
    if metrics["clipped_share"] > 0.05:
        note(
            f"{metrics['clipped_share']:.0%} of the actions were beyond the limits of {config.env} and were "
            "clipped"
        )
    delay = f", delay {config.delay} steps ({config.asynchronous})" if policy is not plain else ""
    return {
        "metrics": metrics,
        "returns": done.returns.tolist(),
        "solved": done.solved.tolist() if done.reported else None,
        "lengths": done.lengths.tolist(),
        "protocol": f"{config.env}, {config.episodes} episodes from seed {config.job.seed} on, at most "
        f"{config.max_steps or LONGEST} steps{delay}",
    }


class Film:
    """Pictures of the first episodes side by side; every second one is dropped where there are too many."""

    def __init__(self, environments: Sequence[Environment]) -> None:
        self.environments, self.frames = environments[:SHOWN], list[np.ndarray]()
        self._last: list[np.ndarray] = []
        self._every, self._step = 1, 0

    def take(self, shown: list[int], running: list[bool]) -> None:
        """One more picture; an environment that shows a later episode, or none, keeps its last one."""
        self._step += 1
        if (self._step - 1) % self._every:
            return
        live = [running[i] and shown[i] == i for i in range(len(self.environments))]
        if self._last and not any(live):
            return
        self._last = [
            _small(picture(it)) if on or not self._last else self._last[i]
            for i, (it, on) in enumerate(zip(self.environments, live, strict=True))
        ]
        self.frames.append(tiled(np.stack(self._last)))
        if len(self.frames) > MOST_FRAMES:
            self.frames, self._every = self.frames[::2], 2 * self._every


def decision_times(policy: Policy, observations: object) -> list[float]:
    """Milliseconds of single decisions of one environment, from these observations."""
    rows = rows_of(policy.model.shape, observations)[0][:1]
    history = np.repeat(rows[:, None], policy.model.shape.n_obs, axis=1)
    spent: list[float] = []
    for _ in range(TIMED + 1):
        began = perf_counter()
        policy.predict(history)
        spent.append(1e3 * (perf_counter() - began))
    return spent[1:]


def _small(frame: np.ndarray) -> np.ndarray:
    high, wide = frame.shape[:2]
    if high <= HIGH:
        return frame
    return resized(frame[None], (HIGH, max(1, round(HIGH * wide / high))))[0]

"""Scores on PushT by the published protocol: `unveil eval pusht`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

import numpy as np
import torch

from unveil.files.atomic import check_output
from unveil.files.pictures import video_suffixes, write_video
from unveil.policy.evaluation.pusht import decision_times, pusht_metrics, roll
from unveil.policy.evaluation.pusht_pictures import with_chunk
from unveil.policy.evaluation.tiles import tiled
from unveil.policy.policy import Policy
from unveil.policy.realtime import RealTimePolicy
from unveil.policy.recipes.any_policy import any_policy, with_delay
from unveil.policy.recipes.pusht.config import EvalPushT, SamplePushT
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.policy.worlds.pusht.observations import seen
from unveil.runs.progress import Progress

SHOWN, SIZE = 4, 224  # episodes of a video, and the side in pixels of each


def evaluate_pusht(config: EvalPushT, progress: Progress) -> dict[str, object]:
    """Roll the policy out in all episodes at once and time its decisions; returns metrics and scores."""
    metrics, protocol, world = scored(config, progress)
    return {
        "metrics": metrics,
        "scores": world.best.tolist(),
        "coverage": world.coverage.tolist(),
        "protocol": protocol,
        **{name: version(name) for name in ("gym-pusht", "pymunk")},
    }


def scored(config: EvalPushT, progress: Progress) -> tuple[dict[str, float], str, PushTEpisodes]:
    """The metrics, the protocol in words, and the episodes that were rolled out."""
    if config.video is not None:
        if config.video.suffix not in (suffixes := video_suffixes()):
            more = "" if ".mp4" in suffixes else " (.mp4 needs ffmpeg: pip install imageio[ffmpeg])"
            raise ValueError(f"`video` must end in {' or '.join(suffixes)}{more}, got {config.video}")
        check_output(config.video)
    plain, observation = loaded(config)
    see = partial(seen, observation)
    policy = delayed(plain, config)
    world = PushTEpisodes(config.episodes, config.job.seed, config.max_steps)
    frames: list[np.ndarray] = []

    def on_step(step: int) -> None:
        progress("acting", step + 1, config.max_steps, {"score": world.best.mean()})
        if config.video is not None and step % 2 == 0 and world.running[:SHOWN].any():
            frames.append(scene(world, policy))

    with _counted(plain) as calls:
        roll(world, see, policy.act, on_step)
    per_decision = calls[0] / policy.decisions
    if config.video is not None:
        write_video(config.video, [*frames, *[scene(world, policy)] * 8], 80)
    # Timed after the episodes, so that their noise does not depend on the number of timed decisions.
    spent = decision_times(policy, see, config.decisions, 0)
    metrics = pusht_metrics(world) | {
        "decision_ms_p50": float(np.quantile(spent, 0.5)),
        "decision_ms_p95": float(np.quantile(spent, 0.95)),
        "decisions_timed": len(spent),
        "nfe": per_decision,
    }
    delay = f", delay {config.delay} steps ({config.asynchronous})" if policy is not plain else ""
    protocol = (
        f"PushT, {observation}, largest reward of {config.max_steps} steps, starts as published from seed "
        f"{config.job.seed} on{delay}"
    )
    return metrics, protocol, world


def loaded(config: EvalPushT | SamplePushT) -> tuple[Policy, str]:
    """A policy, of ours or of another program, and the name of its observation as `seen` knows it.

    The threads of the config are set first.
    """
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    return any_policy(config.checkpoint, config.job.device, config.job.seed, config.settings)


def delayed(policy: Policy, config: EvalPushT) -> Policy | RealTimePolicy:
    """The policy with the config's delay; itself where there is none."""
    return with_delay(policy, config.delay, config.asynchronous, config.settings.n_action)


def scene(world: PushTEpisodes, policy: Policy | RealTimePolicy) -> np.ndarray:
    """The first episodes as one picture, each with the chunk that is being executed."""
    pictures = world.pictures(SIZE, SHOWN)
    assert policy.chunks is not None
    drawn = [
        with_chunk(picture, chunk, policy.executed, f"reward {best:.2f}")
        for picture, chunk, best in zip(pictures, policy.chunks, world.best, strict=False)
    ]
    return tiled(np.stack(drawn))


@contextmanager
def _counted(policy: Policy) -> Generator[list[int]]:
    """Count the network's calls in the block, as a list of one number; decisions restart at 0."""
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    hook = policy.model.denoiser.network.register_forward_pre_hook(count)
    policy.decisions = 0
    try:
        yield calls
    finally:
        hook.remove()

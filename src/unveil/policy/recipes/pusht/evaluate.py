"""Scores on PushT by the published protocol: `unveil eval pusht`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from unveil.policy.worlds.pusht.observations import seen

if TYPE_CHECKING:
    import numpy as np

    from unveil.policy.policy import Policy
    from unveil.policy.realtime import RealTimePolicy
    from unveil.policy.recipes.pusht.config import EvalPushT
    from unveil.policy.settings import PolicySettings
    from unveil.policy.worlds.pusht.episodes import PushTEpisodes
    from unveil.runs.progress import Progress

SHOWN, SIZE = 4, 224  # episodes of a video, and the side in pixels of each


def evaluate_pusht(config: EvalPushT, progress: Progress) -> dict[str, Any]:
    """Roll the policy out in all episodes at once and time its decisions; returns metrics and scores."""
    from importlib.metadata import version

    import numpy as np
    import torch

    from unveil.files.atomic import check_output
    from unveil.files.pictures import video_suffixes, write_video
    from unveil.policy.evaluation.pusht import decision_times, pusht_metrics, roll
    from unveil.policy.worlds.pusht.episodes import PushTEpisodes

    if config.video is not None and config.video.suffix not in video_suffixes():
        more = "" if ".mp4" in video_suffixes() else " (.mp4 needs ffmpeg: pip install imageio[ffmpeg])"
        raise ValueError(f"`video` must end in {' or '.join(video_suffixes())}{more}, got {config.video}")
    if config.video is not None:
        check_output(config.video)
    torch.set_num_threads(config.threads)
    plain, observation = loaded(config.checkpoint, config.device, config.seed, config.settings)
    see = partial(seen, observation)
    policy = delayed(plain, config)
    world = PushTEpisodes(config.episodes, config.seed, config.max_steps)
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
        f"{config.seed} on{delay}"
    )
    installed = {name: version(name) for name in ("gym-pusht", "pymunk")}
    return {
        "metrics": metrics,
        "scores": world.best.tolist(),
        "coverage": world.coverage.tolist(),
        "protocol": protocol,
        **installed,
    }


def loaded(checkpoint: str, device: str, seed: int, settings: PolicySettings) -> tuple[Policy, str]:
    """A policy of ours, or of a `.ckpt` or LeRobot folder, and the name of its observation as `seen` knows it."""
    from pathlib import Path

    from unveil.policy.recipes.load import load_policy, read_policy_config
    from unveil.policy.recipes.load_foreign import load_foreign_policy
    from unveil.policy.weights.releases import is_foreign
    from unveil.runs.checkpoints import find_checkpoint

    if is_foreign(Path(checkpoint)):
        return load_foreign_policy(Path(checkpoint), device, seed, settings)
    folder = find_checkpoint(checkpoint)
    return load_policy(folder, device, seed, settings), str(read_policy_config(folder)["observation"])


def delayed(policy: Policy, config: EvalPushT) -> Policy | RealTimePolicy:
    """The policy with the config's delay; itself where there is none."""
    from unveil.policy.realtime import RealTimePolicy

    if not config.delay and config.asynchronous != "soft":
        return policy
    return RealTimePolicy(policy, config.delay, config.asynchronous, execute=config.settings.n_action)


def scene(world: PushTEpisodes, policy: Policy | RealTimePolicy) -> np.ndarray:
    """The first episodes as one picture, each with the chunk that is being executed."""
    import numpy as np

    from unveil.policy.evaluation.pusht_pictures import tiled, with_chunk

    pictures = world.pictures(SIZE, SHOWN)
    assert policy.chunks is not None
    drawn = [
        with_chunk(pictures[i], policy.chunks[i], policy.executed, f"reward {world.best[i]:.2f}")
        for i in range(len(pictures))
    ]
    return tiled(np.stack(drawn))


@contextmanager
def _counted(policy: Policy) -> Generator[list[int]]:
    """Count the network's calls inside the block, as a list of one number; the count of decisions restarts at 0."""
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    hook = policy.model.denoiser.network.register_forward_pre_hook(count)
    policy.decisions = 0
    try:
        yield calls
    finally:
        hook.remove()

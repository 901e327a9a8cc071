"""Chunks of actions from one moment of a demonstration, drawn: `unveil sample policy`."""

from __future__ import annotations

import json

import numpy as np
import torch

from unveil.errors import UnveilError
from unveil.files.atomic import check_output
from unveil.files.pictures import write_png
from unveil.policy.data.chunks import Chunks
from unveil.policy.evaluation.chunk_pictures import chunk_picture
from unveil.policy.recipes.config import SamplePolicy
from unveil.policy.recipes.load import load_policy, read_policy_config
from unveil.policy.recipes.own_data import chosen_again, demonstrated
from unveil.runs.checkpoints import find_checkpoint
from unveil.runs.flags import flat
from unveil.runs.progress import Progress


def sample_policy(config: SamplePolicy, progress: Progress) -> dict[str, object]:
    """Predict chunks, draw them beside the recorded actions, and describe them.

    Raises:
        UnveilError: no such checkpoint, demonstrations, episode or moment.
        ValueError: `out` is no .png.
    """
    if config.out.suffix != ".png":
        raise ValueError(f"`out` must end in .png, got {config.out}")
    check_output(config.out)
    folder = find_checkpoint(config.checkpoint)
    described = read_policy_config(folder)
    if described["recipe"] != "policy" or "data" not in described:
        raise UnveilError(
            f"{config.checkpoint}: not from `unveil train policy`; its demonstrations are not known"
        )
    policy = load_policy(folder, config.job.device, config.job.seed, config.settings)
    it, shape = chosen_again(described, config.data), policy.model.shape
    count = len(it.training)
    if config.episode >= count:
        raise UnveilError(f"`episode` {config.episode}: there are {count}, from 0 to {count - 1}")
    data = demonstrated(it, np.arange(count) == config.episode)
    last = len(data.actions) - 1
    if config.moment > last:
        raise UnveilError(f"`moment` {config.moment}: the episode has steps 0 to {last}")
    # every step begins a window; steps beyond the last one repeat it
    windows = Chunks(
        *(data.observations, data.actions, data.episode_ends, shape.n_obs, shape.horizon),
        shape.horizon - shape.n_obs + 1,
        data.cameras,
    )
    seen, actions = windows.windows(torch.tensor([config.moment]))
    chunks = policy.predict(np.repeat(seen.numpy(), config.candidates, axis=0))
    names = it.action_names or tuple(f"action {i}" for i in range(shape.actions))
    recorded = actions[0].numpy().astype(np.float64)
    picture = chunk_picture(chunks, recorded, policy.executed, names)
    write_png(config.out, picture, {"unveil": json.dumps(flat(config), default=str)})
    progress("predicting", 1, 1, {})
    spread = float(chunks[:, policy.executed].std(0).mean())
    error = float(np.abs(chunks[:, policy.executed] - recorded[policy.executed]).mean())
    trained = "trained on" if it.training[config.episode] else "held out"
    where = f"step {config.moment} of episode {config.episode} ({trained})"
    return {
        "recipe": "policy",
        "checkpoint": config.checkpoint,
        "protocol": f"{config.candidates} chunks from {where}",
        "metrics": {"spread": spread, "error": error, "n": config.candidates},
        "chunks": chunks.round(6).tolist(),
        "summary": f"{config.out}: {config.candidates} chunks of {shape.horizon} actions from {where}; "
        f"executed actions: standard deviation {spread:.4g}, mean distance from the recorded {error:.4g}",
    }

"""Chunks of actions from one start, drawn: `unveil sample pusht`."""

from __future__ import annotations

import json

import numpy as np

from unveil.files.atomic import check_output
from unveil.files.pictures import write_png
from unveil.policy.evaluation.pusht_pictures import with_chunk
from unveil.policy.recipes.pusht.config import SamplePushT
from unveil.policy.recipes.pusht.evaluate import loaded
from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.policy.worlds.pusht.observations import seen
from unveil.runs.flags import flat
from unveil.runs.progress import Progress


def sample_pusht(config: SamplePushT, progress: Progress) -> dict[str, object]:
    """Predict chunks, draw them, and describe them."""
    if config.out.suffix != ".png":
        raise ValueError(f"`out` must end in .png, got {config.out}")
    check_output(config.out)
    policy, observed = loaded(config)
    shape = policy.model.shape
    world = PushTEpisodes(1, config.start)
    observation = seen(observed, world)  # (1, D)
    history = np.repeat(observation[:, None], shape.n_obs, 1).repeat(config.candidates, 0)  # (B, n_obs, D)
    chunks = policy.predict(history.astype(np.float32))
    picture = world.pictures(512)[0]
    for chunk in chunks:
        picture = with_chunk(picture, chunk, policy.executed)
    write_png(config.out, picture, {"unveil": json.dumps(flat(config), default=str)})
    spread = float(chunks.std(0).mean())
    return {
        "recipe": "pusht",
        "checkpoint": config.checkpoint,
        "protocol": f"{config.candidates} chunks from the start of seed {config.start}",
        "metrics": {"spread_px": spread, "n": config.candidates},
        "chunks": chunks.round(2).tolist(),
        "summary": f"{config.out}: {config.candidates} chunks of {shape.horizon} actions, standard deviation "
        f"{spread:.1f} px",
    }

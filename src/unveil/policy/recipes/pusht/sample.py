"""`unveil sample pusht`: one episode as a video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unveil.policy.recipes.pusht.evaluate import loaded
from unveil.policy.worlds.pusht.observations import seen

if TYPE_CHECKING:
    from unveil.policy.recipes.pusht.config import SamplePushT
    from unveil.runs.progress import Progress


def sample_pusht(config: SamplePushT, progress: Progress) -> dict[str, Any]:
    """Predict, draw, and describe."""
    import json
    from dataclasses import asdict

    import numpy as np

    from unveil.files.atomic import check_output
    from unveil.files.pictures import write_png
    from unveil.policy.evaluation.pusht_pictures import with_chunk
    from unveil.policy.worlds.pusht.episodes import PushTEpisodes

    if config.candidates < 1 or (config.sampling_steps is not None and config.sampling_steps < 1):
        raise ValueError(
            f"--candidates and --sampling-steps must be at least 1, got {config.candidates} and {config.sampling_steps}"
        )
    if config.out.suffix != ".png":
        raise ValueError(f"--out must end in .png, got {config.out}")
    check_output(config.out)
    policy, observed = loaded(
        config.checkpoint, config.device, config.seed, config.solver, config.sampling_steps
    )
    shape = policy.model.shape
    world = PushTEpisodes(1, config.start)
    observation = seen(observed, world)
    chunks = policy.predict(
        np.repeat(observation[:, None], shape.n_obs, 1).repeat(config.candidates, 0).astype(np.float32)
    )
    picture = world.pictures(512)[0]
    for chunk in chunks:
        picture = with_chunk(picture, chunk, shape.executed)
    write_png(config.out, picture, {"unveil": json.dumps(asdict(config), default=str)})
    spread = float(chunks.std(0).mean())
    return {
        "recipe": "pusht",
        "checkpoint": config.checkpoint,
        "protocol": f"{config.candidates} chunks from the start of seed {config.start}",
        "metrics": {"spread_px": spread, "n": config.candidates},
        "chunks": chunks.round(2).tolist(),
        "config": asdict(config),
        "seeds": [config.seed],
        "summary": f"{config.out}: {config.candidates} chunks of {shape.horizon} actions, standard deviation {spread:.1f} px",
    }

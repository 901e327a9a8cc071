"""`unveil eval clip`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from unveil.files.json_objects import JsonObject
    from unveil.image.recipes.clip.config import EvalClip
    from unveil.runs.progress import Progress

RANKS = (1, 5)


def evaluate_clip(config: EvalClip, progress: Progress) -> dict[str, object]:
    """Score retrieval; returns R@1 and R@5 in both directions, and those of random ranks as a reference."""
    import torch

    from unveil.image.clip_model import chance, equal, recall
    from unveil.image.recipes.clip.load import load_clip, read_clip_config
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.device import enough_memory

    folder = find_checkpoint(config.checkpoint)
    described = read_clip_config(folder)
    if config.time and not described["noised"]:
        raise ValueError("`time` is for a CLIP of noisy images (`noised`); leave it out")
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    model = load_clip(folder, config.job.device, described)
    pixels, captions, which = _pairs(config, described, progress)
    generator = torch.Generator(device="cpu").manual_seed(config.job.seed)
    with enough_memory():
        seen = model.described(torch.from_numpy(pixels), config.batch_size, config.time, generator)
        texts = tuple(dict.fromkeys(captions))
        scores = model.read(texts, config.batch_size) @ seen.T  # (texts, images)
    positive = equal(texts, captions)
    metrics: dict[str, float] = {}
    random: dict[str, float] = {}
    for k in RANKS:
        for name, values, right in (
            ("text_to_image", scores, positive),
            ("image_to_text", scores.T, positive.T),
        ):
            metrics[f"{name}_r{k}"] = recall(values, right, k)
            random[f"{name}_r{k}"] = chance(right, k)
    noise = f" noised to t = {config.time:g}" if config.time else ""
    how = f"{len(pixels)} {which}{noise}, {len(texts)} different captions; equal captions are right, too"
    numbers = {"n": len(pixels), "captions": len(texts), "scale": float(model.scale.detach())}
    return {"metrics": metrics | numbers, "reference": {"chance": random}, "protocol": how}


def _pairs(
    config: EvalClip, described: JsonObject, progress: Progress
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Pixels (N, C, S, S), their captions, and which these are.

    Raises:
        UnveilError: the images are not found, have no captions, or are of another size.
    """
    from dataclasses import replace

    import numpy as np

    from unveil.errors import UnveilError
    from unveil.image.data.images import alike
    from unveil.image.recipes.images import images_of, report
    from unveil.image.recipes.training_flags import TrainingImages
    from unveil.runs.device import enough_memory
    from unveil.runs.flags import flat

    other = config.data is not None
    if not other and "data" not in described:
        raise UnveilError(f"{config.checkpoint} does not hold the path of its data; give `data`")
    changed = {"hold_out": 0.0, "names": (), "captions": "auto"} if other else {}
    usual: JsonObject = flat(TrainingImages()) | {"asked_size": 0, "classes": False}
    with enough_memory("read fewer or smaller images"):
        train, held = images_of(usual | described | changed, config.data)
    report(train, progress)
    place = f"images of {Path(str(config.data)).name}" if other else "training images"
    chosen, which = (held, "held-out images") if len(held) > 1 and not other else (train, place)
    if chosen.captions is None or len(chosen) < 2:
        raise UnveilError(f"there are {len(chosen)} images with captions to retrieve, and 2 are needed")
    side, colours = described["size"], described["channels"]
    like = replace(chosen, pixels=np.zeros((1, colours, side, side), np.uint8), labels=None, names=())
    chosen = alike(chosen, like)
    rows = np.random.default_rng(config.job.seed).permutation(len(chosen))[: config.n]
    chosen = chosen.chosen(rows)
    assert chosen.captions is not None
    return chosen.pixels, chosen.captions, which

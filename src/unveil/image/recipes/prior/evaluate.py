"""`unveil eval prior`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.files.json_objects import JsonObject
    from unveil.image.clip_model import ClipModel
    from unveil.image.recipes.prior.config import EvalPrior
    from unveil.runs.progress import Progress


def evaluate_prior(config: EvalPrior, progress: Progress) -> dict[str, object]:
    """Score a prior's embeddings; returns cosines with the images', beside those of the texts' embeddings and
    of the mean image's."""
    import torch

    from unveil.image.recipes.prior.load import load_prior, read_prior_config
    from unveil.image.unclip.image_embeddings import image_embeddings
    from unveil.image.unclip.prior_model import ClipPrompts
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.device import enough_memory

    folder = find_checkpoint(config.checkpoint)
    described = read_prior_config(folder)
    if config.job.threads:
        torch.set_num_threads(config.job.threads)
    model = load_prior(folder, config.job.device, described)
    assert isinstance(model.text, ClipPrompts)
    clip = model.text.clip
    pixels, captions, which = _pairs(config, described, clip, progress)
    drawn: list[Tensor] = []
    with enough_memory():
        images = image_embeddings(clip, pixels, config.batch_size)
        texts = clip.read(captions, config.batch_size)
        for start in range(0, len(captions), config.batch_size):
            some = captions[start : start + config.batch_size]
            drawn.append(model.sample(some, config.settings, config.job.seed + start).cpu())
            progress("drawing embeddings", start + len(some), len(captions), {})
    made = torch.cat(drawn)
    mean = model.mean.cpu().expand_as(images)
    settings = config.settings
    steps = f"{settings.prior_steps} steps, " if described["kind"] == "diffusion" else ""
    how = (
        f"{described['kind']} prior, {steps}scale {settings.prior_scale:g}, best of {settings.candidates}; "
        f"{len(captions)} {which}"
    )
    return {
        "metrics": scores(made, images, texts) | {"n": len(captions)},
        "reference": {
            "text embedding": scores(texts, images, texts),
            "mean image embedding": scores(mean, images, texts),
        },
        "protocol": how,
    }


def scores(made: Tensor, images: Tensor, texts: Tensor) -> dict[str, float]:
    """Mean cosines of embeddings (N, E) with those of their images and their texts, and how much nearer they
    are to their own image than to those of the others."""
    import torch
    from torch.nn import functional as F

    cosines = F.normalize(made, dim=1) @ F.normalize(images, dim=1).T  # (N, N)
    own, count = cosines.diagonal(), len(cosines)
    others = (cosines.sum(1) - own) / max(1, count - 1)
    return {
        "cosine_image": float(own.mean()),
        "cosine_other_images": float(others.mean()),
        "cosine_text": float(torch.cosine_similarity(made, texts, dim=1).mean()),
    }


def _pairs(
    config: EvalPrior, described: JsonObject, clip: ClipModel, progress: Progress
) -> tuple[Tensor, tuple[str, ...], str]:
    """Pixels (N, C, S, S), their captions, and which these are.

    Raises:
        UnveilError: the images are not found, have no captions, or are of another size.
    """
    import numpy as np
    import torch

    from unveil.errors import UnveilError
    from unveil.image.recipes.embedded import check_images
    from unveil.image.recipes.images import images_of, report
    from unveil.runs.device import enough_memory

    other = config.data is not None
    changed = {"hold_out": 0.0, "captions": "auto"} if other else {}
    with enough_memory("read fewer or smaller images"):
        train, held = images_of(described | changed | {"names": ()}, config.data)
    report(train, progress)
    place = f"pairs of {Path(str(config.data)).name}" if other else "training pairs"
    chosen, which = (held, "held-out pairs") if len(held) > 1 and not other else (train, place)
    if chosen.captions is None or len(chosen) < 2:
        raise UnveilError(f"there are {len(chosen)} images with captions to compare with, and 2 are needed")
    check_images(chosen, clip)
    rows = np.random.default_rng(config.job.seed).permutation(len(chosen))[: config.n]
    chosen = chosen.chosen(rows)
    assert chosen.captions is not None
    return torch.from_numpy(np.ascontiguousarray(chosen.pixels)), chosen.captions, which

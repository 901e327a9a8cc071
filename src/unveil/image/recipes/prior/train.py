"""`unveil train prior`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from unveil.files.json_objects import JsonObject
    from unveil.image.clip_model import ClipModel
    from unveil.image.recipes.prior.config import TrainPrior
    from unveil.image.unclip.autoregressive_prior import CodesBatch
    from unveil.image.unclip.prior_model import PriorBatch
    from unveil.runs.progress import Progress


SIZES = ("kind", "diffusion_steps", "dimensions", "bins", "width", "layers", "heads")  # of a checkpoint


def train_prior(config: TrainPrior, progress: Progress) -> Path:
    """Train a prior; returns the run folder."""
    import torch

    from unveil.image.data.images import RandomImages
    from unveil.image.recipes.embedded import check_images, embeddings_of
    from unveil.image.recipes.images import LOWER, read_for
    from unveil.image.recipes.prior.config import TrainPrior
    from unveil.image.recipes.prior.load import prior_model, read_prior_config
    from unveil.image.recipes.stored_clip import begun_clip, clip_digest, read_clip, write_clip
    from unveil.image.unclip.autoregressive_prior import (
        AutoregressivePrior,
        check_dimensions,
        codes_batches,
        codes_loss,
    )
    from unveil.image.unclip.prior_model import EmbeddedImages, moments, prior_batches, prior_loss
    from unveil.runs.device import enough_memory
    from unveil.runs.finetuning import beginning, freeze, inherited, take_over
    from unveil.runs.training import Task, as_json, begin, run_task

    run = config.run.folder
    device = begin(config.run, run)
    if (begun := beginning(config.run, run)) is not None:
        config = inherited(config, read_prior_config(begun), SIZES)
    stored = begun_clip(config.image_embedding, run, config.run.resume)
    clip = read_clip(stored, config.run.device)
    if config.kind == "autoregressive":
        check_dimensions(config.dimensions, clip.width)
    images, fields = read_for(config, config.images.reading.size, config.run, progress)
    check_images(images, clip)
    assert images.captions is not None
    random = RandomImages(images)
    assert random.captions is not None
    with enough_memory(LOWER):
        embeddings = embeddings_of(clip, images, config.images.flip, progress)
    data = EmbeddedImages(embeddings, random.captions, random.sided, len(images))
    write_clip(stored, run, keep=config.run.resume)
    described = as_json(fields | of_clip(clip) | {"clip_digest": clip_digest(clip), "recipe": "prior"})
    torch.manual_seed(config.run.seed)  # initial weights
    model = prior_model(described, clip)
    model.condition([""])  # whose sizes are then known
    size, drop = config.run.batch_size, config.caption_drop
    if isinstance(model, AutoregressivePrior):
        texts = clip.read(images.captions)
        model.fit(data.embeddings, (data.embeddings[: len(images)] * texts).sum(1))
        loss = codes_loss
    else:
        model.mean, model.std = moments(data.embeddings)
        loss = prior_loss

    if begun is not None:
        take_over(model, begun, config.run, ("mean", "std", "axes", "low", "high", "edges"))
        freeze(config.run, None, "a prior")

    def draws(count: int) -> Callable[[torch.Generator], PriorBatch | CodesBatch]:
        if config.kind == "autoregressive":
            return codes_batches(data, count, drop)
        return prior_batches(data, config.diffusion_steps, count, drop)

    task = Task(model, draws(size), loss, {}, draws=draws, size=size, lower="--width or --layers")
    with enough_memory(LOWER):
        run_task(task, config.run, device, run, described, TrainPrior(), progress)
    return run


def of_clip(clip: ClipModel) -> JsonObject:
    """The fields of config.json that follow from a CLIP: the widths of what it says of texts and images."""
    null = clip.text([""], clip.device)
    assert null.tokens is not None
    return {
        "embedding_width": clip.width,
        "context": null.tokens.shape[2],
        "pooled": clip.width,
        "tokens": null.tokens.shape[1],
    }

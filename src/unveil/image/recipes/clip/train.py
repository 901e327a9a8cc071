"""`unveil train clip`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from unveil.image.recipes.clip.config import TrainClip
    from unveil.image.training import ImageBatch
    from unveil.runs.progress import Progress


def train_clip(config: TrainClip, progress: Progress) -> Path:
    """Train a `ClipModel`; returns the run folder."""
    import torch

    from unveil.errors import UnveilError
    from unveil.image.clip_model import clip_loss
    from unveil.image.data.images import RandomImages
    from unveil.image.recipes.clip.config import TRAIN_PRESETS, TrainClip
    from unveil.image.recipes.clip.load import clip_model
    from unveil.image.recipes.images import LOWER, of_images, read_for
    from unveil.image.recipes.load import shape_of
    from unveil.image.recipes.prompts import new_text
    from unveil.image.training import image_batches
    from unveil.runs.device import enough_memory
    from unveil.runs.finetuning import refuse
    from unveil.runs.training import Task, as_json, begin, run_task

    run = config.run.folder
    refuse(config.run, "the vocabulary of a CLIP is that of its captions; go on with `resume` and `new_data`")
    device = begin(config.run, run)
    images, fields = read_for(config, config.images.reading.size, config.run, progress)
    if images.captions is None or len(set(images.captions)) < 2:
        raise UnveilError(f"{config.images.data} has a single caption; CLIP needs at least two")
    torch.manual_seed(config.run.seed)  # initial weights
    text, worded = new_text(config.text, images.captions, run, config.run.resume)
    assert text is not None
    learned: dict[str, object] = {
        "recipe": "clip",
        "names": (),
        "null": False,
        "predicts": "edm" if config.schedule == "karras" else "eps",
        "learned_variance": False,
        "sigma_data": 0.5,
    }
    usual = TRAIN_PRESETS[config.preset].network
    described = as_json(
        fields | of_images(config.network, usual, images, images.pixels.shape[1:]) | learned | worded
    )
    model, shape = clip_model(described, text), shape_of(described)
    random, size = RandomImages(images, config.images.flip), config.run.batch_size

    def draws(count: int) -> Callable[[torch.Generator], ImageBatch]:
        return image_batches(random, shape, count, 0.0)

    task = Task(model, draws(size), clip_loss, {}, draws=draws, size=size, lower="--size or --width")
    with enough_memory(LOWER):
        run_task(task, config.run, device, run, described, TrainClip(), progress)
    return run

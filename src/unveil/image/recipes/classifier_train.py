"""`unveil train classifier`, and classifiers from checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.runs.flags import flat

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from unveil.image.recipes.classifier_config import TrainClassifier
    from unveil.runs.progress import Progress


def train_classifier(config: TrainClassifier, progress: Progress) -> Path:
    """Train an `ImageClassifier`; returns the run folder."""

    import torch

    from unveil.errors import UnveilError
    from unveil.image.classifier import ImageClassifier, classifier_loss
    from unveil.image.data.images import Pictures
    from unveil.image.recipes.classifier_config import TRAIN_PRESETS, TrainClassifier
    from unveil.image.recipes.load import shape_of
    from unveil.image.recipes.train import attention_of, check_numbers, images_of, names_before, tell
    from unveil.image.training import image_batches
    from unveil.runs.device import enough_memory, find_device
    from unveil.runs.resuming import check_folder
    from unveil.runs.training import Task, as_json, run_task

    check_numbers(config)
    check_folder(config.run.folder, config.run.resume)
    device = find_device(config.run.device)
    given = flat(config) | {
        "asked_size": config.size,
        "names": names_before(config.run.folder) if config.run.resume else (),
    }
    with enough_memory("give --size, with --fit resize, or fewer images"):
        images, _ = images_of(given)
    if images.labels is None or len(images.names) < 2:
        one = (
            f"{config.data} has the class {images.names[0]} alone"
            if images.names
            else f"{config.data} has no classes"
        )
        raise UnveilError(f"{images.unlabelled or one}; a classifier needs at least two to tell apart")
    tell(images, progress)
    learned = {
        "recipe": "classifier",
        "size": images.pixels.shape[-1],
        "channels": images.pixels.shape[1],
        "attention": attention_of(config, TRAIN_PRESETS[config.preset].attention, images.pixels.shape[-1]),
        "names": images.names,
        "null": False,
        "predicts": "edm" if config.schedule == "karras" else "eps",
        "learned_variance": False,
        "sigma_data": 0.5,
        "images": len(images),
        "skipped": images.skipped,
    }
    described = as_json(given | learned)
    shape = shape_of(described)
    torch.manual_seed(config.run.seed)  # initial weights
    model = ImageClassifier(shape, config.clean)
    pictures, size = Pictures(images, config.flip), config.run.batch_size

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        return image_batches(pictures, shape, count, 0.0)

    task = Task(model, draws(size), classifier_loss, {}, draws=draws, size=size, lower="--size or --width")
    with enough_memory("lower --batch-size and raise --accumulate as much, or lower --width"):
        run_task(task, config.run, device, config.run.folder, described, TrainClassifier(), progress)
    return config.run.folder

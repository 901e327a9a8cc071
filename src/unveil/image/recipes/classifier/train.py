"""`unveil train classifier`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from unveil.image.recipes.classifier.config import TrainClassifier
    from unveil.image.training import ImageBatch
    from unveil.runs.progress import Progress


def train_classifier(config: TrainClassifier, progress: Progress) -> Path:
    """Train an `ImageClassifier`; returns the run folder."""
    import dataclasses

    import torch

    from unveil.errors import UnveilError
    from unveil.image.classifier import ImageClassifier, classifier_loss
    from unveil.image.data.images import RandomImages
    from unveil.image.recipes.classifier.config import TRAIN_PRESETS, TrainClassifier
    from unveil.image.recipes.images import LOWER, of_images, read_for
    from unveil.image.recipes.load import read_classifier_config, shape_of
    from unveil.image.recipes.training_flags import UNetFlags
    from unveil.image.training import image_batches
    from unveil.runs.device import enough_memory
    from unveil.runs.finetuning import beginning, check_sizes, freeze, inherited, take_over
    from unveil.runs.training import Task, as_json, begin, run_task

    device = begin(config.run, config.run.folder)
    begun = beginning(config.run, config.run.folder)
    has = {} if begun is None else read_classifier_config(begun)
    names = tuple(field.name for field in dataclasses.fields(UNetFlags))
    config = config if begun is None else inherited(config, has, ("schedule", "clean", *names))
    images, fields = read_for(config, config.images.reading.size, config.run, progress)
    if images.labels is None or len(images.names) < 2:
        data = config.images.data
        few = f"{data} has the single class {images.names[0]}" if images.names else f"{data} has no classes"
        raise UnveilError(f"{images.unlabelled or few}; a classifier needs at least two classes")
    learned = {
        "recipe": "classifier",
        "names": images.names,
        "null": False,
        "predicts": "edm" if config.schedule == "karras" else "eps",
        "learned_variance": False,
        "sigma_data": 0.5,
    }
    usual = TRAIN_PRESETS[config.preset].network
    described = as_json(fields | of_images(config.network, usual, images, images.pixels.shape[1:]) | learned)
    shape = shape_of(described)
    torch.manual_seed(config.run.seed)  # initial weights
    model = ImageClassifier(shape, config.clean)
    if begun is not None:
        check_sizes(described, has, config.run.source, channels="channels", size="pixels", names="as classes")
        take_over(model, begun, config.run)
        freeze(config.run, None, "a classifier")
    random, size = RandomImages(images, config.images.flip), config.run.batch_size

    def draws(count: int) -> Callable[[torch.Generator], ImageBatch]:
        return image_batches(random, shape, count, 0.0)

    task = Task(model, draws(size), classifier_loss, {}, draws=draws, size=size, lower="--size or --width")
    with enough_memory(LOWER):
        run_task(task, config.run, device, config.run.folder, described, TrainClassifier(), progress)
    return config.run.folder

"""`unveil train classifier`, and classifiers from checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from unveil.apps.image_classifier import ImageClassifier
    from unveil.recipes.classifier import TrainClassifier
    from unveil.recipes.progress import Progress


def classifier_model(config: Mapping[str, Any]) -> ImageClassifier:
    """The untrained classifier of a run's config: on our network, or on one of another release with its options."""
    from unveil.apps.image_classifier import ImageClassifier, classifier_network
    from unveil.recipes.image_train import shape_of

    shape = shape_of(config)
    network = classifier_network(shape, **config.get("options", {}))
    return ImageClassifier(shape, bool(config["clean"]), network, config.get("counted_from", 1))


def load_classifier(folder: Path, device: str = "auto") -> ImageClassifier:
    """The classifier of a checkpoint folder of `unveil train classifier`.

    Raises:
        UnveilError: damaged, or of another recipe.
    """
    from unveil.recipes.device import find_device
    from unveil.recipes.locate import weights_file
    from unveil.recipes.locomotion_load import with_weights
    from unveil.recipes.run_config import read_config
    from unveil.training.checkpoint import read_tensors

    model = classifier_model(read_config(folder, "classifier"))
    with_weights(model, read_tensors(weights_file(folder), model.state_dict(), halves=True), find_device(device))
    return model


def named_classifier(path: str, names: tuple[str, ...], device: str) -> ImageClassifier:
    """The classifier of a path, whose classes must be these, if there are any.

    Raises:
        UnveilError: it knows other classes.
    """
    from unveil.errors import UnveilError
    from unveil.recipes.locate import find_checkpoint
    from unveil.recipes.run_config import read_config

    folder = find_checkpoint(path)
    described = read_config(folder, "classifier")
    known = tuple(described["names"])
    if names and (len(known) != len(names) if described.get("origin") else known != names):  # others do not say their classes' names
        raise UnveilError(
            f"{path} tells {', '.join(known[:5])} apart, but the classes here are {', '.join(names[:5])}; train one on these data"
        )
    return load_classifier(folder, device)


def train_classifier(config: TrainClassifier, progress: Progress) -> Path:
    """Train an `ImageClassifier`; returns the run folder."""
    from dataclasses import asdict

    import torch

    from unveil.apps.image_classifier import ImageClassifier, classifier_loss
    from unveil.apps.image_training import image_batches
    from unveil.data.images import Pictures
    from unveil.errors import UnveilError
    from unveil.recipes.classifier import TRAIN_PRESETS, TrainClassifier
    from unveil.recipes.device import find_device
    from unveil.recipes.image_run import enough_memory
    from unveil.recipes.image_train import attention_of, check_numbers, images_of, names_before, shape_of, tell
    from unveil.recipes.resuming import check_folder
    from unveil.recipes.run import Task, as_json, run_task
    from unveil.training.trainer import Training

    check_numbers(config)
    check_folder(config.out, config.resume)
    device = find_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    given = asdict(config) | {"asked_size": config.size, "names": names_before(config.out) if config.resume else ()}
    with enough_memory("give --size, with --fit resize, or fewer images"):
        images, _ = images_of(given)
    if images.labels is None or len(images.names) < 2:
        one = f"{config.data} has the class {images.names[0]} alone" if images.names else f"{config.data} has no classes"
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
    torch.manual_seed(config.seed)  # initial weights
    model = ImageClassifier(shape, config.clean)
    pictures, size = Pictures(images, config.flip), config.batch_size

    def draws(count: int) -> Callable[[torch.Generator], Any]:
        return image_batches(pictures, shape, count, 0.0)

    training = Training(
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        final_fraction=config.final_fraction,
        weight_decay=config.weight_decay,
        clip=config.clip,
        ema=config.ema_decay,
        bfloat16=config.bfloat16,
        accumulate=config.accumulate,
        save_every=config.save_every,
        keep=config.keep,
        seed=config.seed,
        log_every=min(100, config.steps),
    )
    task = Task(model, draws(size), classifier_loss, {}, {}, draws=draws, size=size, lower="--size or --width")
    with enough_memory("lower --batch-size and raise --accumulate as much, or lower --width"):
        run_task(task, training, device, config.out, described, TrainClassifier(), progress, resume=config.resume, log=config.log)
    return config.out

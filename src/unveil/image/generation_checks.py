"""Refuse settings that an image model cannot follow, and inputs that do not fit its images."""

import torch
from torch import Tensor

from unveil.image.classifier import ImageClassifier
from unveil.image.given import Given
from unveil.image.model import ImageModel, check_labels
from unveil.image.settings import ImageSettings


def negative_of(model: ImageModel, settings: ImageSettings) -> tuple[int, str | None]:
    """The number of the negative class, -1 for none, and the negative prompt.

    Raises:
        ValueError: the name of a class; only recipes know the names of classes.
    """
    if isinstance(settings.negative, int):
        return settings.negative, None
    if model.text is None:
        raise ValueError(f"`negative` must be the number of a class here, got {settings.negative!r}")
    return -1, settings.negative


def check_followed(
    model: ImageModel, labels: Tensor | None, count: int, settings: ImageSettings, given: Given
) -> None:
    """Refuse what this model cannot follow."""
    classes, null, scale = model.shape.classes, model.shape.null, settings.scale
    negative, text = negative_of(model, settings)
    if labels is not None:
        known = 0 if given.classifier is None else given.classifier.shape.classes
        check_labels(labels, count, classes or known)
    if negative >= 0 and negative >= classes:
        known = f"there are 0 .. {classes - 1}" if classes else "this model was trained without `classes`"
        raise ValueError(f"`negative` {negative}: {known}")
    if given.prompts is not None and (model.text is None or len(given.prompts) != count):
        model.worded(None, count, given.prompts)  # which refuses them
    if text is not None and (scale == 1.0 or given.prompts is None):
        raise ValueError(
            "a negative text is what guidance leads away from; give `prompt`, and `scale` above 1"
        )
    if given.embeddings is not None:
        model.embedded(None, count, given.embeddings)  # which refuses others
    told = given.prompts is not None or given.embeddings is not None
    if scale != 1.0 and not told and not (classes and (null or negative >= 0)):
        what = (
            "without dropping labels (`label_drop`); or give `negative`" if classes else "without `classes`"
        )
        raise ValueError(
            f"`scale` {scale} needs a model of images with and without a class; this was trained {what}"
            if model.text is None
            else f"`scale` {scale} guides towards a text; give `prompt`"
        )
    if scale != 1.0 and labels is None and not told:
        raise ValueError(f"`scale` {scale} guides towards a class; give `label`")
    if negative >= 0 and scale == 1.0:
        raise ValueError(f"`negative` {negative} is what guidance leads away from; give `scale` above 1")
    if given.classifier is not None:
        _check_pair(model, given.classifier)
        if labels is None:
            raise ValueError("`classifier` guides towards a class; give `label`")


def check_clip(model: ImageModel, count: int, given: Given) -> None:
    """Refuse a CLIP that cannot guide this model, or one without texts.

    Raises:
        ValueError: what does not fit.
    """
    clip = given.clip
    if clip is None:
        if given.texts is not None:
            raise ValueError("given.texts are for given.clip; give both or neither")
        return
    if given.texts is None or len(given.texts) != count:
        raise ValueError(f"`clip_model` guides towards texts; give `prompt`, {count} in all")
    if not clip.noised:
        raise ValueError(
            "this CLIP was trained on clean images; guidance needs one that knows noisy ones (`noised`)"
        )
    if model.latent is not None:
        raise ValueError("`clip_model` sees pixels, and this model is of latents; leave it out")
    ours, theirs = ((s.size, s.channels, s.schedule, s.diffusion_steps) for s in (model.shape, clip.shape))
    if ours != theirs:
        raise ValueError(f"CLIP and model do not fit: side, channels, schedule and T are {theirs} and {ours}")


def check_tensors(given: Given, count: int, image: tuple[int, int, int], model: ImageModel) -> None:
    """Refuse tensors that do not fit these images.

    Raises:
        ValueError: one of them, what was got and what is needed.
    """
    height, width = image[1:]
    concat = 0 if model.shape.upsample > 1 else model.shape.concat  # the map that the model sees
    if model.shape.beside == "known":
        concat = image[0] + 1  # also of an upsampler
    wanted = {
        "begin": image,
        "value": image,
        "known": (1, height, width),
        "low": model.low,
        "beside": (concat, height, width),
    }
    for name, shape in wanted.items():
        it: Tensor | None = getattr(given, name)
        if it is None:
            continue
        if tuple(it.shape) != (count, *shape):
            raise ValueError(f"given.{name} must be of shape {(count, *shape)}, got {tuple(it.shape)}")
        if name == "known" and it.dtype != torch.bool:
            raise ValueError(f"given.known must be bool, got {it.dtype}")
        if name != "known" and (not it.is_floating_point() or not bool(it.isfinite().all())):
            raise ValueError(f"given.{name} must be finite floating-point numbers in -1 .. 1, got {it.dtype}")
    if (given.beside is None) != (concat == 0):
        raise ValueError(
            f"this model sees a map of {concat} channels beside the image; give `given.beside`"
            if concat
            else "this model sees no map beside the image; leave `given.beside` out"
        )
    if (given.known is None) != (given.value is None):
        raise ValueError("given.known and given.value belong together; give both or neither")


def check_level(given: Given, count: int, levels: int) -> None:
    """Refuse noise levels for a model that reads none, and the other way round.

    Args:
        levels: the number of noise levels of `given.beside` that the model reads as labels.
    """
    level = given.level
    if given.low is not None:  # whose levels `ImageModel.beside` checks
        if level is not None and tuple(level.shape) != (count,):
            raise ValueError(f"given.level must be the noise levels of given.low, of shape {(count,)}")
        return
    if levels == 0:
        if level is not None:
            raise ValueError("this model reads no noise level of a map; leave `given.level` out")
        return
    if level is None or tuple(level.shape) != (count,) or level.dtype != torch.int64:
        got = "none" if level is None else f"{level.dtype} {tuple(level.shape)}"
        raise ValueError(
            f"this model reads how noisy the small image is: `given.level` must be torch.int64 {(count,)}, "
            f"got {got}"
        )
    if int(level.min()) < 0 or int(level.max()) >= levels:
        raise ValueError(f"`given.level`: noise levels lie in 0 .. {levels - 1}")


def _check_pair(model: ImageModel, classifier: ImageClassifier) -> None:
    ours, theirs = (
        (s.size, s.channels, s.schedule, s.diffusion_steps) for s in (model.shape, classifier.shape)
    )
    if classifier.clean:
        raise ValueError(
            "this classifier was trained on clean images (`clean`); guidance needs one that knows noisy ones"
        )
    if ours != theirs or (model.shape.classes and model.shape.classes != classifier.shape.classes):
        raise ValueError(
            "classifier and model do not fit: side, channels, schedule, T and classes are "
            f"{(*theirs, classifier.shape.classes)} and {(*ours, model.shape.classes)}"
        )

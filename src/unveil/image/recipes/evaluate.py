"""`unveil eval image`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from unveil.image.classifier import ImageClassifier
    from unveil.image.data.images import ImageSet
    from unveil.image.generation import Given
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import EvalImage
    from unveil.image.recipes.load import Opened
    from unveil.runs.progress import Progress

BITS = 32  # default number of held-out images for bits per dimension


class Conditions(NamedTuple):
    """What the samples are conditioned on.

    Args:
        labels: (n,) classes, or None.
        given: guidance and low-resolution images, inputs of `generate`.
        truth: (n, C, S, S) uint8 images that an upsampler should recover, or None.
    """

    labels: Tensor | None
    given: Given
    truth: np.ndarray | None


def evaluate_image(config: EvalImage, progress: Progress) -> dict[str, object]:
    """Score images; returns metrics and, as references, those of the data and of a Gaussian."""
    import time
    from pathlib import Path

    import numpy as np
    import torch

    from unveil.image.evaluation.features import Judged, extractor
    from unveil.image.evaluation.metrics import image_metrics
    from unveil.image.evaluation.restoration import bicubic, psnr
    from unveil.image.generation import generate
    from unveil.image.model import pixels_of
    from unveil.image.recipes.from_pictures import check_used
    from unveil.image.recipes.load import load_models, open_classifier, open_image
    from unveil.image.recipes.sample import settings_of
    from unveil.image.recipes.written import protocol
    from unveil.runs.device import enough_memory

    check_used(config)
    job = config.job
    opened = open_image(config.checkpoint)
    settings = settings_of(config.settings, opened.names, bool(opened.config.get("captions")))
    if job.threads:
        torch.set_num_threads(job.threads)
    train, held = _data(config, opened, progress)
    model, _ = load_models(opened, None, job.device)
    bits = _bounded(config, model, held)
    _check_data(config, opened, model, train)
    guide = open_classifier(config.classifier, train.names) if config.classifier else None
    judge = _judge(config, train, guide)
    name = Path(config.judge).name
    own = judge if config.extractor == "judge" else None
    features = Judged(own, name) if own is not None else extractor(config.extractor, model.device)
    rng = np.random.default_rng(job.seed)
    labels, given, truth = _conditions(config, model, train, held, guide, rng)
    if judge is not None and labels is None and own is None:
        raise ValueError(
            "`judge` counts images of the requested class, but neither the model nor `classifier` knows "
            "classes; leave it out"
        )
    began = time.perf_counter()
    with enough_memory():
        made = generate(model, labels, config.n, settings, job.seed, config.batch_size, given=given)
        seconds, pixels = time.perf_counter() - began, made.pixels.numpy()
        metrics, references = image_metrics(
            pixels,
            train,
            held,
            features,
            rng,
            lambda done, total: progress("comparing", done, total, {}),
            None if labels is None else labels.numpy(),
            None if judge is None else lambda x: judge.predicted(torch.from_numpy(np.array(x))).numpy(),
        )
        metrics |= {"images_per_second": config.n / seconds, "nfe": made.calls}
        if truth is not None and given.low is not None:
            enlarged = bicubic(pixels_of(given.low).numpy(), model.shape.upsample)
            metrics["psnr_mean"] = float(psnr(truth, pixels).mean())
            references["bicubic"] = {"psnr_mean": float(psnr(truth, enlarged).mean())}
        if bits:
            metrics |= _bits(config, model, held, bits, rng, progress)
    how = f"{protocol(config)}; features: {features.name}; against training images"
    if "class_hit_rate" in metrics:
        probe = "a linear classifier of these features"
        how += f"; hits by {f'classifier {name}, trained on the same data' if config.judge else probe}"
    return {"metrics": metrics, "reference": references, "protocol": how}


def _data(config: EvalImage, opened: Opened, progress: Progress) -> tuple[ImageSet, ImageSet]:
    """The training images and the held-out ones.

    Raises:
        UnveilError: they are not found or cannot be read.
    """
    from unveil.errors import UnveilError
    from unveil.image.recipes.images import images_of, report
    from unveil.image.recipes.training_flags import TrainingImages
    from unveil.runs.device import enough_memory
    from unveil.runs.flags import flat

    if config.data is None and "data" not in opened.config:
        raise UnveilError("packaged weights do not hold the path of their data; give `data`")
    usual = flat(TrainingImages()) | {"asked_size": 0}  # for config.json of older versions
    with enough_memory("read fewer or smaller images"):
        train, held = images_of(usual | opened.config, config.data)
    report(train, progress)
    return train, held


def _bounded(config: EvalImage, model: ImageModel, held: ImageSet) -> int:
    """The number of held-out images for bits per dimension.

    Raises:
        ValueError: the model has no table of steps.
        UnveilError: nothing was held out.
    """
    from unveil.errors import UnveilError
    from unveil.image.shape import TABLES

    table = model.shape.schedule in TABLES
    if config.bits == -1:
        return BITS if table and len(held) and model.latent is None else 0
    if config.bits and model.latent is not None:
        raise ValueError("`bits` are those of pixels, and this model is of latents; give `bits` 0")
    if config.bits and not table:
        raise ValueError(
            f"`bits` {config.bits}: bits per dimension need a model with a table of steps, this has "
            f"{model.shape.schedule}; give `bits` 0"
        )
    if config.bits and not len(held):
        raise UnveilError("nothing was held out of this model's data; give `bits` 0")
    return config.bits


def _check_data(config: EvalImage, opened: Opened, model: ImageModel, train: ImageSet) -> None:
    """Refuse data that do not fit the model.

    Raises:
        UnveilError: images of another shape, or other classes.
        ValueError: fewer than two training images for each sample.
    """
    from unveil.errors import UnveilError
    from unveil.image.recipes.load import few

    wanted = model.picture
    if train.pixels.shape[1:] != wanted:
        raise UnveilError(f"the data are {train.pixels.shape[1:]}, the model makes {wanted}")
    names = opened.names
    converted = bool(opened.config.get("origin"))  # whose weights hold the number of classes, not their names
    same = len(train.names) == model.shape.classes if converted else train.names == names
    if model.shape.classes and not same:
        raise UnveilError(
            f"the classes of the data are not those of the model: {few(train.names)} against {few(names)}; "
            "give its own `data`"
        )
    if len(train) < 2 * config.n:
        raise ValueError(
            f"`n` {config.n} needs {2 * config.n} training images, for a floor, and there are {len(train)}; "
            "lower `n`"
        )


def _judge(config: EvalImage, train: ImageSet, guide: Opened | None) -> ImageClassifier | None:
    """The classifier of clean images that counts images of the requested class.

    Raises:
        UnveilError: no such classifier, or other classes.
        ValueError: the classifier that guides, one of noisy images, or none where its features are needed.
    """
    from unveil.image.recipes.load import load_classifier, open_classifier

    if not config.judge:
        if config.extractor == "judge":
            raise ValueError("`extractor=judge` needs `judge` RUN, of unveil train classifier --clean")
        return None
    judge = open_classifier(config.judge, train.names)
    if guide is not None and guide.folder == judge.folder:
        raise ValueError("`judge` must be another classifier than the one that guides")
    if not judge.config["clean"]:
        raise ValueError("`judge` was trained on noisy images; give one of unveil train classifier --clean")
    return load_classifier(judge.folder, config.job.device, judge.config)


def _conditions(
    config: EvalImage,
    model: ImageModel,
    train: ImageSet,
    held: ImageSet,
    guide: Opened | None,
    rng: np.random.Generator,
) -> Conditions:
    """Classes as frequent as in the data, captions of training images, the classifier that guides, and what
    the model sees beside the images, of held-out ones: reduced for an upsampler, masked, or their semantic
    maps.

    Raises:
        UnveilError: a classifier that does not fit, or data without classes.
        ValueError: too few held-out images.
    """
    import torch

    from unveil.errors import UnveilError
    from unveil.image.generation import Given
    from unveil.image.recipes.concat import channels_of
    from unveil.image.recipes.load import load_classifier

    labels = None
    if model.shape.classes:
        assert train.labels is not None
        labels = _classes(rng.permutation(train.labels)[: config.n])
    classifier = None
    if guide is not None:
        if train.labels is None:
            why = train.unlabelled or "no labels"
            raise UnveilError(f"`classifier` guides towards classes, and these data have none: {why}")
        classifier = load_classifier(guide.folder, config.job.device, guide.config)
        if labels is None:
            labels = _classes(rng.permutation(train.labels)[: config.n])
    prompts = None
    if model.text is not None:
        assert train.captions is not None
        prompts = [train.captions[row] for row in rng.permutation(len(train))[: config.n]]
    if model.shape.upsample == 1 and not model.shape.beside:
        return Conditions(labels, Given(classifier, prompts=prompts), None)
    if len(held) < config.n:
        use = "shrink and enlarge" if model.shape.upsample > 1 else "condition on"
        raise ValueError(f"`n` {config.n}: only {len(held)} held-out images to {use}; lower `n`")
    rows = rng.permutation(len(held))[: config.n]
    truth = held.pixels[rows]
    if model.shape.classes and held.labels is not None:
        labels = _classes(held.labels[rows])
    if prompts is not None and held.captions is not None:
        prompts = [held.captions[row] for row in rows]
    if model.shape.upsample == 1:
        beside = channels_of(model, held.chosen(rows), config.job.seed, config.batch_size)
        return Conditions(labels, Given(classifier, prompts=prompts, beside=beside), None)
    low = model.reduced(model.normalized(torch.from_numpy(truth)))
    return Conditions(labels, Given(classifier, prompts=prompts, low=low), truth)


def _bits(
    config: EvalImage,
    model: ImageModel,
    held: ImageSet,
    count: int,
    rng: np.random.Generator,
    progress: Progress,
) -> dict[str, float]:
    """Bits per dimension of `count` held-out images, with their 95 % interval."""
    import numpy as np
    import torch

    from unveil.image.likelihood import bits_per_dim
    from unveil.runs.statistics import mean_ci95

    rows = rng.permutation(len(held))[:count]
    classes = None
    if model.shape.classes and held.labels is not None:
        classes = _classes(held.labels[rows])
    bits: list[float] = []
    for i in range(0, len(rows), config.batch_size):
        some = slice(i, i + config.batch_size)
        pixels = torch.from_numpy(held.pixels[rows[some]])
        part = None if classes is None else classes[some]
        bits += bits_per_dim(model, pixels, part, config.job.seed + i, config.bits_variance).total.tolist()
        progress("bits per dimension", len(bits), len(rows), {})
    mean, half = mean_ci95(np.array(bits))
    return {"bits_per_dim": mean, "bits_per_dim_ci95": half, "bits_n": len(bits)}


def _classes(labels: np.ndarray) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(labels.astype(np.int64))

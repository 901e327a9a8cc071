"""`unveil eval image`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.image.recipes.config import EvalImage
    from unveil.runs.progress import Progress

BITS = 32  # held-out images that are bounded by default


def evaluate_image(config: EvalImage, progress: Progress) -> dict[str, Any]:
    """Score images; returns metrics and, as references, those of the data and of a Gaussian."""
    import time
    from dataclasses import replace
    from pathlib import Path

    import numpy as np
    import torch

    from unveil.errors import UnveilError
    from unveil.image.evaluation.features import Judged, extractor
    from unveil.image.evaluation.metrics import image_metrics
    from unveil.image.evaluation.restoration import bicubic, psnr
    from unveil.image.generation import Given, generate
    from unveil.image.likelihood import bits_per_dim
    from unveil.image.model import TABLES, pixels_of
    from unveil.image.recipes.from_pictures import check_used
    from unveil.image.recipes.load import load_image, named_classifier, read_image_config
    from unveil.image.recipes.sample import protocol, settings_of
    from unveil.image.recipes.train import images_of, tell
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.device import enough_memory
    from unveil.runs.statistics import mean_ci95

    for name, least in (("n", 4), ("bits", -1), ("batch_size", 1), ("threads", 0)):
        if getattr(config, name) < least:
            raise ValueError(
                f"--{name.replace('_', '-')} must be at least {least}, got {getattr(config, name)}"
            )
    check_used(config)
    folder = find_checkpoint(config.checkpoint)
    described = read_image_config(folder)
    settings = settings_of(config, described["names"])
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.data is None and "data" not in described:
        raise UnveilError("packaged weights do not say where their data are; give --data")
    reading = {
        "asked_size": 0,
        "fit": "exact",
        "background": "",
        "skip_corrupt": False,
        "styles": [],
        "hold_out": 0.05,
    }
    with enough_memory("read fewer or smaller images"):
        train, held = images_of(reading | described, config.data)
    tell(train, progress)
    model = load_image(folder, config.device)
    bits = (BITS if model.shape.schedule in TABLES and len(held) else 0) if config.bits == -1 else config.bits
    if bits and model.shape.schedule not in TABLES:
        raise ValueError(
            f"--bits {bits}: bits a dimension need a model with a table of steps, this has {model.shape.schedule}; give --bits 0"
        )
    if bits and not len(held):
        raise UnveilError("nothing was held out of this model's data; give --bits 0")
    if train.pixels.shape[1:] != (model.shape.channels, model.shape.size, model.shape.size):
        raise UnveilError(
            f"the data are {train.pixels.shape[1:]}, the model makes {(model.shape.channels, *[model.shape.size] * 2)}"
        )
    named = not described.get("origin")  # others' weights say how many classes they know, not which
    if model.shape.classes and (
        train.names != tuple(described["names"]) if named else len(train.names) != model.shape.classes
    ):
        raise UnveilError(
            f"the classes of the data are not those that the model was trained with: {_few(train.names)} against "
            f"{_few(described['names'])}; give its own --data"
        )
    if len(train) < 2 * config.n:
        raise ValueError(
            f"--n {config.n} needs {2 * config.n} training images, for a floor, and there are {len(train)}; lower --n"
        )
    judge = named_classifier(config.judge, train.names, config.device) if config.judge else None
    if config.extractor == "judge" and judge is None:
        raise ValueError("--extractor judge needs --judge RUN, of unveil train classifier --clean")
    features = (
        Judged(judge, Path(config.judge).name)
        if config.extractor == "judge" and judge is not None
        else extractor(config.extractor, model.device)
    )
    rng = np.random.default_rng(config.seed)
    labels = None
    if model.shape.classes:
        assert train.labels is not None
        labels = torch.from_numpy(rng.permutation(train.labels)[: config.n].astype(np.int64))
    given = Given()
    if config.classifier:
        if train.labels is None:
            raise UnveilError(
                f"--classifier leads towards classes, and these data have none: {train.unlabelled or 'no labels'}"
            )
        given = Given(named_classifier(config.classifier, train.names, config.device))
        labels = (
            torch.from_numpy(rng.permutation(train.labels)[: config.n].astype(np.int64))
            if labels is None
            else labels
        )
    if judge is not None and labels is None and config.extractor != "judge":
        raise ValueError(
            "--judge counts hits of the class that was asked, but neither model nor --classifier knows classes; leave it out"
        )
    if (
        config.classifier
        and config.judge
        and find_checkpoint(config.classifier) == find_checkpoint(config.judge)
    ):
        raise ValueError("--judge must be another classifier than the one that guides")
    if judge is not None and not judge.clean:
        raise ValueError("--judge was trained on noisy images; give one of unveil train classifier --clean")
    truth: np.ndarray | None = None
    if model.shape.upsample > 1:
        if len(held) < config.n:
            raise ValueError(
                f"--n {config.n}: only {len(held)} held-out images to shrink and enlarge; lower --n"
            )
        rows = rng.permutation(len(held))[: config.n]
        truth = held.pixels[rows]
        given = replace(given, low=model.reduced(model.normalized(torch.from_numpy(truth))))
        if model.shape.classes and held.labels is not None:
            labels = torch.from_numpy(held.labels[rows].astype(np.int64))
    began = time.perf_counter()
    with enough_memory():
        made = generate(model, labels, config.n, settings, config.seed, config.batch_size, given=given)
        seconds = time.perf_counter() - began
        metrics, references = image_metrics(
            made.pixels.numpy(),
            train,
            held,
            features,
            rng,
            lambda done, total: progress("comparing", done, total, {}),
            None if labels is None else labels.numpy(),
            None
            if judge is None
            else lambda pixels: judge.predicted(torch.from_numpy(np.array(pixels))).numpy(),
        )
        metrics |= {"images_per_second": config.n / seconds, "nfe": made.calls}
        if truth is not None:
            assert given.low is not None
            metrics["psnr_mean"] = float(psnr(truth, made.pixels.numpy()).mean())
            references["bicubic"] = {
                "psnr_mean": float(
                    psnr(truth, bicubic(pixels_of(given.low).numpy(), model.shape.upsample)).mean()
                )
            }
        if bits:
            rows = rng.permutation(len(held))[:bits]
            told = (
                torch.from_numpy(held.labels[rows].astype(np.int64))
                if model.shape.classes and held.labels is not None
                else None
            )
            found: list[float] = []
            for i in range(0, len(rows), config.batch_size):
                some = slice(i, i + config.batch_size)
                part = torch.from_numpy(held.pixels[rows[some]])
                bound = bits_per_dim(
                    model, part, None if told is None else told[some], config.seed + i, config.bits_variance
                )
                found += bound.total.tolist()
                progress("bits a dimension", len(found), len(rows), {})
            mean, half = mean_ci95(np.array(found))
            metrics |= {"bits_per_dim": mean, "bits_per_dim_ci95": half, "bits_n": len(found)}
    how = f"{protocol(config)}; features: {features.name}; against training images"
    if "class_hit_rate" in metrics:
        how += f"; hits by {'a linear classifier of these features' if judge is None else Judged(judge, Path(config.judge).name).name}"
    return {"metrics": metrics, "reference": references, "protocol": how}


def _few(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{' ..' if len(names) > 3 else ''})"

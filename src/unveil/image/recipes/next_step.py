"""The next command after a training of images, complete as printed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.runs.config import stored_config

if TYPE_CHECKING:
    from unveil.image.recipes.classifier.config import TrainClassifier
    from unveil.image.recipes.train_config import TrainImage

ALIKE = ("size", "channels", "schedule", "diffusion_steps")


def after_training(config: TrainImage | TrainClassifier, run: Path) -> str:
    """The next command after a training.

    For a model, samples; for an upsampler, its own data enlarged; for a classifier, guided samples or scores
    with a model that fits it, or the training of such a model if none is beside the run or packaged.
    """
    from unveil.image.recipes.classifier.config import TrainClassifier

    described = stored_config(run)
    here = shlex.quote(str(run))
    if isinstance(config, TrainClassifier):
        fitting = _fitting(run, described, config.clean)
        if fitting is None:
            return _train(config, run)
        if config.clean:
            data = shlex.quote(config.images.data)
            return f"unveil eval image --checkpoint {fitting} --judge {here} --data {data}{_fewer(described)}"
        return f"unveil sample image --checkpoint {fitting} --classifier {here} --class 0"
    if config.concat.beside == "inpaint":
        return f"unveil sample image --checkpoint {here} --task inpaint --from IMAGE --mask MASK -n 8"
    if config.concat.beside == "map":
        return f"unveil sample image --checkpoint {here} --map MAP -n 8"
    if config.image_embedding:
        return f"unveil sample image --checkpoint {here} --variations IMAGE -n 8"
    if config.upsample == 1:
        return f"unveil sample image --checkpoint {here} -n 64"
    from unveil.files.places import found
    from unveil.image.data.folder_listing import listed
    from unveil.image.data.source import has_test

    place = found(Path(config.images.data))
    if place.is_dir() and listed(place).files:
        source = f"{shlex.quote(str(place))} --degrade{_reading(config, True)}"
        return f"unveil sample image --checkpoint {here} --from {source} -n 8"
    share = config.images.hold_out if not has_test(config.images.data) else 1.0
    held = int(float(described.get("images", 0)) * share / (1.0 - share)) if share < 1.0 else 10**9
    if held < 4:
        return f"unveil sample image --checkpoint {here} --from IMAGES --degrade --fit crop"
    return f"unveil eval image --checkpoint {here}{_fewer(described, held)}"


def _fitting(run: Path, described: JsonObject, clean: bool) -> str | None:
    """A packaged model or a run beside the classifier with its size, channels and noise schedule."""
    from unveil.runs.checkpoints import ZOO, zoo_names

    beside = sorted(p.parent for p in run.absolute().parent.glob("*/config.json"))
    runs = [p for p in beside if any(p.glob("checkpoint-*/manifest.json"))]
    places = [(name, ZOO / name) for name in zoo_names()]
    for name, place in [*places, *((shlex.quote(str(run.parent / p.name)), p) for p in runs)]:
        other = stored_config(place)
        if other.get("recipe") != "image" or other.get("upsample", 1) != 1 or other.get("beside"):
            continue
        same = all(other.get(key) == described.get(key) for key in (ALIKE[:2] if clean else ALIKE))
        if same and (other.get("names") == described.get("names") or not (other.get("names") or clean)):
            return name
    return None


def _train(config: TrainClassifier, run: Path) -> str:
    steps = config.diffusion_steps
    methods = {"linear": "", "cosine": " --method v", "flow": " --method flow", "karras": " --method edm"}
    preset = f" --preset {config.preset}" if config.preset != "default" else ""
    table = f" --diffusion-steps {steps}" if steps != type(config)().diffusion_steps else ""
    flags = f"--classes{preset}{methods[config.schedule]}{table}{_reading(config)}"
    out = shlex.quote(str(run.with_name(f"{run.name}-model")))
    return f"unveil train image --data {shlex.quote(config.images.data)} {flags} --out {out}"


def _reading(config: TrainImage | TrainClassifier, sampling: bool = False) -> str:
    """The flags that read the same images again."""
    reading = config.images.reading
    size = f" --size {reading.size}" if reading.size and not sampling else ""
    fit = f" --fit {reading.fit}" if reading.fit != "exact" else ""
    ground = f" --background {reading.background}" if reading.background else ""
    corrupt = " --skip-corrupt" if reading.skip_corrupt and not sampling else ""
    return size + fit + ground + corrupt


def _fewer(described: JsonObject, held: int = 10**9) -> str:
    """--n, if there are too few images for the default."""
    from unveil.image.recipes.config import EvalImage

    most = min(int(described.get("images", 10**9)) // 2, held)
    return f" --n {max(4, most)}" if most < EvalImage().n else ""

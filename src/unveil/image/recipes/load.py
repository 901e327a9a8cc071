"""From a run, a checkpoint or packaged weights to an image model or classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.runs.config import check_whole_numbers, read_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unveil.image.classifier import ImageClassifier
    from unveil.image.model import ImageModel, ImageShape


IMAGE_OPTIONS: dict[str, type] = {  # of others' U-Nets
    "norm_epsilon": float,
    "heads": int,
    "time_width": int,
    "cosine_first": bool,
    "inclusive": bool,
    "pad_after": bool,
    "middle_attention": bool,
    "middle_norm": bool,
}


CLASSIFIER_OPTIONS = {"norm_epsilon", "time_width", "cosine_first", "inclusive"}


IMAGE_LINEAR: dict[str, type] = {"width": int, "sizes": list, "heads": list, "head_width": list, "full": list}


def check_image(config: Mapping[str, Any]) -> None:
    """Refuse fields of which no image model can be built."""
    check_whole_numbers(config, ("size", "channels", "width", "blocks", "groups", "stem", "diffusion_steps"))
    if config["schedule"] not in ("linear", "cosine", "betas", "flow", "karras") or config[
        "predicts"
    ] not in (
        "eps",
        "x0",
        "v",
        "flow",
        "edm",
    ):
        raise ValueError(f"schedule is {config['schedule']!r} and predicts {config['predicts']!r}")
    if not all(
        isinstance(config[name], bool) for name in ("null", "scale_shift", "big_gan", "learned_variance")
    ):
        raise ValueError("null, scale_shift, big_gan and learned_variance must be true or false")
    multiples, names = config["multiples"], config["names"]
    if (
        not multiples
        or not all(isinstance(m, int) and 0 < m <= 64 for m in multiples)
        or len(multiples) > 8
        or config["size"] > 8192
    ):
        raise ValueError(f"multiples are {multiples!r} and size {config['size']!r}")
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(names) > 100_000
    ):
        raise ValueError("names must be a list of words")
    if not isinstance(config.get("upsample", 1), int) or not isinstance(config.get("clean", False), bool):
        raise ValueError("upsample must be a whole number and clean true or false")
    if not all(isinstance(side, int) for side in config["attention"]) or not isinstance(
        config["head_width"], int
    ):
        raise ValueError("attention and head_width must be whole numbers")
    if not 0.0 <= float(config["dropout"]) < 1.0 or not float(config["sigma_data"]) > 0.0:
        raise ValueError(f"dropout is {config['dropout']!r} and sigma_data {config['sigma_data']!r}")
    betas = config.get("betas", [])
    if (
        len(betas) > 100_000
        or not all(0.0 < float(beta) < 1.0 for beta in betas)
        or not float(config.get("time_scale", 1.0)) > 0.0
    ):
        raise ValueError("betas must lie between 0 and 1, and time_scale above 0")
    for part, known in (("options", IMAGE_OPTIONS), ("linear", IMAGE_LINEAR)):
        given = config.get(part, {})
        if set(given) - known.keys() or not all(isinstance(given[name], known[name]) for name in given):
            raise ValueError(f"{part} are {str(given)[:80]}")


def check_classifier(config: Mapping[str, Any]) -> None:
    """Refuse fields of which no classifier can be built."""
    check_image(config)
    if set(config.get("options", {})) - CLASSIFIER_OPTIONS or config.get("counted_from", 1) not in (0, 1):
        raise ValueError(
            f"options are {str(config.get('options'))[:80]} and counted_from {config.get('counted_from')!r}"
        )


SHAPE = (
    "size",
    "channels",
    "null",
    "width",
    "blocks",
    "head_width",
    "groups",
    "scale_shift",
    "big_gan",
    "dropout",
    "stem",
    "schedule",
    "diffusion_steps",
    "predicts",
    "learned_variance",
    "sigma_data",
)


def shape_of(config: Mapping[str, Any]) -> ImageShape:
    """The tensors' shapes, and the diffusion, that a run's `config.json` describes."""
    from unveil.image.model import ImageShape

    given = {name: config[name] for name in SHAPE}
    given |= {
        "upsample": config.get("upsample", 1),
        "betas": tuple(config.get("betas", ())),
        "time_scale": config.get("time_scale", 1.0),
    }
    return ImageShape(
        **given,
        classes=len(config["names"]),
        multiples=tuple(config["multiples"]),
        attention=tuple(config["attention"]),
    )


def image_model(config: Mapping[str, Any]) -> ImageModel:
    """The untrained model of a run's config: on our U-Net, or on one of another release with its options, or on the linear one."""
    from unveil.image.model import ImageModel, image_network
    from unveil.image.networks.linear_unet2d import LinearUNet2d

    shape = shape_of(config)
    if "linear" in config:
        given: dict[str, Any] = {
            k: tuple(value) if isinstance(value, list) else value for k, value in config["linear"].items()
        }
        return ImageModel(
            shape, LinearUNet2d(shape.channels, **given, learned_variance=shape.learned_variance)
        )
    return ImageModel(shape, image_network(shape, **config.get("options", {})))


def load_image(folder: Path, device: str = "auto") -> ImageModel:
    """The model of a checkpoint folder of `unveil train image`.

    Raises:
        UnveilError: damaged, or of another recipe.
    """
    from unveil.files.safetensors import read_tensors
    from unveil.runs.checkpoints import weights_file, with_weights
    from unveil.runs.device import find_device

    model = image_model(read_image_config(folder))
    with_weights(
        model, read_tensors(weights_file(folder), model.state_dict(), halves=True), find_device(device)
    )
    return model


def classifier_model(config: Mapping[str, Any]) -> ImageClassifier:
    """The untrained classifier of a run's config: on our network, or on one of another release with its options."""
    from unveil.image.classifier import ImageClassifier, classifier_network

    shape = shape_of(config)
    network = classifier_network(shape, **config.get("options", {}))
    return ImageClassifier(shape, bool(config["clean"]), network, config.get("counted_from", 1))


def load_classifier(folder: Path, device: str = "auto") -> ImageClassifier:
    """The classifier of a checkpoint folder of `unveil train classifier`.

    Raises:
        UnveilError: damaged, or of another recipe.
    """
    from unveil.files.safetensors import read_tensors
    from unveil.runs.checkpoints import weights_file, with_weights
    from unveil.runs.device import find_device

    model = classifier_model(read_classifier_config(folder))
    with_weights(
        model, read_tensors(weights_file(folder), model.state_dict(), halves=True), find_device(device)
    )
    return model


def named_classifier(path: str, names: tuple[str, ...], device: str) -> ImageClassifier:
    """The classifier of a path, whose classes must be these, if there are any.

    Raises:
        UnveilError: it knows other classes.
    """
    from unveil.errors import UnveilError
    from unveil.runs.checkpoints import find_checkpoint

    folder = find_checkpoint(path)
    described = read_classifier_config(folder)
    known = tuple(described["names"])
    if names and (
        len(known) != len(names) if described.get("origin") else known != names
    ):  # others do not say their classes' names
        raise UnveilError(
            f"{path} tells {', '.join(known[:5])} apart, but the classes here are {', '.join(names[:5])}; train one on these data"
        )
    return load_classifier(folder, device)


def read_image_config(folder: Path) -> dict[str, Any]:
    """config.json of an image model; raises as `read_config`."""
    return read_config(folder, "image", check_image)


def read_classifier_config(folder: Path) -> dict[str, Any]:
    """config.json of a classifier; raises as `read_config`."""
    return read_config(folder, "classifier", check_classifier)

"""Load autoencoders from runs and checkpoints, as latent spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.runs.config import read_config

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.latents.autoencoder_training import TrainedAutoencoder
    from unveil.image.latents.latent import Latents
    from unveil.image.networks.autoencoder import AutoencoderShape

TAEF2 = "taef2"
"""The name of the given autoencoder; its weights are files below $UNVEIL_DATA, see `read_taef2`."""


def read_autoencoder_config(folder: Path) -> JsonObject:
    """config.json of an autoencoder; raises as `read_config`."""
    return read_config(folder, "autoencoder", check_autoencoder)


def check_autoencoder(config: JsonObject) -> None:
    """Refuse fields that do not describe an autoencoder.

    Raises:
        ValueError: a field out of bounds.
        LookupError, TypeError: a field that is missing or of another type.
    """
    names = ("channels", "width", "blocks", "latent", "groups", "stem", "size", "discriminator_width")
    for name in names:
        if type(config[name]) is not int or not 0 < config[name] < 100_000:
            raise ValueError(f"{name} is {config[name]!r}")
    multiples = config["multiples"]
    if not isinstance(multiples, list) or not all(type(m) is int and 0 < m < 1000 for m in multiples):
        raise ValueError(f"multiples are {str(multiples)[:80]}")
    if len(multiples) > 12:
        raise ValueError(f"there are {len(multiples)} multiples")
    if type(config["attention"]) is not bool or type(config["adversarial"]) not in (int, float):
        raise TypeError("attention must be true or false, and adversarial a number")
    shape_of(config)


def shape_of(config: JsonObject) -> AutoencoderShape:
    """The shape that config.json of a run describes."""
    from unveil.image.networks.autoencoder import AutoencoderShape

    values = {field.name: config[field.name] for field in fields(AutoencoderShape)}
    values["multiples"] = tuple(values["multiples"])
    return AutoencoderShape(**values)


def trained_model(config: JsonObject) -> TrainedAutoencoder:
    """The untrained autoencoder of config.json, with its discriminator if it has one."""
    from unveil.image.latents.autoencoder_training import TrainedAutoencoder
    from unveil.image.networks.autoencoder import Autoencoder
    from unveil.image.networks.discriminator import PatchDiscriminator, patch_layers

    network = Autoencoder(shape_of(config))
    if not config["adversarial"]:
        return TrainedAutoencoder(network)
    width = config["discriminator_width"]
    groups = next(groups for groups in (16, 8, 4, 2, 1) if width % groups == 0)
    layers = patch_layers(config["size"])
    return TrainedAutoencoder(network, PatchDiscriminator(config["channels"], width, layers, groups))


def latents_of(config: JsonObject, weights: Mapping[str, Tensor]) -> Latents:
    """The latent space of weights of a `TrainedAutoencoder`, in evaluation mode."""
    import torch

    from unveil.image.latents.latent import Latents
    from unveil.image.networks.autoencoder import Autoencoder

    with torch.random.fork_rng(devices=[]):  # initial weights, which are replaced
        latents = Latents(Autoencoder(shape_of(config)))
    latents.load_state_dict({name: weights[name].to(torch.float32) for name in latents.state_dict()})
    return latents.eval()


def load_autoencoder(folder: Path, device: str = "auto", config: JsonObject | None = None) -> Latents:
    """The latent space of a checkpoint folder of `unveil train autoencoder`.

    Args:
        config: its config.json, if it has been read already.
    Raises:
        UnveilError: damaged, or of another recipe.
    """
    import torch

    from unveil.files.reading import reading
    from unveil.files.safetensors import header
    from unveil.runs.checkpoints import read_weights, weights_file
    from unveil.runs.device import find_device

    described = read_autoencoder_config(folder) if config is None else config
    with torch.device("meta"):
        expected = trained_model(described).state_dict()
    with reading(weights_file(folder), "not the weights that are needed"):
        stored = header(weights_file(folder))
    if "batches" not in stored:  # packaged: without what only the training needs
        used = ("network", "scale")
        expected = {name: value for name, value in expected.items() if name.split(".")[0] in used}
    return latents_of(described, read_weights(folder, expected)).to(find_device(device))


def load_latents(path_or_name: str, device: str = "auto") -> Latents:
    """A latent space by name or path: taef2, a run, a checkpoint or a packaged model of `unveil train
    autoencoder`, or a model of images that keeps its autoencoder, such as the packaged emoji-text.

    Raises:
        UnveilError: no such autoencoder, or a damaged one.
    """
    from unveil.errors import UnveilError
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.config import read_recipe
    from unveil.runs.device import find_device

    if path_or_name == TAEF2 and not Path(path_or_name).exists():
        from unveil.image.weights.taesd import read_taef2

        return read_taef2(find_device(device))
    folder = find_checkpoint(path_or_name)
    if read_recipe(folder) != "image":
        return load_autoencoder(folder, device)
    from unveil.image.recipes.latents import latents_of_run
    from unveil.image.recipes.load import read_image_config

    latents = latents_of_run(read_image_config(folder), folder, device)
    if latents is None:
        raise UnveilError(f"{path_or_name} is a model of pixels, which has no autoencoder")
    return latents

"""Runs of `unveil train lora` and `unveil train inversion`: what they change in the model that they were
trained on, which is read from where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.runs.config import read_config

if TYPE_CHECKING:
    from unveil.image.adapters import AdapterShape
    from unveil.image.model import ImageModel

RECIPES = ("lora", "inversion")


def read_tuned_config(folder: Path) -> JsonObject:
    """config.json of such a run; raises as `read_config`."""
    return read_config(folder, RECIPES, check_tuned)


def check_tuned(config: JsonObject) -> None:
    """Refuse fields that describe no adapters and no learned word.

    Raises:
        ValueError: a field out of bounds.
        LookupError, TypeError: a field that is missing or of another type.
    """
    if not all(isinstance(config[name], str) and config[name] for name in ("base", "base_digest")):
        raise ValueError("base and base_digest must be text")
    if config["recipe"] == "lora":
        adapter_shape(config)
    elif type(config["vectors"]) is not int or not 1 <= config["vectors"] <= 75 or not config["token"]:
        raise ValueError(f"vectors are {config['vectors']!r} of the word {config['token']!r}")


def adapter_shape(config: JsonObject) -> AdapterShape:
    """The adapters of config.json; raises as `check_tuned`."""
    from unveil.image.adapters import AdapterShape

    return AdapterShape(
        config["rank"], config["alpha"], config["layers"], config["conv_rank"], config["text_encoder"]
    )


def apply_tuned(model: ImageModel, folder: Path, config: JsonObject) -> None:
    """Merge the adapters of a checkpoint into its base, or teach it the learned word.

    Args:
        model: the base.
        config: `read_tuned_config` of the checkpoint.
    Raises:
        UnveilError: damaged, or of another base.
        ValueError: as `adapted_layers` and `add_words`.
    """
    import torch

    from unveil.image.adapters import adapted_layers, add_adapters, settle
    from unveil.image.prompts.learned_words import add_words, table_of
    from unveil.runs.checkpoints import read_weights

    assert model.text is not None
    if config["recipe"] == "inversion":
        width = table_of(model.text).shape[1]
        expected = {"vectors": torch.empty((config["vectors"], width), device="meta")}
        add_words(model.text, {config["token"]: read_weights(folder, expected)["vectors"].float()})
        model.text.freeze()
        return
    with torch.random.fork_rng(devices=[]):  # initial weights, which are replaced
        tree = add_adapters(model, adapted_layers(model, adapter_shape(config)))
    tree.load_state_dict(read_weights(folder, tree.state_dict()))
    settle(model)

"""Load the CLIPs that `unveil train clip` trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.image.recipes.load import check_image, shape_of
from unveil.image.recipes.prompts import text_of
from unveil.runs.config import read_config

if TYPE_CHECKING:
    from unveil.image.clip_model import ClipModel
    from unveil.image.text_conditioning import TextConditioning


def read_clip_config(folder: Path) -> JsonObject:
    """config.json of a CLIP; raises as `read_config`."""
    return read_config(folder, "clip", check_clip)


def check_clip(config: JsonObject) -> None:
    """Refuse fields that do not describe a CLIP; raises as `check_image`."""
    check_image(config)
    if type(config["noised"]) is not bool or type(config["embedding_width"]) is not int:
        raise TypeError("noised must be true or false, and embedding_width a whole number")
    if not 0 < config["embedding_width"] < 100_000 or not config.get("captions"):
        raise ValueError(f"embedding_width is {config['embedding_width']}, captions {config.get('captions')}")


def clip_model(config: JsonObject, text: TextConditioning) -> ClipModel:
    """The untrained CLIP of config.json."""
    from unveil.image.clip_model import ClipModel

    return ClipModel(shape_of(config), config["embedding_width"], text, config["noised"])


def load_clip(folder: Path, device: str = "auto", config: JsonObject | None = None) -> ClipModel:
    """The CLIP of a checkpoint folder of `unveil train clip`, in evaluation mode.

    Args:
        config: its config.json, if it has been read already.
    Raises:
        UnveilError: damaged, or of another recipe.
    """
    from unveil.runs.checkpoints import load_weights

    described = read_clip_config(folder) if config is None else config
    text = text_of(described, folder)
    assert text is not None
    model = clip_model(described, text)
    load_weights(model, folder, device)
    return model.eval()

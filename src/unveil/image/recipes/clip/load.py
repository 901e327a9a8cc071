"""Load the CLIPs that `unveil train clip` trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.image.recipes.load import Opened, check_image, shape_of
from unveil.image.recipes.prompts import FILE, stored_tokenizer, text_of
from unveil.runs.config import read_config

if TYPE_CHECKING:
    from unveil.image.clip_model import ClipModel
    from unveil.image.networks.glide_clip import GlideClipImageShape, GlideClipTextShape
    from unveil.image.prompts.text_conditioning import TextConditioning


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
    if "glide" in config:
        glide_shapes(config)


def clip_model(config: JsonObject, text: TextConditioning) -> ClipModel:
    """The untrained CLIP of config.json."""
    from unveil.image.clip_model import ClipModel

    if "glide" in config:
        from unveil.image.recipes.glide_clip import seeing_clip

        return seeing_clip(shape_of(config), glide_shapes(config)[0], text)
    return ClipModel(shape_of(config), config["embedding_width"], text, config["noised"])


def glide_shapes(config: JsonObject) -> tuple[GlideClipImageShape, GlideClipTextShape]:
    """The shapes of the towers of GLIDE's CLIP.

    Raises:
        TypeError, ValueError, LookupError: config.json does not describe them.
    """
    from unveil.image.networks.glide_clip import GlideClipImageShape, GlideClipTextShape

    towers = config["glide"]
    if not all(
        type(value) is int and 0 < value < 10**6
        for part in ("image", "text")
        for value in towers[part].values()
    ):
        raise ValueError("glide must hold whole numbers")
    return GlideClipImageShape(**towers["image"]), GlideClipTextShape(**towers["text"])


def read_text(config: JsonObject, folder: Path, name: str = "") -> TextConditioning:
    """The untrained text side of a CLIP; arguments and errors as of `text_of`."""
    if "glide" in config:
        from unveil.image.recipes.glide_clip import reading_clip

        return reading_clip(stored_tokenizer(config, folder, name or FILE), glide_shapes(config)[1])
    text = text_of(config, folder, name)
    assert text is not None
    return text


def open_clip(path: str) -> Opened:
    """The checkpoint of a CLIP, by path or name.

    Raises:
        UnveilError: no such checkpoint, damaged, or of another recipe.
    """
    from unveil.runs.checkpoints import find_checkpoint

    folder = find_checkpoint(path)
    return Opened(folder, read_clip_config(folder))


def load_clip(folder: Path, device: str = "auto", config: JsonObject | None = None) -> ClipModel:
    """The CLIP of a checkpoint folder of `unveil train clip`, in evaluation mode.

    Args:
        config: its config.json, if it has been read already.
    Raises:
        UnveilError: damaged, or of another recipe.
    """
    from unveil.runs.checkpoints import load_weights

    described = read_clip_config(folder) if config is None else config
    text = read_text(described, folder)
    model = clip_model(described, text)
    load_weights(model, folder, device)
    return model.eval()
